"""Cost: what a way to do the task costs, by the month and over a horizon (total cost of ownership).

    TCO(H) = once + sum over t <= H of (V_t * request_t + hosts + a month's fixed sums + retraining_t) / (1 + r)^t

Cash flows at each month's end; r is monthly, (1 + annual)^(1/12) - 1. Figures are numbers, or arrays of them, one a
draw. The page that `luthier cost --html` writes computes the same, in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.economics.money import HOURS_A_MONTH, MONTHS_A_YEAR, Basis, Line, total

MOST_MONTHS = 120  # how far a break-even is looked for; a longer horizon is a wish
Floats = NDArray[np.float64]
Number = Any
"""A float, or an array of them with one value a draw."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """A way as the numbers that its cost follows from, in US dollars; an array holds one value a draw.

    `tokens`: of one request, falling as prices fall; `request`: all else of one request; `month`: fixed sums;
    `host_hour`, `seconds`: a machine by the hour and how long it works on one request; `shared`: how many tasks as
    large as this one its machines serve, which pay for them in equal parts; `retraining` is paid every
    `retrain_every` months (0: never) and once when the base model retires (`retires`: in how many months; 0: unknown).
    `error`: what the wrong answers of one request cost in the mean.
    """

    once: Number = 0.0
    tokens: Number = 0.0
    request: Number = 0.0
    month: Number = 0.0
    host_hour: Number = 0.0
    seconds: Number = 0.0
    least_replicas: Number = 0.0
    utilisation: Number = 1.0
    shared: Number = 1.0
    retraining: Number = 0.0
    retrain_every: Number = 0.0
    retires: Number = 0.0
    error: Number = 0.0

    def plain(self) -> dict[str, float]:
        return {each.name: float(getattr(self, each.name)) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class World:
    """What all ways share: how much is asked, for how long, and how prices move.

    `peak`: the busiest second beside the mean one; `active_hours`: of a month, in which the requests arrive;
    `price_fall`: the share by which token prices fall in a year; `discount`: a year's.
    """

    requests: Number
    months: int = 12
    growth: Number = 0.0
    price_fall: Number = 0.0
    discount: Number = 0.0
    peak: Number = 3.0
    active_hours: Number = float(HOURS_A_MONTH)

    def requests_in(self, month: Number) -> Number:
        return self.requests * (1.0 + self.growth) ** (month - 1) if _any(self.growth) else self.requests

    def price_level(self, month: Number) -> Number:
        """Token prices of a month beside today's; the first month has today's."""
        if not _any(self.price_fall):
            return 1.0
        return (1.0 - self.price_fall) ** ((month - 1) / MONTHS_A_YEAR)

    @property
    def monthly_rate(self) -> Number:
        return (1.0 + self.discount) ** (1.0 / MONTHS_A_YEAR) - 1.0

    def requests_per_s(self) -> Number:
        return self.requests / (self.active_hours * 3600.0)

    def at(self, factor: float) -> World:
        return replace(self, requests=self.requests * factor)


def replicas(way: Numbers, world: World, requests: Number) -> Number:
    """How many machines answer the busiest second of all tasks they serve at the target utilisation; no fewer than the
    least."""
    busiest = requests * way.shared / (world.active_hours * 3600.0) * world.peak
    # a hair of slack: a load that fills n machines exactly must not become n + 1 by rounding
    return np.maximum(way.least_replicas, np.ceil(busiest * way.seconds / way.utilisation - 1e-9))


def self_hosted_usd_per_million_tokens(usd_per_hour: float, tokens_per_s: float, utilisation: float) -> float:
    """What a million tokens cost on a machine of one's own that works for this share of its hours."""
    return usd_per_hour * 1e6 / (tokens_per_s * 3600.0 * utilisation)


def month_cost(way: Numbers, world: World, month: Number, *, errors: bool = False) -> Number:
    """What one month costs (the first is 1), retraining that falls into it included; `errors`: wrong answers too.

    `month` may be an array, of shape (months, 1) beside drawn inputs.
    """
    requests = world.requests_in(month)
    each = way.tokens * world.price_level(month) + way.request + (way.error if errors else 0.0)
    cost = requests * each + way.month
    if _any(way.host_hour):
        cost = cost + replicas(way, world, requests) * way.host_hour * HOURS_A_MONTH / way.shared
    if _any(way.retraining):
        cost = cost + way.retraining * _retrainings(way, month)
    return cost


def _any(value: Number) -> bool:
    return bool(np.any(value)) if isinstance(value, np.ndarray) else value != 0


def _retrainings(way: Numbers, month: Number) -> Number:
    """How often the model is trained again at the end of this month."""
    found: Number = 0.0
    if _any(way.retrain_every):
        found = np.floor(month / way.retrain_every + 1e-9) - np.floor((month - 1) / way.retrain_every + 1e-9)
    if _any(way.retires):
        found = found + (np.ceil(way.retires) == month) * 1.0
    return found


def running(way: Numbers, world: World, *, errors: bool = False, months: int | None = None) -> Floats:
    """What each month costs: of shape (months,), or (months, draws) where an input is drawn."""
    drawn = any(isinstance(getattr(each, name.name), np.ndarray) for each in (way, world) for name in fields(each))
    month = np.arange(1.0, (world.months if months is None else months) + 1.0)
    axis = month[:, None] if drawn else month
    # what does not depend on the month has no such axis yet
    return np.asarray(month_cost(way, world, axis, errors=errors) + np.zeros_like(axis), dtype=float)


def total_cost(way: Numbers, world: World, *, errors: bool = False) -> Number:
    """The present value of everything over the horizon."""
    costs = running(way, world, errors=errors)
    if _any(world.discount):
        month = np.arange(1.0, world.months + 1.0)
        worth = (1.0 + world.monthly_rate) ** -(month[:, None] if costs.ndim == 2 else month)
        costs = costs * worth
    return way.once + costs.sum(axis=0)


def per_accurate_answer(usd_per_answer: float, accuracy: float, verification: float = 0.0) -> float | None:
    """What one right answer costs, wrong ones and the looking at all of them included; None where none is right.

    >>> per_accurate_answer(0.09, 0.9)
    0.09999999999999999
    """
    return (usd_per_answer + verification) / accuracy if accuracy > 0 else None


def data_preparation(other: float, share: float) -> float:
    """What preparing data costs if it is this share of the *whole*, beside the other costs: other/(1 - s) - other.

    >>> round(data_preparation(700.0, 0.3), 6)
    300.0
    """
    return other / (1.0 - share) - other


@dataclass(frozen=True)
class Accuracy:
    """The share of right answers with its interval; `n` answers behind it, 0 where somebody only stated it."""

    mean: float
    low: float
    high: float
    n: int
    basis: str


@dataclass(frozen=True)
class Host:
    """A machine that answers: its price, and how long it works on one request."""

    name: str
    usd_per_hour: Decimal
    seconds: float
    price_basis: str
    speed_basis: str
    how: str
    least_replicas: int = 1
    utilisation: float = 0.6


@dataclass(frozen=True, slots=True)
class Step:
    """One step into production, in working days of people and whole days of machines."""

    what: str
    days: float
    basis: Basis
    how: str


@dataclass(frozen=True)
class Way:
    """One way to do the task: its sums with where each comes from, and the same as numbers to calculate with.

    `kind`: "rules", "prompt" or "tune" for what was raced, else "option", "today" or "nothing". `hosts`: the machines
    it could run on, the first is the one that counts. `preparation_base`: what data preparation is a share beside,
    where that share is assumed. `notes`: what a reader has to know; `days`: until it is in production, by
    `steps`. `gone`: the day on which its model was shut down. `shared`: how many tasks its machines serve;
    `uncounted`: what it needs and nobody has priced.
    """

    name: str
    kind: str
    lines: tuple[Line, ...] = ()
    hosts: tuple[Host, ...] = ()
    accuracy: Accuracy | None = None
    error_usd: float = 0.0
    usd_per_error: float | None = None
    retraining: Decimal = Decimal(0)
    retrain_every: float = 0.0
    retires: float = 0.0
    gone: date | None = None
    preparation_base: float = 0.0
    notes: tuple[str, ...] = ()
    remote: bool = False
    days: float | None = None
    shared: int = 1
    steps: tuple[Step, ...] = ()
    uncounted: tuple[str, ...] = ()

    def numbers(self, host: Host | None = None) -> Numbers:
        at = host or (self.hosts[0] if self.hosts else None)
        return Numbers(
            once=float(total(self.lines, "once")),
            tokens=float(total(self.lines, "a request", "tokens")),
            request=float(total(self.lines, "a request") - total(self.lines, "a request", "tokens")),
            month=float(total(self.lines, "a month")),
            host_hour=float(at.usd_per_hour) if at else 0.0,
            seconds=at.seconds if at else 0.0,
            least_replicas=float(at.least_replicas) if at else 0.0,
            utilisation=at.utilisation if at else 1.0,
            shared=float(self.shared),
            retraining=float(self.retraining),
            retrain_every=self.retrain_every,
            retires=self.retires,
            error=self.error_usd,
        )
