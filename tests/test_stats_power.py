"""Boundaries and the exact walk: against the evidence, against brute force, against seeded simulation."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier import stats

TARGET, ALPHA = 0.85, 0.05 / 7


@pytest.mark.parametrize(
    ("target", "alpha", "n"), [(0.85, 0.05 / 7, 130), (0.5, 0.05, 64), (0.05, 0.3, 41), (0.99, 0.01, 97)]
)
def test_the_boundary_is_where_the_evidence_crosses(target: float, alpha: float, n: int) -> None:
    boundary = stats.decision_boundary(target, alpha, n)
    assert boundary.n == n
    for t in range(1, n + 1):
        above, below = stats.evidence_at(np.arange(t + 1), t, target)
        meets = np.flatnonzero(above >= -np.log(alpha))
        fails = np.flatnonzero(below >= -np.log(alpha))
        assert boundary.meets_at[t] == (meets[0] if meets.size else t + 1)
        assert boundary.fails_at[t] == (fails[-1] if fails.size else -1)


@given(st.floats(0.01, 0.99), st.floats(1e-4, 0.4), st.integers(0, 80))
@settings(deadline=None, max_examples=40)
def test_the_boundary_mirrors_and_moves_by_one_at_most(target: float, alpha: float, n: int) -> None:
    boundary = stats.decision_boundary(target, alpha, n)
    mirrored = stats.decision_boundary(1 - target, alpha, n)
    t = np.arange(n + 1)
    assert np.array_equal(mirrored.meets_at, t - boundary.fails_at)
    assert set(np.diff(boundary.meets_at)) <= {0, 1}
    assert set(np.diff(boundary.fails_at)) <= {0, 1}
    assert np.all(boundary.fails_at < boundary.meets_at)


def brute_force(p: float, boundary: stats.Boundary, start: tuple[int, int] = (0, 0)) -> tuple[float, float, float]:
    """Meets, fails and examples used, over all sequences of outcomes."""
    meets = fails = used = 0.0
    left = boundary.n - start[0]
    for path in itertools.product((0, 1), repeat=left):
        weight = p ** sum(path) * (1 - p) ** (left - sum(path))
        s = start[1]
        for step, right in enumerate(path, start=1):
            t = start[0] + step
            s += right
            if s >= boundary.meets_at[t] or s <= boundary.fails_at[t]:
                meets += weight * (s >= boundary.meets_at[t])
                fails += weight * (s < boundary.meets_at[t])
                used += weight * step
                break
        else:
            used += weight * left
    return meets, fails, used


@pytest.mark.parametrize("start", [(0, 0), (4, 2), (4, 3)])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.62, 1.0])
def test_the_walk_is_the_sum_over_all_sequences(p: float, start: tuple[int, int]) -> None:
    boundary = stats.decision_boundary(0.6, 0.25, 14)
    meets, fails, used = brute_force(p, boundary, start)
    found = stats.decision_probabilities(p, boundary, start)
    assert [float(x) for x in found] == pytest.approx([meets, fails], abs=1e-12)
    assert float(stats.expected_examples(p, boundary, start)) == pytest.approx(used, rel=1e-9)
    assert meets + fails > 0.0


def test_the_walk_agrees_with_a_seeded_simulation() -> None:
    races, n, p = 800, 300, 0.92
    rng = np.random.default_rng(5)
    bar = np.log(1 / ALPHA)
    boundary = stats.decision_boundary(TARGET, ALPHA, n)
    counts = np.cumsum(rng.random((races, n)) < p, axis=1)
    t = np.arange(1, n + 1)
    above, below = stats.evidence_at(counts, t, TARGET)
    first_above = np.where((above >= bar).any(axis=1), (above >= bar).argmax(axis=1), n)
    first_below = np.where((below >= bar).any(axis=1), (below >= bar).argmax(axis=1), n)
    meets, fails = stats.decision_probabilities(p, boundary)
    se = 4 * np.sqrt(0.25 / races)
    assert np.mean(first_above < first_below) == pytest.approx(float(meets), abs=se)
    assert np.mean(first_below < first_above) == pytest.approx(float(fails), abs=se)
    used = np.minimum(np.minimum(first_above, first_below) + 1, n)
    assert used.mean() == pytest.approx(
        float(stats.expected_examples(p, boundary)), abs=4 * used.std() / np.sqrt(races)
    )


def test_the_effort_matches_the_pilots() -> None:
    boundary = stats.decision_boundary(TARGET, ALPHA, 600)
    rates = np.array([0.92, 0.90, 0.81, 0.65, 0.37])
    meets, fails = stats.decision_probabilities(rates, boundary)
    used = stats.expected_examples(rates, boundary)
    assert meets[:2] == pytest.approx([0.96, 0.59], abs=0.015)
    assert meets[2] + fails[2] < 0.25  # mostly INCONCLUSIVE
    assert fails[3:] == pytest.approx([1.0, 1.0], abs=1e-3)
    assert used[[0, 3, 4]] == pytest.approx([268, 56, 11], rel=0.05)


def test_a_wrong_decision_at_the_target_is_rarer_than_alpha() -> None:
    for target in (0.3, 0.85, 0.99):
        meets, fails = stats.decision_probabilities(target, stats.decision_boundary(target, 0.05, 1500))
        assert 0.0 < float(meets) <= 0.05
        assert 0.0 < float(fails) <= 0.05


@pytest.mark.parametrize(("t", "s"), [(0, 0), (6, 4), (9, 6)])
def test_the_posterior_walk_is_the_mean_over_the_posterior(t: int, s: int) -> None:
    from scipy.integrate import quad
    from scipy.stats import beta

    boundary = stats.decision_boundary(0.6, 0.2, 30)
    posterior = beta(1.0 + s, 1.0 + t - s)
    found = stats.posterior_decision(boundary, t, s, prior=(1.0, 1.0))
    for side in (0, 1):
        mean = quad(
            lambda p, side=side: float(stats.decision_probabilities(p, boundary, (t, s))[side]) * posterior.pdf(p),
            0.0, 1.0,
        )[0]  # fmt: skip
        assert found[side] == pytest.approx(mean, abs=1e-7)


def test_a_decided_start_stays_decided() -> None:
    boundary = stats.decision_boundary(0.5, 0.05, 20)
    assert stats.posterior_decision(boundary, 10, 10) == (1.0, 0.0)
    assert stats.posterior_decision(boundary, 10, 0) == (0.0, 1.0)
    assert stats.posterior_decision(boundary, 20, 10) == (0.0, 0.0)
    assert float(stats.expected_examples(0.5, boundary, (10, 10))) == 0.0
    assert stats.further_examples(0.5, 0.05, 10, 10) == (0, 0)


def test_further_examples_are_the_quantiles_of_simulated_continuations() -> None:
    t, s, limit, races = 60, 57, 1500, 3000
    rng = np.random.default_rng(6)
    rates = rng.beta(0.5 + s, 0.5 + t - s, races)
    counts = s + np.cumsum(rng.random((races, limit)) < rates[:, None], axis=1)
    boundary = stats.decision_boundary(TARGET, ALPHA, t + limit)
    decided = (counts >= boundary.meets_at[t + 1 :]) | (counts <= boundary.fails_at[t + 1 :])
    times = np.where(decided.any(axis=1), decided.argmax(axis=1) + 1, limit + 1)
    median, q90 = stats.further_examples(TARGET, ALPHA, t, s, limit=limit)
    assert median is not None
    assert q90 is not None
    # times come in lumps, since only some can decide: at a quantile the share passes the mark
    assert np.mean(times < median) - 0.03 < 0.5 < np.mean(times <= median) + 0.03
    assert np.mean(times < q90) - 0.02 < 0.9 < np.mean(times <= q90) + 0.02
    assert stats.further_examples(TARGET, ALPHA, t, s, limit=q90 - 1) == (median, None)
    assert stats.further_examples(TARGET, ALPHA, t, s, limit=median - 1) == (None, None)


def test_the_smallest_detectable_effect_is_just_decided() -> None:
    n, step = 400, 1e-4
    low, high = stats.smallest_detectable_effect(TARGET, ALPHA, n)
    assert low is not None
    assert high is not None
    boundary = stats.decision_boundary(TARGET, ALPHA, n)
    meets, _ = stats.decision_probabilities(np.array([high - step, high]), boundary)
    _, fails = stats.decision_probabilities(np.array([low + step, low]), boundary)
    assert meets[0] < 0.8 <= meets[1]
    assert fails[0] < 0.8 <= fails[1]
    assert low < TARGET < high


def test_too_few_examples_detect_nothing() -> None:
    assert stats.smallest_detectable_effect(0.99, ALPHA, 50)[1] is None
    assert stats.smallest_detectable_effect(0.5, ALPHA, 3) == (None, None)
    assert stats.smallest_detectable_effect(1.0, ALPHA, 500)[1] is None


@pytest.mark.parametrize(("target", "fewest"), [(0.85, 37), (0.95, 117), (0.99, 593)])
def test_the_fewest_to_prove_is_where_the_evidence_first_suffices(target: float, fewest: int) -> None:
    above, _ = stats.target_evidence(np.arange(1, 1001), target)
    assert int(np.argmax(above >= -np.log(ALPHA))) + 1 == fewest
    assert stats.fewest_to_prove(target, ALPHA) == fewest
    boundary = stats.decision_boundary(target, ALPHA, fewest)
    assert boundary.meets_at[fewest] == fewest
    assert np.all(boundary.meets_at[:fewest] > np.arange(fewest))


def test_the_ends_of_the_scale_can_be_proven_or_not_at_all() -> None:
    assert stats.fewest_to_prove(1.0, ALPHA) is None
    assert stats.fewest_to_prove(0.0, ALPHA) == 1
    boundary = stats.decision_boundary(1.0, ALPHA, 5)
    assert boundary.meets_at.tolist() == [1, 2, 3, 4, 5, 6]
    assert boundary.fails_at.tolist() == [-1, 0, 1, 2, 3, 4]
    boundary = stats.decision_boundary(0.0, ALPHA, 2)
    assert boundary.meets_at.tolist() == [1, 0, 0]
    assert boundary.fails_at.tolist() == [-1, -1, -1]


def test_it_is_quick_enough_to_ask_while_a_race_runs() -> None:
    boundary = stats.decision_boundary(TARGET, ALPHA, 1000)

    def seconds(call) -> float:
        times = []
        for _ in range(3):
            begin = time.process_time()
            call()
            times.append(time.process_time() - begin)
        return min(times)

    # a few times what they take on a quiet machine: it is the order of magnitude that must not slip
    assert seconds(lambda: stats.posterior_decision(boundary, 1, 1)) < 0.15
    assert seconds(lambda: stats.further_examples(TARGET, ALPHA, 1000, 860, limit=10_000)) < 2.0
    assert seconds(lambda: stats.smallest_detectable_effect(TARGET, ALPHA, 1000)) < 2.0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda b: stats.decision_boundary(0.5, 0.0, 5), "alpha"),
        (lambda b: stats.decision_boundary(0.5, 0.05, -1), "n is -1"),
        (lambda b: stats.decision_probabilities(1.5, b), "p must"),
        (lambda b: stats.decision_probabilities(0.5, b, (6, 3)), "reaches"),
        (lambda b: stats.posterior_decision(b, 2, 3), "successes"),
        (lambda b: stats.further_examples(0.5, 0.05, 2, 1, limit=-1), "limit"),
        (lambda b: stats.smallest_detectable_effect(0.5, 0.05, 5, power=1.0), "power"),
    ],
)
def test_misuse_is_a_value_error_that_says_what(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call(stats.decision_boundary(0.5, 0.05, 5))
