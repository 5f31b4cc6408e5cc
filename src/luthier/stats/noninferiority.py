"""Non-inferiority: is what changed worse by less than a margin? Paired, at one planned look."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

from luthier.stats.checks import Floats, check_open
from luthier.stats.intervals import mean_se

BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """How much worse one is than another on the same units: the mean loss, and an interval for it.

    `low` and `high` are each a one-sided bound at the level asked for. `p_within`: of the data, or data further away,
    were the true loss the margin: small means that the loss is proven to be below it. `p_beyond`: the same for a loss
    proven to be above it.
    """

    mean: float
    low: float
    high: float
    p_within: float
    p_beyond: float
    n: int
    method: str


def noninferiority(
    losses: ArrayLike,
    margin: float,
    *,
    alpha: float = 0.05,
    binary: bool = False,
    clusters: ArrayLike | None = None,
) -> NonInferiority:
    """Tests a mean loss against a margin; `losses`, shape (n,), n >= 2, are how much worse each unit got.

    By Student's t; with `binary` (losses of -1, 0 and 1: answers that were right or wrong before and after) by Tango's
    score, which stays honest where few or none changed. `clusters`, shape (n,), names the cluster of each loss: then
    always by t over clusters, which it needs a few dozen of. Raises ValueError. Sources: Tango (1998), "Equivalence
    test and confidence interval for the difference in proportions for the paired-sample design"; Miller (2024).

    >>> found = noninferiority([0.0] * 100, 0.03, binary=True)
    >>> found.mean, round(found.high, 4), round(found.p_within, 3)
    (0.0, 0.0263, 0.039)
    >>> round(noninferiority([0.01, 0.03, 0.02, 0.02], 0.05).high, 4)
    0.0296
    """
    values = np.asarray(losses, dtype=np.float64)
    check_open("alpha", alpha)
    if values.ndim != 1 or values.size < 2 or not np.all(np.isfinite(values)):
        raise ValueError("losses must be one row of at least two finite numbers")
    if not margin > 0:
        raise ValueError(f"the margin is {margin}; nothing can be shown to be below it")
    if binary and (margin >= 1 or not np.isin(values, (-1.0, 0.0, 1.0)).all()):
        raise ValueError("losses of answers that are right or wrong are -1, 0 or 1, and the margin is below 1")
    if binary and clusters is None:
        return _by_score(int((values > 0).sum()), int((values < 0).sum()), values.size, margin, alpha)
    return _by_t(values, margin, alpha, clusters)


def _by_t(values: Floats, margin: float, alpha: float, clusters: ArrayLike | None) -> NonInferiority:
    mean, se = mean_se(values, clusters)
    units = values.size if clusters is None else np.unique(np.asarray(clusters)).size
    if units < 2:
        raise ValueError("one cluster says nothing about how clusters differ")
    half = se * float(student.ppf(1 - alpha, units - 1))
    # between a model and itself all losses are the same
    below = float(student.cdf((mean - margin) / se, units - 1)) if se > 0 else float(mean >= margin)
    method = "paired t" if clusters is None else "paired t over clusters"
    return NonInferiority(mean, mean - half, mean + half, below, 1.0 - below, values.size, method)


def _by_score(lost: int, won: int, n: int, margin: float, alpha: float) -> NonInferiority:
    z = float(ndtri(1 - alpha))
    below = float(ndtr(_score(lost, won, n, margin)))
    mean = (lost - won) / n
    high = _root(lost, won, n, -z)
    low = -_root(won, lost, n, -z)
    return NonInferiority(mean, low, high, below, 1.0 - below, n, "Tango")


def _score(lost: int, won: int, n: int, loss: float) -> float:
    """Tango's score of the hypothesis that the true loss is `loss`, from -1 to 1: it falls as `loss` rises."""
    if loss < 0:
        return -_score(won, lost, n, -loss)
    middle = lost + won - (2 * n - lost + won) * loss
    # the likeliest share of units that were won, under the hypothesis
    share = (middle + math.sqrt(middle**2 + 8 * n * won * loss * (1 - loss))) / (4 * n)
    variance = n * (2 * max(share, 0.0) + loss * (1 - loss))
    above = lost - won - n * loss
    if variance <= 0:
        return 0.0 if above == 0 else math.copysign(math.inf, above)
    return above / math.sqrt(variance)


def _root(lost: int, won: int, n: int, score: float) -> float:
    """The loss whose score is `score`, which is below 0: by bisection between what was seen and 1."""
    low, high = (lost - won) / n, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(lost, won, n, middle) > score else (low, middle)
    return high
