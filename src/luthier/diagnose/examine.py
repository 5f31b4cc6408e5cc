"""Examine: all probes of one candidate, asked in order, each with its effect; nothing is concluded here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax

from luthier.diagnose import probes
from luthier.diagnose.effect import Effect, Resampling, best_of
from luthier.diagnose.learned import Learned, classes, doubted, learn
from luthier.diagnose.lenient import Lenient
from luthier.diagnose.probes import SAMPLES, Way
from luthier.diagnose.sample import Bools, Floats, Sample, answered, draw
from luthier.errors import LuthierError, Stopped
from luthier.rungs.prompted import PromptPredictor
from luthier.types import Example, Input, Prediction, Reply, Scorer, Task, Usage

MOST_FAILED = 0.2  # of a probe's answers: with more errors it says nothing
CHANCES = 8  # other examples' references that an answer is compared with, to know what agrees by chance
MOST_CHARACTERS = 40_000  # of prompts that share nothing, for one probe: about 10,000 tokens
FEWEST_FAILING, FEWEST_PASSING = 32, 12  # that each probe is asked about, however dear
DOUBTED = "all that learned from train, and the model, agree on another answer"
Working = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Subject:
    """What is examined, and with what: `models` by role are opened when a probe needs them.

    `prompt` is the candidate's predictor. `model(role)` gives a model, or None where the task names none.
    """

    task: Task
    candidate: str
    prompt: PromptPredictor
    scorer: Scorer
    model: Callable[[str], Any]
    workdir: Path
    failures: int = 64
    most: int = 512


@dataclass(frozen=True)
class Probed:
    """One probe and what it showed: who is right under it and its control, and what was said, in the sample's order."""

    name: str
    title: str
    family: str
    effect: Effect
    right: Floats
    scores: Floats
    control: Floats
    texts: tuple[str, ...]
    asked: Bools
    failures: int
    passing: int
    answers: bool = True  # whether it changes answers, so that a change of the score follows

    @property
    def plain(self) -> dict[str, Any]:
        return {
            "probe": self.name,
            "title": self.title,
            "cause": self.family,
            "failures": self.failures,
            "passing": self.passing,
            **self.effect.plain,
        }


@dataclass
class Examination:
    """What the probes of one sample showed."""

    sample: Sample
    resampling: Resampling
    probed: list[Probed] = field(default_factory=list)
    not_probed: list[str] = field(default_factory=list)
    failed: int = 0  # probes that were asked and failed: they may succeed another time
    learned: Learned | None = None
    usage: Usage = field(default_factory=Usage)
    noop: Floats = field(default_factory=lambda: np.zeros(0))

    def of(self, family: str) -> list[Probed]:
        return [probed for probed in self.probed if probed.family == family]

    def named(self, name: str) -> Probed | None:
        return next((probed for probed in self.probed if probed.name == name), None)

    def best(self, family: str) -> Probed | None:
        """The best probe of a family, chosen and read on different halves; None where none was asked."""
        found = self.of(family)
        if len(found) < 2:
            return found[0] if found else None
        chosen = best_of(self.resampling, [each.right for each in found], [each.asked for each in found])

        def picked(rows: Sequence[Any]) -> Any:
            return np.stack(rows)[chosen, np.arange(len(chosen))]

        right, control = picked([each.right for each in found]), picked([each.control for each in found])
        asked = picked([each.asked for each in found])
        often = found[int(np.bincount(chosen).argmax())]
        return replace(
            often,
            right=right,
            scores=picked([each.scores for each in found]),
            control=control,
            texts=tuple(found[which].texts[place] for place, which in enumerate(chosen)),
            asked=asked,
            failures=int((asked & self.sample.failing).sum()),
            passing=int((asked & ~self.sample.failing).sum()),
            effect=self.resampling.effect(right, control, asked),
        )


def examine(subject: Subject, working: Working) -> Examination | Sample | None:
    """Ask all that can be asked; the sample alone where too few examples fail, None where nothing was answered."""
    return _Examiner(subject, working).examine()


class _Examiner:
    def __init__(self, subject: Subject, working: Working) -> None:
        self.subject, self.working = subject, working
        self.replies: dict[str, Reply] = {}
        self.started = time.perf_counter()

    def examine(self) -> Examination | Sample | None:
        from luthier.diagnose.causes import FEWEST_FAILURES

        subject, spec = self.subject, self.subject.task.spec
        sample = draw(
            self._base,
            subject.task.dev,
            subject.scorer,
            spec,
            failures=subject.failures,
            most=subject.most,
            working=lambda done, total: self.working("looking for failures on dev", done, total),
        )
        if sample is None or sample.failures < FEWEST_FAILURES:
            return sample
        self.sample = sample
        self.found = Examination(sample, Resampling(sample, spec.seed), usage=sample.usage)
        self._controls()
        stages = (self._format, self._context, self._asked_otherwise, self._several, self._learned, self._stronger)
        for stage in stages:
            stage()
        return self.found

    # ------------------------------------------------------------ asking

    def _base(self, inputs: Sequence[Input]) -> list[Prediction]:
        """What the candidate says; where labels are scored, all of them, which later probes read without asking."""
        prompt = self.subject.prompt
        if prompt.writing is not None:
            return prompt.predict(inputs)
        replies = prompt.ask(inputs)
        self.replies |= dict(zip(map(str, inputs), replies, strict=True))
        return [prompt.answer(reply) for reply in replies]

    def _ask(self, way: Way, control: Floats | None = None) -> Probed | None:
        """The probe's answers; None, with the reason kept, where too many of them failed.

        A probe whose prompts share little is dear: it is asked about part of the sample (`_part`).
        """
        self.working(way.title, len(self.found.probed), 0)
        asked = self._part(way.characters)
        some = [example for example, is_asked in zip(self.sample.examples, asked, strict=True) if is_asked]
        try:
            said = way.predict(some)
        except Stopped:
            raise
        except LuthierError as error:
            self.found.not_probed.append(f"{way.name}: {error.what}")
            self.found.failed += 1
            return None
        return self._read(way, said, self.found.noop if control is None else control, asked)

    def _part(self, characters: int) -> Bools:
        """Which examples are asked about where a prompt has so many characters of its own: the same first ones always.

        The sample is in random order, so its first ones are as good as any.
        """
        fails = self.sample.failing
        share = min(1.0, MOST_CHARACTERS / max(1, characters * len(fails)))
        asked = np.zeros(len(fails), dtype=np.bool_)
        for side, fewest in ((np.flatnonzero(fails), FEWEST_FAILING), (np.flatnonzero(~fails), FEWEST_PASSING)):
            asked[side[: max(fewest, round(share * len(side)))]] = True
        return asked

    def _read(self, way: Way, said: Sequence[Prediction], control: Floats, asked: Bools | None = None) -> Probed | None:
        asked = np.ones(len(self.sample.examples), dtype=np.bool_) if asked is None else asked
        places = np.flatnonzero(asked)
        examples = [self.sample.examples[at] for at in places]
        answers = answered(said, self.subject.scorer.score(examples, said), self.subject.task.spec)
        self.found.usage += answers.usage
        if answers.failed > MOST_FAILED * len(said):
            self.found.not_probed.append(
                f"{way.name}: {answers.failed} of {len(said)} answers failed ({answers.error})"
            )
            self.found.failed += 1
            return None
        base = self.sample.base
        right, scores, texts = np.array(base.right), np.array(base.scores), list(base.texts)
        right[places], scores[places] = answers.right, answers.scores
        for at, text in zip(places, answers.texts, strict=True):
            texts[at] = text
        return self._keep(way, right, scores, texts, control, asked=asked)

    def _keep(
        self,
        way: Way,
        right: Floats,
        scores: Floats,
        texts: Sequence[str],
        control: Floats,
        *,
        asked: Bools | None = None,
        changes: bool = True,
    ) -> Probed:
        asked = np.ones(len(right), dtype=np.bool_) if asked is None else asked
        probed = Probed(
            name=way.name,
            title=way.title,
            family=way.family,
            effect=self.found.resampling.effect(right, control, asked),
            right=right,
            scores=scores,
            control=control,
            texts=tuple(texts),
            asked=asked,
            failures=int((asked & self.sample.failing).sum()),
            passing=int((asked & ~self.sample.failing).sum()),
            answers=changes,
        )
        self.found.probed.append(probed)
        return probed

    # ------------------------------------------------------------ the probes

    def _controls(self) -> None:
        """What rewordings that mean the same repair and break; without any, a control that changes nothing."""
        self.found.noop = self.sample.base.right
        rights = [probed.right for way in probes.noops(self.subject.prompt) if (probed := self._ask(way))]
        if rights:
            self.found.noop = np.mean(rights, axis=0)
        else:
            self.found.not_probed.append("no rewording of the prompt could be asked: nothing is subtracted for chance")

    def _format(self) -> None:
        prompt, task, base = self.subject.prompt, self.subject.task, self.sample.base
        if prompt.writing is None:
            self.found.not_probed.append("lenient scoring: the answer is always one of the labels")
            return
        lenient = Lenient.of([example.reference for example in task.train])
        same = [
            any(lenient.same(text, reference) for reference in example.references)
            for text, example in zip(base.texts, self.sample.examples, strict=True)
        ]
        right = np.maximum(base.right, np.array(same, dtype=np.float64))
        way = Way("lenient", "the same answers, read for what they say and not for how", "format", None)
        scores = np.maximum(base.scores, right)
        self._keep(way, right, scores, base.texts, self._by_chance(base.texts, lenient.same), changes=False)
        for held in probes.closed(prompt, classes(task)):
            self.working(held.title, len(self.found.probed), 0)
            said = held.predict(self.sample.examples)
            chance = self._by_chance([each.output or "" for each in said], lambda text, other: text == other)
            self._read(held, said, np.where(self.sample.failing, np.maximum(chance, self.found.noop), self.found.noop))

    def _by_chance(self, texts: Sequence[str], same: Callable[[str, str], bool]) -> Floats:
        """How often an answer would be right were its reference another example's; 1 for answers that are right."""
        rng = np.random.default_rng([self.subject.task.spec.seed, 23])
        found = np.array(self.sample.base.right)
        references = [example.reference for example in self.sample.examples]
        for at in map(int, np.flatnonzero(self.sample.failing)):
            others = [int(other) for other in rng.permutation(len(references))[: CHANCES + 1] if other != at][:CHANCES]
            found[at] = float(np.mean([same(texts[at], references[other]) for other in others])) if others else 0.0
        return found

    def _context(self) -> None:
        library = self.subject.model("documents")
        if library is None:
            self.found.not_probed.append("context: the task names no documents ([documents])")
            return
        ways = probes.contexts(self.subject.prompt, library, self.sample.examples, self.subject.task.spec)
        if ways[0].name != "oracle-context":
            self.found.not_probed.append("oracle context: nobody can tell which passage is right ([documents] oracle)")
        for way in ways:
            self._ask(way)

    def _asked_otherwise(self) -> None:
        prompt, task = self.subject.prompt, self.subject.task
        self._calibrated()
        ways = probes.instructions(prompt, task)
        some = probes.shots(prompt, task, self.subject.model("embedder"))
        if not some:
            self.found.not_probed.append("solved examples: train has too few that are short enough for a prompt")
        for way in (*ways, *some):
            self._ask(way)

    def _calibrated(self) -> None:
        """The labels against the prompt's own preference for them, which costs no question."""
        prompt = self.subject.prompt
        replies = [self.replies.get(str(value)) for value in self.sample.inputs]
        known = [reply for reply in replies if reply is not None and reply.choice_logprobs is not None]
        if prompt.writing is not None or len(known) < len(replies):
            return
        prior = replace(prompt, prior=None).with_prior(known)
        said = [replace(prior.answer(reply), usage=Usage()) for reply in known]
        self._read(
            Way("calibrated", "labels against the prompt's own preference", "elicitation", None), said, self.found.noop
        )

    def _several(self) -> None:
        """Eight answers instead of one: whether the majority is right, and whether any is, above its chance level."""
        prompt, sample = self.subject.prompt, self.sample
        if prompt.writing is None:
            return self._several_labels()
        self.working(f"{SAMPLES} answers to each", len(self.found.probed), 0)
        texts, voted = probes.drawn(prompt, sample.inputs, self.subject.task.spec.seed)
        majority = Way("majority", f"the most frequent of {SAMPLES} answers", "unstable", None)
        if self._read(majority, voted, self.found.noop) is None:
            return None
        any_right, any_other = np.array(sample.base.right), np.array(sample.base.right)
        rng = np.random.default_rng([self.subject.task.spec.seed, 29])
        for at in np.flatnonzero(sample.failing):
            any_right[at] = self._any_right(sample.examples[at], texts[at])
            wrong = [
                int(other)
                for other in rng.permutation(len(sample.examples))
                if sample.examples[other].reference not in sample.examples[at].references
            ]
            some = [self._any_right(sample.examples[other], texts[at]) for other in wrong[:3]]
            any_other[at] = float(np.mean(some)) if some else 0.0
        self._keep_any(any_right, any_other)
        return None

    def _any_right(self, example: Example, texts: Sequence[str]) -> float:
        said = [Prediction(text) for text in dict.fromkeys(texts)]
        scores = self.subject.scorer.score([example] * len(said), said) if said else []
        return float(answered(said, scores, self.subject.task.spec).right.max()) if said else 0.0

    def _several_labels(self) -> None:
        """The same for labels, from the probability of each: the chance level is that of the other wrong labels."""
        sample, labels = self.sample, self.subject.prompt.labels
        replies = [self.replies.get(str(value)) for value in sample.inputs]
        logprobs = [reply.choice_logprobs for reply in replies if reply is not None]
        if len(labels) < 3 or any(each is None or None in each for each in logprobs) or len(logprobs) < len(replies):
            self.found.not_probed.append("eight answers: the labels are two, or the model tells no probabilities")
            return
        shares = np.exp(log_softmax(np.array(logprobs, dtype=np.float64), axis=1))
        once = 1.0 - (1.0 - shares) ** SAMPLES
        any_right, any_other = np.array(sample.base.right), np.array(sample.base.right)
        for at in np.flatnonzero(sample.failing):
            names = {label: place for place, label in enumerate(labels)}
            right = [names[each] for each in sample.examples[at].references if each in names]
            said = names.get(sample.base.texts[at])
            others = [place for place in range(len(labels)) if place != said and place not in right]
            any_right[at] = float(once[at, right].max()) if right else 0.0
            any_other[at] = float(once[at, others].mean()) if others else any_right[at]
        self._keep_any(any_right, any_other)

    def _keep_any(self, right: Floats, chance: Floats) -> None:
        way = Way("pass-at-8", f"any of {SAMPLES} answers, above its chance level", "unstable", None)
        self._keep(way, right, right, self.sample.base.texts, chance, changes=False)

    def _learned(self) -> None:
        subject = self.subject
        embedder = subject.model("embedder")
        learned = learn(
            subject.task,
            self.sample,
            embedder,
            subject.workdir,
            lambda text: self.working(text, len(self.found.probed), 0),
        )
        self.found.learned = learned
        if learned is None:
            self.found.not_probed.append("small learners: the answers are no classes, or train is too small")
            return
        for name, said in learned.views.items():
            way = Way(f"learned-{name}", f"a classifier that learns from train ({name})", "learnable", None)
            self._read(way, [Prediction(label) for label in said], self.found.noop)
        model = self._model_says()
        found, chance, said_instead = doubted(self.sample, list(learned.views.values()), model)
        way = Way("references-doubted", DOUBTED, "references", None)
        base = self.sample.base.right
        right, control = np.maximum(base, found), np.maximum(base, chance)
        self._keep(way, right, right, said_instead, control, changes=False)

    def _model_says(self) -> Sequence[str]:
        """What the model says in whichever way is right most often; its own answer where no way is better."""
        ways = [probed for probed in self.found.probed if probed.family in ("instruction", "elicitation")]
        weights = self.sample.weights
        best = max(ways, key=lambda probed: float((weights * probed.right).sum()), default=None)
        if best is None or (weights * best.right).sum() <= (weights * self.sample.base.right).sum():
            return self.sample.base.texts
        return best.texts

    def _stronger(self) -> None:
        teacher = self.subject.model("teacher")
        if teacher is None or teacher.fingerprint == self.subject.prompt.model.fingerprint:
            self.found.not_probed.append('a stronger model: none is named ([models] teacher = "...")')
            return
        prompt = replace(self.subject.prompt, model=teacher, prior=None)
        self._ask(Way("stronger-model", f"the same prompt, asked of {teacher.name}", "capacity", prompt))
