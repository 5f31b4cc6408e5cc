"""Before and during a race: where its boundary lies, what it would decide, and how many examples that would take.

No simulation: the number of successes is walked through exactly, one example at a time, absorbed at the boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luthier.stats.checks import JEFFREYS, Floats, Ints, Prior, check_count, check_open, check_prior, check_unit
from luthier.stats.sequences import evidence_at

_MOST_EXAMPLES = 10_000_000


@dataclass(frozen=True)
class Boundary:
    """Where a race is decided: after t examples MEETS from `meets_at[t]` successes, DOES NOT MEET up to `fails_at[t]`.

    Integer arrays of shape (n + 1,), indexed by t = 0..n. `meets_at[t]` is t + 1 and `fails_at[t]` is -1 where nothing
    decides yet; index 0 never decides. fails_at < meets_at everywhere.
    """

    target: float
    alpha: float
    meets_at: Ints
    fails_at: Ints

    @property
    def n(self) -> int:
        """The last example it knows about."""
        return int(self.meets_at.size) - 1


def decision_boundary(target: float, alpha: float, n: int, prior: Prior = JEFFREYS) -> Boundary:
    """The boundary of the race against `target` at `alpha`, for the first `n` examples.

    Exactly the counts at which `target_evidence` reaches log(1/alpha); both evidences are monotone in the successes, so
    each place is found by bisection. Raises ValueError.

    >>> boundary = decision_boundary(0.5, 0.05, 8)
    >>> boundary.meets_at.tolist(), boundary.fails_at.tolist()
    ([1, 2, 3, 4, 5, 6, 6, 7, 8], [-1, -1, -1, -1, -1, -1, 0, 0, 0])
    """
    check_open("alpha", alpha)
    check_unit("target", target)
    check_prior(prior)
    if n < 0:
        raise ValueError(f"n is {n}; it must not be negative")
    meets_at, fails_at = _boundary(target, alpha, np.arange(n + 1), prior)
    return Boundary(target, alpha, meets_at, fails_at)


def decision_probabilities(p: ArrayLike, boundary: Boundary, start: tuple[int, int] = (0, 0)) -> tuple[Floats, Floats]:
    """The probability that the race ends in MEETS, and in DOES NOT MEET, within the boundary's n examples.

    `p` is the true success probability, a number or an array; the two results have its shape. `start` = (t, S): S
    successes of t examples were already seen (a decided start stays decided). What is missing to 1 stays INCONCLUSIVE.
    Exact dynamic programming over the count of successes. Raises ValueError.

    >>> meets, fails = decision_probabilities(0.92, decision_boundary(0.85, 0.05 / 7, 600))
    >>> round(float(meets), 3), round(float(fails), 6)
    (0.97, 7.1e-05)
    """
    rates, walk = _walk_at(p, boundary, start)
    meets, fails = np.zeros(rates.shape), np.zeros(rates.shape)
    for step in walk:
        meets += step.meets
        fails += step.fails
    shape = np.shape(p)
    return meets.reshape(shape), fails.reshape(shape)


def expected_examples(p: ArrayLike, boundary: Boundary, start: tuple[int, int] = (0, 0)) -> Floats:
    """How many further examples the race uses on average, until it is decided or the boundary's n is reached.

    Same arguments as `decision_probabilities`, same exact walk; the result has the shape of `p`.

    >>> round(float(expected_examples(0.65, decision_boundary(0.85, 0.05 / 7, 600))), 1)
    53.8
    """
    rates, walk = _walk_at(p, boundary, start)
    total = np.zeros(rates.shape)
    for step in walk:
        total += step.undecided
    return total.reshape(np.shape(p))


def posterior_decision(boundary: Boundary, t: int, successes: int, prior: Prior = JEFFREYS) -> tuple[float, float]:
    """The same two probabilities when the success probability is only known by its posterior after `t` examples.

    The walk's next step is a success with probability (a + S) / (a + b + t): Polya's urn, which is the Beta posterior
    integrated out exactly. Futility: give up where the two add up to less than 2 %. Raises ValueError.

    >>> [round(x, 4) for x in posterior_decision(decision_boundary(0.85, 0.05 / 7, 300), 100, 85)]
    [0.0018, 0.007]
    """
    check_prior(prior)
    meets = fails = 0.0
    for step in _walk(boundary.meets_at, boundary.fails_at, 0, (t, successes), _urn(prior), 1):
        meets += float(step.meets[0])
        fails += float(step.fails[0])
    return meets, fails


def further_examples(
    target: float, alpha: float, t: int, successes: int, prior: Prior = JEFFREYS, limit: int = 10_000
) -> tuple[int | None, int | None]:
    """How many more examples, in the median and in 9 of 10 continuations, until the race is decided.

    After `successes` of `t` examples, under the Beta posterior (see `posterior_decision`), assuming that the race goes
    on beyond the split on inputs like those seen. None: more than `limit`. Quantiles of the exact distribution.
    Raises ValueError.

    >>> further_examples(0.85, 0.05 / 7, 300, 267, limit=3000)
    (631, None)
    """
    check_open("alpha", alpha)
    check_unit("target", target)
    check_prior(prior)
    check_count(successes, t)
    if limit < 0:
        raise ValueError(f"limit is {limit}; it must not be negative")
    meets_at, fails_at = _boundary(target, alpha, np.arange(t, t + limit + 1), prior)
    decided, median = 0.0, None
    for step in _walk(meets_at, fails_at, t, (t, successes), _urn(prior), 1):
        decided += float(step.meets[0] + step.fails[0])
        if median is None and decided >= 0.5:
            median = step.t - t
        if decided >= 0.9:
            return median, step.t - t
    return median, None


def smallest_detectable_effect(
    target: float, alpha: float, n: int, power: float = 0.8, prior: Prior = JEFFREYS
) -> tuple[float | None, float | None]:
    """What `n` examples can tell apart from the target: the nearest rates below and above it that get decided.

    The highest p below the target that the race calls DOES NOT MEET with probability >= `power` within n examples, and
    the lowest above that it calls MEETS (each to 1e-6). None: not even p = 0, or p = 1, is. Raises ValueError.

    >>> low, high = smallest_detectable_effect(0.85, 0.05 / 7, 1000)
    >>> round(low, 3), round(high, 3)
    (0.795, 0.897)
    """
    check_open("power", power)
    boundary = decision_boundary(target, alpha, n, prior)

    def fails(p: Floats) -> Floats:
        return decision_probabilities(p, boundary)[1]

    def meets(p: Floats) -> Floats:
        return decision_probabilities(p, boundary)[0]

    return _farthest(fails, 0.0, target, power), _farthest(meets, 1.0, target, power)


def fewest_to_prove(target: float, alpha: float, prior: Prior = JEFFREYS) -> int | None:
    """How many examples, all right, prove the target at the least: no race can end in MEETS before.

    None where no number of them does: target 1. Raises ValueError.

    >>> [fewest_to_prove(target, 0.05 / 7) for target in (0.85, 0.95, 0.99)]
    [37, 117, 593]
    """
    check_open("alpha", alpha)
    check_unit("target", target)
    check_prior(prior)

    def proven(n: int) -> bool:
        return bool(evidence_at(n, n, target, prior)[0] >= -np.log(alpha))

    if target == 1.0:
        return None
    high = 1
    while not proven(high):
        if high > _MOST_EXAMPLES:
            return None
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proven(middle) else (middle, high)
    return high


# ---------------------------------------------------------------- the exact walk


@dataclass(frozen=True)
class _Step:
    """One example more: what it decides, per rate, and the mass that was undecided before it."""

    t: int
    undecided: Floats
    meets: Floats
    fails: Floats


# The probability of a success after t examples, for each rate (rows) and count of successes (columns).
_Up = Callable[[int, Ints], Floats]


def _urn(prior: Prior) -> _Up:
    a, b = prior
    return lambda t, counts: np.asarray((a + counts) / (a + b + t), np.float64)[None, :]


def _walk_at(p: ArrayLike, boundary: Boundary, start: tuple[int, int]) -> tuple[Floats, Iterator[_Step]]:
    rates = np.atleast_1d(np.asarray(p, dtype=np.float64)).ravel()
    if not np.all((rates >= 0.0) & (rates <= 1.0)):
        raise ValueError("p must lie in [0, 1]")
    column = rates[:, None]
    return rates, _walk(boundary.meets_at, boundary.fails_at, 0, start, lambda _t, _counts: column, rates.size)


def _walk(meets_at: Ints, fails_at: Ints, first: int, start: tuple[int, int], up: _Up, rows: int) -> Iterator[_Step]:
    """Push the distribution of the count through the boundary, whose arrays begin at t = `first`.

    Only counts between the two ends are kept, so that a step costs as much as the open gap is wide.
    """
    t, low = start
    check_count(low, t)
    if not first <= t < first + meets_at.size:
        raise ValueError(
            f"the walk starts after {t} examples; the boundary reaches from {first} to {first + meets_at.size - 1}"
        )
    mass = np.ones((rows, 1))
    none = np.zeros(rows)
    if low >= meets_at[t - first] or low <= fails_at[t - first]:
        met = low >= meets_at[t - first]
        yield _Step(t, none, none + met, none + (not met))
        return
    for t in range(start[0] + 1, first + meets_at.size):
        width = mass.shape[1]
        if width == 0:
            return
        rise = mass * up(t - 1, np.arange(low, low + width))
        after = np.zeros((rows, width + 1))
        after[:, :-1] = mass - rise
        after[:, 1:] += rise
        cut = min(max(int(fails_at[t - first]) + 1 - low, 0), width + 1)
        end = min(max(int(meets_at[t - first]) - low, cut), width + 1)
        yield _Step(t, mass.sum(axis=1), after[:, end:].sum(axis=1), after[:, :cut].sum(axis=1))
        mass, low = after[:, cut:end], low + cut


def _boundary(target: float, alpha: float, times: Ints, prior: Prior) -> tuple[Ints, Ints]:
    """The two ends for each of `times`, which follow each other without gaps."""
    bar = -np.log(alpha)

    def enough_right(successes: Ints, n: Ints) -> NDArray[np.bool_]:
        return np.asarray(evidence_at(successes, n, target, prior)[0] >= bar)

    def enough_wrong(failures: Ints, n: Ints) -> NDArray[np.bool_]:
        return np.asarray(evidence_at(n - failures, n, target, prior)[1] >= bar)

    meets_at = _fewest(enough_right, times)
    fails_at = times - _fewest(enough_wrong, times)
    meets_at[times == 0], fails_at[times == 0] = 1, -1
    return meets_at, np.minimum(fails_at, meets_at - 1)


def _fewest(enough: Callable[[Ints, Ints], NDArray[np.bool_]], times: Ints) -> Ints:
    """For each of `times` the fewest counts that are enough; one more than the time where none are.

    One example more never lowers the end and raises it by one at most (one more of the same kind only adds evidence,
    one of the other only takes some away). So the ends of every 2^k-th time hold those between them close together:
    one bisection in full at the two outermost times, and about one look for each of the others.
    """
    low, high = np.zeros_like(times), times + 1
    ends = np.zeros_like(times)

    def settle(at: Ints) -> None:
        first, last, when = low[at], high[at], times[at]
        while np.any(first < last):
            middle = (first + last) // 2
            good = (middle > when) | enough(np.minimum(middle, when), when)
            last = np.where(good, middle, last)
            first = np.where(good, first, np.minimum(middle + 1, last))
        ends[at] = last

    settle(np.unique([0, times.size - 1]))
    gap = 1 << max(times.size - 1, 1).bit_length()
    while gap > 1:
        middles = np.arange(gap // 2, times.size - 1, gap)
        before, after = middles - gap // 2, np.minimum(middles + gap // 2, times.size - 1)
        low[middles] = np.maximum(ends[before], ends[after] - (after - middles))
        high[middles] = np.minimum(ends[after], ends[before] + (middles - before))
        settle(middles)
        gap //= 2
    return ends


def _farthest(decided: Callable[[Floats], Floats], sure: float, target: float, power: float) -> float | None:
    """The rate nearest to `target`, on the way to it from `sure`, that is still decided with probability >= power."""
    near, far = target, sure
    if near == far or float(decided(np.array([far]))[0]) < power:
        return None
    while abs(near - far) > 1e-6:
        rates = np.linspace(far, near, 18)
        last = int(np.flatnonzero(decided(rates[:-1]) >= power)[-1])
        far, near = float(rates[last]), float(rates[last + 1])
    return far
