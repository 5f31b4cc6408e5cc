"""Worth: what every way costs, as plain values and in sentences: totals, break-even, frontier, what flips the choice.

One example: a fine-tuned model costs $503 to start and $45 a month, the prompt it replaces $204 a month: it has paid
back after 3.2 months; at 79,100 requests a month or less the prompt is the cheaper one over a year.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from luthier.economics.book import Book
from luthier.economics.calculation import SCALES, SOON, Calculation, Payback
from luthier.economics.cost import Host, Way, per_accurate_answer, replicas
from luthier.economics.flips import Bar, Flip
from luthier.economics.frontier import Placed
from luthier.economics.money import HOURS_A_MONTH
from luthier.economics.ways import DO_NOTHING
from luthier.report.amounts import dollars, months_in_words
from luthier.report.plain import count, level, percent, plain
from luthier.report.rests_on import assumed, not_counted, prices, warnings

KINDS: Mapping[str, str] = {
    "rules": "raced, no language model",
    "prompt": "raced, a prompt",
    "tune": "raced, a fine-tune",
    "option": "stated in luthier.toml",
    "today": "today's process, as stated",
    "nothing": "nothing at all",
}
RACED = ("rules", "prompt", "tune")
MOST_PAIRS = 8
MOST_BARS = 8


# ---------------------------------------------------------------- everything, as plain values


def told(
    found: Calculation,
    book: Book,
    *,
    among: Sequence[str],
    chosen: str | None = None,
    excluded: Mapping[str, str] = {},
    latency: Mapping[str, Any] = {},
) -> dict[str, Any]:
    """All that was calculated. `among`: the ways that may be chosen; `excluded`: why the others may not; `latency`:
    what was probed, by way."""
    cheapest = found.cheapest(among)
    chances = found.chances_of_being_cheapest(among)
    hero = chosen if chosen in {way.name for way in found.ways} else cheapest
    ordered = sorted(found.ways, key=lambda way: _order(found, way, among))
    flips = [_flip(flip, found, hero) for flip in found.flips(among)] if len(among) > 1 else []
    rows = [_way(way, found, among, chances, excluded) | {"latency": latency.get(way.name)} for way in ordered]
    pays = _paybacks(found, hero, among)
    values = {
        "currency": "USD",
        "as_of": book.today.isoformat(),
        "monthly_requests": found.world.requests,
        "horizon_months": found.world.months,
        "months_between_changes": found.economics.months_between_changes or None,
        "tasks": found.economics.tasks,
        "counts_errors": found.counting,
        "cheapest": cheapest,
        "p_cheapest": _chance(chances.get(cheapest or "")),
        "hero": hero,
        "ways": rows,
        "break_even": pays,
        "scales": [_scale(found, factor, among) for factor in SCALES],
        "frontier": [_placed(each) for each in found.frontier()],
        "flips": flips,
        "tornado": _tornado(found, hero, among),
        "draws": found.draws.replicates * found.draws.points,
        "seed": found.seed,
        "warnings": warnings(found, book),
        "assumed": assumed(found, book),
        "not_counted": not_counted(found),
        "prices": prices(found, book),
    }
    return plain({**values, "sentences": _sentences(values)})  # type: ignore[no-any-return]


def _order(found: Calculation, way: Way, among: Sequence[str]) -> tuple[bool, float]:
    return way.name not in among, float(found.total(way))


def _chance(chance: Any) -> dict[str, float] | None:
    return None if chance is None else {"value": chance.value, "error": chance.error}


def _way(
    way: Way, found: Calculation, among: Sequence[str], chances: Mapping[str, Any], excluded: Mapping[str, str]
) -> dict[str, Any]:
    month = found.month(way)
    accuracy = way.accuracy
    each = month / found.world.requests
    return {
        "name": way.name,
        "kind": way.kind,
        "kind_words": KINDS[way.kind],
        "may_be_chosen": way.name in among,
        "excluded": excluded.get(way.name),
        "usd_to_start": way.numbers().once,
        "usd_per_request": each,
        "usd_per_1k_requests": 1000 * each,
        "usd_per_month": month,
        "usd_total": float(found.total(way, errors=False)),
        "usd_errors_per_month": way.error_usd * found.world.requests if found.counting else None,
        "usd_total_with_errors": float(found.total(way, errors=True)) if found.counting else None,
        "total": found.total_quantiles(way.name),
        "p_cheapest": _chance(chances.get(way.name)),
        "accuracy": None if accuracy is None else asdict(accuracy),
        "usd_per_accurate_answer": None if accuracy is None else per_accurate_answer(each, accuracy.mean),
        "lines": [
            {"what": line.what, "usd": float(line.usd), "exact": f"{line.usd.normalize():f}", "due": line.due}
            | {"basis": line.basis, "how": line.how}
            for line in way.lines
        ],
        "hosts": [_host(way, host, found) for host in way.hosts],
        "retires_in_months": way.retires or None,
        "usd_per_change": float(way.retraining),
        "leaves_this_machine": way.remote,
        "days_to_production": way.days,
        "steps_to_production": [asdict(step) for step in way.steps],
        "tasks_on_its_machines": way.shared,
        "notes": way.notes,
    }


def _host(way: Way, host: Host, found: Calculation) -> dict[str, Any]:
    numbers = way.numbers(host)
    machines = float(replicas(numbers, found.world, found.world.requests))
    return {
        "name": host.name,
        "usd_per_hour": float(host.usd_per_hour),
        "seconds_per_request": host.seconds,
        "machines": machines,
        "usd_hosting_per_month": machines * float(host.usd_per_hour) * HOURS_A_MONTH,
        "usd_per_month": found.month(way, host),
        "price_basis": host.price_basis,
        "speed_basis": host.speed_basis,
        "how": host.how,
    }


# ---------------------------------------------------------------- break-even


def _paybacks(found: Calculation, hero: str | None, among: Sequence[str]) -> list[dict[str, Any]]:
    """The chosen way against each other one, whichever of the two has more to pay back."""
    if hero is None:
        return []
    others = [way.name for way in found.comparable if way.name not in (hero, DO_NOTHING)]
    others.sort(key=lambda name: (name not in among, float(found.total(found.way(name)))))
    return [_payback(found, *found.pair(hero, other)) for other in others[:MOST_PAIRS]]


def _payback(found: Calculation, of: str, against: str) -> dict[str, Any]:
    at_scale = [found.payback(of, against, factor) for factor in SCALES]
    first = at_scale[0]
    return {
        "of": of,
        "against": against,
        "months": first.middle.months,
        "reason": first.middle.reason,
        "p_within_6_months": _chance(first.soon),
        "p_never": _chance(first.never),
        "quantiles": {key: _chance(each) for key, each in first.quantiles.items()},
        "scales": [
            {"factor": factor, "months": each.middle.months, "reason": each.middle.reason}
            | {"p_within_6_months": each.soon.value, "p_never": each.never.value}
            for factor, each in zip(SCALES, at_scale, strict=True)
        ],
        "span": span_in_words({key: None if each is None else each.value for key, each in first.quantiles.items()}),
        "today": any(found.way(name).kind == "today" for name in (of, against)),
        "sentence": payback_sentence(first),
    }


def payback_sentence(found: Payback) -> str:
    """When it pays back, with how much that is worth relying on."""
    soon, never = percent(found.soon.value), percent(found.never.value)
    error = max(found.soon.error, found.never.error)
    surely = (
        f"within {SOON:g} months with a probability of {soon}, never with {never} (±{100 * error:.1f} from the draws)"
    )
    lead = f"{found.of} against {found.against}: "
    if found.middle.months is None:
        return f"{lead}does not pay back, since {found.middle.reason}; {surely}"
    if found.middle.months == 0:
        return f"{lead}nothing to pay back ({found.middle.reason}); {surely}"
    when = months_in_words(found.middle.months)
    span = span_in_words({key: None if each is None else each.value for key, each in found.quantiles.items()})
    return f"{lead}pays back {when if when == 'at once' else f'after {when}'}{f' ({span})' if span else ''}; {surely}"


def span_in_words(months: Mapping[str, float | None]) -> str:
    """Between which times it pays back in eight of ten cases; nothing where it mostly never does.

    >>> span_in_words({"p10": 2.2, "p90": 11.4}), span_in_words({"p10": 2.2, "p90": None})
    ('2.2 months to 11.4 months in 8 of 10 cases', '2.2 months or more in 9 of 10 cases')
    """
    low, high = months["p10"], months["p90"]
    if low is None or (high is not None and high < 0.02):
        return ""
    if high is None:
        return f"{months_in_words(low)} or more in 9 of 10 cases"
    return f"{months_in_words(low)} to {months_in_words(high)} in 8 of 10 cases"


def _scale(found: Calculation, factor: float, among: Sequence[str]) -> dict[str, Any]:
    requests = found.world.requests * factor
    return {
        "factor": factor,
        "monthly_requests": requests,
        "cheapest": found.cheapest(among, {"requests": requests}),
        "usd_per_month": {way.name: found.month(way, factor=factor) for way in found.ways},
        "usd_total": {way.name: float(found.total(way, {"requests": requests}, errors=False)) for way in found.ways},
    }


def _placed(each: Placed) -> dict[str, Any]:
    return {
        "name": each.point.name,
        "usd_per_request": each.point.usd,
        "accuracy": each.point.accuracy,
        "place": each.place,
        "usd_per_extra_right_answer": each.usd_per_extra,
        "beaten_by": each.beaten_by,
    }


# ---------------------------------------------------------------- what flips it


def _flip(flip: Flip, found: Calculation, hero: str | None) -> dict[str, Any]:
    return {**asdict(flip), "sentence": flip_sentence(flip, found)}


def flip_sentence(flip: Flip, found: Calculation) -> str:
    """At which value of an input another way becomes the cheapest."""
    way = ""
    key = flip.key
    if ":" in key:
        key, way = key.split(":", 1)
    side = "or more" if flip.above else "or less"
    if key == "requests":
        place = f"At {_volume(flip.threshold, up=flip.above)} requests a month {side}"
        today = f"today {count(flip.today)}"
    elif key == "horizon":
        place, today = f"Over {flip.threshold:.0f} months {side}", f"asked for: {flip.today:.0f}"
    elif key == "tasks":
        place = f"If {flip.threshold:.0f} tasks {side} share the machines of what is not fine-tuned"
        today = f"now {flip.today:.0f}"
    elif key == "change":
        place = (
            f"If the task changes every {months_in_words(flip.threshold)} or {'less' if flip.above else 'more'} often"
        )
        today = "" if not found.economics.months_between_changes else f"stated: {months_in_words(flip.today)}"
    elif key == "accuracy":
        place = f"If {way} were right in {percent(flip.threshold)} of all cases {side}"
        today = (
            f"{'measured' if found.way(way).kind in ('rules', 'prompt', 'tune') else 'stated'}: {percent(flip.today)}"
        )
    else:
        what = {"token price": "tokens", "host price": "machines", "error price": "wrong answers"}[key]
        place, today = f"If {what} cost {_times(flip.threshold)} what they do {side}", ""
    return f"{place}, {flip.answer} is the cheapest" + (f" ({today})" if today else "")


def _times(factor: float) -> str:
    return f"{factor:.3g} times" if factor >= 1 else f"{level(float(f'{factor:.3g}'))} of"


def _volume(value: float, *, up: bool) -> str:
    """Three digits, rounded to the side on which the sentence holds."""
    if value < 10:
        return f"{value:.3g}"
    step = 10 ** (math.floor(math.log10(value)) - 2)
    return count((math.ceil if up else math.floor)(value / step) * step)


def _tornado(found: Calculation, hero: str | None, among: Sequence[str]) -> dict[str, Any] | None:
    """The chosen way beside the next cheapest one."""
    others = [name for name in among if name != hero]
    rival = found.cheapest(others) if others else None
    if hero is None or rival is None or hero == DO_NOTHING:
        return None
    middle = float(found.total(found.way(hero))) - float(found.total(found.way(rival)))
    bars = found.tornado(hero, rival)[:MOST_BARS]
    return {
        "of": hero,
        "against": rival,
        "middle": middle,
        "bars": [_bar(bar) for bar in bars],
    }


def _bar(bar: Bar) -> dict[str, Any]:
    return {**asdict(bar), "what": input_words(bar.key), "turns": bar.at_low * bar.at_high < 0}


INPUTS = {
    "requests": "requests a month",
    "price fall": "how fast token prices fall",
    "preparation": "share of data preparation",
    "accuracy": "accuracy of {}",
    "start": "what starting {} takes",
    "seconds": "how long a machine works for {}",
}


def input_words(key: str) -> str:
    """
    >>> input_words("accuracy:lora@m"), input_words("requests")
    ('accuracy of lora@m', 'requests a month')
    """
    name, _, way = key.partition(":")
    return INPUTS.get(name, name).format(way)


def _sentences(values: Mapping[str, Any]) -> list[str]:
    """The verdict about money: what is cheapest, how surely, and what doing nothing or going on as today would cost."""
    cheapest = values["cheapest"]
    if cheapest is None:
        return ["No way may be chosen, so there is nothing to compare by cost."]
    rows = {row["name"]: row for row in values["ways"]}
    key = "usd_total_with_errors" if values["counts_errors"] else "usd_total"
    what = "wrong answers included" if values["counts_errors"] else "wrong answers not counted"
    months = values["horizon_months"]
    chance = values["p_cheapest"]
    among = [row for row in values["ways"] if row["may_be_chosen"]]
    text = f"Over {months} month{'s' if months != 1 else ''}, {cheapest} costs {dollars(rows[cheapest][key])} ({what})"
    if len(among) > 1 and chance is not None:
        text += (
            f": the cheapest of {len(among)} ways that may be chosen, with a probability of {percent(chance['value'])} "
            f"(±{100 * chance['error']:.1f} from the draws)"
        )
    lines = [f"{text}."]
    hero = values["hero"]
    if hero in rows and hero != cheapest:
        raced = rows[cheapest]["kind"] in RACED
        why = "" if raced else ", but its figures are only stated: nobody has measured it here"
        lines.append(f"{hero}, which is chosen, costs {dollars(rows[hero][key])}; {cheapest} costs less{why}.")
    for row in values["ways"]:
        if row["kind"] == "today" and row["name"] != cheapest:
            lines.append(f"Today's process ({row['name']}) costs {dollars(row[key])} over the same time, as stated.")
        if row["kind"] == "nothing" and values["counts_errors"]:
            cost = dollars(row[key])
            worse = row[key] < rows[cheapest][key]
            lines.append(
                f"Doing nothing costs {cost} in wrong answers: less than any way that may be chosen."
                if worse
                else f"Doing nothing costs {cost} in wrong answers."
            )
    return lines
