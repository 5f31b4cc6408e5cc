"""Repair: where a fine-tune forgets too much, it is tried at less strength, then trained anew with replay, unraced.

One example: at full strength general text costs 0.12 nats a token more, and the margin is 0.05; at half of it 0.03, and
91 of 100 dev examples are still right, well above a target of 0.85: half strength is what is raced. Were they 80, the
fine-tune would be repeated with what the base model says by itself beside the examples (`train.replay`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from luthier.errors import ModelError
from luthier.evaluate.scorers import dev_scorer
from luthier.train.general import dev_part
from luthier.types import Event, Example, FitContext, GuardRules, Input, Prediction, TaskSpec, Training

VERSION = 2  # changes with how a strength is chosen
SCALES = (0.75, 0.5, 0.25)
DEV_EXAMPLES = 100
FULL = 1.0
MORE_REPLAY = 3  # rows a step, beside 16 examples


@runtime_checkable
class Scalable(Protocol):
    """A fitted fine-tune that can be had at a part of its strength: `folder` is where it may write that."""

    @property
    def base(self) -> Any: ...
    @property
    def model(self) -> Any: ...
    def predict(self, inputs: Sequence[Input]) -> list[Prediction]: ...
    def scaled(self, scale: float, folder: Path) -> Any: ...


@dataclass(frozen=True, slots=True)
class Trial:
    """A strength, what it scores on dev (mean and standard error), and what it costs on the guard's dev texts.

    `text_lost` is the mean loss on general text in nats a token; `within`: the guard's dev part has nothing against it;
    `way`: how the fine-tune was trained anew, empty for the first training.
    """

    scale: float
    dev_score: float
    dev_se: float
    text_lost: float
    within: bool
    way: str = ""
    seconds: float = field(default=0.0, compare=False)
    """What trying it took, without the training."""

    def clear_of(self, at_least: float) -> bool:
        return self.within and self.dev_score - self.dev_se >= at_least


def choose(trials: Sequence[Trial], at_least: float) -> Trial:
    """Which trial to race: of those within the margins, the smallest strength that is clear of the target on dev.

    `trials` are in the order in which ways were tried, and an earlier way goes before a later one. Clear means by a
    standard error. Where none is clear, the best on dev within the margins; where none is within, the first training at
    its full strength, which the certificate will judge.

    >>> full, half = Trial(1.0, 0.93, 0.02, 0.12, False), Trial(0.5, 0.90, 0.03, 0.03, True)
    >>> choose([full, half, Trial(0.25, 0.86, 0.03, 0.01, True)], 0.85).scale
    0.5
    >>> choose([full, half], 0.95).scale, choose([full], 0.85).scale
    (0.5, 1.0)
    >>> choose([full, half, Trial(1.0, 0.92, 0.01, 0.02, True, "more replay")], 0.9).way
    'more replay'
    """
    within = [trial for trial in trials if trial.within]
    clear = [trial for trial in within if trial.clear_of(at_least)]
    if clear:
        return min((trial for trial in clear if trial.way == clear[0].way), key=lambda trial: trial.scale)
    if within:
        return max(within, key=lambda trial: (trial.dev_score, trial.scale))
    return max((trial for trial in trials if trial.way == trials[0].way), key=lambda trial: trial.scale)


def search_content(rules: GuardRules) -> tuple[Any, ...]:
    """What the address of a fit has to say of the search, besides the task's target.

    Not the documentation that is read: which paragraphs a newer package has is no reason to train again.
    """
    texts = None if rules.text is None else dev_part(rules).fingerprint
    margins = (rules.alpha, rules.nll_margin, rules.accuracy_margin, rules.kl_ceiling, rules.stop_margin)
    return (VERSION, texts, rules.documents, rules.document_tokens, rules.items, margins)


def anew(rung: Any, training: Training) -> dict[str, Any]:
    """The rung as it may be trained anew, by what is different: more replay, and then also an earlier stop.

    None where the rung does not learn from rows, where TRL has to train it or where a person turned replay off; no
    earlier stop where a person said how many epochs there are to be.
    """
    if training.needs_trl or training.replay == 0 or not getattr(rung, "replays", False):
        return {}
    recipe = replace(rung.recipe, replay=MORE_REPLAY)
    found = {"more replay": replace(rung, recipe=recipe)}
    if not isinstance(training.epochs, int) and recipe.epochs > 1:
        half = replace(
            recipe,
            epochs=recipe.epochs // 2,
            fewest_steps=recipe.fewest_steps // 2,
            most_epochs=recipe.most_epochs // 2,
        )
        found["more replay, half as long"] = replace(rung, recipe=half)
    return found


def repaired(
    predictor: Scalable,
    task: TaskSpec,
    dev: Sequence[Example],
    context: FitContext,
    again: Mapping[str, Callable[[FitContext], Any]] | None = None,
) -> tuple[Any, Mapping[str, Any]]:
    """The predictor to race at its strength, and what to tell of the search: chosen on dev and the guard's dev part.

    Nothing is searched where the guard's dev part has nothing against the full strength or where `[guard] repair` is
    off. `again` are ways to train it anew, by name: each is tried where nothing before it is clear of the target within
    the margins.
    """
    from luthier.train.guard import Guard, Memory

    if not task.guard.repair or not dev:
        return predictor, {}
    search = _Search(predictor, task, _sample(dev, context.seed), context, Guard.of_dev(task.guard), Memory())
    trials, told = search.all()
    searches = {search.way: search}
    for way, fit in (again or {}).items():
        if any(trial.clear_of(task.target.at_least) for trial in trials):
            break
        _note(context, f"no strength is within the guard's margins and clear of the target on dev: {way}")
        given = replace(context, workdir=context.workdir / way.replace(" ", "-"))
        given.workdir.mkdir(parents=True, exist_ok=True)
        searches[way] = replace(search, predictor=fit(given), context=given, way=way)
        more, also = searches[way].all()
        trials, told = [*trials, *more], {**told, **also}
    best = choose(trials, task.target.at_least)
    told = {"strength": best.scale, "strengths tried": [asdict(trial) for trial in trials], **told}
    told["seconds of looking for what was forgotten"] = round(sum(trial.seconds for trial in trials), 1)
    if best.way:
        told["trained anew"] = best.way
    if len(trials) > 1:
        way = f", trained anew ({best.way})" if best.way else ""
        _note(context, f"to be raced at a strength of {best.scale:g}{way}: {best.dev_score:.3f} on dev")
    return searches[best.way].at(best.scale), told


def _note(context: FitContext, text: str) -> None:
    context.listen(Event("note", text=f"{context.candidate}: {text}"))


def _sample(dev: Sequence[Example], seed: int) -> list[Example]:
    if len(dev) <= DEV_EXAMPLES:
        return list(dev)
    chosen = np.random.default_rng(seed).choice(len(dev), DEV_EXAMPLES, replace=False)
    return [dev[int(at)] for at in sorted(chosen)]


@dataclass(frozen=True)
class _Search:
    """One search: the predictor at full strength, and what each strength is tried on."""

    predictor: Scalable
    task: TaskSpec
    dev: Sequence[Example]
    context: FitContext
    guard: Any
    kept: Any
    way: str = ""

    def all(self) -> tuple[list[Trial], dict[str, Any]]:
        """The full strength, and the others where it is not within the margins; with why there are no others."""
        trials = [self.tried(FULL)]
        try:
            trials += [] if trials[0].within else [self.tried(scale) for scale in SCALES]
        except ModelError as error:
            return trials, {"no other": error.what}
        return trials, {}

    def at(self, scale: float) -> Any:
        if scale == FULL:
            return self.predictor
        return self.predictor.scaled(scale, self.context.workdir / f"scale-{scale:g}")

    def tried(self, scale: float) -> Trial:
        from luthier.train.guard import certify
        from luthier.train.suites import GENERAL_TEXT

        began, predictor = time.perf_counter(), self.at(scale)
        what = f"choosing a strength by what was forgotten, at {scale:g}{self.way and f' ({self.way})'}"

        def working(text: str, done: int, total: int) -> None:
            self.context.working(f"{what}: {text}", done, total)

        found = certify(self.guard, predictor, kept=self.kept, working=working)
        text = next(suite for suite in found.suites if suite.suite == GENERAL_TEXT)
        working("dev", 0, 1)
        predictions = predictor.predict([example.input for example in self.dev])
        scores = [score.value or 0.0 for score in dev_scorer(self.task).score(self.dev, predictions)]
        mean = float(np.mean(scores))
        unsure = [] if text.status in ("passed", "refused") else [text.suite]
        unsure += [suite.suite for suite in found.suites if suite.beyond and suite.suite not in unsure]
        if unsure and scale == FULL:
            _note(self.context, f"at full strength it may forget too much ({', '.join(unsure)})")
        return Trial(
            scale,
            mean,
            float(np.std(scores)) / math.sqrt(len(scores)),
            text.difference.mean if text.difference else math.inf,
            not unsure,
            self.way,
            time.perf_counter() - began,
        )
