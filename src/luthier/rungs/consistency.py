"""Consistency: how often a prompted or tuned model says the same again: drawn twice, and asked in other words.

One example: to "Who was Galileo ?" the model gives HUM 0.9 and DESC 0.1, so two answers drawn at temperature 1 agree
with probability 0.82. Asked with "Classify the text." instead of "Classify." it still says HUM: this input holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from scipy.special import log_softmax

from luthier import stats
from luthier.types import Estimate, Input, Prediction, Predictor, Reply, Usage

CONFIDENCE = 0.95
VERSION = 2  # changes with the rewordings or with what is counted


@runtime_checkable
class Rewordable(Protocol):
    """A predictor whose instruction can be put in other words that mean the same."""

    def ask(self, inputs: Sequence[Input]) -> list[Reply]: ...
    def draw(self, inputs: Sequence[Input]) -> list[Reply]: ...
    def answer(self, reply: Reply) -> Prediction: ...
    def reworded(self) -> Sequence[Predictor]: ...


@dataclass(frozen=True)
class Consistency:
    """Shares with 95 % intervals at a fixed n (mean over inputs; not part of the promise behind an outcome).

    Inputs on which any asking failed are left out, and counted. `repeated`: the probability that two answers drawn at
    temperature 1 agree: from the label probabilities themselves or, where the model gives none, from two answers drawn
    for each input; None where no draw succeeded. `reworded`: the share of inputs whose answer is the same in all
    rewordings.
    """

    inputs: int
    repeated: Estimate | None
    reworded: Estimate
    rewordings: int
    failed: int = 0
    usage: Usage = field(default_factory=Usage)
    """Of all that was asked for this."""

    def describe(self) -> dict[str, Any]:
        return asdict(self)


def consistency(
    predictor: Rewordable, inputs: Sequence[Input], working: Callable[[int, int], None]
) -> Consistency | None:
    """Ask about the inputs as raced, and in each rewording; None where no input was answered every time.

    `working` hears how many of all askings are done.
    """
    others = predictor.reworded()
    working(0, 1 + len(others))
    replies = predictor.ask(inputs)
    answers = [[predictor.answer(reply).output for reply in replies]]
    usage = sum((reply.usage for reply in replies), Usage())
    for at, other in enumerate(others):
        working(at + 1, 1 + len(others))
        said = other.predict(inputs)
        answers.append([prediction.output for prediction in said])
        usage = sum((prediction.usage for prediction in said), usage)
    each = [row for row in zip(*answers, strict=True) if None not in row]
    if not each:
        return None
    same = np.array([len(set(row)) == 1 for row in each], dtype=bool)
    repeated = _by_probability(replies)
    if repeated is None:
        drawn = predictor.draw(inputs)
        usage = sum((reply.usage for reply in drawn), usage)
        repeated = _by_drawing(drawn)
    return Consistency(len(each), repeated, _share(same), len(others), len(inputs) - len(each), usage)


def _by_probability(replies: Sequence[Reply]) -> Estimate | None:
    known = [reply.choice_logprobs for reply in replies if reply.error is None and reply.choice_logprobs is not None]
    if not known:
        return None
    agree = np.exp(2 * log_softmax(np.array(known), axis=1)).sum(axis=1)
    low, high = stats.betting_sequence(agree, 1 - CONFIDENCE)
    return Estimate(float(agree.mean()), float(low[-1]), float(high[-1]), len(known), "betting")


def _by_drawing(replies: Sequence[Reply]) -> Estimate | None:
    pairs = [reply.texts for reply in replies if reply.error is None and len(reply.texts) == 2]
    return _share(np.array([first.strip() == second.strip() for first, second in pairs])) if pairs else None


def _share(yes: Any) -> Estimate:
    low, high = stats.wilson(int(yes.sum()), len(yes), CONFIDENCE)
    return Estimate(float(yes.mean()), low, high, len(yes), "wilson")
