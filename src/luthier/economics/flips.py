"""Flips: at which value of an input another way becomes the cheapest, found by search; and the tornado.

Costs step (replicas are whole machines), so there is no formula: a grid finds the neighbouring values between which the
answer changes, and halving finds the threshold between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

GRID = 160
HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Flip:
    """The nearest value of an input, below or above today's, from which another answer is given."""

    key: str
    today: float
    threshold: float
    answer: str

    @property
    def above(self) -> bool:
        return self.threshold > self.today


def nearest_flips(
    key: str,
    answer: Callable[[float], str | None],
    today: float,
    low: float,
    high: float,
    *,
    logarithmic: bool = True,
    whole: bool = False,
) -> list[Flip]:
    """At most one flip below and one above today's value, within low..high; `whole`: only whole numbers count."""
    now = answer(today)
    found = []
    for end in (low, high):
        if (end - today) * (1 if end == high else -1) <= 0:
            continue
        grid = _grid(today, end, logarithmic=logarithmic, whole=whole)
        last = today
        for value in grid:
            other = answer(float(value))
            if other != now:
                if other is not None:
                    threshold = float(value) if whole else _between(answer, now, last, float(value))
                    other = answer(threshold) or other
                    found.append(Flip(key, today, threshold, other))
                break
            last = float(value)
    return found


def _grid(start: float, end: float, *, logarithmic: bool, whole: bool) -> Sequence[float]:
    if whole:
        step = 1 if end > start else -1
        return [float(value) for value in range(int(start) + step, int(end) + step, step)]
    if logarithmic and start > 0 and end > 0:
        return [float(value) for value in np.geomspace(start, end, GRID + 1)[1:]]
    return [float(value) for value in np.linspace(start, end, GRID + 1)[1:]]


def _between(answer: Callable[[float], str | None], now: str | None, same: float, other: float) -> float:
    """The first value with another answer, to about 16 digits: on the far side, so that it holds there."""
    for _ in range(HALVINGS):
        middle = (same + other) / 2.0
        if middle in (same, other):
            break
        if answer(middle) == now:
            same = middle
        else:
            other = middle
    return other


@dataclass(frozen=True, slots=True)
class Bar:
    """What a result becomes when one input is at its 10 % and at its 90 % quantile, all others in the middle."""

    key: str
    low_input: float
    high_input: float
    at_low: float
    at_high: float
    basis: str

    @property
    def swing(self) -> float:
        return abs(self.at_high - self.at_low)


def tornado(
    result: Callable[[Mapping[str, float]], float],
    middles: Mapping[str, float],
    ends: Mapping[str, tuple[float, float, str]],
) -> list[Bar]:
    """One bar an input that moves the result, the longest first. `ends`: (P10, P90, basis) of each input."""
    bars = [
        Bar(key, low, high, result({**middles, key: low}), result({**middles, key: high}), basis)
        for key, (low, high, basis) in ends.items()
    ]
    return sorted((bar for bar in bars if bar.swing > 0), key=lambda bar: -bar.swing)
