"""The bootstrap for a statistic of sums, such as corpus BLEU: rows are drawn, their shares added up."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luthier.stats.bootstrap import corrected
from luthier.stats.checks import Floats, check_open

_CELLS = 4_000_000  # weights held at once: 32 MB


def pooled_bootstrap(
    shares: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], ArrayLike],
    alpha: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Approximate 1 - alpha interval for a statistic in [0, 1] of the sums over independent rows: BCa bootstrap.

    `shares` has shape (n, k), a row's additive share each; `statistic` maps sums of shape (..., k) to (...). At least
    200/alpha resamples (ceil), each a multinomial weighting of the rows; the acceleration is the jackknife's. Where all
    resamples are alike (every answer right, or every one without a hit) the interval reaches as far as the share of
    rows that Clopper-Pearson at alpha/2 cannot rule out to be otherwise. Outside luthier's promise: the coverage is
    only asymptotic. Raises ValueError.

    Source: Efron (1987), "Better bootstrap confidence intervals"; for BLEU Koehn (2004), "Statistical significance
    tests for machine translation evaluation".

    >>> hits = np.array([[1.0, 2.0], [2.0, 2.0], [0.0, 2.0], [2.0, 2.0]] * 20)
    >>> low, high = pooled_bootstrap(hits, lambda sums: sums[..., 0] / sums[..., 1], 0.05, np.random.default_rng(0))
    >>> round(low, 2), round(high, 2)
    (0.53, 0.71)
    """
    check_open("alpha", alpha)
    rows = np.asarray(shares, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0 or not np.all(np.isfinite(rows)):
        raise ValueError("shares must be finite, of shape (n, k), with at least one row")
    n = len(rows)
    total = rows.sum(axis=0)
    observed = float(np.asarray(statistic(total)))
    resampled = np.sort(_resample(rows, statistic, math.ceil(200 / alpha), rng))
    if resampled[0] == resampled[-1] == observed:
        reach = -math.expm1(math.log(alpha / 2) / n)
        return max(0.0, observed - reach), min(1.0, observed + reach)
    jackknife = np.asarray(statistic(total[None, :] - rows), dtype=np.float64)
    influence = jackknife.mean() - jackknife
    spread = float(np.sum(influence**2))
    acceleration = float(np.sum(influence**3)) / (6.0 * spread**1.5) if spread > 0.0 else 0.0
    low, high = corrected(resampled, observed, acceleration, alpha)
    return min(observed, low), max(observed, high)


def _resample(
    rows: Floats, statistic: Callable[[NDArray[np.float64]], ArrayLike], times: int, rng: np.random.Generator
) -> Floats:
    n = len(rows)
    chunk = max(1, _CELLS // n)
    found = []
    for begin in range(0, times, chunk):
        weights = rng.multinomial(n, np.full(n, 1.0 / n), size=min(chunk, times - begin))
        found.append(np.asarray(statistic(weights @ rows), dtype=np.float64))
    return np.concatenate(found)
