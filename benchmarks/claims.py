"""Claims that teams repeat about cost, each with the inputs that it needs to be true: docs/economics.md quotes this.

    python benchmarks/claims.py

Needs no model and no network. Its last line is one JSON object with the figures.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from machine import describe

from luthier.economics import breakeven
from luthier.economics.book import Book
from luthier.economics.cost import Numbers, World, month_cost
from luthier.economics.usage import Cache, Tokens, as_arriving

AS_OF = date(2026, 11, 22)
DAY = 86_400
CHEAPER = (("gpt-4o", "gpt-4o-mini"), ("gpt-4.1", "gpt-4.1-mini"), ("claude-sonnet-4-5", "claude-haiku-4-5"))


def five_million_tokens(book: Book) -> dict[str, Any]:
    """'Break-even comes at about 5 million tokens': by how much would a million tokens have to be cheaper?"""
    starts = {f"${start}": breakeven.price_difference_to_pay(start, 5e6) for start in (50, 500, 5_000)}
    real = {
        f"{dear} to {cheap}": float(book.model(dear).rates.input - book.model(cheap).rates.input)
        for dear, cheap in CHEAPER
    }
    most = max(real.values())
    return {
        "needed_difference_a_million": starts,
        "real_difference_a_million": real,
        "start_that_pays_at_the_largest": most * 5,
        "tokens_to_pay_500": {name: 500 / difference * 1e6 for name, difference in real.items()},
    }


def half_the_cost() -> dict[str, Any]:
    """'Fine-tuning halves inference cost': how much shorter must the prompt be?"""
    base, tuned = (Decimal("0.15"), Decimal("0.60")), (Decimal("0.30"), Decimal("1.20"))

    def usd(prices: tuple[Decimal, Decimal], read: float, written: float = 50) -> float:
        return float((prices[0] * Decimal(repr(read)) + prices[1] * Decimal(repr(written))) / 1_000_000)

    old = usd(base, 1_500)
    kept = (old / 2 - usd(tuned, 0)) / float(tuned[0]) * 1e6
    return {
        "same_prompt": usd(tuned, 1_500) / old,
        "prompt_of_300": usd(tuned, 300) / old,
        "longest_prompt_for_half": kept,
        "from_a_prompt_of": 1_500,
    }


def paid_back_in_weeks() -> dict[str, Any]:
    """'Paid back within weeks at 10,000 requests a day': without and with a host by the hour."""
    world = World(10_000 * 365.25 / 12)
    old = Numbers(tokens=(1_500 * 0.40 + 50 * 1.60) / 1e6)
    new = Numbers(once=503.15, tokens=(300 * 0.30 + 50 * 1.20) / 1e6)
    hosted = replace(new, host_hour=1.70, least_replicas=1.0)
    saving = float(month_cost(old, world, 1) - month_cost(new, world, 1))
    per_day = saving / world.requests
    return {
        "months": breakeven.break_even(new, old, world).months,
        "with_host": breakeven.break_even(hosted, old, world).reason,
        "requests_a_day_that_pay_for_the_host": 1.70 * 730 / per_day / (365.25 / 12),
        "start_that_pays_in_4_weeks": saving * 28 / (365.25 / 12),
    }


def cache_saves(book: Book) -> dict[str, Any]:
    """'A prompt cache saves 90 %': at which arrival rate, and of what?"""
    found = {}
    for name in ("claude-sonnet-4-5", "gpt-4.1-mini"):
        prices = book.model(name)
        cache: Cache | None = prices.cache
        assert cache is not None
        tokens, plain = Tokens(100, 1_900, 0, 50), prices.usd(Tokens(2_000, output=50))
        rows = {}
        for daily in (10, 100, 1_000, 10_000):
            rate = daily / DAY
            paid = as_arriving(tokens, cache, rate)
            always = prices.usd(tokens)
            rows[str(daily)] = {
                "hit_rate": cache.hit_rate(rate),
                "prefix_multiplier": cache.multiplier(cache.hit_rate(rate)),
                "saved_of_the_bill": 1 - float(prices.usd(paid.tokens) / plain),
                "at_most": 1 - float(always / plain),
            }
        found[name] = {"break_even_a_day": cache.break_even_requests_a_day, "by_requests_a_day": rows}
    return found


def main() -> None:
    book = Book.of((), AS_OF)
    figures = {
        "five_million_tokens": five_million_tokens(book),
        "half_the_cost": half_the_cost(),
        "paid_back_in_weeks": paid_back_in_weeks(),
        "cache_saves_90_percent": cache_saves(book),
    }
    about = describe("genai-prices")
    for name, each in figures.items():
        print(f"\n{name}")
        print(json.dumps(each, indent=1))
    print(json.dumps({**about, "as_of": AS_OF.isoformat(), **figures}))


if __name__ == "__main__":
    main()
