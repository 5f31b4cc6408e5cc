"""Listed: token prices as the package genai-prices lists them, offline, with its cliffs and its batch prices."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache
from importlib import metadata
from typing import Any

import genai_prices
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import StartDateConstraint, TieredPrices

from luthier.economics.prices import ModelPrices, Origin, Rates


@cache
def names() -> list[str]:
    return [model.id for provider in get_snapshot().providers for model in provider.models]


@cache
def _table_date(today: date) -> date | None:
    """The newest price of the table that had begun by today: the table is at least as new as that."""
    starts = (
        conditional.constraint.start_date
        for provider in get_snapshot().providers
        for model in provider.models
        if isinstance(model.prices, list)
        for conditional in model.prices
        if isinstance(conditional.constraint, StartDateConstraint)
    )
    return max((start for start in starts if start <= today), default=None)


@cache
def listed(name: str, today: date) -> ModelPrices | None:
    """A model's standard prices as genai-prices lists them; "provider:model" names the provider. None: not listed."""
    provider, _, model = name.rpartition(":")
    at = datetime.combine(today, time(12), UTC)
    usage = genai_prices.Usage(input_tokens=1, output_tokens=1)
    try:
        found = genai_prices.calc_price(usage, model, provider_id=provider or None, genai_request_timestamp=at)
    except LookupError:
        return None
    tokens = _token_prices(found.model_price)
    if tokens is None:
        return None
    version = metadata.version("genai-prices")
    rates, cliffs = tokens
    origin = Origin(f"genai-prices {version}, {found.provider.id}:{found.model.id}", _table_date(today))
    batch = _batch_factor(found, usage, model, at)
    return ModelPrices(
        model=found.model.id,
        provider=found.provider.id,
        rates=rates,
        origin=origin,
        cliffs=cliffs,
        batch=batch,
        batch_origin=origin if batch is not None else None,
    )


@cache
def listed_input(name: str, today: date) -> tuple[Decimal, Origin] | None:
    """What a million input tokens cost, for a model that writes none: an embedder. None: not listed.

    Of several providers that list it, the one that is named ("provider:model"), else the first in the table's order.
    """
    provider, _, model = name.rpartition(":")
    if not provider:
        lists = (each for each in get_snapshot().providers if any(found.id == model for found in each.models))
        provider = next((each.id for each in lists), "")
    at = datetime.combine(today, time(12), UTC)
    usage = genai_prices.Usage(input_tokens=1, output_tokens=0)
    try:
        found = genai_prices.calc_price(usage, model, provider_id=provider or None, genai_request_timestamp=at)
    except LookupError:
        return None
    price = getattr(found.model_price, "input_mtok", None)
    if price is None:
        return None
    version = metadata.version("genai-prices")
    origin = Origin(f"genai-prices {version}, {found.provider.id}:{found.model.id}", _table_date(today))
    return _tier(price, 0), origin


def _batch_factor(found: Any, usage: Any, model: str, at: datetime) -> Decimal | None:
    batch = genai_prices.calc_price(
        usage,
        model,
        provider_id=found.provider.id,
        genai_request_timestamp=at,
        price_context={"service_tier": "batch"},
    )
    if not found.total_price or batch.total_price >= found.total_price:
        return None
    return Decimal(batch.total_price) / Decimal(found.total_price)


def _token_prices(price: Any) -> tuple[Rates, tuple[tuple[int, Rates], ...]] | None:
    """Rates below and above each cliff. A kind without a price of its own costs what input does."""
    fields = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok")
    found = [getattr(price, name, None) for name in fields]
    if found[0] is None or found[3] is None:
        return None
    starts = sorted({tier.start for each in found if isinstance(each, TieredPrices) for tier in each.tiers})

    def at(input_tokens: int) -> Rates:
        fresh = _tier(found[0], input_tokens)
        read, write = (fresh if each is None else _tier(each, input_tokens) for each in found[1:3])
        return Rates(fresh, read, write, _tier(found[3], input_tokens))

    return at(0), tuple((start, at(start + 1)) for start in starts)


def _tier(price: Any, input_tokens: int) -> Decimal:
    if not isinstance(price, TieredPrices):
        return Decimal(price)
    found = price.base
    for tier in sorted(price.tiers, key=lambda tier: tier.start):
        if input_tokens > tier.start:
            found = tier.price
    return Decimal(found)
