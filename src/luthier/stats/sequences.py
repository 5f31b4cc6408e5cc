"""Anytime-valid inference for right-or-wrong scores: confidence sequences and the evidence about a target.

Everything here holds at every look at once, so a race may stop whenever it likes. Scores must be independent draws of
inputs (or, for the finite sequence, a seeded random order of the split); dependence between examples is not covered.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, gammaln

from luthier.stats.beta import log_beta_tails
from luthier.stats.checks import (
    JEFFREYS,
    Floats,
    Ints,
    Prior,
    check_count,
    check_open,
    check_population,
    check_prior,
    check_unit,
    running_counts,
    running_intersection,
)

_MOST_STEPS = 200
# Over whole counts the ratio can equal 1/alpha exactly: what is as close as rounding errors reach is not excluded.
_ROUNDING = 1e-9


def bernoulli_sequence(successes: ArrayLike, alpha: float, prior: Prior = JEFFREYS) -> tuple[Floats, Floats]:
    """Confidence sequence for the success probability of inputs to come: low and high after each example.

    `successes` holds the running counts S_1..S_t, shape (t,); the result is two arrays of shape (t,) in [0, 1]. The
    whole sequence holds the true probability with probability at least 1 - alpha, however often it is looked at.
    It is the running intersection of the prior-posterior-ratio intervals {p : pi_0(p) / pi_t(p) < 1/alpha} with
    pi_0 = Beta(prior). Raises ValueError for counts, an alpha or a prior that make no sense.

    Source: Robbins (1970); Waudby-Smith and Ramdas (2020), "Confidence sequences for sampling without replacement",
    section 2. Not covered: the score on a finite split (see `finite_sequence`), scores that are not 0 or 1
    (`betting_sequence`).

    >>> low, high = bernoulli_sequence([1, 2, 3], alpha=0.05)
    >>> [round(float(x), 4) for x in low], [round(float(x), 4) for x in high]
    ([0.025, 0.1369, 0.25], [1.0, 1.0, 1.0])
    """
    counts = running_counts(successes)
    return running_intersection(*bernoulli_intervals(counts, np.arange(1, counts.size + 1), alpha, prior))


def bernoulli_interval(successes: int, n: int, alpha: float, prior: Prior = JEFFREYS) -> tuple[float, float]:
    """The interval of `bernoulli_sequence` from one look after `n` examples: no running intersection.

    Wider than the sequence's own where an earlier look was sharper, and just as valid. n = 0 gives (0, 1).

    >>> [round(end, 5) for end in bernoulli_interval(43, 50, 0.05)]
    [0.65965, 0.96766]
    >>> [round(end, 5) for end in bernoulli_interval(460, 500, 0.05)]
    [0.86979, 0.95617]
    """
    check_count(successes, n)
    low, high = bernoulli_intervals(np.array([successes]), np.array([n]), alpha, prior)
    return float(low[0]), float(high[0])


def bernoulli_intervals(successes: Ints, n: Ints, alpha: float, prior: Prior = JEFFREYS) -> tuple[Floats, Floats]:
    """One look each, elementwise, for arrays of counts and of examples seen; see `bernoulli_interval`."""
    check_open("alpha", alpha)
    check_prior(prior)
    s, f = successes.astype(np.float64), (n - successes).astype(np.float64)
    level = _log_mixture(s, f, prior) + np.log(alpha)
    return _lower_root(s, f, level), 1.0 - _lower_root(f, s, level)


def bernoulli_excludes(successes: ArrayLike, value: float, alpha: float, prior: Prior = JEFFREYS) -> NDArray[np.bool_]:
    """Whether `bernoulli_sequence` excludes `value`, after each example, computed without finding a root.

    >>> bernoulli_excludes(range(1, 9), 0.5, 0.05).tolist()
    [False, False, False, False, False, False, True, True]
    """
    check_open("alpha", alpha)
    check_prior(prior)
    check_unit("value", value)
    counts = running_counts(successes)
    s = counts.astype(np.float64)
    f = np.arange(1, counts.size + 1) - s
    log_ratio = _log_mixture(s, f, prior) - _log_likelihood(s, f, value)
    return np.asarray(np.maximum.accumulate(log_ratio >= -np.log(alpha)), dtype=np.bool_)


def finite_sequence(
    successes: ArrayLike, population: int, alpha: float, prior: Prior = JEFFREYS
) -> tuple[Floats, Floats]:
    """Confidence sequence for the number of successes among all `population` examples of the split itself.

    `successes` holds the running counts in a random order without replacement, shape (t,), t <= population; the result
    is two arrays of shape (t,): whole counts, both ends included, in [S_t, population - failures]. The running
    intersection of {M : pi_0(M) / pi_t(M) < 1/alpha}, pi_0 = BetaBinomial(population, prior). Raises ValueError.

    Source: Waudby-Smith and Ramdas (2020), "Confidence sequences for sampling without replacement", section 2.
    Not covered: inputs to come; a split that was read to its end is known for certain and says little about tomorrow.

    >>> low, high = finite_sequence([1, 2, 3, 3], population=4, alpha=0.05)
    >>> low.tolist(), high.tolist()
    ([1.0, 2.0, 3.0, 3.0], [4.0, 4.0, 4.0, 3.0])
    """
    counts = running_counts(successes)
    return running_intersection(
        *finite_intervals(counts, np.arange(1, counts.size + 1), population, alpha, prior),
    )


def finite_intervals(
    successes: Ints, n: Ints, population: int, alpha: float, prior: Prior = JEFFREYS
) -> tuple[Floats, Floats]:
    """One look each, elementwise, at the split's number of successes: no running intersection."""
    check_open("alpha", alpha)
    check_prior(prior)
    check_population(population, int(n.max(initial=0)))
    failures = n - successes
    first, last = successes, population - failures
    # The likelihood of M rises up to here and falls after it, and its best M is never excluded.
    best = np.clip(np.where(n > 0, successes * (population + 1) // np.maximum(n, 1), first), first, last)

    def inside(total: Ints) -> NDArray[np.bool_]:
        return np.asarray(
            _finite_log_ratio(successes, n, total, population, prior) < _ROUNDING - np.log(alpha), np.bool_
        )

    low = _first_true(first, best, inside)
    high = -_first_true(-last, -best, lambda negative: inside(-negative))
    return low.astype(np.float64), high.astype(np.float64)


def finite_excludes(
    successes: ArrayLike, population: int, value: int, alpha: float, prior: Prior = JEFFREYS
) -> NDArray[np.bool_]:
    """Whether `finite_sequence` excludes the count `value`, after each example, without any search.

    >>> finite_excludes([1, 2, 2], 4, 4, 0.05).tolist()
    [False, False, True]
    """
    check_open("alpha", alpha)
    check_prior(prior)
    counts = running_counts(successes)
    check_population(population, counts.size)
    n = np.arange(1, counts.size + 1)
    ratio = _finite_log_ratio(counts, n, np.full_like(counts, value), population, prior)
    return np.asarray(np.maximum.accumulate(ratio >= _ROUNDING - np.log(alpha)), dtype=np.bool_)


def target_evidence(successes: ArrayLike, target: float, prior: Prior = JEFFREYS) -> tuple[Floats, Floats]:
    """Log-evidence that the success probability is above, and that it is below, `target`, after each example.

    `successes` holds the running counts, shape (t,); the result is two arrays of natural logs, shape (t,). MEETS once
    the first is at least log(1/alpha), DOES NOT MEET once the second is; the first to cross decides. Each exp() is an
    e-process on its own (Ville): if the truth is on the other side, or at the target, it ever reaches 1/alpha with
    probability at most alpha. With pi = Beta(prior),

        E_above = integral over p > T of (p/T)^S ((1-p)/(1-T))^(t-S) d pi(p) / pi(p > T), and E_below over p < T.

    At the ends: target 0 is met by anything (+inf; the other stays 0); target 1 can never be proven (0) and one failure
    refutes it (+inf). Raises ValueError. Source: statistics as Robbins (1970), section 3, prior truncated at T.

    >>> above, below = target_evidence([1, 2, 3], 0.5)
    >>> [round(float(x), 4) for x in above], [round(float(x), 4) for x in below]
    ([0.4926, 1.02, 1.5757], [-1.0123, -1.4839, -1.7974])
    """
    counts = running_counts(successes)
    return evidence_at(counts, np.arange(1, counts.size + 1), target, prior)


def evidence_at(successes: ArrayLike, n: ArrayLike, target: float, prior: Prior = JEFFREYS) -> tuple[Floats, Floats]:
    """The log-evidence of `target_evidence` for single looks at `successes` of `n` examples, elementwise.

    >>> [round(float(x), 3) for x in evidence_at(46, 46, 0.85)]
    [6.36, -3.878]
    """
    check_unit("target", target)
    check_prior(prior)
    s, total = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64))
    if np.any((s < 0) | (s > total)):
        raise ValueError("successes must lie between 0 and n")
    f = total - s
    if target in (0.0, 1.0):
        return _evidence_at_the_end(s, f, target, prior)
    a, b = prior
    ratio = _log_mixture(s, f, prior) - _log_likelihood(s, f, target)
    below, above = log_beta_tails(target, a + s, b + f)
    prior_below, prior_above = log_beta_tails(target, a, b)
    return ratio + above - prior_above, ratio + below - prior_below


def _evidence_at_the_end(s: Floats, f: Floats, target: float, prior: Prior) -> tuple[Floats, Floats]:
    nothing = np.zeros_like(s)
    if target == 0.0:
        return np.full_like(s, np.inf), nothing
    return nothing, np.where(f > 0, np.inf, _log_mixture(s, nothing, prior))


def _log_mixture(s: Floats, f: Floats, prior: Prior) -> Floats:
    """Log of the prior's mean of p^s (1-p)^f: the probability of such a sequence under the mixture."""
    a, b = prior
    return np.asarray(betaln(a + s, b + f) - betaln(a, b), dtype=np.float64)


def _log_likelihood(s: Floats, f: Floats, p: float) -> Floats:
    """Log of p^s (1-p)^f, with 0^0 = 1."""
    with np.errstate(divide="ignore"):
        log_p, log_q = np.log(p), np.log1p(-p)
    log_s = np.multiply(s, log_p, out=np.zeros_like(s), where=s > 0)
    log_f = np.multiply(f, log_q, out=np.zeros_like(f), where=f > 0)
    return log_s + log_f


def _lower_root(s: Floats, f: Floats, level: Floats) -> Floats:
    """The p <= s / (s + f) at which s log p + f log(1-p) = level; 0 where s is 0.

    In the log-odds the left side is concave and, left of its peak, rising: Newton's steps from the left never pass
    the root, so the result is safe (never above it) whatever the number of steps.
    """
    root = np.zeros_like(s)
    some = s > 0
    if not np.any(some):
        return root
    s, f, level = s[some], f[some], level[some]
    log_p = level / s  # left of the root, since the failures only push the sum down
    theta = log_p - np.log(-np.expm1(log_p))
    for _ in range(_MOST_STEPS):
        log_p, log_q = -np.logaddexp(0.0, -theta), -np.logaddexp(0.0, theta)
        slope = s - (s + f) * np.exp(log_p)
        gap = level - (s * log_p + f * log_q)
        step = np.where((slope > 0) & (gap > 0), gap / np.where(slope > 0, slope, 1.0), 0.0)
        theta = theta + step
        if np.all(step <= 1e-13 * np.maximum(1.0, np.abs(theta))):
            break
    found = np.exp(-np.logaddexp(0.0, -theta))
    # without a failure the left side has no peak and the root is exact
    root[some] = np.where(f > 0, found, np.exp(level / s))
    return root


def _finite_log_ratio(s: Ints, n: Ints, total: Ints, population: int, prior: Prior) -> Floats:
    """Log of pi_0(M) / pi_t(M) at M = total: +inf where the counts seen rule M out."""
    f = n - s
    possible = (total >= s) & (population - total >= f)
    m = np.where(possible, total, s)
    log_seen = (
        gammaln(m + 1.0)
        - gammaln(m - s + 1.0)
        + gammaln(population - m + 1.0)
        - gammaln(population - m - f + 1.0)
        - gammaln(population + 1.0)
        + gammaln(population - n + 1.0)
    )
    ratio = _log_mixture(s.astype(np.float64), f.astype(np.float64), prior) - log_seen
    return np.where(possible, ratio, np.inf)


def _first_true(first: Ints, last: Ints, holds: Callable[[Ints], NDArray[np.bool_]]) -> Ints:
    """Elementwise the smallest integer in [first, last] at which `holds`, which holds at `last` and never stops."""
    low, high = first.copy(), last.copy()
    while np.any(low < high):
        middle = (low + high) // 2
        good = holds(middle)
        high = np.where(good, middle, high)
        low = np.where(good, low, np.minimum(middle + 1, high))
    return high
