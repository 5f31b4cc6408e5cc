"""Sequences and evidence for right-or-wrong scores: golden figures, properties, definitions, reduced coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, betabinom, binom, hypergeom

from luthier import stats

outcomes = st.lists(st.booleans(), min_size=1, max_size=60)
alphas = st.floats(1e-4, 0.5)
rates = st.floats(0.01, 0.99)


def runs(rng: np.random.Generator, races: int, n: int, p: float) -> np.ndarray:
    return np.cumsum(rng.random((races, n)) < p, axis=1)


# ---------------------------------------------------------------- golden


@pytest.mark.parametrize(("right", "n", "low", "high"), [(43, 50, 0.65965, 0.96766), (460, 500, 0.86980, 0.95617)])
def test_single_looks_match_the_golden_intervals(right: int, n: int, low: float, high: float) -> None:
    assert stats.bernoulli_interval(right, n, 0.05) == pytest.approx((low, high), abs=1.1e-5)


@pytest.mark.parametrize(("target", "fewest"), [(0.85, 46), (0.95, 157), (0.99, 887)])
def test_the_two_sided_sequence_needs_the_golden_numbers_of_right_answers(target: float, fewest: int) -> None:
    low, _ = stats.bernoulli_sequence(np.arange(1, 1001), 0.05 / 7)
    assert int(np.argmax(low > target)) + 1 == fewest
    excluded = stats.bernoulli_excludes(np.arange(1, 1001), target, 0.05 / 7)
    assert int(np.argmax(excluded)) + 1 == fewest


# ---------------------------------------------------------------- definitions


@pytest.mark.parametrize(
    ("s", "n", "target"), [(1, 1, 0.5), (30, 50, 0.85), (45, 50, 0.85), (10, 50, 0.05), (0, 9, 0.3)]
)
def test_the_evidence_is_the_integral_it_is_defined_as(s: int, n: int, target: float) -> None:
    def integrand(angle: float) -> float:  # p = sin^2: Jeffreys' prior is flat in the angle
        p = np.sin(angle) ** 2
        return (p / target) ** s * ((1 - p) / (1 - target)) ** (n - s)

    edge = np.arcsin(np.sqrt(target))
    above = quad(integrand, edge, np.pi / 2, epsabs=0)[0] / (np.pi / 2 - edge)
    below = quad(integrand, 0, edge, epsabs=0)[0] / edge
    found = [float(x) for x in stats.evidence_at(s, n, target)]
    assert found == pytest.approx([np.log(above), np.log(below)], abs=1e-7)


def test_the_interval_holds_the_rates_whose_prior_posterior_ratio_is_small() -> None:
    low, high = stats.bernoulli_interval(9, 12, 0.1)
    p = np.linspace(0.001, 0.999, 999)
    ratio = beta.pdf(p, 0.5, 0.5) / beta.pdf(p, 9.5, 3.5)
    assert np.array_equal((p > low) & (p < high), ratio < 10.0)


def test_the_finite_interval_holds_the_counts_whose_prior_posterior_ratio_is_small() -> None:
    right, n, population = 9, 12, 40
    low, high = stats.finite_sequence(np.r_[np.arange(1, 10), 9, 9, 9], population, 0.1)
    total = np.arange(population + 1)
    kept = np.ones(population + 1, dtype=bool)
    for t in range(1, n + 1):
        s = min(t, right)
        prior = betabinom.pmf(total, population, 0.5, 0.5)
        posterior = betabinom.pmf(total - s, population - t, 0.5 + s, 0.5 + t - s)
        kept &= prior < 10.0 * posterior
    assert (low[-1], high[-1]) == (total[kept].min(), total[kept].max())
    assert kept[int(low[-1]) : int(high[-1]) + 1].all()


@settings(deadline=None)
@given(outcomes, alphas, rates)
def test_excluding_by_value_agrees_with_the_ends_of_the_sequence(right: list[bool], alpha: float, value: float) -> None:
    counts = np.cumsum(right)
    low, high = stats.bernoulli_sequence(counts, alpha)
    clear = np.minimum(abs(low - value), abs(high - value)) > 1e-6
    outside = (value <= low) | (value >= high)
    never_empty = not (stats.bernoulli_excludes(counts, (low[-1] + high[-1]) / 2, alpha)[-1])
    if never_empty:
        assert np.array_equal(stats.bernoulli_excludes(counts, value, alpha)[clear], outside[clear])


@settings(deadline=None)
@given(outcomes, st.integers(0, 40), alphas, st.integers(0, 100))
def test_excluding_a_count_agrees_with_the_ends(right: list[bool], more: int, alpha: float, value: int) -> None:
    counts, population = np.cumsum(right), len(right) + more
    low, high = stats.finite_sequence(counts, population, alpha)
    inside = int(low[-1]) <= value <= int(high[-1])
    assert low[-1] <= high[-1]
    empty = all(stats.finite_excludes(counts, population, m, alpha)[-1] for m in range(population + 1))
    if not empty:
        assert bool(stats.finite_excludes(counts, population, value, alpha)[-1]) is not inside


# ---------------------------------------------------------------- properties


@settings(deadline=None)
@given(outcomes, alphas)
def test_sequences_only_narrow_stay_within_bounds_and_mirror(right: list[bool], alpha: float) -> None:
    counts = np.cumsum(right)
    wrong = np.arange(1, counts.size + 1) - counts
    low, high = stats.bernoulli_sequence(counts, alpha)
    assert np.all(np.diff(low) >= 0)
    assert np.all(np.diff(high) <= 0)
    assert np.all((low >= 0) & (low <= high) & (high <= 1))
    mirrored_low, mirrored_high = stats.bernoulli_sequence(wrong, alpha)
    assert mirrored_low == pytest.approx(1 - high, abs=1e-9)
    assert mirrored_high == pytest.approx(1 - low, abs=1e-9)


@settings(deadline=None)
@given(outcomes, st.integers(0, 40), alphas)
@example([True, False], 30, 0.5)  # the ratio at a whole count equals 1/alpha exactly
def test_the_finite_sequence_narrows_to_the_truth_and_mirrors(right: list[bool], more: int, alpha: float) -> None:
    counts, population = np.cumsum(right), len(right) + more
    wrong = np.arange(1, counts.size + 1) - counts
    low, high = stats.finite_sequence(counts, population, alpha)
    assert np.all(np.diff(low) >= 0)
    assert np.all(np.diff(high) <= 0)
    assert np.all((low >= 0) & (low <= high) & (high <= population))
    mirrored_low, mirrored_high = stats.finite_sequence(wrong, population, alpha)
    assert np.array_equal(mirrored_low, population - high)
    assert np.array_equal(mirrored_high, population - low)
    if more == 0 and not stats.finite_excludes(counts, population, int(counts[-1]), alpha)[-1]:
        assert (low[-1], high[-1]) == (counts[-1], counts[-1])


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1), st.floats(0.001, 0.999))
@example(363, 0.09375, 0.890625)  # a tail of 1e-277
def test_evidence_rises_with_successes_and_mirrors(n: int, share: float, target: float) -> None:
    s = np.unique(np.clip(np.round(share * n) + np.arange(-3, 4), 0, n))
    above, below = stats.evidence_at(s, n, target)
    assert np.all(np.isfinite(above))
    assert np.all(np.isfinite(below))
    slack = 1e-9 * (1 + np.abs(above[1:]) + np.abs(below[1:]))
    assert np.all(np.diff(above) >= -slack)
    assert np.all(np.diff(below) <= slack)
    mirrored_above, mirrored_below = stats.evidence_at(n - s, n, 1 - target)
    assert mirrored_above == pytest.approx(below, rel=1e-7, abs=1e-7)
    assert mirrored_below == pytest.approx(above, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("target", [0.01, 0.05, 0.5, 0.85, 0.99])
def test_the_evidence_never_underflows(target: float) -> None:
    for counts in (np.arange(1, 2001), np.zeros(2000, dtype=int)):
        above, below = stats.target_evidence(counts, target)
        assert np.all(np.isfinite(above))
        assert np.all(np.isfinite(below))
        # against it, evidence falls only polynomially: far below that is a lost digit
        assert min(above.min(), below.min()) > -12.0
        jumps = np.abs(np.diff(np.minimum(above, below)))[50:]
        assert jumps.max() < 0.05


def test_the_evidence_is_fair_at_the_target_and_shrinks_beyond_it() -> None:
    n, target = 40, 0.7
    s = np.arange(n + 1)
    above, below = (np.exp(log) for log in stats.evidence_at(s, n, target))
    at, worse, better = (binom.pmf(s, n, p) for p in (target, 0.65, 0.75))
    assert float(at @ above) == pytest.approx(1.0, abs=1e-9)
    assert float(at @ below) == pytest.approx(1.0, abs=1e-9)
    assert float(worse @ above) < 1.0 < float(better @ above)
    assert float(better @ below) < 1.0 < float(worse @ below)


def test_the_finite_evidence_is_fair_for_each_true_count() -> None:
    # the ratio pi_0(M) / pi_t(M) is a martingale with mean 1 when M is the truth: count the splits it wrongly excludes
    population, total, n = 12, 9, 6
    excluded = 0.0
    for s in range(n + 1):
        path = np.r_[np.arange(1, s + 1), np.full(n - s, s)]
        alone = stats.finite_excludes(path, population, total, 0.3)[-1]
        excluded += float(hypergeom.pmf(s, population, total, n)) * bool(alone)
    assert excluded <= 0.3


def test_targets_at_the_ends() -> None:
    above, below = stats.target_evidence([0, 1], 0.0)
    assert above.tolist() == [np.inf, np.inf]
    assert below.tolist() == [0.0, 0.0]
    above, below = stats.target_evidence([1, 2, 2], 1.0)
    assert above.tolist() == [0.0, 0.0, 0.0]
    assert below[1] < 0.0
    assert below[2] == np.inf


def test_a_reader_never_meets_an_empty_interval() -> None:
    # data that drift, against every promise: all right, then all wrong
    counts = np.r_[np.arange(1, 101), np.full(900, 100)]
    low, high = stats.bernoulli_sequence(counts, 0.05)
    assert np.all(low <= high)
    assert np.all(np.diff(low) >= 0)
    assert np.all(np.diff(high) <= 0)
    assert low[-1] > 0.9  # the last interval before nothing was left
    low, high = stats.finite_sequence(counts, 2000, 0.05)
    assert np.all(low <= high)
    low, high = stats.betting_sequence(np.diff(counts, prepend=0), 0.05)
    assert np.all(low <= high)


def test_nothing_seen_says_nothing() -> None:
    assert stats.bernoulli_interval(0, 0, 0.05) == (0.0, 1.0)
    for result in (
        stats.bernoulli_sequence([], 0.05),
        stats.finite_sequence([], 10, 0.05),
        stats.target_evidence([], 0.5),
    ):
        assert [array.size for array in result] == [0, 0]


def test_tails_that_would_underflow_are_exact() -> None:
    from luthier.stats.beta import log_beta_tails

    # P(p < x) for Beta(a, 1) is x^a, whatever a is
    below, above = log_beta_tails(0.5, [10.0, 1000.0, 1e5], 1.0)
    assert below == pytest.approx(np.array([10.0, 1000.0, 1e5]) * np.log(0.5), rel=1e-12)
    assert above == pytest.approx(np.log1p(-(0.5 ** np.array([10.0, 1000.0, 1e5]))), abs=1e-12)


# ---------------------------------------------------------------- misuse


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stats.bernoulli_sequence([1, 0], 0.05), "running counts"),
        (lambda: stats.bernoulli_sequence([2, 3], 0.05), "running counts"),
        (lambda: stats.bernoulli_sequence([0.5], 0.05), "whole numbers"),
        (lambda: stats.bernoulli_sequence([[1]], 0.05), "one dimension"),
        (lambda: stats.bernoulli_sequence([1], 0.0), "alpha"),
        (lambda: stats.bernoulli_sequence([1], 0.05, prior=(0.0, 1.0)), "prior"),
        (lambda: stats.bernoulli_interval(3, 2, 0.05), "successes"),
        (lambda: stats.finite_sequence([1, 2, 3], 2, 0.05), "population"),
        (lambda: stats.target_evidence([1], 1.5), "target"),
        (lambda: stats.evidence_at(3, 2, 0.5), "successes"),
    ],
)
def test_misuse_is_a_value_error_that_says_what(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


# ---------------------------------------------------------------- coverage, reduced (the whole: tests/slow)

RACES, ALPHA = 400, 0.05
ALLOWED = ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / RACES)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.85, 0.99])
def test_the_sequences_cover_at_every_look(p: float) -> None:
    rng = np.random.default_rng(3)
    n = 200
    split = np.arange(n) < round(p * n)
    missed = sum(bool(stats.bernoulli_excludes(c, p, ALPHA)[-1]) for c in runs(rng, RACES, n, p))
    finite = sum(
        bool(stats.finite_excludes(np.cumsum(rng.permutation(split)), n, int(split.sum()), ALPHA)[-1])
        for _ in range(RACES)
    )
    assert missed / RACES <= ALLOWED
    assert finite / RACES <= ALLOWED


def test_peeking_at_a_normal_interval_errs_and_the_evidence_does_not() -> None:
    rng = np.random.default_rng(4)
    n, target = 400, 0.85
    counts = runs(rng, RACES, n, target)
    t = np.arange(1, n + 1)
    mean = counts / t
    apart = np.abs(mean - target) > 1.96 * np.sqrt(mean * (1 - mean) / t)
    assert apart[:, 29:].any(axis=1).mean() > 0.25
    evidence = [stats.target_evidence(c, target) for c in counts]
    bar = np.log(1 / ALPHA)
    assert np.mean([above.max() >= bar for above, _ in evidence]) <= ALLOWED
    assert np.mean([below.max() >= bar for _, below in evidence]) <= ALLOWED
    # and it is not idle: it errs about as often as it may
    assert np.mean([above.max() >= bar or below.max() >= bar for above, below in evidence]) > 0.03


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 200), st.integers(0, 200), alphas)
def test_the_evidence_decides_where_the_two_sided_interval_does_at_the_latest(n: int, s: int, alpha: float) -> None:
    # one-sided at the same alpha is at least as sharp near the usual targets
    s = min(s, n)
    low, _ = stats.bernoulli_interval(s, n, alpha)
    if low > 0.6:
        assert stats.evidence_at(s, n, 0.6)[0] >= np.log(1 / alpha) - 1e-9
