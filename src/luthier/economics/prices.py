"""Prices: nouns for what a million tokens and an hour cost, each with its source, its date and its tiers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext

from luthier.economics.money import DIGITS, Basis
from luthier.economics.usage import Cache, Tokens
from luthier.errors import SpecError

MILLION = Decimal(1_000_000)
PER_MILLION = {"1M tokens": Decimal(1), "1K tokens": Decimal(1_000), "token": MILLION}
STALE_DAYS = 90
# what a million tokens has cost since there are prices: outside it, the unit is in doubt
PLAUSIBLE = (Decimal("0.005"), Decimal("600"))


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars for a million tokens of each kind."""

    input: Decimal
    cached_input: Decimal
    cache_write: Decimal
    output: Decimal

    def usd(self, tokens: Tokens) -> Decimal:
        """What these tokens cost, exactly."""
        with localcontext() as context:
            context.prec = DIGITS
            counts = (tokens.fresh, tokens.cached, tokens.cache_write, tokens.output)
            prices = (self.input, self.cached_input, self.cache_write, self.output)
            return sum((Decimal(repr(n)) * p for n, p in zip(counts, prices, strict=True)), Decimal(0)) / MILLION


@dataclass(frozen=True, slots=True)
class Origin:
    """Who says so, and when it was so; no date: nobody wrote one down."""

    source: str
    as_of: date | None
    basis: Basis = "price"

    def age_days(self, today: date) -> int | None:
        return None if self.as_of is None else (today - self.as_of).days

    def warning(self, what: str, today: date) -> str | None:
        age = self.age_days(today)
        if age is None:
            return f"{what}: nobody wrote down when this price was so ({self.source})"
        if age < 0:
            return f"{what}: the price is dated {self.as_of}, which is still to come ({self.source})"
        if age > STALE_DAYS:
            return f"{what}: the price is {age} days old ({self.as_of}, {self.source}): look it up again"
        return None


@dataclass(frozen=True, slots=True)
class ModelPrices:
    """What a model's maker or host takes for tokens. `cliffs`: above so many input tokens, the whole request is dearer.

    `training`: US dollars for a million training tokens; `batch`: what a request costs that can wait, relative to one
    that cannot; `retires`: the day on which it is shut down.
    """

    model: str
    provider: str
    rates: Rates
    origin: Origin
    cliffs: tuple[tuple[int, Rates], ...] = ()
    cache: Cache | None = None
    cache_origin: Origin | None = None
    training: Decimal | None = None
    training_origin: Origin | None = None
    batch: Decimal | None = None
    batch_origin: Origin | None = None
    retires: date | None = None
    retires_origin: Origin | None = None

    def rates_for(self, input_tokens: float) -> Rates:
        """The rates of a request of this length: a cliff reprices all of its tokens."""
        found = self.rates
        for above, rates in sorted(self.cliffs, key=lambda cliff: cliff[0]):
            if input_tokens > above:
                found = rates
        return found

    def usd(self, tokens: Tokens) -> Decimal:
        """What one request of these tokens costs, exactly."""
        return self.rates_for(tokens.inside).usd(tokens)

    @property
    def origins(self) -> tuple[tuple[str, Origin], ...]:
        named = (
            ("tokens", self.origin),
            ("prompt cache", self.cache_origin),
            ("training", self.training_origin),
            ("batch", self.batch_origin),
            ("shutdown", self.retires_origin),
        )
        return tuple((what, origin) for what, origin in named if origin is not None)


@dataclass(frozen=True, slots=True)
class HostPrice:
    """A machine by the hour. `tflops`: its peak in 16 bits; `gb_per_s`: its memory's; None where it has no GPU."""

    name: str
    provider: str
    usd_per_hour: Decimal
    origin: Origin
    gpu: str | None = None
    tflops: float | None = None
    memory_gb: float | None = None
    gb_per_s: float | None = None


def per_million(amount: Decimal, unit: str, where: str) -> Decimal:
    """A price for a million tokens from one in another unit.

    >>> per_million(Decimal("0.0004"), "1K tokens", "")
    Decimal('0.4000')
    """
    if unit not in PER_MILLION:
        raise SpecError(
            f"{unit!r} is no unit of tokens", where=where, fix=f"use one of {', '.join(repr(u) for u in PER_MILLION)}"
        )
    return amount * PER_MILLION[unit]


def check_magnitude(amount: Decimal, where: str, *, unit_stated: bool) -> None:
    """A price that no million tokens ever had is asked about: SpecError, unless its unit is written down or it is 0."""
    low, high = PLAUSIBLE
    if unit_stated or amount == 0 or low <= amount <= high:
        return
    small = amount < low
    likely = (
        f"for 1,000 tokens? then it is {amount * 1000:f} for a million"
        if small
        else f"for a billion tokens, or in cents? (a million tokens cost {low} to {high})"
    )
    raise SpecError(
        f"${amount:f} for a million tokens is far {'below' if small else 'above'} what any model costs: is it {likely}",
        where=where,
        fix='write its unit beside it: unit = "1K tokens", or unit = "1M tokens" if it is right',
    )
