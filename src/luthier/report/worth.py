"""Worth: what every way costs, as plain values and in sentences: totals, break-even, frontier, what flips the choice.

One example: a fine-tuned model costs $503 to start and $45 a month, the prompt it replaces $204 a month: it has paid
back after 3.2 months; at 79,100 requests a month or less the prompt is the cheaper one over a year.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from luthier.economics.book import THIS_MACHINE, Book
from luthier.economics.calculation import SCALES, SOON, Calculation, Payback
from luthier.economics.cost import Host, Way, per_accurate_answer, replicas
from luthier.economics.flips import Bar, Flip
from luthier.economics.frontier import Placed
from luthier.economics.money import HOURS_A_MONTH
from luthier.economics.ways import DAYS_A_MONTH, DO_NOTHING
from luthier.report.plain import count, level, percent, plain
from luthier.types import Constraints, Outcome, Target

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


def dollars(value: float | None) -> str:
    """A sum with as many digits as it deserves.

    >>> dollars(1234.5), dollars(3.1645), dollars(0.00068), dollars(0), dollars(-12.5), dollars(None), dollars(2.5e9)
    ('$1,234', '$3.16', '$0.00068', '$0', '−$12.50', 'unknown', '$2.5 billion')
    """
    if value is None or not math.isfinite(value):
        return "unknown"
    size, sign = abs(value), "\N{MINUS SIGN}" if value < 0 else ""
    if size >= 1e9:
        return f"{sign}${size / 1e9:.3g} billion"
    if size >= 1e6:
        return f"{sign}${size / 1e6:.3g} million"
    if size >= 100:
        return f"{sign}${size:,.0f}"
    if size >= 0.1:
        return f"{sign}${size:.2f}"
    return f"{sign}${size:.2g}" if size >= 1e-4 else f"{sign}${size:.8f}".rstrip("0").rstrip(".") if size else "$0"


def months_in_words(months: float | None) -> str:
    """
    >>> months_in_words(3.1645), months_in_words(0.0), months_in_words(None), months_in_words(0.04)
    ('3.2 months', 'at once', 'never', '1 day')
    """
    if months is None:
        return "never"
    days = round(months * DAYS_A_MONTH)
    if days == 0:
        return "at once"
    if months < 0.95:
        return f"{days} day{'s' if days != 1 else ''}"
    return f"{months:.1f} months"


# ---------------------------------------------------------------- everything, as plain values


def told(
    found: Calculation, book: Book, *, among: Sequence[str], chosen: str | None = None, excluded: Mapping[str, str] = {}
) -> dict[str, Any]:
    """All that was calculated. `among`: the ways that may be chosen; `excluded`: why the others may not."""
    cheapest = found.cheapest(among)
    chances = found.chances_of_being_cheapest(among)
    hero = chosen if chosen in {way.name for way in found.ways} else cheapest
    ordered = sorted(found.ways, key=lambda way: _order(found, way, among))
    flips = [_flip(flip, found, hero) for flip in found.flips(among)] if len(among) > 1 else []
    rows = [_way(way, found, among, chances, excluded) for way in ordered]
    pays = _paybacks(found, hero, among)
    values = {
        "currency": "USD",
        "as_of": book.today.isoformat(),
        "monthly_requests": found.world.requests,
        "horizon_months": found.world.months,
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
        "prices": _prices(found, book),
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
        "usd_retraining": float(way.retraining),
        "leaves_this_machine": way.remote,
        "days_to_production": way.days,
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


# ---------------------------------------------------------------- which may be chosen


def eligible(
    found: Calculation, constraints: Constraints, target: Target | None, results: Iterable[Mapping[str, Any]]
) -> tuple[list[str], dict[str, str]]:
    """The ways that may be chosen, and why the others may not: the target, what is stated, and the ceilings.

    `results` are the candidates of a verdict, as its JSON has them.
    """
    outcomes = {each["name"]: each for each in results}
    excluded: dict[str, str] = {}
    for way in found.ways:
        raced = outcomes.get(way.name)
        if way.name == DO_NOTHING:
            excluded[way.name] = "no request is answered"
        elif raced is not None and raced["outcome"] != Outcome.MEETS:
            excluded[way.name] = f"{raced['outcome']}"
        elif raced is not None and raced["eligible"] == "no":
            excluded[way.name] = f"blocked by {', '.join(raced['blocked_by'])}"
        elif raced is None and target is not None and (reason := _below(way.accuracy, target)):
            excluded[way.name] = reason
        elif constraints.local_only and way.remote:
            excluded[way.name] = "local_only: inputs would leave this machine"
        elif broken := over_ceilings(money_of(found, way.name), constraints):
            excluded[way.name] = "; ".join(broken)
    return [way.name for way in found.ways if way.name not in excluded], excluded


def _below(accuracy: Any, target: Target) -> str | None:
    if accuracy is None or target.metric not in ("accuracy", "exact_match", "record_exact"):
        return None
    if accuracy.mean >= target.at_least:
        return None
    return f"its stated accuracy of {level(accuracy.mean)} is below the target of {level(target.at_least)}"


def money_of(found: Calculation, name: str) -> dict[str, float]:
    """The figures of one way that ceilings are about, and what it costs over the horizon."""
    way = found.way(name)
    month = found.month(way)
    return {
        "usd_per_1k_requests": 1000 * month / found.world.requests,
        "usd_per_month": month,
        "usd_to_start": float(way.numbers().once),
        "usd_total": float(found.total(way)),
    }


def over_ceilings(money: Mapping[str, float], constraints: Constraints) -> tuple[str, ...]:
    """Which ceilings these figures break, in words."""
    broken = []
    for name in ("usd_per_1k_requests", "usd_per_month", "usd_to_start"):
        most = getattr(constraints, name)
        if most is not None and name in money and money[name] > most:
            broken.append(f"{name}: ${money[name]:,.4g} against at most ${most:,.4g}")
    return tuple(broken)


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
        "sentence": payback_sentence(first),
    }


def payback_sentence(found: Payback) -> str:
    """When it pays back, with how much that is worth relying on."""
    soon, never = percent(found.soon.value), percent(found.never.value)
    error = max(found.soon.error, found.never.error)
    surely = f"within {SOON:g} months with a probability of {soon}, never with {never} (draws: ±{100 * error:.1f})"
    lead = f"{found.of} against {found.against}: "
    if found.middle.months is None:
        return f"{lead}does not pay back, since {found.middle.reason}; {surely}"
    if found.middle.months == 0:
        return f"{lead}nothing to pay back ({found.middle.reason}); {surely}"
    when = months_in_words(found.middle.months)
    return f"{lead}pays back {when if when == 'at once' else f'after {when}'}; {surely}"


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


# ---------------------------------------------------------------- what it rests on


def assumed(found: Calculation, book: Book) -> list[str]:
    """Everything that nobody measured, priced or stated, in sentences."""
    economics, lines = found.economics, []
    if economics.requests_range is None:
        low, high = found.spreads["requests"].p10, found.spreads["requests"].p90
        lines.append(
            f"the number of requests may be off by a factor of 1.5: {count(low)} to {count(high)} in 8 of 10 cases"
        )
    local = [way for way in found.ways if way.hosts]
    if any(host.name == THIS_MACHINE and host.price_basis == "assumed" for way in local for host in way.hosts):
        machine = book.this_machine(economics.machine_usd_per_hour)
        lines.append(f"this machine costs ${machine.usd_per_hour} an hour ({machine.origin.source})")
    if local:
        lines.append(
            f"the busiest second has {economics.peak:g} times the mean, machines are {economics.utilisation:.0%} busy "
            f"then, and {economics.replicas} always run{'s' if economics.replicas == 1 else ''} ([economics] peak, "
            "utilisation, replicas)"
        )
    named = {host.name: host for way in local for host in way.hosts if host.speed_basis == "assumed"}
    lines += [f"how long {name} works on a request is estimated, not measured" for name in named]
    if any(way.preparation_base for way in found.ways):
        lines.append("data preparation is 30 % (20 to 40 %) of the whole start of a fine-tune")
    if found.economics.price_fall_per_year == 0 and any(way.numbers().tokens for way in found.ways):
        lines.append("token prices stay as they are ([economics] price_fall_per_year)")
    for way in found.ways:
        # hours of this machine are measured: that its price is assumed is said above, once
        guessed = (line for line in way.lines if line.basis == "assumed" and line.what not in ("fitting", "evaluation"))
        lines += [f"{way.name}: {line.what} ({line.how})" for line in guessed if line.how]
    return list(dict.fromkeys(lines))


def warnings(found: Calculation, book: Book) -> list[str]:
    """What a reader must not overlook: prices that are old, models that are shut down within the horizon."""
    lines = []
    for way in found.ways:
        if 0 < way.retires <= found.world.months:
            lines.append(
                f"{way.name}: its model is shut down in {months_in_words(way.retires)}; what follows is priced as if a "
                "successor cost the same"
            )
    return [*lines, *(row["warning"] for row in _prices(found, book) if row["warning"])]


def not_counted(found: Calculation) -> list[str]:
    """What costs money and has no figure here, each with the key that would count it."""
    economics, lines = found.economics, []
    if not economics.engineering_hours:
        lines.append("hours until it runs (engineering_hours, usd_per_hour)")
    if not economics.upkeep_hours:
        lines.append("hours of upkeep (upkeep_hours, usd_per_hour)")
    if not economics.usd_per_label:
        lines.append("labels: taken as paid for (usd_per_label)")
    if not found.counting:
        lines.append("what a wrong answer costs, so accuracy is worth nothing here (usd_per_error)")
    if not economics.monitoring_usd:
        lines.append("watching it in production (monitoring_usd)")
    if not economics.months_between_changes:
        lines.append("training again as the task changes (months_between_changes)")
    return lines


def _prices(found: Calculation, book: Book) -> list[dict[str, Any]]:
    """Each price that was used, with its source and date, and a warning where it is old."""
    rows = []
    trained = {option.training_model or option.model for option in found.economics.options if option.training_tokens}
    for name, prices in sorted(found.prices.items()):
        rows += [
            {"name": name, "what": what, "source": origin.source, "as_of": origin.as_of, "basis": origin.basis}
            | {"warning": origin.warning(f"{name}, {what}", book.today) if origin.basis != "stated" else None}
            for what, origin in prices.origins
            if what != "training"
        ]
    for name in sorted(name for name in trained if name):
        _, origin = book.training(name)
        rows.append(
            {"name": name, "what": "training", "source": origin.source, "as_of": origin.as_of, "basis": origin.basis}
            | {"warning": origin.warning(f"{name}, training", book.today) if origin.basis != "stated" else None}
        )
    hosts = {host.name for way in found.ways for host in way.hosts if host.name != THIS_MACHINE}
    for name in sorted(hosts):
        origin = book.host(name).origin
        rows.append(
            {"name": name, "what": "an hour", "source": origin.source, "as_of": origin.as_of, "basis": origin.basis}
            | {"warning": origin.warning(name, book.today) if origin.basis != "stated" else None}
        )
    return rows


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
