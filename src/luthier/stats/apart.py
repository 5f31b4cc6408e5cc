"""Whether scores are lower in a part than in the rest: difference, interval, and a test given all the scores.

The test asks how often a part of that size, drawn at random from the same scores, would score as low. Given the scores,
only who belongs to the part is random: so it holds after any stop that looked at the scores alone, as a race's does.
The interval is that of a fixed number of scores; after such a stop it is descriptive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import hypergeom, t

from luthier.stats.checks import Floats, Ints, check_open
from luthier.stats.intervals import wilson

MANY = 20_000
_CELLS = 5_000_000  # draws times scores held at once: about 100 MB


@dataclass(frozen=True)
class Apart:
    """The mean in a part, the mean in the rest, their difference with its interval, and how probable it is by chance.

    `p` is two-sided (twice the smaller tail) where `exact`; else it is by Student's t, approximately.
    """

    inside: float
    outside: float
    difference: float
    low: float
    high: float
    p: float
    exact: bool = True


def apart(
    scores: ArrayLike, parts: Sequence[ArrayLike], units: ArrayLike | None = None, confidence: float = 0.95
) -> list[Apart]:
    """Each part against its rest: `scores` in [0, 1] of shape (n,), `parts` of booleans of shape (n,), n >= 2.

    `units`, shape (n,), names what is one observation (a group): its scores in a part count once, by their mean. Scores
    that are all 0 or 1, one a unit: Fisher's exact test and Newcombe's interval (1998, method 10). Other scores: 9,999
    seeded permutations (1,999 of more than 20,000 units), and Welch's interval. Where a unit lies on both sides: a
    t-test on the units' shares in the difference, which is approximate. Raises ValueError for a part that is empty or
    everything.

    >>> right = [1] * 18 + [0] * 2 + [1] * 8 + [0] * 12
    >>> found = apart(right, [[False] * 20 + [True] * 20])[0]
    >>> [round(x, 4) for x in (found.difference, found.low, found.high, found.p)]
    [-0.5, -0.695, -0.2068, 0.0022]
    """
    values = np.asarray(scores, dtype=np.float64)
    masks = [np.asarray(part, dtype=np.bool_) for part in parts]
    check_open("confidence", confidence)
    if values.ndim != 1 or not np.all((values >= 0) & (values <= 1)):
        raise ValueError("scores must be one row of numbers in [0, 1]")
    if any(mask.shape != values.shape or mask.all() or not mask.any() for mask in masks):
        raise ValueError("a part needs a place for each score, and something in it and outside it")
    names = np.arange(values.size) if units is None else np.asarray(units)
    known, member = np.unique(names, return_inverse=True)
    if known.size == values.size:
        if np.isin(values, (0.0, 1.0)).all():
            return [_fisher(values, mask, confidence) for mask in masks]
        return _permuted(values, masks, confidence)
    seen = [np.bincount(member, mask) > 0 for mask in masks]
    pure = [not np.any((np.bincount(member, ~mask) > 0) & some) for mask, some in zip(masks, seen, strict=True)]
    means = np.bincount(member, values) / np.bincount(member)
    tested = iter(_permuted(means, [some for some, is_pure in zip(seen, pure, strict=True) if is_pure], confidence))
    return [
        next(tested) if is_pure else _on_both_sides(values, mask, member, confidence)
        for mask, is_pure in zip(masks, pure, strict=True)
    ]


def _fisher(values: Floats, mask: NDArray[np.bool_], confidence: float) -> Apart:
    n, m = int(mask.sum()), int((~mask).sum())
    a, b = round(float(values[mask].sum())), round(float(values[~mask].sum()))
    low, high = newcombe(a, n, b, m, confidence)
    tails = hypergeom.cdf(a, n + m, a + b, n), hypergeom.sf(a - 1, n + m, a + b, n)
    return Apart(a / n, b / m, a / n - b / m, low, high, min(1.0, 2.0 * float(min(tails))))


def newcombe(a: int, n: int, b: int, m: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a/n - b/m for independent counts of right answers, from Wilson's intervals of both.

    Raises ValueError. Source: Newcombe (1998), "Interval estimation for the difference between independent
    proportions", method 10; its example 56/70 - 48/80.

    >>> [round(end, 4) for end in newcombe(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    p, q = a / n, b / m
    (low_p, high_p), (low_q, high_q) = wilson(a, n, confidence), wilson(b, m, confidence)
    return p - q - math.hypot(p - low_p, high_q - q), p - q + math.hypot(high_p - p, q - low_q)


def _permuted(values: Floats, masks: Sequence[NDArray[np.bool_]], confidence: float) -> list[Apart]:
    if not masks:
        return []
    sizes = np.array([int(mask.sum()) for mask in masks])
    sums = np.array([float(values[mask].sum()) for mask in masks])
    drawn = _sums_of_parts(values, sizes)
    found = []
    for at, mask in enumerate(masks):
        # sums in another order differ in their last bits
        below = 1 + int(np.sum(drawn[:, at] <= sums[at] + 1e-9))
        above = 1 + int(np.sum(drawn[:, at] >= sums[at] - 1e-9))
        p = min(1.0, 2.0 * min(below, above) / (len(drawn) + 1))
        found.append(_welch(values[mask], values[~mask], p, confidence))
    return found


def _sums_of_parts(values: Floats, sizes: Ints) -> Floats:
    """The sums of random parts of these sizes, shape (draws, len(sizes)): the heads of one shuffle serve them all."""
    rng = np.random.default_rng(0)
    draws = 9_999 if values.size <= MANY else 1_999
    rows = max(1, _CELLS // values.size)
    found = []
    for first in range(0, draws, rows):
        shuffled = rng.permuted(np.tile(values, (min(rows, draws - first), 1)), axis=1)
        found.append(np.cumsum(shuffled, axis=1)[:, sizes - 1])
    return np.concatenate(found)


def _welch(inside: Floats, outside: Floats, p: float, confidence: float) -> Apart:
    parts = [_spread(side) / side.size for side in (inside, outside)]
    error = math.sqrt(sum(parts))
    sizes = inside.size, outside.size
    freedom = sum(parts) ** 2 / sum(part**2 / max(size - 1, 1) for part, size in zip(parts, sizes, strict=True))
    half = float(t.ppf(0.5 + confidence / 2, freedom)) * error
    a, b = float(inside.mean()), float(outside.mean())
    return Apart(a, b, a - b, max(-1.0, a - b - half), min(1.0, a - b + half), p)


def _spread(values: Floats) -> float:
    """The variance; where all are equal, as if one of two more were not: no spread was seen, which proves none."""
    found = float(values.var(ddof=1)) if values.size > 1 else 0.0
    return found or 1.0 / (values.size + 2)


def _on_both_sides(values: Floats, mask: NDArray[np.bool_], member: Ints, confidence: float) -> Apart:
    """Each unit adds to the difference what it has in the part and in the rest; the units are independent."""
    sides = []
    for side in (mask, ~mask):
        sizes = np.bincount(member, side)
        some = sizes > 0
        means = np.divide(np.bincount(member, values * side), sizes, out=np.zeros(sizes.size), where=some)
        sides.append((means, some, float(means[some].mean()), int(some.sum())))
    (a, in_a, mean_a, n_a), (b, in_b, mean_b, n_b) = sides
    adds = np.where(in_a, (a - mean_a) / n_a, 0.0) - np.where(in_b, (b - mean_b) / n_b, 0.0)
    fewest = max(min(n_a, n_b), 2)
    error = math.sqrt(float(adds @ adds) * fewest / (fewest - 1)) or math.sqrt(1 / (n_a * (n_a + 2)))
    gap = mean_a - mean_b
    half = float(t.ppf(0.5 + confidence / 2, fewest - 1)) * error
    p = min(1.0, 2.0 * float(t.sf(abs(gap) / error, fewest - 1)))
    return Apart(mean_a, mean_b, gap, max(-1.0, gap - half), min(1.0, gap + half), p, exact=False)
