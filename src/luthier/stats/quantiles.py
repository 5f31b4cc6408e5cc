"""Quantiles: an interval for a quantile by order statistics, also where neighbouring observations depend on each other.

The number of observations below the true quantile is binomial, whatever the distribution (David and Nagaraja 2003,
Order Statistics, 7.1): ranks of the sample enclose it. Requests that wait in the same queue are slow together; the
times at which nobody waits cut them into independent cycles (Crane and Iglehart 1975), whose spread says as how many
independent observations they count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from luthier.stats.checks import check_open

NORMAL = 1.959963984540054
_FEW = 20


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile with its interval; an end is None where the observations are too few to show one.

    `n` counts the observations, `effective` as how many independent ones they count.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    effective: float


def quantile(values: ArrayLike, q: float, *, cycles: ArrayLike | None = None, confidence: float = 0.95) -> Quantile:
    """The q-quantile of observations of shape (n,), n at least 1, with an interval that holds at this confidence.

    `cycles`, of shape (n,), numbers the independent stretches that the observations belong to; left out, each is its
    own. An infinite value is larger than all others. Errors: ValueError. Does not cover: drift.

    >>> found = quantile(range(1, 101), 0.5)
    >>> found.value, found.low, found.high
    (50.0, 40.0, 61.0)
    >>> quantile(range(1, 101), 0.99).high is None
    True
    """
    check_open("q", q)
    check_open("confidence", confidence)
    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    if not n:
        raise ValueError("no observation has no quantile")
    middle = float(ordered[max(0, math.ceil(q * n - 1e-9) - 1)])
    effective = float(n)
    if cycles is not None:
        effective = _effective(np.asarray(values, dtype=float) >= middle, np.asarray(cycles))
    independent = max(1, math.floor(effective))
    low, high = _ranks(independent, q, confidence)
    # the l-th of m observations stands, in expectation, at l / (m + 1)
    place = (n + 1) / (independent + 1)
    first, last = math.floor(low * place + 1e-9), min(n, math.ceil(high * place - 1e-9))
    return Quantile(
        middle,
        float(ordered[first - 1]) if low >= 1 else None,
        float(ordered[last - 1]) if high <= independent else None,
        n,
        effective,
    )


def fewest(q: float, confidence: float = 0.95) -> int:
    """The least number of independent observations that show an upper end for a quantile.

    >>> fewest(0.5), fewest(0.95), fewest(0.99)
    (6, 72, 368)
    """
    return math.ceil(math.log((1.0 - confidence) / 2.0) / math.log(q))


def _ranks(n: int, q: float, confidence: float) -> tuple[int, int]:
    """(l, u), counted from 1: the l-th smallest lies above the quantile, and the u-th below, with at most half the
    error each; l = 0 or u = n + 1: no observation is far enough out."""
    tail = (1.0 - confidence) / 2.0
    ranks = np.arange(0, n + 1)
    below = stats.binom.cdf(ranks - 1, n, q)  # P(fewer than l lie below): the l-th lies above
    above = stats.binom.sf(ranks - 1, n, q)  # P(at least u lie below): the u-th lies below
    low = int(ranks[below <= tail].max())  # 0 always is
    high = int(ranks[above <= tail].min()) if (above <= tail).any() else n + 1
    return low, high


def _effective(exceeds: NDArray[np.bool_], cycles: NDArray[np.int64]) -> float:
    """As how many independent observations these count, by the spread between their cycles; never more than there are.

    With few cycles nobody can tell the spread: then each cycle counts as one.
    """
    n = len(exceeds)
    number = np.unique(cycles, return_inverse=True)[1]
    count = int(number.max()) + 1
    if count < _FEW:
        return float(min(n, count))
    share = float(exceeds.mean())
    if not 0 < share < 1:
        return float(min(n, count))
    sums = np.bincount(number, weights=exceeds - share)
    variance = count / (count - 1) * float(np.sum(sums**2)) / n**2
    # a spread that rests on the few cycles beyond the quantile is itself uncertain: Student's t instead of the normal
    beyond = int((np.bincount(number, weights=exceeds) > 0).sum())
    if beyond < 2:
        return 1.0
    inflated = variance * (float(stats.t.ppf(0.975, beyond - 1)) / NORMAL) ** 2
    return float(n / max(1.0, inflated / (share * (1.0 - share) / n)))
