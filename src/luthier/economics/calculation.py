"""Calculation: all ways together: which is cheapest, how surely, when one pays back against another, and what flips it.

Every figure follows from the same function of the same named inputs (`applied`), whether an input stands at its middle,
at an end for the tornado, at a value a search tries, or at thousands of drawn values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from luthier.economics import flips, uncertain
from luthier.economics.breakeven import BreakEven, break_even, payback_months
from luthier.economics.cost import MOST_MONTHS, Host, Number, Numbers, Way, World, month_cost, running, total_cost
from luthier.economics.flips import Bar, Flip
from luthier.economics.frontier import Placed, Point, frontier
from luthier.economics.prices import ModelPrices
from luthier.economics.uncertain import Chance, Draws, Floats, Spread
from luthier.economics.ways import DO_NOTHING, PREPARATION
from luthier.types import Economics

FACTOR = 1.5  # how far off a count or a person's estimate may be, down or up, in eight of ten cases: assumed
SPEED = {"measured": 1.2, "stated": 1.2, "assumed": 2.0}  # the same for how long a machine works on a request: assumed
SCALES = (1.0, 10.0, 100.0)
SOON = 6.0
MOST_TASKS = 50
LEAST_MONTHS = 0.25  # between two changes of a task
CENT = 0.01  # starts that differ by less are the same
QUANTILES = (("p10", 0.1), ("p50", 0.5), ("p90", 0.9))


@dataclass(frozen=True)
class Payback:
    """How soon `of` has paid back what it costs more to start than `against`: at the middle, and over the draws."""

    of: str
    against: str
    middle: BreakEven
    soon: Chance
    never: Chance
    quantiles: Mapping[str, Chance | None]


@dataclass(frozen=True)
class Calculation:
    """The ways of one task in one world. `seed` makes the draws; `prices` are those that were used."""

    ways: tuple[Way, ...]
    world: World
    economics: Economics
    seed: int = 0
    prices: Mapping[str, ModelPrices] = field(default_factory=dict)

    # ------------------------------------------------------------ inputs

    @property
    def counting(self) -> bool:
        """Whether wrong answers have a price: prices by label count only where something measured which labels miss."""
        return self.economics.usd_per_error is not None or any(way.error_usd > 0 for way in self.ways)

    def way(self, name: str) -> Way:
        return next(way for way in self.ways if way.name == name)

    @property
    def comparable(self) -> tuple[Way, ...]:
        """Doing nothing costs nothing unless wrong answers have a price: then it says nothing to compare it."""
        return self.ways if self.counting else tuple(way for way in self.ways if way.name != DO_NOTHING)

    @cached_property
    def spreads(self) -> dict[str, Spread]:
        """Every uncertain input by its key; what belongs to one way ends with its name."""
        economics, found = self.economics, {}
        low, high = economics.requests_range or (self.world.requests / FACTOR, self.world.requests * FACTOR)
        basis = "stated" if economics.requests_range else "assumed"
        found["requests"] = uncertain.lognormal_between("requests", low, high, basis)
        if economics.price_fall_per_year:
            fall = economics.price_fall_per_year
            found["price fall"] = Spread(
                "price fall", "triangular", (0.0, fall, max(fall, min(0.95, 2 * fall))), "assumed"
            )
        if any(way.preparation_base for way in self.ways):
            found["preparation"] = Spread("preparation", "triangular", PREPARATION, "assumed")
        for way in self.ways:
            found.update({f"{key}:{way.name}": spread for key, spread in _own_spreads(way).items()})
        return found

    @cached_property
    def draws(self) -> Draws:
        return uncertain.draw(self.spreads, seed=self.seed)

    def applied(self, way: Way, at: Mapping[str, Number], host: Host | None = None) -> tuple[Numbers, World]:
        """The way and the world with inputs at these values; an input that is not named stands at what was said."""
        numbers, name = way.numbers(host), way.name
        world = replace(
            self.world,
            requests=at.get("requests", self.world.requests),
            price_fall=at.get("price fall", self.world.price_fall),
            months=int(at.get("horizon", self.world.months)),
        )
        once = numbers.once
        if way.preparation_base and "preparation" in at:
            share = at["preparation"]
            once = once + way.preparation_base * (1.0 / (1.0 - share) - 1.0 / (1.0 - PREPARATION[1]))
        error = numbers.error
        if f"accuracy:{name}" in at and way.accuracy is not None:
            error = error_at(way, at[f"accuracy:{name}"], at.get("error price", 1.0))
        elif "error price" in at:
            error = error * at["error price"]
        return replace(
            numbers,
            once=once * at.get(f"start:{name}", 1.0),
            tokens=numbers.tokens * at.get("token price", 1.0),
            seconds=numbers.seconds * at.get(f"seconds:{name}", 1.0),
            host_hour=numbers.host_hour * at.get("host price", 1.0),
            error=error,
            shared=at["tasks"] if "tasks" in at and _shares(way) else numbers.shared,
            retrain_every=at.get("change", numbers.retrain_every),
        ), world

    # ------------------------------------------------------------ totals

    def total(self, way: Way, at: Mapping[str, Number] | None = None, *, errors: bool | None = None) -> Number:
        numbers, world = self.applied(way, at or {})
        return total_cost(numbers, world, errors=self.counting if errors is None else errors)

    def month(self, way: Way, host: Host | None = None, *, errors: bool = False, factor: float = 1.0) -> float:
        """What the first month costs, retraining left out: it does not come every month."""
        numbers = replace(way.numbers(host), retraining=0.0)
        return float(month_cost(numbers, self.world.at(factor), 1, errors=errors))

    def cheapest(self, among: Iterable[str], at: Mapping[str, Number] | None = None) -> str | None:
        """Which of these ways costs least over the horizon, wrong answers included where they have a price."""
        names = set(among)
        found = [(float(self.total(way, at)), place, way.name) for place, way in enumerate(self.comparable)]
        known = [each for each in found if each[2] in names and math.isfinite(each[0])]
        return min(known)[2] if known else None

    @cached_property
    def _drawn_totals(self) -> dict[str, Floats]:
        size = self.draws.replicates * self.draws.points
        return {
            way.name: np.broadcast_to(np.asarray(self.total(way, self.draws.values), dtype=float), (size,))
            for way in self.comparable
        }

    def total_quantiles(self, name: str) -> dict[str, float]:
        """P10, P50 and P90 of what a way costs over the horizon."""
        values = self._drawn_totals.get(name)
        if values is None:
            return {}
        found = {key: uncertain.quantile(self.draws, values, q) for key, q in QUANTILES}
        return {key: chance.value for key, chance in found.items() if chance is not None}

    def chances_of_being_cheapest(self, among: Sequence[str]) -> dict[str, Chance]:
        """With which probability each of these ways is the cheapest: all of them on the same draws."""
        names = [way.name for way in self.comparable if way.name in set(among)]
        if not names:
            return {}
        totals = np.stack([self._drawn_totals[name] for name in names])
        wins = totals == totals.min(axis=0)
        shares = wins / wins.sum(axis=0)  # ways that cost the same share the draw
        return {name: uncertain.chance(self.draws, shares[at]) for at, name in enumerate(names)}

    # ------------------------------------------------------------ break-even

    def pair(self, one: str, other: str) -> tuple[str, str]:
        """(the way that costs more to start, the other): the first is the one that has something to pay back.

        Of two that cost the same to start, the first is the one that costs less by the month.
        """
        first, second = (self.way(name).numbers().once for name in (one, other))
        if abs(first - second) < CENT:
            by_month = sorted((one, other), key=lambda name: self.month(self.way(name), errors=self.counting))
            return by_month[0], by_month[1]
        return (one, other) if first > second else (other, one)

    def payback(self, of: str, against: str, factor: float = 1.0) -> Payback:
        """When `of` has paid back against `against`, at so many times the requests."""
        scaled = replace(self, world=self.world.at(factor)) if factor != 1.0 else self
        new, world = scaled.applied(self.way(of), {})
        old, _ = scaled.applied(self.way(against), {})
        until = self.way(of).retires or None
        middle = break_even(new, old, world, errors=self.counting, until=until)
        months = self._payback_draws(of, against, factor, until)
        return Payback(
            of,
            against,
            middle,
            soon=uncertain.chance(self.draws, months <= SOON),
            never=uncertain.chance(self.draws, np.isinf(months)),
            quantiles={key: uncertain.quantile(self.draws, months, q) for key, q in QUANTILES},
        )

    def _payback_draws(self, of: str, against: str, factor: float, until: float | None) -> Floats:
        at = {**self.draws.values, "requests": self.draws["requests"] * factor}
        new, world = self.applied(self.way(of), at)
        old, _ = self.applied(self.way(against), at)
        size = self.draws.replicates * self.draws.points
        runs = [running(way, world, errors=self.counting, months=MOST_MONTHS) for way in (old, new)]
        saved = np.broadcast_to(runs[0] - runs[1], (MOST_MONTHS, size))
        more = np.broadcast_to(np.asarray(new.once, dtype=float) - np.asarray(old.once, dtype=float), (size,))
        months = payback_months(more, saved)
        return months if until is None else np.where(months > until, np.inf, months)

    # ------------------------------------------------------------ quality and cost

    def frontier(self, among: Iterable[str] | None = None) -> list[Placed]:
        """Ways by cost for one request (the first month, hosts included) and accuracy, as far as both are known."""
        names = None if among is None else set(among)
        return frontier(
            [
                Point(way.name, self.month(way) / self.world.requests, way.accuracy.mean)
                for way in self.ways
                if way.accuracy is not None and (names is None or way.name in names)
            ]
        )

    # ------------------------------------------------------------ what flips it

    def flips(self, among: Sequence[str]) -> list[Flip]:
        """At which value of each input another of these ways becomes the cheapest: the nearest on either side."""
        today = self.world.requests
        found: list[Flip] = []

        def by(key: str, scale: float = 1.0) -> Any:
            return lambda value: self.cheapest(among, {key: value * scale})

        found += flips.nearest_flips("requests", by("requests"), today, today / 1e4, today * 1e4)
        found += flips.nearest_flips("horizon", by("horizon"), self.world.months, 1, MOST_MONTHS, whole=True)
        kept = [self.way(name) for name in among]
        if any(way.numbers().tokens for way in kept):
            found += flips.nearest_flips("token price", by("token price"), 1.0, 0.01, 100.0)
        if any(way.numbers().host_hour for way in kept):
            found += flips.nearest_flips("host price", by("host price"), 1.0, 0.01, 100.0)
        if any(_shares(way) for way in kept):
            found += flips.nearest_flips("tasks", by("tasks"), self.economics.tasks, 1, MOST_TASKS, whole=True)
        if any(way.retraining for way in kept):
            every = self.economics.months_between_changes or float(MOST_MONTHS)
            found += flips.nearest_flips("change", by("change"), every, LEAST_MONTHS, MOST_MONTHS)
        if self.counting:
            found += flips.nearest_flips("error price", by("error price"), 1.0, 0.01, 100.0)
            for way in kept:
                if way.accuracy is not None and way.name != DO_NOTHING:
                    key = f"accuracy:{way.name}"
                    found += flips.nearest_flips(key, by(key), way.accuracy.mean, 0.0, 1.0, logarithmic=False)
        return found

    def tornado(self, one: str, other: str) -> list[Bar]:
        """What `one` costs more than `other` over the horizon, as each input goes from its P10 to its P90."""

        def more(at: Mapping[str, float]) -> float:
            return float(self.total(self.way(one), at)) - float(self.total(self.way(other), at))

        ends = {key: (spread.p10, spread.p90, spread.basis) for key, spread in self.spreads.items()}
        return flips.tornado(more, {}, ends)


def _shares(way: Way) -> bool:
    """Whether a further task would share its machines: a fine-tune serves the tasks it was trained for."""
    return bool(way.hosts) and way.kind in ("rules", "prompt")


def error_at(way: Way, accuracy: Number, price: Number = 1.0) -> Number:
    """What wrong answers cost a request at another accuracy: the mix of errors stays as it is."""
    assert way.accuracy is not None
    wrong = 1.0 - way.accuracy.mean
    if wrong > 0:
        return way.error_usd * (1.0 - accuracy) / wrong * price
    return (way.usd_per_error or 0.0) * (1.0 - accuracy) * price


def _own_spreads(way: Way) -> dict[str, Spread]:
    """The inputs that belong to one way: its accuracy, its start, the speed of its machine."""
    found: dict[str, Spread] = {}
    accuracy = way.accuracy
    if accuracy is not None and accuracy.high > accuracy.low:
        found["accuracy"] = uncertain.of_interval(
            "accuracy", accuracy.mean, accuracy.low, accuracy.high, accuracy.basis
        )
    if any(line.due == "once" and line.usd and line.cause in ("people", "other") for line in way.lines):
        found["start"] = uncertain.lognormal_between("start", 1 / FACTOR, FACTOR, "assumed")
    if way.hosts and way.hosts[0].seconds:
        factor = SPEED[way.hosts[0].speed_basis]
        found["seconds"] = uncertain.lognormal_between("seconds", 1 / factor, factor, "assumed")
    return found
