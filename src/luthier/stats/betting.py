"""Anytime-valid inference for scores in [0, 1] by betting: a wealth that can only grow if the mean is elsewhere."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luthier.stats.checks import (
    Floats,
    Ints,
    bounded_scores,
    check_open,
    check_population,
    check_unit,
    running_intersection,
)

_COARSE = 64  # first grid over the means
_FINE = 2.0**-15  # how close an end is brought to its place
_STAKES = 128  # how many stakes the evidence about a target is averaged over
_CELLS = 4_000_000  # scores times means computed at once: bounds the memory to about 100 MB


def betting_sequence(scores: ArrayLike, alpha: float, population: int | None = None) -> tuple[Floats, Floats]:
    """Confidence sequence for the mean of scores in [0, 1]: low and high after each score.

    `scores` has shape (t,), in the order they were seen; the result is two arrays of shape (t,) in [0, 1]. With
    `population` None the mean is that of inputs to come; with a number it is the mean over all scores of a split of
    that size, drawn without replacement. The whole sequence holds it with probability at least 1 - alpha.

    The hedged capital, half and half: m is excluded once half of prod(1 + lambda_i (x_i - m_i)) or half of
    prod(1 - lambda_i (x_i - m_i)) reaches 1/alpha, with the predictable plug-in lambda truncated at 1/2 over m_i and
    over 1 - m_i; m_i = m, or (N m - S_{i-1}) / (N - i + 1) without replacement; running intersection. An end is found
    to 3e-5, rounded outwards. Raises ValueError.

    Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (arXiv 2010.09686),
    equations 24-26, theorem 3, and section 5 for sampling without replacement. Not covered: dependent scores (take the
    mean of each group first).

    >>> low, high = betting_sequence([0.9, 0.8, 1.0, 0.9, 0.85, 0.95, 0.9, 0.8], 0.05)
    >>> round(float(low[-1]), 3), round(float(high[-1]), 3)
    (0.408, 1.0)
    """
    x = bounded_scores(scores)
    check_open("alpha", alpha)
    if population is not None:
        check_population(population, x.size)
    if x.size == 0:
        return np.zeros(0), np.ones(0)
    stakes = _plug_in(x, alpha)
    low = _low_end(x, stakes, np.log(2.0 / alpha), population)
    high = 1.0 - _low_end(1.0 - x, stakes, np.log(2.0 / alpha), population)
    low, high = running_intersection(low, high)
    if x.size == population:
        # the split is used up: its mean is known, and nothing else is left of the interval
        mean = math.fsum(x) / population
        if low[-1] <= mean <= high[-1]:
            low[-1] = high[-1] = mean
    return low, high


def betting_excludes(scores: ArrayLike, value: float, alpha: float, population: int | None = None) -> NDArray[np.bool_]:
    """Whether `betting_sequence` excludes the mean `value`, after each score, without searching for its ends.

    >>> betting_excludes([1.0] * 8, 0.5, 0.05).tolist()
    [False, False, False, False, False, False, False, False]
    """
    x = bounded_scores(scores)
    check_open("alpha", alpha)
    check_unit("value", value)
    if population is not None:
        check_population(population, x.size)
    if x.size == 0:
        return np.zeros(0, dtype=np.bool_)
    stakes = _plug_in(x, alpha)
    above = _log_capital(x, stakes, np.array([value]), population)[:, 0]
    below = _log_capital(1.0 - x, stakes, np.array([1.0 - value]), population)[:, 0]
    return np.asarray(np.maximum.accumulate(np.maximum(above, below) >= np.log(2.0 / alpha)), dtype=np.bool_)


def betting_evidence(scores: ArrayLike, target: float, population: int | None = None) -> tuple[Floats, Floats]:
    """Log-evidence that the mean of the scores is above, and that it is below, `target`, after each score.

    Like `target_evidence`, for scores in [0, 1] of shape (t,): two arrays of natural logs, each exp() an e-process on
    its own, so each is compared with log(1/alpha) at the full alpha. `population` as in `betting_sequence`.

    Each is an average of capitals prod(1 +- u (x_i - m_i) / m_i) (for below: over 1 - m_i) over fixed stakes u in
    (0, 1), weighted as Jeffreys' prior truncated at the target would: on scores that are 0 or 1 this is
    `target_evidence` but for the grid. An average of wealths is a wealth, so the grid costs sharpness, never validity.
    Target 0 is met by anything (+inf; the other stays 0), target 1 is never proven (0). Raises ValueError.

    Source: arXiv 2010.09686, sections 3 and 5, and the mixture method of Robbins (1970) over the stakes.

    >>> above, below = betting_evidence([0.9, 0.8, 1.0, 0.9], 0.5)
    >>> round(float(above[-1]), 3), round(float(below[-1]), 3)
    (1.779, -1.803)
    """
    x = bounded_scores(scores)
    check_unit("target", target)
    if population is not None:
        check_population(population, x.size)
    if target == 0.0:
        return np.full(x.size, np.inf), np.zeros(x.size)
    return _log_evidence(x, target, population), _log_evidence(1.0 - x, 1.0 - target, population)


def _log_evidence(x: Floats, target: float, population: int | None) -> Floats:
    """Log of the averaged one-sided capital against "the mean is at most `target`"."""
    if target == 0.0:  # only in the mirror of target 1: one score below 1 refutes it
        return np.where(np.cumsum(x) > 0, np.inf, 0.0)
    if target == 1.0:
        return np.zeros(x.size)
    stakes = _fixed_stakes(target)
    means = _running_means(x, np.array([target]), population)  # (t, 1)
    capital = np.zeros((x.size, _STAKES))
    possible = means[:, 0] > 0
    gain = np.divide(x[:, None], means, out=np.ones_like(means), where=possible[:, None]) - 1.0
    np.log1p(stakes[None, :] * gain, out=capital)
    np.cumsum(capital, axis=0, out=capital)
    evidence = log_mixture(capital)
    return np.asarray(np.where(np.logical_or.accumulate(_impossible(means))[:, 0], np.inf, evidence), np.float64)


def _fixed_stakes(target: float) -> Floats:
    edge = np.arcsin(np.sqrt(target))
    angles = edge + (np.pi / 2 - edge) * (np.arange(_STAKES) + 0.5) / _STAKES
    return np.asarray((np.sin(angles) ** 2 - target) / (1.0 - target), np.float64)


def log_gains(scores: Floats, target: float) -> Floats:
    """By how much each score changes the log of each of `betting_evidence`'s capitals: shape (t, stakes).

    The evidence above the target after any of these scores is `log_mixture` of their sum, 0 < target < 1.
    """
    return np.asarray(np.log1p(_fixed_stakes(target)[None, :] * (scores[:, None] / target - 1.0)), np.float64)


def log_mixture(capital: Floats) -> Floats:
    """The log of the average of capitals given as logs, over the last axis."""
    return np.asarray(np.logaddexp.reduce(capital, axis=-1) - np.log(_STAKES), np.float64)


def _plug_in(x: Floats, alpha: float) -> Floats:
    """The predictable plug-in stakes before truncation, shape (t,): equations 24-26 of arXiv 2010.09686."""
    t = np.arange(1, x.size + 1)
    mean = (0.5 + np.cumsum(x)) / (t + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (t + 1)
    before = np.concatenate(([0.25], variance[:-1]))
    return np.asarray(np.sqrt(2.0 * np.log(2.0 / alpha) / (before * t * np.log1p(t))), np.float64)


def _running_means(x: Floats, means: Floats, population: int | None) -> Floats:
    """What the next score's mean would be if the mean were `means`: shape (t, len(means))."""
    if population is None:
        return np.broadcast_to(means, (x.size, means.size)).copy()
    seen = np.concatenate(([0.0], np.cumsum(x)[:-1]))
    left = population - np.arange(x.size)
    expected = (population * means[None, :] - seen[:, None]) / left[:, None]
    # a sum of scores is only known to rounding: what is this close to possible stays possible
    return np.where(np.abs(expected) < 1e-9, 0.0, expected)


def _impossible(expected: Floats) -> NDArray[np.bool_]:
    """Where the rest would need a negative mean: the mean under test is too low for what was already seen."""
    return expected < 0.0


def _log_capital(x: Floats, stakes: Floats, means: Floats, population: int | None) -> Floats:
    """Log of prod(1 + min(stake_i, 1 / (2 m_i)) (x_i - m_i)), shape (t, len(means)); +inf once m is impossible."""
    expected = _running_means(x, means, population)
    possible = expected > 0.0
    cap = np.divide(0.5, expected, out=np.full_like(expected, np.inf), where=possible)
    bet = np.minimum(stakes[:, None], cap)
    wealth = np.cumsum(np.log1p(bet * (x[:, None] - np.maximum(expected, 0.0))), axis=0)
    if population is None:
        return wealth
    return np.where(np.logical_or.accumulate(_impossible(expected), axis=0), np.inf, wealth)


def _crossing_times(x: Floats, stakes: Floats, means: Floats, bar: float, population: int | None) -> Ints:
    """For each mean the index of the first score at which its capital reaches `bar`; t where it never does."""
    times = np.empty(means.size, dtype=np.int64)
    chunk = max(1, _CELLS // x.size)
    for begin in range(0, means.size, chunk):
        part = slice(begin, begin + chunk)
        crossed = _log_capital(x, stakes, means[part], population) >= bar
        times[part] = np.where(crossed.any(axis=0), crossed.argmax(axis=0), x.size)
    return times


def _low_end(x: Floats, stakes: Floats, bar: float, population: int | None) -> Floats:
    """The running lower end: after each score the largest mean on the grid that is excluded, 0 before any is.

    A higher mean is excluded later, so that the time of exclusion is a staircase over the means; only the gaps between
    two means with different times can hold an end, and only they are halved until they are narrow.
    """
    grid = np.arange(_COARSE + 1) / _COARSE
    times = np.maximum.accumulate(_crossing_times(x, stakes, grid, bar, population))
    gap = 1.0 / _COARSE
    while gap > _FINE:
        gap /= 2
        open_gaps = np.flatnonzero(times[:-1] < times[1:])
        if open_gaps.size == 0:
            break
        middles = (grid[open_gaps] + grid[open_gaps + 1]) / 2
        latest = int(min(times[open_gaps + 1].max() + 1, x.size))
        found = _crossing_times(x[:latest], stakes[:latest], middles, bar, population)
        found = np.where(found >= latest, x.size, found)
        grid = np.insert(grid, open_gaps + 1, middles)
        times = np.maximum.accumulate(np.insert(times, open_gaps + 1, np.minimum(found, times[open_gaps + 1])))
    # the last mean of the grid that is excluded by then
    place = np.searchsorted(times, np.arange(x.size), side="right") - 1
    return np.asarray(np.where(place >= 0, grid[np.maximum(place, 0)], 0.0), np.float64)
