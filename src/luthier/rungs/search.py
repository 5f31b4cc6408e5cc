"""Search: choose among prompts on dev by successive halving (Jamieson and Talwalkar 2016), and keep every answer.

It carries no certificate: it only chooses, the race on the test split certifies. All contenders see the same dev
examples, so what one of them is worth beside another is a paired difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from luthier import stats
from luthier.types import Example, FitContext, Input, Prediction, Predictor, Usage

FIRST_DEV = 32  # dev examples in the first round; each further round has twice as many
LAST_DEV = 128
DIFFERENCE_ALPHA = 0.05


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
    """One way to read a contender's answers: the predictor that reads them so, and which of them were right."""

    predictor: Any
    right: tuple[bool, ...]

    @property
    def count(self) -> int:
        return sum(self.right)


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
            "right on dev": f"{self.reading.count} of {len(self.reading.right)}",
        }
        if len(self.trials) > 1:
            told["the others on dev"] = {
                trial.name: f"{reading.count} of {len(reading.right)}" for trial, reading in self.trials[1:]
            }
        told["tokens read on dev"] = self.tokens
        if self.cut_short:
            told["search ended early"] = "the next round would have gone over [ladder] search_tokens"
        return told


def halve(
    trials: Sequence[Any], dev: Sequence[Example], context: FitContext, *, budget_tokens: int, what: str
) -> Search:
    """Ask all trials about the first dev examples, keep the better half, ask those about twice as many, and so on.

    A round that would go over `budget_tokens` (fresh prompt tokens and output tokens, by what the trials took so far)
    is not begun; the first always is. Ties keep the order of `trials`, so put the simpler one first.
    """
    order = np.random.default_rng(context.seed).permutation(len(dev))
    examples = tuple(dev[at] for at in order[:LAST_DEV])
    standing, fallen = list(trials), list[Any]()
    seen, until, cut_short = 0, min(FIRST_DEV, len(examples)), False
    while True:
        for at, trial in enumerate(standing):
            context.working(f"choosing among {what} on dev", at, len(standing))
            standing[at] = trial.asked([example.input for example in examples[seen:until]])
        standing.sort(key=lambda trial: -trial.best(examples[:until]).count)
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
        if spent + pace * (until - seen) > budget_tokens:
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


def worth(ours: Sequence[bool], without: Sequence[bool]) -> str:
    """What an ingredient adds on shared dev examples, in points, with a 95 % interval (betting, on paired differences).

    The examples must stand in random order, as `halve` puts them.

    >>> worth([True, True, True, False] * 20, [True, False, True, False] * 20)
    '+25.0 points [+10.8, +40.8] on 80 dev examples'
    """
    n = min(len(ours), len(without))
    if not n:
        return "not measured"
    differences = np.array(ours[:n], dtype=float) - np.array(without[:n], dtype=float)
    low, high = stats.betting_sequence((differences + 1) / 2, DIFFERENCE_ALPHA)
    ends = f"[{100 * (2 * low[-1] - 1):+.1f}, {100 * (2 * high[-1] - 1):+.1f}]"
    return f"{100 * differences.mean():+.1f} points {ends} on {n} dev examples"


def is_right(example: Example, prediction: Prediction) -> bool:
    return prediction.output is not None and prediction.output in example.references


@dataclass(frozen=True)
class AnswerTrial:
    """A contender that is any predictor: it answers once, and there is one way to read the answer."""

    name: str
    predictor: Predictor
    answers: tuple[Prediction, ...] = ()

    @property
    def usage(self) -> Usage:
        return sum((answer.usage for answer in self.answers), Usage())

    def asked(self, inputs: Sequence[Input]) -> AnswerTrial:
        return AnswerTrial(self.name, self.predictor, (*self.answers, *self.predictor.predict(inputs)))

    def best(self, examples: Sequence[Example]) -> Reading:
        pairs = zip(examples, self.answers, strict=False)
        return Reading(self.predictor, tuple(is_right(example, answer) for example, answer in pairs))
