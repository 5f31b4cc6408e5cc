"""Betting on scores in [0, 1]: the definition, properties, both estimands, reduced coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier import stats

scores = st.lists(st.floats(0, 1).map(lambda x: round(x, 6)), min_size=1, max_size=40)
GRID = 2.0**-15


def capital(x: np.ndarray, m: float, alpha: float, population: int | None) -> np.ndarray:
    """The hedged capital written out, one score at a time, as the paper has it."""
    up = down = 0.5
    seen, spread, history = 0.0, 0.25, []
    variance = 0.25
    for i, score in enumerate(x, start=1):
        mean = m if population is None else (population * m - seen) / (population - i + 1)
        stake = np.sqrt(2 * np.log(2 / alpha) / (variance * i * np.log(1 + i)))
        if mean < -1e-9:
            up = np.inf
        if mean > 1 + 1e-9:
            down = np.inf
        mean = min(max(mean, 0.0), 1.0)
        up *= 1 + min(stake, 0.5 / mean if mean > 0 else np.inf) * (score - mean)
        down *= 1 - min(stake, 0.5 / (1 - mean) if mean < 1 else np.inf) * (score - mean)
        history.append(max(up, down))
        seen += score
        estimate = (0.5 + seen) / (i + 1)
        spread += (score - estimate) ** 2
        variance = spread / (i + 1)
    return np.array(history)


@settings(max_examples=60, deadline=None)
@given(scores, st.floats(0.02, 0.98), st.floats(0.01, 0.3), st.one_of(st.none(), st.integers(0, 30)))
def test_excluding_a_mean_is_the_capital_reaching_one_over_alpha(x, m: float, alpha: float, more) -> None:
    values = np.array(x)
    population = None if more is None else len(x) + more
    wealth = capital(values, m, alpha, population)
    clear = np.abs(np.log(np.maximum.accumulate(wealth) * alpha)) > 1e-6
    excluded = stats.betting_excludes(values, m, alpha, population)
    assert np.array_equal(excluded[clear], (np.maximum.accumulate(wealth) >= 1 / alpha)[clear])


@pytest.mark.parametrize("population", [None, 250])
def test_each_mean_is_excluded_at_the_very_score_at_which_the_capital_written_out_says_so(population) -> None:
    x = np.clip(0.8 + 0.1 * np.random.default_rng(13).standard_normal(200), 0, 1)
    times = []
    for m in np.linspace(0.05, 0.95, 37):
        rich = capital(x, m, 0.05, population) >= 20.0
        excluded = stats.betting_excludes(x, m, 0.05, population)
        assert np.array_equal(excluded, np.logical_or.accumulate(rich))
        times.append(int(excluded.argmax()))
    assert len(set(times)) > 10  # near and far means go at different times: the comparison has teeth


def test_an_end_is_excluded_and_what_lies_just_inside_is_not() -> None:
    x = np.random.default_rng(14).random(150)
    low, high = stats.betting_sequence(x, 0.05)
    for end, inward in ((low, GRID), (high, -GRID)):
        for t in np.flatnonzero(np.diff(end)) + 1:
            assert stats.betting_excludes(x[: t + 1], end[t], 0.05)[-1]
            assert not stats.betting_excludes(x[: t + 1], end[t] + 2 * inward, 0.05)[-1]


@settings(max_examples=60, deadline=None)
@given(scores, st.floats(0.02, 0.98), st.floats(0.01, 0.3), st.one_of(st.none(), st.integers(1, 30)))
def test_the_ends_lie_where_means_begin_to_be_excluded(x, m: float, alpha: float, more) -> None:
    population = None if more is None else len(x) + more
    low, high = stats.betting_sequence(x, alpha, population)
    excluded = stats.betting_excludes(x, m, alpha, population)
    centre = (low[-1] + high[-1]) / 2
    if stats.betting_excludes(x, centre, alpha, population)[-1]:
        return  # the intersection has become empty: the last interval stands
    assert not np.any(excluded & (m > low + GRID) & (m < high - GRID))
    assert np.all(excluded[(m < low) | (m > high)])
    assert np.all(excluded[(m < low - GRID) | (m > high + GRID)])


@settings(max_examples=60, deadline=None)
@given(scores, st.floats(0.01, 0.3), st.one_of(st.none(), st.integers(0, 30)))
def test_the_sequence_only_narrows_stays_within_bounds_and_mirrors(x, alpha: float, more) -> None:
    population = None if more is None else len(x) + more
    low, high = stats.betting_sequence(x, alpha, population)
    assert np.all((low >= 0) & (low <= high) & (high <= 1))
    assert np.all(np.diff(low) >= 0)
    assert np.all(np.diff(high) <= 0)
    mirrored_low, mirrored_high = stats.betting_sequence(1 - np.array(x), alpha, population)
    assert mirrored_low == pytest.approx(1 - high, abs=2 * GRID)
    assert mirrored_high == pytest.approx(1 - low, abs=2 * GRID)


def test_on_right_or_wrong_scores_the_evidence_is_that_of_the_target() -> None:
    rng = np.random.default_rng(8)
    for target, rate in ((0.85, 0.92), (0.5, 0.45), (0.05, 0.1)):
        right = rng.random(400) < rate
        betting = stats.betting_evidence(right, target)
        exact = stats.target_evidence(np.cumsum(right), target)
        for found, wanted in zip(betting, exact, strict=True):
            near = wanted > -2.0  # far against it both are small, and how small is no matter
            assert found[near] == pytest.approx(wanted[near], abs=0.05)


def test_a_used_up_split_is_known() -> None:
    rng = np.random.default_rng(9)
    x = rng.random(60)
    low, high = stats.betting_sequence(x, 0.05, population=60)
    assert low[-1] == high[-1] == pytest.approx(x.mean(), abs=1e-12)
    above, below = stats.betting_evidence(x, x.mean() - 0.03, population=60)
    assert above[-1] > 3.0
    assert below[-1] < 0.0


def test_what_the_rest_of_a_split_cannot_reach_is_excluded_for_certain() -> None:
    x = np.r_[np.zeros(9), 0.5]
    above, below = stats.betting_evidence(x, 0.5, population=12)
    assert below[-1] == np.inf  # even with two ones to come the mean is 2.5 of 12
    assert stats.betting_excludes(x, 0.5, 1e-12, population=12)[-1]
    above, below = stats.betting_evidence(1 - x, 0.5, population=12)
    assert above[-1] == np.inf
    assert stats.betting_sequence(1 - x, 1e-12, population=12)[0][-1] > 0.5


def test_low_spread_makes_the_interval_narrower_than_for_right_or_wrong() -> None:
    rng = np.random.default_rng(10)
    calm = np.clip(0.8 + 0.05 * rng.standard_normal(300), 0, 1)
    low, high = stats.betting_sequence(calm, 0.05)
    assert high[-1] - low[-1] < 0.05
    right = rng.random(300) < 0.8
    low, high = stats.betting_sequence(right, 0.05)
    assert high[-1] - low[-1] > 0.08


def test_targets_at_the_ends() -> None:
    above, below = stats.betting_evidence([0.0, 0.4], 0.0)
    assert above.tolist() == [np.inf, np.inf]
    assert below.tolist() == [0.0, 0.0]
    above, below = stats.betting_evidence([1.0, 0.9], 1.0)
    assert above.tolist() == [0.0, 0.0]
    assert below.tolist() == [0.0, np.inf]


def test_nothing_seen_says_nothing() -> None:
    assert [array.size for array in stats.betting_sequence([], 0.05)] == [0, 0]
    assert [array.size for array in stats.betting_evidence([], 0.5)] == [0, 0]
    assert stats.betting_excludes([], 0.5, 0.05).size == 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stats.betting_sequence([1.2], 0.05), "lie in"),
        (lambda: stats.betting_sequence([float("nan")], 0.05), "lie in"),
        (lambda: stats.betting_sequence([[0.1]], 0.05), "one dimension"),
        (lambda: stats.betting_sequence([0.1], 1.0), "alpha"),
        (lambda: stats.betting_sequence([0.1, 0.2], 0.05, population=1), "population"),
        (lambda: stats.betting_evidence([0.1], -0.1), "target"),
        (lambda: stats.betting_excludes([0.1], 1.1, 0.05), "value"),
    ],
)
def test_misuse_is_a_value_error_that_says_what(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


# ---------------------------------------------------------------- coverage, reduced (the whole: tests/slow)

RACES, ALPHA, N = 200, 0.05, 200
ALLOWED = ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / RACES)


def group_means(rng: np.random.Generator, p: float) -> np.ndarray:
    size = rng.integers(1, 6, N)
    return rng.binomial(size, rng.beta(2 * p, 2 * (1 - p), N)) / size


@pytest.mark.parametrize("p", [0.1, 0.5, 0.85])
def test_group_means_are_covered_at_every_look_and_rarely_misjudged(p: float) -> None:
    rng = np.random.default_rng(11)
    missed = above_wrong = below_wrong = split_missed = 0
    split = group_means(rng, p)
    for _ in range(RACES):
        x = group_means(rng, p)
        missed += bool(stats.betting_excludes(x, p, ALPHA)[-1])
        above, below = stats.betting_evidence(x, p)
        above_wrong += bool(above.max() >= -np.log(ALPHA))
        below_wrong += bool(below.max() >= -np.log(ALPHA))
        split_missed += bool(stats.betting_excludes(rng.permutation(split), float(split.mean()), ALPHA, N)[-1])
    assert max(missed, above_wrong, below_wrong, split_missed) / RACES <= ALLOWED


def test_the_evidence_about_a_split_is_fair_without_replacement() -> None:
    rng = np.random.default_rng(12)
    split = np.round(rng.beta(4, 1, 40), 2)
    wrong = np.zeros(2)
    for _ in range(RACES):
        evidence = stats.betting_evidence(rng.permutation(split), float(split.mean()), population=40)
        wrong += [bool(side.max() >= -np.log(ALPHA)) for side in evidence]
    assert wrong.max() / RACES <= ALLOWED
