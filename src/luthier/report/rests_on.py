"""Rests on: what the figures about cost assume, leave out and take from price tables, and what to look at."""

from __future__ import annotations

from typing import Any

from luthier.economics.book import THIS_MACHINE, Book
from luthier.economics.calculation import Calculation
from luthier.economics.cost import Way
from luthier.report.amounts import months_in_words
from luthier.report.plain import count

MACHINE_TIME = ("fitting", "evaluation")  # the first time, and again at each change


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
    assumed_steps = {step.how for way in found.ways for step in way.steps if step.basis == "assumed"}
    lines += [f"time to production: {how}" for how in sorted(assumed_steps)]
    if economics.error_by_class and found.counting and any(_stated(way) for way in found.ways):
        lines.append(
            "wrong answers of what was only stated fall on the labels as the test examples do (error_by_class)"
        )
    if any(way.preparation_base for way in found.ways):
        lines.append("data preparation is 30 % (20 to 40 %) of the whole start of a fine-tune")
    if found.economics.price_fall_per_year == 0 and any(way.numbers().tokens for way in found.ways):
        lines.append("token prices stay as they are ([economics] price_fall_per_year)")
    for way in found.ways:
        # hours of this machine are measured: that its price is assumed is said above, once
        guessed = (line for line in way.lines if line.basis == "assumed" and not line.what.startswith(MACHINE_TIME))
        lines += [f"{way.name}: {line.what} ({line.how})" for line in guessed if line.how]
    return list(dict.fromkeys(lines))


def warnings(found: Calculation, book: Book) -> list[str]:
    """What a reader must not overlook: prices that are old, models that are shut down within the horizon."""
    lines = []
    for way in found.ways:
        if 0 < way.retires <= found.world.months:
            lines.append(
                f"{way.name}: its model is shut down {_in(way.retires)}; what follows is priced as if a successor cost "
                "the same"
            )
    return [*lines, *(row["warning"] for row in prices(found, book) if row["warning"])]


def _in(months: float) -> str:
    """
    >>> _in(0.001), _in(1.7)
    ('today', 'in 1.7 months')
    """
    words = months_in_words(months)
    return "today" if words == "at once" else f"in {words}"


def _stated(way: Way) -> bool:
    return way.kind in ("option", "today") and way.accuracy is not None


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
        by_label = " (error_by_class counts once a run has measured which labels are missed)"
        lines.append(
            "what a wrong answer costs, so accuracy is worth nothing here (usd_per_error)"
            + (by_label if economics.error_by_class else "")
        )
    if not economics.monitoring_usd:
        lines.append("watching it in production (monitoring_usd)")
    if not economics.months_between_changes:
        lines.append("fitting and training again as the task changes (months_between_changes)")
    elif not economics.change_hours:
        lines.append("hours at each change of the task (change_hours, usd_per_hour)")
    lines += [f"{way.name}: {what}" for way in found.ways for what in way.uncounted]
    return lines


def prices(found: Calculation, book: Book) -> list[dict[str, Any]]:
    """Each price that was used, with its source and date, and a warning where it is old."""
    rows = []
    bought = [option for option in found.economics.options if option.training_tokens and not option.training_host]
    trained = {option.training_model or option.model for option in bought}
    for name, prices in sorted(found.prices.items()):
        rows += [
            {"name": name, "what": what, "source": origin.source, "as_of": origin.as_of, "basis": origin.basis}
            | {
                "warning": origin.warning(f"{name}, {what}", book.today)
                if origin.basis != "stated" or origin.as_of
                else None
            }
            for what, origin in prices.origins
            if what != "training"
        ]
    for name in sorted(name for name in trained if name):
        _, origin = book.training(name)
        rows.append(
            {"name": name, "what": "training", "source": origin.source, "as_of": origin.as_of, "basis": origin.basis}
            | {
                "warning": origin.warning(f"{name}, training", book.today)
                if origin.basis != "stated" or origin.as_of
                else None
            }
        )
    hosts = {host.name for way in found.ways for host in way.hosts if host.name != THIS_MACHINE}
    hosts |= {option.training_host for option in found.economics.options if option.training_host}
    for name in sorted(hosts):
        origin = book.host(name).origin
        rows.append(
            {"name": name, "what": "an hour", "source": origin.source, "as_of": origin.as_of, "basis": origin.basis}
            | {"warning": origin.warning(name, book.today) if origin.basis != "stated" or origin.as_of else None}
        )
    return rows
