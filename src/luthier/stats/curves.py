"""Curves: how the error falls with the number of examples, as a posterior over curves.

One real example: TF-IDF on question types, fitted on 125, 250, 500 and 1,000 of 1,000 examples, is wrong on .41, .33,
.27 and .22 of 400 dev questions. The curves that agree with that put the error at 2,000 examples at about .18, between
.15 and .22 with 90 % probability.

The law is the rectified one of Lin et al. 2024, "Selecting Large Language Model to Fine-tune via Rectified Scaling
Law" (arXiv 2402.02314, eq. 4), L(D) = B / (D_l + D^beta) + E. With h = D_l^(1/beta) and e the error at the largest
size N it is, in numbers that a prior can be stated about,

    L(n) = e * (r + (1 - r) * (1 + (N/h)^beta) / (1 + (n/h)^beta)),      r = E / e,

flat far below h examples, a power law above, and never below E.

Fits that are no better than a constant answer show nothing of the fall that is to come: right or wrong hides how far a
loss has come (Schaeffer et al. 2023, arXiv 2304.15004), and then a curve falls at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, ndtr, ndtri

from luthier.stats.checks import Floats, check_open

DRAWS = 4000
_FEWEST_KEPT = 40  # of them: fewer say that two measurements contradict each other
_SHAPES = 2**12  # points of the prior over (beta, h, r), spread evenly
# The priors. beta: published exponents lie between .2 and 1, but a learner that has just left the majority class falls
# faster: 23 curves of TF-IDF (benchmarks/forecast.py, draws 0 to 2, never judged) asked for a spread of 1, not .5. h:
# anything from one example to ten times the data. r: any part of the error may be irreducible.
_BETA_MEDIAN, _BETA_SPREAD = 0.6, 1.0  # of a lognormal
_MOST_HALF = 10.0
# Where no fit has begun to learn, half of the prior falls at once at some size up to eight times the data, as likely
# within the first doubling as within the second and the third, to a level of which nothing is known.
_SUDDEN, _SUDDEN_WITHIN = 10.0, 8.0
# What two fits differ by beyond dev: the standard deviation of one training draw, and of chance in fitting with what
# the law itself misses, in units of sqrt(e (1 - e) / N), the standard error of N coin flips; each with equal weight.
_DRAW_UNITS = (0.15, 0.3, 0.6, 1.2)
_JITTER_UNITS = (0.0, 0.3, 0.6, 1.2)
# Pseudo-examples: no number of equal answers proves that two fits never disagree, nor that one is never wrong.
_PSEUDO = 2.0
_FAR = 12.0


@dataclass(frozen=True)
class Fits:
    """What was measured: one entry a fit.

    `sizes` and `errors` have shape (K,); `covariance`, shape (K, K), is that of the errors over draws of dev, whose
    examples all fits share; `chains`, shape (K,), says which nested chain of subsets each fit belongs to (fits of all
    examples belong to any); `units` counts the independent dev examples.
    """

    sizes: Floats
    errors: Floats
    covariance: Floats
    chains: NDArray[np.int64]
    units: int

    def __post_init__(self) -> None:
        count = len(self.sizes)
        shapes = {self.errors.shape, self.chains.shape, (count,)}
        if shapes != {(count,)} or self.covariance.shape != (count, count):
            raise ValueError("sizes, errors and chains need shape (K,), covariance (K, K)")
        if len(set(self.sizes.tolist())) < 2 or self.sizes.min() < 1 or self.units < 1:
            raise ValueError("a curve takes two different sizes, each at least 1, and a dev example")
        if not (np.isfinite(self.errors).all() and np.isfinite(self.covariance).all() and self.errors.min() >= 0):
            raise ValueError("errors must be finite and not negative, and their covariance finite")


def mean_covariance(losses: ArrayLike) -> Floats:
    """The covariance of the means of `losses`, shape (units, K): rows are independent examples, columns fits."""
    rows = np.asarray(losses, dtype=np.float64)
    if len(rows) < 2:
        return np.zeros((rows.shape[1], rows.shape[1]))
    return np.atleast_2d(np.cov(rows, rowvar=False)) / len(rows)


@dataclass(frozen=True)
class LearningCurve:
    """Equally likely curves: parameters of shape (draws,). `size` is the largest size that was fitted.

    What a curve gives for n is the expected error of fits on n such examples, on inputs to come; `measured` adds what a
    single fit and a finite evaluation add.
    """

    size: float
    level: Floats
    beta: Floats
    half: Floats
    floor: Floats
    _fits: Fits
    _noise: NDArray[np.int64]  # which of the noise settings each draw has
    _settings: tuple[_Noise, ...]
    _residual: Floats  # (draws, K): what was measured less what the curve says
    _ceiling: float | None
    _seed: int

    def errors(self, n: float) -> Floats:
        """The error of each curve at n examples, shape (draws,)."""
        if n <= 0:
            raise ValueError(f"n is {n}; a size is positive")
        return self.level * _shape(np.array([n]), self.size, self.beta, self.half, self.floor)[:, 0]

    def interval(self, n: float, confidence: float = 0.9) -> tuple[float, float, float]:
        """(median, low, high) of the error at n examples. Falls with n in all three."""
        return _quantiles(self.errors(n), confidence)

    def within(self, n: float, low: float, high: float) -> LearningCurve | None:
        """Those of the curves whose error at n examples lies in [low, high]; None where hardly any does."""
        errors = self.errors(n)
        kept = (low <= errors) & (errors <= high)
        if kept.sum() < _FEWEST_KEPT:
            return None
        names = ("level", "beta", "half", "floor", "_noise", "_residual")
        return replace(self, **{name: getattr(self, name)[kept] for name in names})

    def limit(self, confidence: float = 0.9) -> tuple[float, float, float]:
        """(median, low, high) of the error that no number of examples gets below."""
        return _quantiles(self.level * self.floor, confidence)

    def reaches(self, error: float, n: float) -> float:
        """The probability that the error at n examples is at most `error`."""
        return float(np.mean(self.errors(n) <= error))

    def needed(self, error: float, confidence: float = 0.9) -> tuple[float, float, float]:
        """(median, low, high) of the smallest number of examples at which the error is at most `error`; may be inf."""
        gap = error - self.level * self.floor
        fall = self.level * (1.0 - self.floor) * (1.0 + (self.size / self.half) ** self.beta)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            beyond = np.where(gap > 0, fall / np.where(gap > 0, gap, 1.0) - 1.0, np.inf)
            sizes = self.half * np.maximum(beyond, 0.0) ** (1.0 / self.beta)
        tail = (1.0 - confidence) / 2.0
        low, median, high = np.quantile(sizes, (tail, 0.5, 1.0 - tail), method="inverted_cdf")
        return float(median), float(low), float(high)

    def measured(self, n: float, *, examples: int | None = None, same_dev: bool = False) -> Floats:
        """Draws of what one fit on n examples would be measured to be wrong on, shape (draws,).

        The n examples hold those that were fitted on. On `examples` fresh ones, or with `same_dev` on the very dev
        examples that the fits were measured on, whose luck is then shared; with neither, its true error. From N on.
        """
        if n < self.size:
            raise ValueError(f"n is {n}; it must be at least the {self.size:g} that were fitted on")
        rng = np.random.default_rng([self._seed, round(n), 1])
        expected = self.errors(n)
        mean, variance = np.empty_like(expected), np.empty_like(expected)
        for at, noise in enumerate(self._settings):
            mine = self._noise == at
            if mine.any():
                mean[mine], variance[mine] = self._carried(noise, n, expected[mine], mine, same_dev=same_dev)
        found: Floats = np.clip(mean + np.sqrt(variance) * rng.standard_normal(len(mean)), 0.0, self._ceiling)
        if examples is None or same_dev or self._ceiling is None:
            return found
        # graded scores spread less than right or wrong ones: as if there were more examples
        last = int(self._fits.sizes.argmax())
        spread = self._fits.covariance[last, last] * self._fits.units / _unit(self._fits, self._ceiling)
        count = max(1, round(examples / max(spread, 0.05)))
        shares: Floats = rng.binomial(count, found) / count
        return shares

    def _carried(
        self, noise: _Noise, n: float, expected: Floats, mine: NDArray[np.bool_], *, same_dev: bool
    ) -> tuple[Floats, Floats]:
        """Mean and variance of a fit's error on n examples, given how far the measured ones lie off the curve."""
        dev, variance = np.zeros((len(expected), len(self._fits.sizes))), np.full(len(expected), noise.jitter)
        if same_dev:
            own, shared = _next_dev(self._fits)
            scale = np.sqrt(_smooth(expected, self._ceiling) / _unit(self._fits, self._ceiling))
            dev, variance = shared * scale[:, None], variance + own * scale**2
        covariance = dev + noise.draw / n  # a draw's luck is that of the mean of its examples
        variance = variance + noise.draw / n
        weights = covariance @ noise.inverse
        mean = expected + np.einsum("rk,rk->r", weights, self._residual[mine])
        return mean, np.maximum(variance - np.einsum("rk,rk->r", weights, covariance), noise.jitter)


@dataclass(frozen=True)
class _Noise:
    """A setting of what fits differ by, and the covariance that follows: its inverse and log-determinant."""

    draw: float  # the variance of one example's luck: that of a draw of n is draw / n
    jitter: float
    inverse: Floats
    log_det: float


def learning_curve(
    fits: Fits, *, ceiling: float | None = 1.0, begun: bool = True, seed: int = 0, draws: int = DRAWS
) -> LearningCurve:
    """The curves that agree with the fits, by importance sampling from the prior over shapes; level in closed form.

    Errors lie in [0, ceiling], and so does the curve at its start; None: a loss without an upper end. Given a shape the
    errors are linear in the level, whose likelihood is a Beta's with the effective number of dev examples (for fits on
    a dev set that they share, no more than that set has). `begun`: whether any fit is better than a constant answer.
    ValueError for what `Fits` refuses.
    """
    fits = _smoothed(fits, ceiling)
    size = float(fits.sizes.max())
    beta, half, floor = _prior(size, begun=begun)
    shapes = _shape(fits.sizes, size, beta, half, floor)
    start = _shape(np.array([0.0]), size, beta, half, floor)[:, 0]
    settings = _settings(fits, ceiling)
    weights = np.empty((len(settings), len(beta)))
    levels: list[tuple[Floats, Floats, Floats]] = []
    for at, noise in enumerate(settings):
        seen = shapes @ noise.inverse
        precision = (seen * shapes).sum(axis=1)
        best = (seen @ fits.errors) / precision
        total = float(fits.errors @ noise.inverse @ fits.errors)
        below = _mass_below(best, precision, start, ceiling)
        fit = -0.5 * (total - best**2 * precision + noise.log_det + np.log(precision))
        weights[at] = fit + np.log(np.maximum(below, 1e-300))
        levels.append((best, precision, below))
    chances = np.exp(weights - weights.max()).ravel()
    rng = np.random.default_rng([seed, 0])
    points = (np.arange(draws) + rng.random()) / draws  # systematic: as even as the weights allow
    chosen = np.searchsorted(np.cumsum(chances) / chances.sum(), points).clip(0, chances.size - 1)
    noise_at, shape_at = np.divmod(chosen, len(beta))
    best, precision, below = np.array(levels)[noise_at, :, shape_at].T
    # within a shape that was drawn more than once the levels shall differ, too: a shuffled even spread
    spread = (rng.permutation(draws) + 0.5) / draws
    level = _level(best, precision, spread * below, ceiling)
    residual = fits.errors - level[:, None] * shapes[shape_at]
    return LearningCurve(
        size, level, beta[shape_at], half[shape_at], floor[shape_at], fits, noise_at, settings, residual, ceiling, seed
    )


# ---------------------------------------------------------------- the law and its prior


def _shape(sizes: Floats, largest: float, beta: Floats, half: Floats, floor: Floats) -> Floats:
    """The law over its value at the largest size, shape (curves, sizes)."""
    fall = 1.0 + (largest / half) ** beta
    rest = 1.0 + (sizes[None, :] / half[:, None]) ** beta[:, None]
    return floor[:, None] + (1.0 - floor[:, None]) * fall[:, None] / rest


def _prior(size: float, *, begun: bool) -> tuple[Floats, Floats, Floats]:
    even = _even_points()
    beta = np.clip(_BETA_MEDIAN * np.exp(_BETA_SPREAD * ndtri(even[:, 0])), 0.05, 5.0)
    half = np.exp(even[:, 1] * math.log(_MOST_HALF * max(size, 2.0)))
    if not begun:
        half[::2] = size * np.exp(even[::2, 1] * math.log(_SUDDEN_WITHIN))
        beta[::2] = _SUDDEN
    return beta, half, even[:, 2]


@cache
def _even_points() -> Floats:
    """Points that fill the unit cube evenly: the additive recurrence of the root of x^4 = x + 1."""
    root = 1.2207440846057596
    steps = np.array([1 / root, 1 / root**2, 1 / root**3])
    found: Floats = np.clip((0.5 + np.arange(1, _SHAPES + 1)[:, None] * steps) % 1.0, 1e-6, 1.0 - 1e-6)
    return found


# ---------------------------------------------------------------- the noise


def _smoothed(fits: Fits, ceiling: float | None) -> Fits:
    """The fits with a covariance that no luck makes zero: fewer errors than one, or fits that all answer alike."""
    if ceiling is None:
        least = (_smooth(fits.errors, None) / fits.units) * 0.01
    else:
        shown = (fits.errors / ceiling * fits.units + _PSEUDO / 2) / (fits.units + _PSEUDO)
        least = _smooth(shown * ceiling, ceiling) / fits.units
        if not _two_valued(fits, ceiling):  # graded scores may truly spread less
            least = least * 0.05
    own = np.diag(fits.covariance)
    variance = np.maximum(own, least)
    known = np.sqrt(np.maximum(own, 1e-300))
    correlation = np.where((own[:, None] > 0) & (own[None, :] > 0), fits.covariance / np.outer(known, known), 0.0)
    correlation = np.clip(correlation, -1.0, 1.0) * fits.units / (fits.units + _PSEUDO)
    np.fill_diagonal(correlation, 1.0)
    spread = np.sqrt(variance)
    return Fits(fits.sizes, fits.errors, correlation * np.outer(spread, spread), fits.chains, fits.units)


def _two_valued(fits: Fits, ceiling: float) -> bool:
    """Whether the covariance is that of right-or-wrong scores: then every error has the variance of coin flips."""
    own = np.diag(fits.covariance)
    flips = _smooth(fits.errors, ceiling) / max(1, fits.units - 1)
    return bool(np.all((own == 0) | (own >= 0.9 * flips)))


def _smooth(errors: Floats, ceiling: float | None) -> Floats:
    """The variance of one example's error: that of a coin flip; the error's square where it has no upper end."""
    if ceiling is None:
        return np.maximum(errors, 1e-9) ** 2
    share = np.clip(errors / ceiling, 1e-4, 1.0 - 1e-4)
    return ceiling**2 * share * (1.0 - share)


def _unit(fits: Fits, ceiling: float | None) -> float:
    """The variance of one example at the largest size, away from 0."""
    error = float(fits.errors[fits.sizes == fits.sizes.max()].mean())
    if ceiling is not None:
        error = ceiling * (error / ceiling * fits.units + _PSEUDO / 2) / (fits.units + _PSEUDO)
    return float(_smooth(np.array([error]), ceiling)[0])


def _settings(fits: Fits, ceiling: float | None) -> tuple[_Noise, ...]:
    size, unit = float(fits.sizes.max()), _unit(fits, ceiling)
    same = (fits.chains[:, None] == fits.chains[None, :]) | np.equal.outer(fits.sizes, fits.sizes) & (
        fits.sizes[:, None] == size
    )
    # Luck of a draw is a mean over its examples: nested draws share that of the larger one, others that of the pool.
    common = np.where(same, 1.0 / np.maximum.outer(fits.sizes, fits.sizes), 1.0 / size)
    found = []
    for draw_units in _DRAW_UNITS:
        for jitter_units in _JITTER_UNITS:
            draw, jitter = draw_units**2 * unit, jitter_units**2 * unit / size
            ridge = 1e-3 * np.diag(fits.covariance) + jitter
            covariance = fits.covariance + draw * common + np.diag(ridge)
            inverse: Floats = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
            found.append(_Noise(draw, jitter, inverse, float(np.linalg.slogdet(covariance)[1])))
    return tuple(found)


def _next_dev(fits: Fits) -> tuple[float, Floats]:
    """The dev variance of a fit beyond the largest size, and its covariance with each fit that was measured.

    It resembles the largest one as much as that one resembles the next smaller of its chain, or a little less with the
    others than the largest does.
    """
    order = np.argsort(fits.sizes, kind="stable")
    last = int(order[-1])
    variance = float(fits.covariance[last, last])
    smaller = [at for at in order[:-1] if fits.sizes[at] < fits.sizes[last]]
    nearest = max(smaller, key=lambda at: (fits.sizes[at], fits.covariance[last, at]))
    shared = fits.covariance[last].copy()
    alike = float(fits.covariance[last, nearest] / math.sqrt(variance * fits.covariance[nearest, nearest]))
    shared[fits.sizes == fits.sizes[last]] *= max(alike, 0.0)
    return variance, shared


# ---------------------------------------------------------------- the level given a shape


def _beta_of(best: Floats, precision: Floats) -> tuple[Floats, Floats]:
    """The Beta distribution of the level: Jeffreys' prior, and as many examples as its standard error is worth."""
    count = np.maximum(best, 0.0) * (1.0 - np.minimum(best, 1.0)) * precision
    # at an end the standard error comes from the pseudo-examples: variance about 1 / n^2
    count = np.maximum(count, np.sqrt(precision) * 0.9)
    share = np.clip(best, 0.0, 1.0)
    return share * count + 0.5, (1.0 - share) * count + 0.5


def _mass_below(best: Floats, precision: Floats, start: Floats, ceiling: float | None) -> Floats:
    """The probability that the level lies where the whole curve lies within its bounds."""
    if ceiling is None:
        found: Floats = ndtr(best * np.sqrt(precision))
        return found
    most: Floats = np.minimum(ceiling / start, ceiling)
    reach = (most - best) * np.sqrt(precision)  # in standard errors: most shapes are far from either side
    mass: Floats = np.where(reach > 0, 1.0, 0.0)
    near = np.abs(reach) < _FAR
    a, b = _beta_of(best[near] / ceiling, precision[near] * ceiling**2)
    mass[near] = betainc(a, b, most[near] / ceiling)
    return mass


def _level(best: Floats, precision: Floats, spread: Floats, ceiling: float | None) -> Floats:
    if ceiling is None:  # the upper part of a normal distribution, that above 0
        above: Floats = np.maximum(best - ndtri(np.clip(spread, 1e-12, 1 - 1e-12)) / np.sqrt(precision), 1e-12)
        return above
    a, b = _beta_of(best / ceiling, precision * ceiling**2)
    found: Floats = np.asarray(ceiling * betaincinv(a, b, spread), dtype=np.float64)
    return found


def _quantiles(values: Floats, confidence: float) -> tuple[float, float, float]:
    check_open("confidence", confidence)
    tail = (1.0 - confidence) / 2.0
    low, median, high = np.quantile(values, (tail, 0.5, 1.0 - tail))
    return float(median), float(low), float(high)
