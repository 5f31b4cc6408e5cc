"""Receipt: costs and prices as lines of text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from luthier.economics.book import Book
from luthier.economics.prices import STALE_DAYS, HostPrice, ModelPrices
from luthier.report.amounts import days_in_words, dollars, months_in_words
from luthier.report.plain import count, percent

BASIS = {"measured": "measured", "price": "price list", "stated": "stated", "assumed": "ASSUMED"}


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they need to be; all but the first are set to the right.

    >>> table(["", "a"], [["x", "1"], ["yy", "22"]])
    ['     a', 'x    1', 'yy  22']
    """
    cells = [list(titles), *(list(row) for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(titles))]
    return [
        "  ".join(
            cell.ljust(width) if not at else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def cost_lines(told: Mapping[str, Any]) -> list[str]:
    """Everything that `luthier cost` prints: the ways, break-even, what flips it, what it rests on."""
    shared = f", {told['tasks']} tasks on the same machines" if told["tasks"] > 1 else ""
    changes = told["months_between_changes"]
    rhythm = f", the task changes every {_months(changes)}" if changes else ""
    asked = f"{count(told['monthly_requests'])} requests a month, {_months(told['horizon_months'])}, US dollars"
    lines = [f"{asked}{shared}{rhythm}", ""]
    lines += _ways(told)
    lines += ["", *told["sentences"]]
    if told["break_even"]:
        lines += ["", "Break-even:", *(f"  {pair['sentence']}" for pair in told["break_even"])]
        lines += _scales(told)
    steps = [each for each in told["frontier"] if each["usd_per_extra_right_answer"] is not None]
    if steps:
        lines += ["", "One more right answer, along the ways that nobody beats in cost and accuracy:"]
        kept = [each["name"] for each in told["frontier"] if each["place"] == "frontier"]
        before = dict(zip(kept[1:], kept, strict=False))
        lines += [
            f"  {each['name']}: {dollars(each['usd_per_extra_right_answer'])} (beside {before[each['name']]})"
            for each in steps
        ]
    if told["flips"]:
        lines += ["", "What would flip it:", *(f"  {flip['sentence']}" for flip in told["flips"])]
    lines += _tornado(told)
    for title, key in (("Look at this", "warnings"), ("Assumed", "assumed"), ("Not counted", "not_counted")):
        if told[key]:
            lines += ["", f"{title}:", *(f"  {line}" for line in told[key])]
    return lines


def _tornado(told: Mapping[str, Any]) -> list[str]:
    """What moves the difference to the next way, the widest first, as the report draws it."""
    found = told["tornado"]
    if not found or not found["bars"]:
        return []
    rows = [
        [
            bar["what"] + (" (assumed)" if bar["basis"] == "assumed" else ""),
            dollars(bar["at_low"]),
            dollars(bar["at_high"]),
            "turns the choice" if bar["turns"] else "",
        ]
        for bar in found["bars"]
    ]
    return [
        "",
        f"What moves the {dollars(abs(found['middle']))} that {found['of']} costs {_side(found['middle'])} than "
        f"{found['against']} (one input at a time, from low to high: 80 % of cases lie between):",
        *(f"  {line}" for line in table(["input", "at low", "at high", ""], rows)),
    ]


def _side(difference: float) -> str:
    return "more" if difference > 0 else "less"


def _months(months: float) -> str:
    return f"{months:g} month{'s' if months != 1 else ''}"


def _ways(told: Mapping[str, Any]) -> list[str]:
    errors = told["counts_errors"]
    changes = bool(told["months_between_changes"])
    months = _months(told["horizon_months"])
    titles = ["way", "to start", "a month", "1,000 requests", *(["with errors"] if errors else [])]
    titles += [f"all {months}" if told["horizon_months"] > 1 else months, "chance cheapest"]
    timed = any(way["days_to_production"] is not None for way in told["ways"])
    titles += [*(["a change"] if changes else []), *(["to production"] if timed else []), "accuracy"]
    rows = []
    for way in told["ways"]:
        if way["kind"] == "nothing" and not errors:
            continue  # without a price of wrong answers it costs nothing, and that says nothing
        chance = way["p_cheapest"]
        rows.append(
            [
                way["name"],
                dollars(way["usd_to_start"]),
                dollars(way["usd_per_month"]),
                dollars(way["usd_per_1k_requests"]),
                *([dollars(way["usd_total_with_errors"])] if errors else []),
                dollars(way["usd_total"]),
                percent(chance["value"]) if chance else "",
                *([dollars(way["usd_per_change"])] if changes else []),
                *([_days(way)] if timed else []),
                _accuracy(way),
            ]
        )
    lines = table(titles, rows)
    named = [way for way in told["ways"] if way["excluded"] and way["kind"] != "nothing"]
    return [*lines, *(f"  {way['name']} may not be chosen: {way['excluded']}" for way in named), *_machines(told)]


def _days(way: Mapping[str, Any]) -> str:
    return "" if way["days_to_production"] is None else days_in_words(way["days_to_production"])


def _accuracy(way: Mapping[str, Any]) -> str:
    found = way["accuracy"]
    if found is None or way["kind"] == "nothing":
        return ""
    return f"{percent(found['mean'])} {BASIS[found['basis']]}"


def _machines(told: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            way["name"],
            host["name"],
            f"${host['usd_per_hour']:g}",
            f"{host['seconds_per_request']:.2g} s",
            f"{host['machines']:.0f}",
            dollars(host["usd_per_month"]),
            BASIS[host["speed_basis"]],
        ]
        for way in told["ways"]
        for host in way["hosts"]
    ]
    if not rows:
        return []
    return ["", *table(["on a machine", "", "an hour", "a request", "machines", "a month", "its speed"], rows)]


def _scales(told: Mapping[str, Any]) -> list[str]:
    factors = [f"{each['factor']:g}x" for each in told["scales"]]
    rows = [
        [f"{pair['of']} / {pair['against']}", *(months_in_words(each["months"]) for each in pair["scales"])]
        for pair in told["break_even"]
    ]
    rows.append(["cheapest", *(each["cheapest"] or "none" for each in told["scales"])])
    return ["", *(f"  {line}" for line in table(["pays back, at so many times the requests", *factors], rows))]


def price_lines(prices: ModelPrices, today: date) -> list[str]:
    """What a model costs, from whom, and from when."""
    rates = prices.rates
    lines = [f"{prices.provider}:{prices.model}, US dollars for a million tokens"]
    named = (("input", rates.input), ("cached input", rates.cached_input), ("cache write", rates.cache_write))
    rows = [[what, f"{amount.normalize():f}"] for what, amount in (*named, ("output", rates.output))]
    if prices.training is not None:
        rows.append(["training", f"{prices.training.normalize():f}"])
    lines += [f"  {line}" for line in table(["", ""], rows)[1:]]
    for above, each in prices.cliffs:
        lines.append(
            f"  above {above:,} input tokens the whole request: input {each.input.normalize():f}, cached "
            f"{each.cached_input.normalize():f}, output {each.output.normalize():f}"
        )
    if prices.batch is not None:
        lines.append(f"  requests that can wait cost {float(prices.batch):.0%} of that")
    if prices.cache is not None:
        daily = prices.cache.break_even_requests_a_day
        pays = "at any rate of requests" if not daily else f"from {daily:,.0f} requests a day on"
        lines.append(
            f"  prompt cache: prefixes of {prices.cache.minimum_tokens:,} tokens or more, kept {prices.cache.ttl_s:g} "
            f"s; it pays {pays}"
        )
    if prices.retires is not None:
        lines.append(f"  shut down on {prices.retires}")
    for what, origin in prices.origins:
        lines.append(f"  {what}: {BASIS[origin.basis]}, as of {origin.as_of or 'no date'}: {origin.source}")
    return [*lines, *price_warnings(prices, today)]


def price_warnings(prices: ModelPrices, today: date) -> list[str]:
    found = (origin.warning(f"{prices.model}, {what}", today) for what, origin in prices.origins)
    gone = prices.retires is not None and prices.retires <= today
    shut = [f"{prices.model} was shut down on {prices.retires}: an option with it may not be chosen"] if gone else []
    return [f"  warning: {warning}" for warning in (*shut, *found) if warning]


def host_lines(hosts: Sequence[HostPrice], today: date) -> list[str]:
    """Every machine of the price table."""
    rows = []
    for host in hosts:
        old = host.origin.basis != "stated" and host.origin.warning(host.name, today)
        rate, day = f"${host.usd_per_hour.normalize():f}", str(host.origin.as_of or "no date")
        rows.append([host.name, rate, host.gpu or "", host.provider, day, "STALE" if old else ""])
    lines = table(["machine", "an hour", "GPU", "from", "as of", ""], rows)
    stale = f"STALE: older than {STALE_DAYS} days; look it up again, and write what it is as [price.NAME] hour = ..."
    return [*lines, "", stale] if any(row[-1] for row in rows) else lines


def price_json(prices: ModelPrices, today: date) -> dict[str, Any]:
    """The same as plain values; prices as text, so that no digit is lost."""

    def told(rates: Any) -> dict[str, str]:
        return {
            name: f"{getattr(rates, name).normalize():f}" for name in ("input", "cached_input", "cache_write", "output")
        }

    cache = prices.cache
    return {
        "model": prices.model,
        "provider": prices.provider,
        "currency": "USD",
        "unit": "1M tokens",
        **told(prices.rates),
        "cliffs": [{"above_input_tokens": above, **told(rates)} for above, rates in prices.cliffs],
        "training": None if prices.training is None else f"{prices.training.normalize():f}",
        "batch": None if prices.batch is None else f"{prices.batch:f}",
        "cache": None
        if cache is None
        else {
            "ttl_s": cache.ttl_s,
            "minimum_tokens": cache.minimum_tokens,
            "break_even_hit_rate": cache.break_even_hit_rate,
        },
        "retires": None if prices.retires is None else prices.retires.isoformat(),
        "origins": [
            {"what": what, "source": origin.source, "as_of": None if origin.as_of is None else origin.as_of.isoformat()}
            | {"basis": origin.basis, "age_days": origin.age_days(today)}
            for what, origin in prices.origins
        ],
        "warnings": [line.removeprefix("  warning: ") for line in price_warnings(prices, today)],
    }


def book_of(economics: Any, today: date) -> Book:
    """The prices that a luthier.toml with these economics sees; without one, those of the tables."""
    return Book.of(economics.prices if economics is not None else (), today)
