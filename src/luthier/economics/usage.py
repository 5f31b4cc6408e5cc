"""Usage: tokens in four disjoint counts, and what a prompt cache makes of them at a rate of arrival.

One example: 10 requests a day find a prefix that lives 5 minutes in 3.4 % of all cases. Each hit costs a tenth, each
miss a quarter more than no cache: with one, the prefix costs 21 % more than without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from luthier.economics.money import SECONDS_A_DAY
from luthier.types import Usage


@dataclass(frozen=True, slots=True)
class Tokens:
    """Mean tokens a request, in the four disjoint kinds of `types.Usage`; `inside` counts all that a model reads."""

    fresh: float = 0.0
    cached: float = 0.0
    cache_write: float = 0.0
    output: float = 0.0

    @property
    def inside(self) -> float:
        return self.fresh + self.cached + self.cache_write

    @property
    def prefix(self) -> float:
        """What a cache can hold: whatever the race read from one or wrote to one."""
        return self.cached + self.cache_write

    @classmethod
    def mean(cls, usage: Usage, requests: int) -> Tokens:
        if requests <= 0:
            return cls()
        counts = (usage.fresh_tokens, usage.cached_tokens, usage.cache_write_tokens, usage.output_tokens)
        return cls(*(count / requests for count in counts))


def normalise(
    input_tokens: int,
    output_tokens: int,
    *,
    cached: int = 0,
    cache_write: int = 0,
    cached_inside: bool,
) -> tuple[Usage, tuple[str, ...]]:
    """A provider's counts as four disjoint ones, and what was wrong with them.

    `cached_inside`: the input count holds the cached tokens (OpenAI, Gemini, OpenTelemetry), or not (Anthropic). A
    count below zero becomes zero, with a warning.

    >>> normalise(20_212, 931, cached=16_298, cached_inside=True)[0]
    Usage(fresh_tokens=3914, cached_tokens=16298, cache_write_tokens=0, output_tokens=931)
    """
    fresh = input_tokens - cached - cache_write if cached_inside else input_tokens
    given = {"fresh": fresh, "cached": cached, "cache_write": cache_write, "output": output_tokens}
    warnings = tuple(f"{name} tokens were {count}: counted as 0" for name, count in given.items() if count < 0)
    return Usage(*(max(0, count) for count in given.values())), warnings


@dataclass(frozen=True, slots=True)
class Cache:
    """A prompt cache: what a hit and a write cost beside a fresh token, and how long an unused prefix lives.

    `minimum_tokens`: a shorter prefix is never kept. `automatic`: nobody asks for it, and a write costs no more.
    """

    read: float
    write: float
    ttl_s: float
    minimum_tokens: int = 0

    def hit_rate(self, requests_per_s: float) -> float:
        """The share of requests that find the prefix alive: arrivals as Poisson, each hit renewing its life."""
        return -math.expm1(-requests_per_s * self.ttl_s)

    def multiplier(self, hit_rate: float) -> float:
        """What a token of the prefix costs in the mean, relative to one without a cache."""
        return hit_rate * self.read + (1.0 - hit_rate) * self.write

    @property
    def break_even_hit_rate(self) -> float | None:
        """The hit rate from which it pays; None where it never does; 0 where a miss costs nothing extra."""
        if self.write <= 1.0:
            return 0.0
        return None if self.read >= 1.0 else (self.write - 1.0) / (self.write - self.read)

    @property
    def break_even_requests_a_day(self) -> float | None:
        """How many requests a day it takes until it pays, spread evenly over the day."""
        rate = self.break_even_hit_rate
        return None if rate is None else -math.log1p(-rate) / self.ttl_s * SECONDS_A_DAY


@dataclass(frozen=True, slots=True)
class Cached:
    """Tokens as they would be billed at a rate of arrival, and why: `used` says whether a cache is."""

    tokens: Tokens
    hit_rate: float
    used: bool
    why: str


def as_arriving(tokens: Tokens, cache: Cache | None, requests_per_s: float) -> Cached:
    """A race sends its batches back to back and hits nearly always; requests that arrive one by one do not.

    A cache that would cost more than it saves is left alone, as a careful team would.
    """
    prefix = tokens.prefix
    plain = Tokens(tokens.fresh + prefix, 0.0, 0.0, tokens.output)
    if prefix <= 0:
        return Cached(plain, 0.0, False, "no two requests of the race shared a prefix that was cached")
    if cache is None:
        return Cached(plain, 0.0, False, "no prompt cache is known for this model")
    if prefix < cache.minimum_tokens:
        why = f"the shared prefix has {prefix:,.0f} tokens, and the cache keeps none below {cache.minimum_tokens:,}"
        return Cached(plain, 0.0, False, why)
    rate = cache.hit_rate(requests_per_s)
    if cache.multiplier(rate) >= 1.0:
        why = f"at a hit rate of {rate:.1%} a cache would cost {cache.multiplier(rate):.2f} times as much as none"
        return Cached(plain, rate, False, why)
    hit, miss = rate * prefix, (1.0 - rate) * prefix
    # where a write costs what a fresh token does, it is one
    split = (tokens.fresh, hit, miss) if cache.write > 1.0 else (tokens.fresh + miss, hit, 0.0)
    why = f"a prefix of {prefix:,.0f} tokens is found alive in {rate:.1%} of all cases"
    return Cached(Tokens(*split, tokens.output), rate, True, why)
