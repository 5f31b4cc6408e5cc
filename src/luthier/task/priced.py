"""Priced: the section of luthier.toml with a price of one's own, for a model or a machine: `[price.NAME]`."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from luthier.task.section import Section, problem
from luthier.types import Price

Unit = Literal["1M tokens", "1K tokens", "token"]
PER_MILLION: dict[str, int] = {"1M tokens": 1, "1K tokens": 1_000, "token": 1_000_000}
# what a million tokens has cost since there are prices: outside it, the unit is in doubt
PLAUSIBLE = (Decimal("0.005"), Decimal(600))
BESIDE_INPUT = (Decimal("0.01"), Decimal(5))  # cached tokens and writes, as multiples of a fresh one


def money(default: float | None, meaning: str) -> Any:
    """A key that holds a sum of dollars."""
    return Field(default=default, ge=0, le=1e12, allow_inf_nan=False, description=meaning)


def _written(amount: Decimal) -> str:
    return f"{amount.normalize():f}" if 1e-9 < amount < 1e15 else f"{amount:.3g}"


class PriceSection(Section):
    """A price of your own, for a model by its name, or for a machine: it counts before any table's.

    What is left out is looked up as for a model of that name, or costs what `input` costs.
    """

    unit: Unit | None = Field(
        default=None,
        description="What the token prices are for. Left out: a million tokens, and an implausible price is an error.",
    )
    currency: str = Field(default="USD", description="The currency, as three letters.")
    usd_per_unit: float | None = Field(
        default=None,
        ge=1e-8,
        le=1e8,
        allow_inf_nan=False,
        description="What one unit of that currency is in US dollars: needed with any other.",
    )
    input: float | None = money(None, "Input tokens.")
    cached_input: float | None = money(None, "Input tokens that a prompt cache holds.")
    cache_write: float | None = money(None, "Input tokens that are written to a prompt cache.")
    output: float | None = money(None, "Output tokens.")
    training: float | None = money(None, "Training tokens.")
    batch: float | None = Field(
        default=None, gt=0, le=1, allow_inf_nan=False, description="What a request costs that can wait: 0.5 for half."
    )
    cache_seconds: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="How long a cached prefix lives without a hit."
    )
    cache_minimum: int | None = Field(default=None, ge=0, description="The shortest prefix that a cache keeps.")
    hour: float | None = money(None, "A machine's price for an hour.")
    tflops: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Its GPU's peak in 16 bits, in TFLOPS."
    )
    gb_per_s: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Its GPU's memory bandwidth, in GB a second."
    )
    retires: date | None = Field(
        default=None, description="The day on which the model is shut down.", json_schema_extra={"values": "date"}
    )
    source: str = Field(default="luthier.toml", min_length=1, description="Where the price is from.")
    as_of: date | None = Field(
        default=None, description="On which day it was so.", json_schema_extra={"values": "date"}
    )

    @field_validator("currency")
    @classmethod
    def _currency(cls, value: str) -> str:
        if not (len(value) == 3 and value.isascii() and value.isalpha() and value.isupper()):
            raise problem(f"{value!r} is no currency", 'write its three letters: currency = "EUR"')
        return value

    @model_validator(mode="after")
    def _together(self) -> PriceSection:
        if self.currency != "USD" and self.usd_per_unit is None:
            raise problem(
                f"sums are in US dollars, and these prices in {self.currency}",
                f"add usd_per_unit: what 1 {self.currency} is in US dollars",
            )
        if self.currency == "USD" and self.usd_per_unit is not None:
            raise problem("a US dollar is a US dollar", "remove usd_per_unit, or name the currency")
        if self.input is None and self.output is None and self.hour is None and self.training is None:
            raise problem("it names no price", "add input and output, or hour, or training")
        if (self.input is None) != (self.output is None):
            raise problem("one of input and output is missing", "add both, in the same unit")
        for name in ("input", "output", "training"):
            self._check_magnitude(name)
        for name in ("cached_input", "cache_write"):
            self._check_beside_input(name)
        return self

    def _check_beside_input(self, name: str) -> None:
        """A cached token costs a tenth to twice a fresh one wherever one is sold: far from it, the unit differs."""
        amount, fresh = self._tokens(name), self._tokens("input")
        if not amount or not fresh or BESIDE_INPUT[0] * fresh <= amount <= BESIDE_INPUT[1] * fresh:
            return
        raise problem(
            f"{name}: ${_written(amount)} for a million tokens, and input ${_written(fresh)}: is the unit the same?",
            f"write {name} in the unit of input; leave it out where it costs what input does",
        )

    def _check_magnitude(self, name: str) -> None:
        amount = self._tokens(name)
        if self.unit is not None or not amount or PLAUSIBLE[0] <= amount <= PLAUSIBLE[1]:
            return
        small = amount < PLAUSIBLE[0]
        guess = f"for 1,000 tokens (then it is {_written(amount * 1000)} for a million)" if small else "in cents"
        raise problem(
            f"{name}: ${_written(amount)} for a million tokens is far {'below' if small else 'above'} what models "
            f"cost: is it {guess}?",
            'say what it is for: unit = "1K tokens", or unit = "1M tokens" if it is right as it is',
        )

    def _dollars(self, name: str) -> Decimal | None:
        value = getattr(self, name)
        return None if value is None else Decimal(repr(value)) * Decimal(repr(self.usd_per_unit or 1))

    def _tokens(self, name: str) -> Decimal | None:
        value = self._dollars(name)
        return None if value is None else value * PER_MILLION[self.unit or "1M tokens"]

    def noun(self, name: str) -> Price:
        return Price(
            name=name,
            input=self._tokens("input"),
            cached_input=self._tokens("cached_input"),
            cache_write=self._tokens("cache_write"),
            output=self._tokens("output"),
            training=self._tokens("training"),
            batch=None if self.batch is None else Decimal(repr(self.batch)),
            cache_seconds=self.cache_seconds,
            cache_minimum=self.cache_minimum,
            usd_per_hour=self._dollars("hour"),
            tflops=self.tflops,
            gb_per_s=self.gb_per_s,
            retires=None if self.retires is None else self.retires.isoformat(),
            source=self.source,
            as_of=None if self.as_of is None else self.as_of.isoformat(),
        )
