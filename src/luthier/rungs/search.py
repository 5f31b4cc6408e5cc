"""Search: choose among prompts on dev by successive halving (Jamieson and Talwalkar 2016), and keep every answer.

It carries no certificate: it only chooses, the race on the test split certifies. All contenders see the same dev
examples, so what one of them is worth beside another is a paired difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np

from luthier import stats
from luthier.types import Example, FitContext, Input, Prediction, Predictor, Scorer, TaskSpec, Usage

DIFFERENCE_ALPHA = 0.05


@dataclass(frozen=True)
class Rounds:
    """How many dev examples the first round has, and all rounds together at most; each has twice as many."""

    first: int = 32
    last: int = 128

    @classmethod
    def of(cls, task: TaskSpec) -> Rounds:
        """Fewer where answers are written: they cost many times a chosen one."""
        return cls() if task.labels else cls(8, 64)


class Trial(Protocol):
    """A contender and what it said so far: grown by asking, judged as the best of its readings."""

    @property
    def name(self) -> str: ...
    @property
    def usage(self) -> Usage: ...
    def asked(self, inputs: Sequence[Input]) -> Self: ...
    def best(self, examples: Sequence[Example]) -> Reading: ...


@dataclass(frozen=True)
class Reading:
    """One way to read a contender's answers: the predictor that reads them so, and the score of each, failures at 0."""

    predictor: Any
    scores: tuple[float, ...]

    @property
    def total(self) -> float:
        return sum(self.scores)

    @property
    def told(self) -> str:
        """The figure on dev in words: a count where answers are right or wrong, else a mean.

        >>> Reading(None, (1.0, 0.0)).told, Reading(None, (0.5, 1.0)).told
        ('1 of 2 right', 'mean score 0.750 of 2')
        """
        n = len(self.scores)
        if set(self.scores) <= {0.0, 1.0}:
            return f"{self.total:.0f} of {n} right"
        return f"mean score {self.total / n:.3f} of {n}"


def scores(scorer: Scorer, examples: Sequence[Example], answers: Sequence[Prediction]) -> tuple[float, ...]:
    """What the answers to the first examples score; one that failed is no better than a wrong one."""
    found = scorer.score(examples[: len(answers)], answers)
    return tuple(score.value or 0.0 for score in found)


@dataclass(frozen=True)
class Search:
    """The contenders, best first, with their readings on dev; all that stayed to the end saw the same examples."""

    trials: tuple[tuple[Any, Reading], ...]
    examples: tuple[Example, ...]
    tokens: int
    cut_short: bool

    @property
    def winner(self) -> Any:
        return self.trials[0][0]

    @property
    def reading(self) -> Reading:
        return self.trials[0][1]

    def describe(self) -> dict[str, Any]:
        """How many were tried, what each got right on dev, and what the search cost."""
        told: dict[str, Any] = {
            "tried on dev": len(self.trials),
            "on dev": self.reading.told,
        }
        if len(self.trials) > 1:
            told["the others on dev"] = {trial.name: reading.told for trial, reading in self.trials[1:]}
        told["tokens read on dev"] = self.tokens
        if self.cut_short:
            told["search ended early"] = "the next round would have gone over [ladder] search_tokens"
        return told


def halve(trials: Sequence[Any], dev: Sequence[Example], task: TaskSpec, context: FitContext, *, what: str) -> Search:
    """Ask all trials about the first dev examples, keep the better half, ask those about twice as many, and so on.

    A round that would go over `task.search_tokens` (fresh prompt tokens and output tokens, by what the trials took so
    far) is not begun; the first always is. Ties keep the order of `trials`, so put the simpler one first.
    """
    rounds = Rounds.of(task)
    order = np.random.default_rng(context.seed).permutation(len(dev))
    examples = tuple(dev[at] for at in order[: rounds.last])
    standing, fallen = list(trials), list[Any]()
    seen, until, cut_short = 0, min(rounds.first, len(examples)), False
    while True:
        for at, trial in enumerate(standing):
            context.working(f"choosing among {what} on dev", at, len(standing))
            standing[at] = trial.asked([example.input for example in examples[seen:until]])
        standing.sort(key=lambda trial: -trial.best(examples[:until]).total)
        seen, until = until, min(2 * until, len(examples))
        if seen == until or len(standing) == 1:
            break
        kept = len(standing) // 2
        fallen = standing[kept:] + fallen
        standing = standing[:kept]
        if kept == 1:  # asking on would choose nothing any more
            break
        pace = sum(_paid(trial.usage) for trial in standing) / max(1, seen)
        spent = sum(_paid(trial.usage) for trial in (*standing, *fallen))
        if spent + pace * (until - seen) > task.search_tokens:
            cut_short = True
            break
    ranked = [*standing, *fallen]
    return Search(
        tuple((trial, trial.best(examples)) for trial in ranked),
        examples[:seen],
        sum(_paid(trial.usage) for trial in ranked),
        cut_short,
    )


def _paid(usage: Usage) -> int:
    return usage.fresh_tokens + usage.cache_write_tokens + usage.output_tokens


def worth(ours: Sequence[float], without: Sequence[float]) -> str:
    """What an ingredient adds on shared dev examples, in points, with a 95 % interval (betting, on paired differences).

    The examples must stand in random order, as `halve` puts them.

    >>> worth([1, 1, 1, 0] * 20, [1, 0, 1, 0] * 20)
    '+25.0 points [+10.8, +40.8] on 80 dev examples'
    """
    n = min(len(ours), len(without))
    if not n:
        return "not measured"
    mean, low, high = difference(ours, without)
    return f"{100 * mean:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}] on {n} dev examples"


def difference(ours: Sequence[float], without: Sequence[float]) -> tuple[float, float, float]:
    """The mean of paired differences of scores, and the ends of its 95 % interval; at least one pair."""
    n = min(len(ours), len(without))
    differences = np.array(ours[:n], dtype=float) - np.array(without[:n], dtype=float)
    low, high = stats.betting_sequence((differences + 1) / 2, DIFFERENCE_ALPHA)
    return float(differences.mean()), float(2 * low[-1] - 1), float(2 * high[-1] - 1)


@dataclass(frozen=True)
class AnswerTrial:
    """A contender that is any predictor: it answers once, and there is one way to read the answer."""

    name: str
    predictor: Predictor
    scorer: Scorer
    answers: tuple[Prediction, ...] = ()

    @property
    def usage(self) -> Usage:
        return sum((answer.usage for answer in self.answers), Usage())

    def asked(self, inputs: Sequence[Input]) -> AnswerTrial:
        return replace(self, answers=(*self.answers, *self.predictor.predict(inputs)))

    def best(self, examples: Sequence[Example]) -> Reading:
        return Reading(self.predictor, scores(self.scorer, examples, self.answers))
