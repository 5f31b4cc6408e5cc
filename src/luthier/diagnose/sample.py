"""Sample: dev examples that the candidate fails, and passing ones to set beside them, in one seeded order.

One example: of 96 dev questions that were asked, 60 failed and 36 passed. All are kept. Of 300 of which 60 failed and
240 passed, 60 of the passing ones are kept, drawn so that their classes and lengths are those of the failures; each of
them stands for the passing ones of its class and length that were not kept, by its weight.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.rungs.base import text_of
from luthier.types import Example, Input, Prediction, Score, Scorer, Target, TaskSpec, Usage

BATCH = 32  # examples that are asked at once while failures are looked for
RIGHT_OR_WRONG = ("accuracy", "macro_f1", "precision", "recall", "f1", "exact_match", "record_exact")
Answering = Callable[[Sequence[Input]], list[Prediction]]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What was said to some examples, in their order: predictions, scores in [0, 1] (a failed one: 0), who is right.

    `right` is 1.0 or 0.0: whether the score reaches `enough`. `failed` counts the predictions that are errors.
    """

    predictions: tuple[Prediction, ...]
    scores: Floats
    right: Floats
    failed: int
    error: str = ""

    @property
    def usage(self) -> Usage:
        return sum((each.usage for each in self.predictions), Usage())

    @property
    def texts(self) -> list[str]:
        return [each.output or "" for each in self.predictions]


@dataclass(frozen=True)
class Sample:
    """The examples that probes are asked about, n of them: all failures first, then the passing ones that were kept.

    `weights`, shape (n,): how many of the asked examples each stands for; failures stand for themselves. `groups`,
    shape (n,): the number of each example's group, the unit that is resampled. `base` is what the candidate said.
    `asked` counts all dev examples that it was asked about, and `score` is its mean score on them.
    """

    examples: tuple[Example, ...]
    base: Answers
    failing: Bools
    weights: Floats
    groups: NDArray[np.int64]
    asked: int
    score: float
    usage: Usage

    @property
    def inputs(self) -> list[Input]:
        return [example.input for example in self.examples]

    @property
    def failures(self) -> int:
        return int(self.failing.sum())

    @property
    def failing_groups(self) -> int:
        """How many independent observations of failing there are."""
        return len(np.unique(self.groups[self.failing]))

    @property
    def passing(self) -> int:
        return len(self.examples) - self.failures


def enough(target: Target) -> float:
    """The score from which on an answer is no failure: 1 where answers are right or wrong, else what the target wants.

    >>> enough(Target("accuracy", 0.9)), enough(Target("rouge_l", 0.4))
    (1.0, 0.4)
    """
    return 1.0 if target.metric in RIGHT_OR_WRONG else target.at_least


def answered(predictions: Sequence[Prediction], scores: Sequence[Score], task: TaskSpec) -> Answers:
    """Predictions with their scores; one that failed, or that nobody could score, counts as wrong, and is counted."""
    values = np.array([score.value or 0.0 for score in scores], dtype=np.float64)
    bad = [score.reason for score in scores if score.value is None]
    right = (values >= enough(task.target) - 1e-9).astype(np.float64)
    return Answers(tuple(predictions), values, right, len(bad), bad[0] if bad else "")


def in_order(dev: Sequence[Example], seed: int) -> list[Example]:
    """The dev examples in a seeded order that keeps groups together: their members count as one."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in dev:
        groups[example.group or example.id].append(example)
    names = list(groups)
    order = np.random.default_rng([seed, 5]).permutation(len(names))
    return [example for at in order for example in groups[names[at]]]


def draw(
    predict: Answering,
    dev: Sequence[Example],
    scorer: Scorer,
    task: TaskSpec,
    *,
    failures: int,
    most: int,
    working: Callable[[int, int], None],
) -> Sample | None:
    """Ask about dev, in batches, until `failures` failed or `most` were asked; None where nothing was answered.

    Examples whose answer is an error, or that nobody could score, are neither failures nor passing ones.
    """
    order = in_order(dev, task.seed)[:most]
    said: list[Prediction] = []
    scores: list[Score] = []
    found = 0
    while len(said) < len(order) and found < failures:
        working(found, failures)
        some = order[len(said) : len(said) + BATCH]
        fresh = predict([example.input for example in some])
        said, scores = said + fresh, scores + list(scorer.score(some, fresh))
        found = sum(score.value is not None and score.value < enough(task.target) - 1e-9 for score in scores)
    known = [at for at, score in enumerate(scores) if score.value is not None]
    if not known:
        return None
    base = answered([said[at] for at in known], [scores[at] for at in known], task)
    return _kept([order[at] for at in known], base, task, sum((each.usage for each in said), Usage()))


def _kept(examples: Sequence[Example], base: Answers, task: TaskSpec, usage: Usage) -> Sample:
    failing = [at for at in range(len(examples)) if not base.right[at]]
    passing = [at for at in range(len(examples)) if base.right[at]]
    weights = dict.fromkeys(failing, 1.0) | matched(examples, failing, passing, len(failing), task)
    chosen = list(weights)
    names = {name: at for at, name in enumerate(dict.fromkeys(_group(examples[at]) for at in chosen))}
    return Sample(
        examples=tuple(examples[at] for at in chosen),
        base=Answers(tuple(base.predictions[at] for at in chosen), base.scores[chosen], base.right[chosen], 0),
        failing=np.arange(len(chosen)) < len(failing),
        weights=np.array([weights[at] for at in chosen], dtype=np.float64),
        groups=np.array([names[_group(examples[at])] for at in chosen], dtype=np.int64),
        asked=len(examples),
        score=float(base.scores.mean()),
        usage=usage,
    )


def matched(
    examples: Sequence[Example], failing: Sequence[int], passing: Sequence[int], most: int, task: TaskSpec
) -> dict[int, float]:
    """At most `most` of the passing ones with their weights: as many of each class and length as there are failures.

    The strata are the class (where there are classes) times whether the input is longer than the median one. Each has
    at least one, so that every passing example is stood for and the weights add up to how many passed: harm is then
    that of all passing examples, not only of those that look like failures.
    """
    if len(passing) <= most:
        return dict.fromkeys(passing, 1.0)
    middle = float(np.median([len(text_of(example.input)) for example in examples]))
    strata: dict[Any, list[int]] = defaultdict(list)
    for at in passing:
        strata[_stratum(examples[at], middle, task)].append(at)
    wanted: dict[Any, int] = defaultdict(int)
    for at in failing:
        wanted[_stratum(examples[at], middle, task)] += 1
    sizes = dict.fromkeys(strata, 1)
    while sum(sizes.values()) < most:
        open_ones = [name for name in strata if sizes[name] < len(strata[name])]
        # first those with failures that have no partner yet, then wherever one stands for the most
        short = [name for name in open_ones if sizes[name] < wanted[name]]
        best = max(short or open_ones, key=lambda name: (len(strata[name]) / sizes[name], str(name)))
        sizes[best] += 1
    return {at: len(members) / sizes[name] for name, members in strata.items() for at in members[: sizes[name]]}


def _stratum(example: Example, middle: float, task: TaskSpec) -> tuple[str, bool]:
    return (example.reference if task.labels else "", len(text_of(example.input)) > middle)


def _group(example: Example) -> str:
    return example.group or example.id
