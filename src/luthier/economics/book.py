"""Book: the prices of models and machines: of luthier.toml, of genai-prices, of the dated tables of this folder.

What luthier.toml says counts first. A name that nobody knows is an error that says which lines to add, never a zero.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from luthier.economics.prices import HostPrice, ModelPrices, Origin, Rates
from luthier.economics.usage import Cache
from luthier.errors import SpecError
from luthier.types import Endpoint, Price

THIS_MACHINE = "this machine"
DEFAULT_MACHINE = "aws-m7g-large"
DEFAULT_HOST = "modal-l4"


@dataclass(frozen=True)
class Book:
    """All prices that are known on a day. `own` are those of luthier.toml."""

    today: date
    own: Mapping[str, Price]

    @classmethod
    def of(cls, own: Sequence[Price], today: date) -> Book:
        return cls(today, {price.name: price for price in own})

    # ------------------------------------------------------------ models

    def model(self, name: str) -> ModelPrices:
        """The prices of a model by its maker's name for it. SpecError where nobody knows them."""
        own = self.own.get(name)
        listed = _listed(name, self.today)
        if own is not None and own.input is not None:
            return _with_tables(_owned(own, listed), name, own)
        if listed is None:
            raise _unknown(name)
        return _with_tables(listed, name, own)

    def endpoint(self, endpoint: Endpoint) -> ModelPrices:
        """The prices of a remote model: what its section says, else a `[price]` of its name, else the tables."""
        if endpoint.prices is None:
            return self.model(endpoint.name if endpoint.name in self.own else endpoint.model)
        said = endpoint.prices
        figures = (said.input, said.cached_input, said.cache_write, said.output)
        rates = Rates(*(Decimal(repr(float(figure))) for figure in figures))
        origin = Origin(f"luthier.toml, [remote.{endpoint.name}] usd_per_million", None, "stated")
        cached = said.cached_input != said.input or said.cache_write != said.input
        listed = _listed(endpoint.model, self.today)
        prices = ModelPrices(endpoint.model, endpoint.name, rates, origin)
        if listed is not None and cached:
            prices = replace(prices, provider=listed.provider)
        return _with_tables(prices, endpoint.model, self.own.get(endpoint.model))

    def embedding(self, name: str) -> tuple[Decimal, Origin]:
        """What a million tokens that an embedder reads cost. SpecError where nobody knows it."""
        from luthier.economics.listed import listed_input

        own = self.own.get(name)
        if own is not None and own.input is not None:
            return own.input, _origin(own)
        found = listed_input(name, self.today)
        if found is None:
            raise _unknown(name)
        return found

    def training(self, name: str) -> tuple[Decimal, Origin]:
        """What a million training tokens cost. SpecError where nobody knows it."""
        own = self.own.get(name)
        if own is not None and own.training is not None:
            return own.training, _origin(own)
        row = _table("training").get(name)
        if row is None:
            raise SpecError(
                f"nobody knows what training {name} costs",
                where="prices",
                fix=f'add to luthier.toml: [price."{name}"] with training = ... (US dollars for a million tokens); '
                f"known are {', '.join(_table('training'))}",
            )
        return Decimal(row["usd_per_million"]), _of_row(row)

    def shutdown(self, name: str) -> tuple[date | None, Origin | None]:
        """The day on which a model is shut down, as far as somebody knows it, and who says so."""
        own = self.own.get(name)
        if own is not None and own.retires is not None:
            return date.fromisoformat(own.retires), _origin(own)
        return _shutdown(name)

    # ------------------------------------------------------------ machines

    def host(self, name: str) -> HostPrice:
        """A machine's price by its name. SpecError lists the known ones."""
        own = self.own.get(name)
        if own is not None and own.usd_per_hour is not None:
            return HostPrice(name, own.source, own.usd_per_hour, _origin(own), tflops=own.tflops, gb_per_s=own.gb_per_s)
        row = _table("hosts").get(name)
        if row is None:
            near = difflib.get_close_matches(name, _table("hosts"), n=1)
            raise SpecError(
                f"{name!r} is no machine with a known price",
                where="prices",
                fix=(f"did you mean {near[0]}? " if near else "")
                + f'known are {", ".join(_table("hosts"))}; or add to luthier.toml: [price."{name}"] with hour = ...',
            )
        return HostPrice(
            name=name,
            provider=row["provider"],
            usd_per_hour=Decimal(row["usd_per_hour"]),
            origin=_of_row(row),
            gpu=row.get("gpu"),
            tflops=row.get("tflops"),
            memory_gb=row.get("memory_gb"),
            gb_per_s=row.get("gb_per_s"),
        )

    def hosts(self) -> list[HostPrice]:
        """Every machine of the table and of luthier.toml."""
        own = [name for name, price in self.own.items() if price.usd_per_hour is not None]
        return [self.host(name) for name in dict.fromkeys([*own, *_table("hosts")])]

    def this_machine(self, usd_per_hour: float | None) -> HostPrice:
        """This machine at what it is said to cost, else at the price of a small one in a cloud, marked as assumed."""
        if usd_per_hour is not None:
            origin = Origin("luthier.toml, [economics] machine_usd_per_hour", None, "stated")
            return HostPrice(THIS_MACHINE, "yours", Decimal(repr(float(usd_per_hour))), origin)
        small = self.host(DEFAULT_MACHINE)
        origin = Origin(
            f"assumed to cost what {DEFAULT_MACHINE} does: {small.origin.source}", small.origin.as_of, "assumed"
        )
        return HostPrice(THIS_MACHINE, "assumed", small.usd_per_hour, origin)


def parameters_of(model: str | None) -> float | None:
    """How many parameters a local model computes with for each token; None where the table has no such model."""
    found = _table("sizes").get(model or "")
    return None if found is None else float(found)


def _listed(name: str, today: date) -> ModelPrices | None:
    """A model of genai-prices, with how its provider's prompt cache works; None: not listed."""
    from luthier.economics.listed import listed  # a table of 1.6 MB: only where a price is asked for

    found = listed(name, today)
    if found is None or found.rates.cached_input >= found.rates.input or found.provider not in _table("caches"):
        return found
    row = _table("caches")[found.provider]
    return replace(found, cache=_cache(found.provider, name, found.rates), cache_origin=_of_row(row))


def _unknown(name: str) -> SpecError:
    from luthier.economics.listed import names

    if parameters_of(name) is not None:
        return SpecError(
            f"{name} runs on a machine of one's own, which costs by the hour and not by the token",
            where="prices",
            fix="`luthier prices hosts` lists machines; an [option.NAME] takes host and seconds_per_request",
        )
    if name in names():
        return SpecError(
            f"{name} has no price for tokens that it reads and tokens that it writes: it is no model that answers",
            where="prices",
            fix="name an embedder as [economics] embedding_model; else add to luthier.toml: "
            f'[price."{name}"] with input = ... and output = ... (US dollars for a million tokens)',
        )
    near = list(dict.fromkeys(difflib.get_close_matches(name, names(), n=3)))
    return SpecError(
        f"nobody knows what {name} costs",
        where="prices",
        fix=(f"did you mean {' or '.join(near)}? " if near else "")
        + f'add to luthier.toml: [price."{name}"] with input = ... and output = ... (US dollars for a million tokens), '
        "and cached_input where it has a prompt cache",
    )


# ---------------------------------------------------------------- the tables of this folder


@cache
def _table(name: str) -> dict[str, Any]:
    text = resources.files("luthier.economics").joinpath("tables", f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _of_row(row: Mapping[str, Any]) -> Origin:
    return Origin(row["source"], row["as_of"], row.get("basis", "price"))


def _origin(own: Price) -> Origin:
    return Origin(
        f"luthier.toml, [price.{own.name}]" + (f": {own.source}" if own.source != "luthier.toml" else ""),
        None if own.as_of is None else date.fromisoformat(own.as_of),
        "stated",
    )


def _cache(provider: str, model: str, rates: Rates) -> Cache | None:
    row = _table("caches").get(provider)
    if row is None or not rates.input:
        return None
    by_model = row.get("minimum_by_model", {})
    longest = max((start for start in by_model if model.startswith(start)), key=len, default=None)
    written = rates.cache_write / rates.input
    return Cache(
        read=float(rates.cached_input / rates.input),
        write=float(written) if written != 1 else float(row["write"]),
        ttl_s=float(row["ttl_s"]),
        minimum_tokens=int(by_model[longest]) if longest else int(row["minimum_tokens"]),
    )


def _owned(own: Price, listed: ModelPrices | None) -> ModelPrices:
    """Prices as luthier.toml says them; how the cache works is the listed model's, where there is one."""
    assert own.input is not None
    assert own.output is not None
    # 0 is a price, too: what is read from a cache may be free
    read, write = (own.input if each is None else each for each in (own.cached_input, own.cache_write))
    rates = Rates(own.input, read, write, own.output)
    kept = own.cached_input is not None
    origin = _origin(own)
    cache_found: Cache | None = None
    if kept and rates.input:
        known = listed.cache if listed else None
        cache_found = Cache(
            read=float(rates.cached_input / rates.input),
            write=float(rates.cache_write / rates.input),
            ttl_s=own.cache_seconds or (known.ttl_s if known else 300.0),
            minimum_tokens=(known.minimum_tokens if known else 0) if own.cache_minimum is None else own.cache_minimum,
        )
    said = own.cache_seconds is not None
    return ModelPrices(
        model=own.name,
        provider=listed.provider if listed else "luthier.toml",
        rates=rates,
        origin=origin,
        cache=cache_found,
        cache_origin=origin
        if said
        else Origin("a cached prefix is assumed to live 5 minutes", None, "assumed")
        if cache_found
        else None,
        batch=own.batch if own.batch is not None else (listed.batch if listed else None),
        batch_origin=origin if own.batch is not None else (listed.batch_origin if listed else None),
    )


def _with_tables(prices: ModelPrices, name: str, own: Price | None) -> ModelPrices:
    """The same with what training costs and when the model is shut down, where somebody knows it."""
    row = _table("training").get(name) or _table("training").get(prices.model)
    if own is not None and own.training is not None:
        prices = replace(prices, training=own.training, training_origin=_origin(own))
    elif row is not None:
        prices = replace(prices, training=Decimal(row["usd_per_million"]), training_origin=_of_row(row))
    if own is not None and own.retires is not None:
        return replace(prices, retires=date.fromisoformat(own.retires), retires_origin=_origin(own))
    for known in (name, prices.model):
        day, origin = _shutdown(known)
        if day is not None:
            return replace(prices, retires=day, retires_origin=origin)
    return prices


def _shutdown(name: str) -> tuple[date | None, Origin | None]:
    for provider in _table("shutdowns").values():
        if name in provider["models"]:
            return provider["models"][name], _of_row(provider)
    return None, None
