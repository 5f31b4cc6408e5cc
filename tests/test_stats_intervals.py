"""Figures for one planned look, and the bootstrap: golden figures, definitions, degenerate cases, coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, false_discovery_control, norm

from luthier import stats

# ---------------------------------------------------------------- one proportion


def test_wilson_matches_the_golden_interval() -> None:
    assert stats.wilson(460, 500, 0.95) == pytest.approx((0.89289, 0.94070), abs=5e-6)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(1, 300), st.floats(0.5, 0.999))
def test_both_intervals_agree_with_scipy(s: int, n: int, confidence: float) -> None:
    s = min(s, n)
    reference = binomtest(s, n)
    for mine, method in ((stats.wilson, "wilson"), (stats.clopper_pearson, "exact")):
        found, wanted = mine(s, n, confidence), reference.proportion_ci(confidence, method)
        assert found == pytest.approx((wanted.low, wanted.high), abs=1e-9)
        assert 0.0 <= found[0] <= s / n <= found[1] <= 1.0


def test_clopper_pearson_covers_everywhere_and_nothing_seen_says_nothing() -> None:
    n, s = 40, np.arange(41)
    ends = np.array([stats.clopper_pearson(int(k), n, 0.9) for k in s])
    for p in np.linspace(0.01, 0.99, 50):
        covered = (ends[:, 0] <= p) & (p <= ends[:, 1])
        assert float(binom.pmf(s, n, p) @ covered) >= 0.9
    assert stats.clopper_pearson(0, 0, 0.9) == stats.wilson(0, 0, 0.9) == (0.0, 1.0)


# ---------------------------------------------------------------- means and differences


def test_the_clustered_error_is_the_formula_written_out() -> None:
    rng = np.random.default_rng(1)
    scores, clusters = rng.random(30), rng.integers(0, 9, 30)
    mean = scores.mean()
    iid = scores.var(ddof=1) / 30
    cross = sum(
        (scores[i] - mean) * (scores[j] - mean)
        for i in range(30)
        for j in range(30)
        if i != j and clusters[i] == clusters[j]
    )
    assert stats.mean_se(scores, clusters) == pytest.approx((mean, np.sqrt(iid + cross / 30**2)), rel=1e-12)
    assert stats.mean_se(scores) == pytest.approx((mean, np.sqrt(iid)), rel=1e-12)
    assert stats.mean_se(scores, range(30)) == pytest.approx(stats.mean_se(scores), rel=1e-12)


def test_doubled_examples_add_nothing_once_they_are_clustered() -> None:
    rng = np.random.default_rng(2)
    scores = rng.random(200)
    honest = stats.mean_se(scores)[1]
    twice = np.repeat(scores, 2)
    assert stats.mean_se(twice)[1] < 0.75 * honest
    assert stats.mean_se(twice, np.repeat(np.arange(200), 2))[1] == pytest.approx(honest, rel=0.01)


def test_a_paired_difference_with_the_golden_discordant_counts() -> None:
    # 209 problems only the first solves, 152 only the second, of 1,319; accuracies .3904 and .3472
    both, only_a, only_b, n = 306, 209, 152, 1319
    a = np.r_[np.ones(both + only_a), np.zeros(n - both - only_a)]
    b = np.r_[np.ones(both), np.zeros(only_a), np.ones(only_b), np.zeros(n - both - only_a - only_b)]
    found = stats.paired_difference(a, b)
    assert (a.mean(), b.mean()) == pytest.approx((0.3904, 0.3472), abs=5e-5)
    assert (found.mean, found.se) == pytest.approx((0.0432, 0.0144), abs=5e-5)
    assert (found.only_a, found.only_b) == (209, 152)
    assert np.hypot(stats.mean_se(a)[1], stats.mean_se(b)[1]) == pytest.approx(0.0188, abs=5e-5)
    assert found.mcnemar_p == pytest.approx(binomtest(209, 361).pvalue, rel=1e-9)


def test_mcnemar_is_only_for_right_or_wrong_scores() -> None:
    assert stats.paired_difference([0.5, 1.0], [0.0, 1.0]).mcnemar_p is None
    assert stats.paired_difference([1, 0, 1], [1, 0, 1]).mcnemar_p == 1.0


# ---------------------------------------------------------------- planning, many tests


def test_the_sample_size_matches_the_golden_figure_and_reaches_its_power() -> None:
    assert stats.sample_size(0.03, 1 / 9) == 969
    n = stats.sample_size(0.1, 0.2, sigma2_a=0.1, sigma2_b=0.05, k_a=2, k_b=1, alpha=0.01, power=0.9)
    se = np.sqrt((0.2 + 0.1 / 2 + 0.05) / n)
    assert norm.sf(norm.isf(0.005) - 0.1 / se) == pytest.approx(0.9, abs=0.005)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_its_step_down_rule_and_lies_between_bonferroni_and_the_plain_p(p: list[float]) -> None:
    adjusted = stats.holm(p)
    assert np.all(adjusted >= np.array(p))
    assert np.all(adjusted <= np.minimum(np.array(p) * len(p), 1.0))
    assert np.all(adjusted >= false_discovery_control(p, method="bh") - 1e-12)
    for alpha in (0.05, 0.3):
        rejected: set[int] = set()
        for place, which in enumerate(np.argsort(p, kind="stable")):
            if p[which] * (len(p) - place) > alpha:
                break
            rejected.add(int(which))
        assert {int(i) for i in np.flatnonzero(adjusted <= alpha)} == rejected


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stats.wilson(3, 2, 0.95), "successes"),
        (lambda: stats.clopper_pearson(1, 2, 95), "confidence"),
        (lambda: stats.mean_se([1.0]), "two"),
        (lambda: stats.mean_se([1.0, np.nan]), "finite"),
        (lambda: stats.mean_se([1.0, 0.0], ["a"]), "cluster"),
        (lambda: stats.paired_difference([1, 0], [1, 0, 1]), "same examples"),
        (lambda: stats.sample_size(0.0, 0.1), "delta"),
        (lambda: stats.sample_size(0.1, -0.1), "variances"),
        (lambda: stats.holm([0.5, 1.5]), "p_values"),
    ],
)
def test_misuse_is_a_value_error_that_says_what(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


# ---------------------------------------------------------------- the bootstrap


def macro_f1(counts: np.ndarray) -> np.ndarray:
    k = counts.shape[-2]
    right = np.diagonal(counts[..., :k], axis1=-2, axis2=-1)
    both = counts.sum(axis=-1) + counts[..., :k].sum(axis=-2)
    return np.mean(2 * right / np.maximum(both, 1e-12), axis=-1)


def accuracy(counts: np.ndarray) -> np.ndarray:
    k = counts.shape[-2]
    return np.trace(counts[..., :k], axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1))


def bootstrap(true, predicted, statistic=macro_f1, alpha: float = 0.05, **more) -> tuple[float, float]:
    return stats.confusion_bootstrap(true, predicted, statistic, alpha, np.random.default_rng(0), **more)


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of unequal size and quality; some answers are none of the labels (3)."""
    rows = np.array([[0.90, 0.06, 0.03, 0.01], [0.10, 0.80, 0.05, 0.05], [0.15, 0.15, 0.65, 0.05]])
    true = np.repeat([0, 1, 2], [n // 2, n // 3, n - n // 2 - n // 3])
    return true, (rng.random((n, 1)) > rows[true].cumsum(axis=1)).sum(axis=1)


def test_it_is_the_interval_that_scipy_computes_for_one_class() -> None:
    from scipy.stats import bootstrap as scipy_bootstrap

    # one true class; each answer is worth something else, most of them little: a skewed mean
    worth = np.array([0.01, 0.043, 0.09, 0.22, 0.37, 0.61, 1.0])
    predicted = np.repeat(np.arange(7), [20, 12, 7, 4, 3, 2, 2])
    wanted = {
        method: scipy_bootstrap(
            (worth[predicted],), np.mean, n_resamples=40_000, confidence_level=0.99, method=method, random_state=1
        ).confidence_interval
        for method in ("BCa", "percentile")
    }
    found = bootstrap(np.zeros(50, dtype=int), predicted, lambda m: m[..., 0, :] @ worth / 50.0, alpha=0.01, classes=6)
    assert found == pytest.approx((wanted["BCa"].low, wanted["BCa"].high), abs=0.006)
    assert wanted["BCa"].high - wanted["percentile"].high > 0.02  # so that a missing correction would show


def test_it_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    true, _ = draw(rng, 240)
    rows = np.array([[0.90, 0.06, 0.03, 0.01], [0.10, 0.80, 0.05, 0.05], [0.15, 0.15, 0.65, 0.05]])
    truth = float(macro_f1(rows * np.bincount(true)[:, None]))
    ends = []
    for _ in range(200):
        true, predicted = draw(rng, 240)
        ends.append(stats.confusion_bootstrap(true, predicted, macro_f1, 0.1, rng, classes=3))
    low, high = np.array(ends).T
    assert 0.84 <= np.mean((low <= truth) & (truth <= high)) <= 0.96
    # and errs about as often on either side: the skew is corrected
    assert np.mean(truth < low) < 0.10
    assert np.mean(truth > high) < 0.10


def test_a_smaller_alpha_is_wider() -> None:
    true, predicted = draw(np.random.default_rng(3), 300)
    wide, narrow = bootstrap(true, predicted, alpha=0.01), bootstrap(true, predicted, alpha=0.2)
    assert wide[0] < narrow[0] < float(macro_f1(table(true, predicted, 3))) < narrow[1] < wide[1]


def test_it_resamples_at_least_200_over_alpha_times_within_the_classes() -> None:
    true, predicted = draw(np.random.default_rng(3), 300)
    sizes = np.bincount(true)
    seen = 0

    def watched(counts: np.ndarray) -> np.ndarray:
        nonlocal seen
        kept = (counts.sum(axis=-1) == sizes).all(axis=-1)
        seen += int(kept.sum())
        return macro_f1(counts)

    bootstrap(true, predicted, watched, alpha=0.05 / 7)
    assert seen >= 200 / (0.05 / 7)


def table(true: np.ndarray, predicted: np.ndarray, k: int) -> np.ndarray:
    counts = np.zeros((k, k + 1))
    np.add.at(counts, (true, predicted), 1)
    return counts


def test_everything_right_is_not_certainty() -> None:
    true = np.repeat([0, 1], [40, 10])
    low, high = bootstrap(true, true)
    assert high == 1.0
    assert 0.7 < low < 0.95
    few, _ = bootstrap(np.repeat([0, 1], [4, 1]), np.repeat([0, 1], [4, 1]))
    assert few < low
    # for one class it is Clopper and Pearson's own bound
    low, high = bootstrap(np.zeros(30, dtype=int), np.zeros(30, dtype=int), accuracy)
    assert low == pytest.approx(stats.clopper_pearson(30, 30, 0.95)[0], abs=1e-9)


def test_a_constant_answer_is_not_certainty_either() -> None:
    true = np.repeat([0, 1], [30, 20])
    low, high = bootstrap(true, np.zeros(50, dtype=int))
    observed = float(macro_f1(table(true, np.zeros(50, dtype=int), 2)))
    assert low < observed < high


def test_a_class_that_never_occurs_is_named_by_the_number_of_classes() -> None:
    true, predicted = (
        np.repeat([0, 1], [30, 20]),
        np.r_[np.zeros(28), np.full(2, 2), np.ones(18), np.zeros(2)].astype(int),
    )
    shapes = set()

    def watched(counts: np.ndarray) -> np.ndarray:
        shapes.add(counts.shape[-2:])
        return macro_f1(counts)

    low, high = bootstrap(true, predicted, watched, classes=4)
    assert shapes == {(4, 5)}
    assert 0.0 < low < high < 0.6  # two of four classes score nothing
    bootstrap(true, predicted, watched)
    assert shapes == {(4, 5), (2, 3)}  # else the third column is "none of the labels"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: bootstrap([], []), "length"),
        (lambda: bootstrap([0, 1], [0]), "length"),
        (lambda: bootstrap([0, 1], [0, 3]), "classes"),
        (lambda: bootstrap([0, 1], [0, -1]), "classes"),
        (lambda: bootstrap([0.5, 1], [0, 1]), "whole numbers"),
        (lambda: bootstrap([0, 1], [0, 1], alpha=0), "alpha"),
        (lambda: bootstrap([0, 1], [0, 1], lambda m: np.full(m.shape[:-2], np.nan)), "finite"),
        (lambda: bootstrap([0, 1], [0, 1], lambda m: 1.0), "shape"),
    ],
)
def test_misuse_of_the_bootstrap_is_a_value_error(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
