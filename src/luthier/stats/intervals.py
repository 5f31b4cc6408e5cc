"""Figures for a fixed number of examples: intervals, standard errors, paired differences, sample sizes, Holm.

They hold at one look, planned beforehand; for a race see `sequences` and `betting`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import beta, binom

from luthier.stats.checks import Floats, check_count, check_open


@dataclass(frozen=True)
class PairedDifference:
    """How two candidates differ on the same examples: mean of a - b, its standard error, and who was better how often.

    `mcnemar_p` is the exact two-sided p-value of "neither is better", None where a score is neither 0 nor 1.
    """

    mean: float
    se: float
    only_a: int
    only_b: int
    mcnemar_p: float | None


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a success probability, from one planned look; (0, 1) for n = 0.

    Coverage is about `confidence` on average over the probabilities, not for each; `clopper_pearson` guarantees it.
    Raises ValueError. Source: Wilson (1927).

    >>> [round(end, 5) for end in wilson(460, 500)]
    [0.89289, 0.9407]
    """
    check_count(successes, n)
    check_open("confidence", confidence)
    if n == 0:
        return 0.0, 1.0
    z2 = float(ndtri(0.5 + confidence / 2)) ** 2
    centre = (successes + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (successes * (n - successes) / n + z2 / 4)) / (n + z2)
    # at the ends the exact bound is 0 or 1, which rounding would miss
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval for a success probability, from one planned look: covers at least `confidence` everywhere.

    (0, 1) for n = 0. Raises ValueError. Source: Clopper and Pearson (1934).

    >>> [round(end, 5) for end in clopper_pearson(50, 50)]
    [0.92888, 1.0]
    """
    check_count(successes, n)
    check_open("confidence", confidence)
    tail = (1.0 - confidence) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(beta.isf(tail, successes + 1, n - successes))
    return low, high


def mean_se(scores: ArrayLike, clusters: ArrayLike | None = None) -> tuple[float, float]:
    """The mean of `scores`, shape (n,) with n >= 2, and its standard error (a plain number, not an interval).

    `clusters`, shape (n,), names the cluster of each score: SE^2 = SE_iid^2 + n^-2 * sum over clusters of
    sum_{i != j} (s_i - m)(s_j - m). It needs a few dozen clusters to be trusted. Raises ValueError.
    Source: Miller (2024), "Adding error bars to evals", section 2.2.

    >>> [round(x, 4) for x in mean_se([1, 1, 0, 0])]
    [0.5, 0.2887]
    >>> [round(x, 4) for x in mean_se([1, 1, 0, 0], clusters=["a", "a", "b", "b"])]
    [0.5, 0.3819]
    """
    values = _finite("scores", scores)
    mean = float(values.mean())
    apart = values - mean
    variance = float(apart @ apart) / (values.size * (values.size - 1))
    if clusters is not None:
        names = np.asarray(clusters)
        if names.shape != values.shape:
            raise ValueError(f"clusters has shape {names.shape}, scores {values.shape}; each score needs its cluster")
        _, member = np.unique(names, return_inverse=True)
        sums, squares = np.bincount(member, apart), np.bincount(member, apart**2)
        variance += float(np.sum(sums**2 - squares)) / values.size**2
    return mean, math.sqrt(max(variance, 0.0))


def paired_difference(a: ArrayLike, b: ArrayLike) -> PairedDifference:
    """The difference of two candidates' scores on the same examples, both of shape (n,), n >= 2, in the same order.

    Paired, since both saw the same examples, so that their difficulty cancels. Raises ValueError.
    Source: Miller (2024), section 4.2; McNemar's exact test (binomial on the discordant pairs).

    >>> found = paired_difference([1, 1, 1, 1, 0, 1], [0, 0, 1, 0, 1, 0])
    >>> round(found.mean, 3), round(found.se, 3), found.only_a, found.only_b, found.mcnemar_p
    (0.5, 0.342, 4, 1, 0.375)
    """
    left, right = _finite("a", a), _finite("b", b)
    if left.shape != right.shape:
        raise ValueError(f"a has shape {left.shape} and b {right.shape}; both must score the same examples")
    mean, se = mean_se(left - right)
    only_a, only_b = int(np.sum(left > right)), int(np.sum(left < right))
    binary = np.isin(left, (0.0, 1.0)).all() and np.isin(right, (0.0, 1.0)).all()
    return PairedDifference(mean, se, only_a, only_b, _mcnemar(only_a, only_b) if binary else None)


def _mcnemar(only_a: int, only_b: int) -> float:
    return min(1.0, 2.0 * float(binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)))


def sample_size(
    delta: float,
    omega2: float,
    sigma2_a: float = 0.0,
    sigma2_b: float = 0.0,
    k_a: int = 1,
    k_b: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """How many examples a paired comparison at one planned look needs to find a true difference of `delta`.

    `omega2` is the variance over examples of the difference of the two expected scores, `sigma2_a` and `sigma2_b` the
    mean variance of one score when an example is asked again, `k_a` and `k_b` how often each is asked. For a race see
    `smallest_detectable_effect`. Raises ValueError. Source: Miller (2024), equation 9:
    n = (z_{alpha/2} + z_beta)^2 (omega^2 + sigma_A^2 / K_A + sigma_B^2 / K_B) / delta^2.

    >>> sample_size(0.03, 1 / 9)
    969
    """
    check_open("alpha", alpha)
    check_open("power", power)
    if delta == 0.0 or not math.isfinite(delta):
        raise ValueError(f"delta is {delta}; no number of examples finds a difference of nothing")
    if min(omega2, sigma2_a, sigma2_b) < 0.0:
        raise ValueError("variances must not be negative")
    if min(k_a, k_b) < 1:
        raise ValueError("k_a and k_b count how often an example is asked: at least 1")
    z = float(ndtri(1.0 - alpha / 2) + ndtri(power))
    return math.ceil(z**2 * (omega2 + sigma2_a / k_a + sigma2_b / k_b) / delta**2)


def holm(p_values: ArrayLike) -> Floats:
    """Holm's adjusted p-values, in the order given: reject where they are at most alpha.

    Bounds the probability of any false rejection among all, whatever their dependence. Shape (k,) in and out. Raises
    ValueError. Source: Holm (1979).

    >>> holm([0.04, 0.01, 0.03]).tolist()
    [0.06, 0.03, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size == 0:
        return np.zeros(0)
    if p.ndim != 1 or not np.all((p >= 0.0) & (p <= 1.0)):
        raise ValueError("p_values must be one row of numbers in [0, 1]")
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(adjusted, 1.0)
    return result


def _finite(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < 2 or not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be one row of at least two finite numbers")
    return array
