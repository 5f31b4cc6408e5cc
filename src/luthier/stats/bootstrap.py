"""The bootstrap for figures that are no mean: macro-F1 and other statistics of a confusion matrix.

One real example: 50 messages, 40 "ham" all called ham, 10 "spam" of which 8 were called spam. The F1 of spam is 0.889;
20 resamples might give .75, .82, .89, .94, 1, ...; their corrected 2.5 % and 97.5 % quantiles are the interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from luthier.stats.checks import Floats, check_open

Statistic = Callable[[NDArray[np.float64]], ArrayLike]

_CELLS = 2_000_000  # resampled matrix cells held at once: 16 MB


def confusion_bootstrap(
    true: ArrayLike,
    predicted: ArrayLike,
    statistic: Statistic,
    alpha: float,
    rng: np.random.Generator,
    classes: int | None = None,
) -> tuple[float, float]:
    """Approximate 1 - alpha interval for a statistic of a confusion matrix: BCa bootstrap, stratified by true class.

    `true`, shape (n,), holds class indices 0..K-1; `predicted`, shape (n,), the same or K for "unscored, or none of the
    labels". `classes` is K; None takes the largest true class to be the last one. `statistic` maps counts of shape
    (..., K, K + 1), rows true, to finite numbers of shape (...): a class without any count must not make it NaN.
    At least 200/alpha resamples (ceil), drawn as one multinomial a class, in chunks of bounded memory. The acceleration
    comes from the jackknife, one leave-one-out matrix for each kind of (true, predicted) pair that occurs.

    Degenerate cases. All resamples alike (everything right, a constant answer, a class never predicted): the plain
    bootstrap would claim a width of 0; instead the interval spans what the statistic becomes when one class loses, to
    any one other column, the share of its commonest answer that its own Clopper-Pearson bound at alpha/2 cannot rule
    out. A true class that never occurs gives nothing to resample: the interval says nothing about it. A class with one
    example never varies. The interval always includes the statistic of the data. Outside luthier's promise: the
    coverage is only asymptotic, and rows are taken as independent. Raises ValueError.

    Source: Efron (1987), "Better bootstrap confidence intervals"; Davison and Hinkley (1997), sections 3.2 and 5.3.

    >>> true, predicted = [0] * 40 + [1] * 10, [0] * 40 + [1] * 8 + [0] * 2
    >>> f1 = lambda m: 2 * m[..., 1, 1] / np.maximum(m[..., 1, :].sum(-1) + m[..., :, 1].sum(-1), 1)
    >>> low, high = confusion_bootstrap(true, predicted, f1, 0.05, np.random.default_rng(0))
    >>> 0.55 < low < 0.75, high
    (True, 1.0)
    """
    check_open("alpha", alpha)
    counts = _confusion(np.asarray(true), np.asarray(predicted), classes)
    observed = float(_values(statistic, counts[None])[0])
    resampled = np.sort(_resample(counts, statistic, math.ceil(200 / alpha), rng))
    if resampled[0] == resampled[-1] == observed:
        around = _neighbours(counts, alpha)
        spread = _values(statistic, around) if around.size else np.array([observed])
        return min(observed, float(spread.min())), max(observed, float(spread.max()))
    low, high = corrected(resampled, observed, _acceleration(counts, statistic), alpha)
    return min(observed, low), max(observed, high)


def _confusion(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int | None) -> Floats:
    if true.ndim != 1 or true.shape != predicted.shape or true.size == 0:
        raise ValueError("true and predicted must be two rows of the same length, at least 1")
    if not (np.issubdtype(true.dtype, np.integer) and np.issubdtype(predicted.dtype, np.integer)):
        raise ValueError("true and predicted must be class indices: whole numbers")
    k = int(true.max()) + 1 if classes is None else classes
    if true.min() < 0 or true.max() >= k or predicted.min() < 0 or predicted.max() > k:
        raise ValueError(f"with {k} classes, true must lie in 0..{k - 1} and predicted in 0..{k} ({k}: unscored)")
    counts = np.zeros((k, k + 1))
    np.add.at(counts, (true, predicted), 1.0)
    return counts


def _values(statistic: Statistic, counts: Floats) -> Floats:
    values = np.asarray(statistic(counts), dtype=np.float64)
    if values.shape != counts.shape[:-2] or not np.all(np.isfinite(values)):
        raise ValueError("statistic must map counts of shape (..., K, K + 1) to finite numbers of shape (...)")
    return values


def _resample(counts: Floats, statistic: Statistic, times: int, rng: np.random.Generator) -> Floats:
    found = []
    chunk = max(1, _CELLS // counts.size)
    for begin in range(0, times, chunk):
        size = min(chunk, times - begin)
        drawn = np.zeros((size, *counts.shape))
        for row in np.flatnonzero(counts.sum(axis=1)):
            # only the answers that occurred can be drawn
            columns = np.flatnonzero(counts[row])
            n = counts[row].sum()
            drawn[:, row, columns] = rng.multinomial(int(n), counts[row, columns] / n, size=size)
        found.append(_values(statistic, drawn))
    return np.concatenate(found)


def _acceleration(counts: Floats, statistic: Statistic) -> float:
    """Davison and Hinkley (1997), equation 5.25 for strata, with jackknife values, equal pairs taken together."""
    rows, columns = np.nonzero(counts)
    many = counts[rows, columns]
    without = np.repeat(counts[None], rows.size, axis=0)
    without[np.arange(rows.size), rows, columns] -= 1.0
    values = _values(statistic, without)
    sizes = counts.sum(axis=1)
    sums = np.bincount(rows, many * values, minlength=sizes.size)
    means = np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0)
    influence = (sizes[rows] - 1.0) * (means[rows] - values)
    second = float(np.sum(many * influence**2 / sizes[rows] ** 2))
    third = float(np.sum(many * influence**3 / sizes[rows] ** 3))
    return third / (6.0 * second**1.5) if second > 0.0 else 0.0


def corrected(resampled: Floats, observed: float, acceleration: float, alpha: float) -> tuple[float, float]:
    """The BCa quantiles of the sorted `resampled`; ties with the observed value count half on either side."""
    below = (np.sum(resampled < observed) + 0.5 * np.sum(resampled == observed)) / resampled.size
    shift = float(ndtri(np.clip(below, 0.5 / resampled.size, 1.0 - 0.5 / resampled.size)))
    ends = []
    for z in (float(ndtri(alpha / 2)), float(ndtri(1.0 - alpha / 2))):
        stretch = 1.0 - acceleration * (shift + z)
        # past the pole of the correction every quantile is the last one on that side
        quantile = float(ndtr(shift + (shift + z) / stretch)) if stretch > 0.0 else float(z > 0.0)
        ends.append(float(np.quantile(resampled, quantile)))
    return ends[0], ends[1]


def _neighbours(counts: Floats, alpha: float) -> Floats:
    """The matrices in which one class lost a part of its commonest answer to one other column, shape (m, K, K + 1)."""
    moved = []
    for row, size in enumerate(counts.sum(axis=1)):
        if size == 0:
            continue
        common = int(counts[row].argmax())
        share = min(counts[row, common], size * -math.expm1(math.log(alpha / 2) / size))
        for column in range(counts.shape[1]):
            if column != common:
                other = counts.copy()
                other[row, common] -= share
                other[row, column] += share
                moved.append(other)
    return np.stack(moved)
