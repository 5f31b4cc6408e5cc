"""Uncertain: inputs as distributions, drawn once and shared by all ways, so that what they have in common cancels.

Draws are scrambled Sobol points (Owen 1997): several independent scramblings, whose spread is the error that is shown.
A ratio whose denominator can touch zero has no mean, so nothing here gives one: quantiles and probabilities only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from scipy.stats import qmc

from luthier.errors import SpecError

Floats = NDArray[np.float64]
REPLICATES = 8
POINTS = 1024
Z90 = 1.2815515655446004  # the 90 % quantile of a standard normal
EDGE = 1e-9


@dataclass(frozen=True, slots=True)
class Spread:
    """How an input may turn out. lognormal: (mu, sigma); triangular: (low, mode, high); share in [0, 1]: (mean, sd)."""

    name: str
    kind: Literal["lognormal", "triangular", "share", "fixed"]
    values: tuple[float, ...]
    basis: str

    def at(self, quantile: Floats | float) -> Floats:
        """The value at these quantiles."""
        q = np.clip(np.asarray(quantile, dtype=float), EDGE, 1.0 - EDGE)
        if self.kind == "lognormal":
            mu, sigma = self.values
            return np.asarray(np.exp(mu + sigma * special.ndtri(q)))
        if self.kind == "triangular":
            return _triangular(q, *self.values)
        if self.kind == "share":
            return _share(q, *self.values)
        return np.full_like(q, self.values[0])

    @property
    def middle(self) -> float:
        return float(self.at(0.5))

    @property
    def p10(self) -> float:
        return float(self.at(0.1))

    @property
    def p90(self) -> float:
        return float(self.at(0.9))


def _triangular(q: Floats, low: float, mode: float, high: float) -> Floats:
    if high <= low:
        return np.full_like(q, mode)
    split = (mode - low) / (high - low)
    rising = low + np.sqrt(q * (high - low) * (mode - low))
    falling = high - np.sqrt((1.0 - q) * (high - low) * (high - mode))
    return np.where(q < split, rising, falling)


def _share(q: Floats, mean: float, sd: float) -> Floats:
    """A beta distribution with this mean and standard deviation; a mean at an end, or no spread, stays where it is."""
    if sd <= 0 or not 0 < mean < 1:
        return np.full_like(q, mean)
    weight = max(mean * (1.0 - mean) / sd**2 - 1.0, 1e-3)
    return np.asarray(special.betaincinv(mean * weight, (1.0 - mean) * weight, q))


def lognormal_between(name: str, p10: float, p90: float, basis: str) -> Spread:
    """The lognormal with these quantiles: 80 % of cases lie between. SpecError where they are not 0 < p10 <= p90."""
    if not 0 < p10 <= p90:
        raise SpecError(f"{p10:g} to {p90:g} is no range", where=name, fix="write the lower number first, both above 0")
    return Spread(
        name, "lognormal", ((np.log(p10) + np.log(p90)) / 2.0, (np.log(p90) - np.log(p10)) / 2.0 / Z90), basis
    )


def of_interval(name: str, mean: float, low: float, high: float, basis: str, *, confidence: float = 0.95) -> Spread:
    """A share with an interval at this confidence, as a beta distribution: its half width gives the spread."""
    z = float(stats.norm.ppf(0.5 + confidence / 2.0))
    return Spread(name, "share", (min(1.0, max(0.0, mean)), max(0.0, high - low) / 2.0 / z), basis)


@dataclass(frozen=True)
class Draws:
    """Values of each input, of shape (replicates * points,), the replicates one after another."""

    values: Mapping[str, Floats]
    replicates: int
    points: int

    def __getitem__(self, name: str) -> Floats:
        return self.values[name]

    def parts(self, values: Floats) -> Floats:
        return np.broadcast_to(values, (self.replicates * self.points,)).reshape(self.replicates, self.points)


@dataclass(frozen=True, slots=True)
class Chance:
    """A figure from draws with its standard error, from independent scramblings."""

    value: float
    error: float


def draw(spreads: Mapping[str, Spread], *, seed: int, replicates: int = REPLICATES, points: int = POINTS) -> Draws:
    """Draws of all inputs together; the same seed and inputs give the same draws. `points`: a power of two."""
    names = sorted(spreads)
    if not names:
        return Draws({}, replicates, points)
    seeds = np.random.SeedSequence(seed).spawn(replicates)
    sets = [qmc.Sobol(len(names), scramble=True, rng=np.random.default_rng(each)).random(points) for each in seeds]
    unit = np.concatenate(sets)
    return Draws({name: spreads[name].at(unit[:, at]) for at, name in enumerate(names)}, replicates, points)


def chance(draws: Draws, hits: NDArray[np.bool_] | Floats) -> Chance:
    """The probability of what `hits` marks (or of which it gives each draw's share), with its error."""
    return _over(draws.parts(np.asarray(hits, dtype=float)).mean(axis=1))


def quantile(draws: Draws, values: Floats, q: float) -> Chance | None:
    """A quantile with its error; None where it is infinite (a share of the draws never pays back)."""
    parts = np.sort(draws.parts(values), axis=1)
    whole = np.sort(np.asarray(values, dtype=float))
    found = _at(whole, q)
    each = np.array([_at(part, q) for part in parts])
    if not np.isfinite(found):
        return None
    finite = each[np.isfinite(each)]
    error = float(finite.std(ddof=1) / np.sqrt(len(finite))) if len(finite) > 1 else 0.0
    return Chance(float(found), error)


def _at(ordered: Floats, q: float) -> float:
    """The quantile by linear interpolation, which an infinite neighbour makes infinite only if it has any weight."""
    place = q * len(ordered) - 0.5
    low = int(np.clip(np.floor(place), 0, len(ordered) - 1))
    high = min(low + 1, len(ordered) - 1)
    weight = float(np.clip(place - low, 0.0, 1.0))
    if weight == 0.0 or ordered[low] == ordered[high]:
        return float(ordered[low])
    return float(ordered[low] + weight * (ordered[high] - ordered[low]))


def _over(parts: Floats) -> Chance:
    error = float(parts.std(ddof=1) / np.sqrt(len(parts))) if len(parts) > 1 else 0.0
    return Chance(float(parts.mean()), error)
