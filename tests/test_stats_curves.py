"""The learning curve's posterior: coverage on simulated curves, monotone, bounded, and sane where data say little."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtri

from luthier.stats import Fits, learning_curve, mean_covariance

SIZES = (125, 125, 250, 250, 500, 500, 1000)
CHAINS = (0, 1, 0, 1, 0, 1, 0)


def law(n: float, *, b: float, d: float, beta: float, e: float) -> float:
    return b / (d + n**beta) + e


def drawn(
    rng: np.random.Generator, parameters: dict[str, float], units: int, *, ahead: int = 2000, alike: float = 0.7
) -> tuple[Fits, float]:
    """Fits of a simulated rung, and what the fit on `ahead` examples is wrong on among the same dev examples.

    Dev examples are hard for all fits or for none to the degree `alike`; each fit has the luck of its training draw.
    """
    sizes = [*SIZES, ahead]
    hardness = rng.standard_normal(units)
    wrong = np.empty((units, len(sizes)))
    for at, n in enumerate(sizes):
        error = law(n, **parameters)
        error += 0.3 * math.sqrt(error * (1 - error) / n) * rng.standard_normal()
        own = rng.standard_normal(units)
        wrong[:, at] = math.sqrt(alike) * hardness + math.sqrt(1 - alike) * own < ndtri(min(max(error, 1e-4), 0.999))
    return fits_of(wrong[:, :-1]), float(wrong[:, -1].mean())


def fits_of(wrong: NDArray[np.float64], sizes: tuple[int, ...] = SIZES, chains: tuple[int, ...] = CHAINS) -> Fits:
    return Fits(
        np.array(sizes, dtype=np.float64),
        wrong.mean(axis=0),
        mean_covariance(wrong),
        np.array(chains, dtype=np.int64),
        len(wrong),
    )


def same_for_all(errors: tuple[float, ...], units: int = 200) -> NDArray[np.float64]:
    """Losses in which the first so many examples are wrong: every fit's errors are among those of a worse one."""
    return np.stack([np.arange(units) < round(error * units) for error in errors], axis=1).astype(np.float64)


def test_the_intervals_cover_the_truth_of_simulated_curves() -> None:
    """At 90 %: the law's own value at 2N and 4N, and what a fit on 2N is measured to be wrong on, fresh or on dev."""
    rng = np.random.default_rng(20)
    runs, covered, dev, width = 50, np.zeros(2), 0, []
    for at in range(runs):
        beta = float(np.exp(rng.normal(math.log(0.5), 0.4)))
        half = float(np.exp(rng.uniform(math.log(3.0), math.log(1500.0))))
        floor, start = float(rng.uniform(0.0, 0.15)), float(rng.uniform(0.4, 0.8))
        parameters = {"b": (start - floor) * half**beta, "d": half**beta, "beta": beta, "e": floor}
        fits, seen = drawn(rng, parameters, 400)
        curve = learning_curve(fits, seed=at)
        for row, n in enumerate((2000, 4000)):
            _, low, high = curve.interval(n)
            covered[row] += low <= law(n, **parameters) <= high
        low, high = np.quantile(curve.measured(2000, same_dev=True), (0.05, 0.95))
        dev += low <= seen <= high
        width.append(high - low)
    # 90 % less three standard errors of 50 runs
    assert covered.min() >= 0.77 * runs
    assert dev >= 0.77 * runs
    # an interval that knows nothing of the slope would be far wider than what dev alone leaves open
    assert np.mean(width) < 0.09


def test_the_truth_is_found_where_much_is_measured() -> None:
    parameters = {"b": 3.0, "d": 5.0, "beta": 0.5, "e": 0.05}
    fits, _ = drawn(np.random.default_rng(1), parameters, 100_000)
    middle, low, high = learning_curve(fits).interval(4000)
    assert low < law(4000, **parameters) < high
    assert middle == pytest.approx(law(4000, **parameters), abs=0.01)


def test_the_error_never_rises_with_more_examples_nor_leaves_its_bounds() -> None:
    rising = fits_of(same_for_all((0.1, 0.1, 0.15, 0.15, 0.2, 0.2, 0.25)))
    falling, _ = drawn(np.random.default_rng(2), {"b": 2.0, "d": 2.0, "beta": 0.4, "e": 0.0}, 100)
    for fits in (rising, falling):
        curve = learning_curve(fits)
        bands = np.array([curve.interval(n) for n in (1, 10, 125, 1000, 2000, 4000, 10**9)])
        assert (np.diff(bands, axis=0) <= 1e-12).all()
        assert (bands >= 0).all()
        assert (bands <= 1).all()
        assert (curve.errors(1e-9) <= 1 + 1e-9).all(), "no curve starts above an error of 1"


def test_no_error_at_all_is_no_proof_of_perfection() -> None:
    curve = learning_curve(fits_of(np.zeros((100, 7))))
    middle, low, high = curve.interval(1000)
    assert low >= 0
    assert 0 < middle < 0.01
    assert 0.005 < high < 0.04, "an error of 1 in 200 is quite likely to show none in 100"


def test_a_flat_curve_promises_little() -> None:
    curve = learning_curve(fits_of(same_for_all((0.3,) * 7, units=1000)))
    now, later = curve.interval(1000), curve.interval(2000)
    assert now[0] - later[0] < 0.012
    assert curve.reaches(0.1, 4000) < 0.05
    assert curve.needed(0.1)[1] > 4000


def test_what_has_not_begun_may_fall_at_once_and_what_falls_has_begun() -> None:
    flat = fits_of(same_for_all((0.14,) * 7, units=400))
    begun, waiting = learning_curve(flat), learning_curve(flat, begun=False)
    assert begun.interval(2000)[1] > 0.1 > 0.08 > waiting.interval(2000)[1]
    for curve in (begun, waiting):
        assert curve.interval(1000)[0] == pytest.approx(0.14, abs=0.01)
        bands = np.array([curve.interval(n) for n in (125, 1000, 1500, 2000, 4000, 8000, 10**6)])
        assert (np.diff(bands, axis=0) <= 1e-12).all()
    assert waiting.reaches(0.05, 8000) > waiting.reaches(0.05, 2000) > 0.02
    assert waiting.needed(0.05)[1] > 1000
    fits, _ = drawn(np.random.default_rng(6), {"b": 3.0, "d": 5.0, "beta": 0.5, "e": 0.02}, 2000)
    told = [learning_curve(fits, begun=said).interval(2000) for said in (True, False)]
    assert told[0] == pytest.approx(told[1], abs=0.003), "curves that fall are none that wait"


def test_examples_needed_are_where_the_curve_reaches_the_error() -> None:
    fits, _ = drawn(np.random.default_rng(3), {"b": 3.0, "d": 5.0, "beta": 0.5, "e": 0.02}, 2000)
    curve = learning_curve(fits)
    median, low, high = curve.needed(0.12)
    assert low <= median <= high
    assert curve.reaches(0.12, median) == pytest.approx(0.5, abs=0.02)
    assert curve.needed(0.0)[0] == math.inf


def test_a_loss_without_an_upper_end_is_fitted_too() -> None:
    sizes = np.array(SIZES, dtype=np.float64)
    losses = 4.0 / (0.5 + sizes**0.4) + 0.6
    alike = np.outer(losses, losses) / 400 * (0.9 + 0.1 * np.eye(7))
    curve = learning_curve(Fits(sizes, losses, alike, np.array(CHAINS), 400), ceiling=None)
    middle, low, high = curve.interval(2000)
    assert low < 4.0 / (0.5 + 2000**0.4) + 0.6 < high
    assert middle < losses[-1]


def test_two_sizes_and_few_examples_are_enough_for_an_honest_wide_answer() -> None:
    wrong = same_for_all((0.5, 0.4), units=10)
    _, low, high = learning_curve(fits_of(wrong, (8, 16), (0, 0))).interval(32)
    assert high - low > 0.2
    assert 0 <= low < high <= 1


def test_what_cannot_be_a_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="two different sizes"):
        fits_of(same_for_all((0.5, 0.4)), (16, 16), (0, 1))
    with pytest.raises(ValueError, match="finite"):
        fits_of(np.full((10, 7), np.nan))
    with pytest.raises(ValueError, match="at least the 1000"):
        learning_curve(fits_of(np.zeros((100, 7)))).measured(500)


def test_the_same_seed_gives_the_same_answer() -> None:
    fits, _ = drawn(np.random.default_rng(4), {"b": 3.0, "d": 5.0, "beta": 0.5, "e": 0.02}, 200)
    assert learning_curve(fits, seed=3).interval(2000) == learning_curve(fits, seed=3).interval(2000)


def test_the_luck_of_dev_is_shared_by_a_fit_measured_on_it_again() -> None:
    """Dev's own luck is most of what is unknown about fresh examples, and nothing of what dev will say."""
    fits, _ = drawn(np.random.default_rng(5), {"b": 3.0, "d": 5.0, "beta": 0.5, "e": 0.05}, 400, alike=0.95)
    curve = learning_curve(fits)
    on_dev, fresh = curve.measured(2000, same_dev=True), curve.measured(2000, examples=400)
    assert np.std(on_dev) < 0.8 * np.std(fresh)
