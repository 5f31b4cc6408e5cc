"""Shapes: the pictures of the money pages as numbers in per cent of a box."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from luthier.report.amounts import dollars
from luthier.report.plain import percent

MOST_TICKS = 6
STEPS = (1, 2, 2.5, 5, 10)
LOG_FROM = 20.0  # from this ratio on, the dearest and the cheapest share no plain scale
FAR_BELOW = 0.1


def ticks(low: float, high: float) -> list[float]:
    """Round values from at or below low to at or above high, at most eight.

    >>> ticks(0, 950), ticks(-3, 11)
    ([0.0, 200.0, 400.0, 600.0, 800.0, 1000.0], [-5.0, -2.5, 0.0, 2.5, 5.0, 7.5, 10.0, 12.5])
    """
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / MOST_TICKS))
    step = next(step * power for step in (*STEPS, 20) if span / (step * power) <= MOST_TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * at, 12) for at in range(first, last + 1)]


def totals_shape(costs: Mapping[str, Any]) -> dict[str, Any]:
    """What each way costs over the horizon, as an interval on one axis of dollars."""
    key = "usd_total_with_errors" if costs["counts_errors"] else "usd_total"
    shown = [way for way in costs["ways"] if way[key] is not None and way["total"]]
    highs = [max(way["total"]["p90"], way[key]) for way in shown]
    # today's process or doing nothing may be many times dearer and leave the rest no room: it ends in an arrow then
    usual = [high for way, high in zip(shown, highs, strict=True) if way["may_be_chosen"] and way["kind"] != "today"]
    limit = min(max(highs, default=1.0), 1.5 * max(usual or highs or [1.0])) or 1.0
    marks = ticks(0.0, limit)
    end = marks[-1] or 1.0

    def at(value: float) -> float:
        return round(100 * min(1.0, max(0.0, value / end)), 2)

    rows = [
        {
            "name": way["name"],
            "chosen": way["name"] == costs["hero"],
            "may": way["may_be_chosen"],
            "low": at(way["total"]["p10"]),
            "high": at(way["total"]["p90"]),
            "mark": at(way[key]),
            "beyond": way[key] > end,
            "says": f"{dollars(way[key])} ({dollars(way['total']['p10'])} to {dollars(way['total']['p90'])})",
        }
        for way in shown
    ]
    return {"rows": rows, "ticks": [{"x": at(mark), "says": dollars(mark)} for mark in marks]}


def frontier_shape(costs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Accuracy over dollars for 1,000 requests; None with fewer than two points. Far apart costs stand on a log scale.

    A way that may not be chosen is left out where it is far below all that may: it would only flatten the picture.
    """
    places = {each["name"]: each for each in costs["frontier"]}
    known = [way for way in costs["ways"] if way["name"] in places and way["kind"] != "nothing"]
    worst = min((way["accuracy"]["mean"] for way in known if way["may_be_chosen"]), default=0.0)
    shown = [way for way in known if way["may_be_chosen"] or way["accuracy"]["mean"] >= worst - FAR_BELOW]
    if len(shown) < 2:
        return None
    place, marks = _axis([way["usd_per_1k_requests"] for way in shown])
    bottom = math.floor(10 * min(way["accuracy"]["low"] for way in shown) + 1e-9) / 10
    span = max(1.0 - bottom, 0.1)

    def y(share: float) -> float:
        return float(round(100 * (1.0 - share) / span, 2))

    dots = [
        {
            "number": number,
            "name": way["name"],
            "x": place(way["usd_per_1k_requests"]),
            "y": y(way["accuracy"]["mean"]),
            "low": y(way["accuracy"]["low"]),
            "high": y(way["accuracy"]["high"]),
            "on": places[way["name"]]["place"] == "frontier",
            "says": f"{dollars(way['usd_per_1k_requests'])}, {percent(way['accuracy']['mean'])} right",
        }
        for number, way in enumerate(shown, start=1)
    ]
    _tagged(dots)
    line = sorted((dot for dot in dots if dot["on"]), key=lambda dot: dot["x"])
    return {
        "dots": dots,
        "line": " ".join(f"{dot['x']},{dot['y']}" for dot in line),
        "xs": marks,
        "bottom": bottom,
    }


NEAR = 4.0  # per cent of the box: tags of dots that are nearer to each other would lie on top of each other


def _tagged(dots: Sequence[dict[str, Any]]) -> None:
    """One tag for dots that nearly lie on each other: the first one shows the numbers of all."""
    for at, dot in enumerate(dots):
        near = [other for other in dots[:at] if abs(other["x"] - dot["x"]) < NEAR and abs(other["y"] - dot["y"]) < NEAR]
        dot["tag"] = "" if near else str(dot["number"])
        if near:
            first = next(other for other in near if other["tag"]) if any(o["tag"] for o in near) else near[0]
            first["tag"] += f", {dot['number']}" if first["tag"] else str(dot["number"])


def _axis(values: Sequence[float]) -> tuple[Callable[[float], Any], list[dict[str, Any]]]:
    """Where a sum stands in per cent, with labels: from nothing, or by powers of ten where sums lie far apart."""
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_FROM:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        span = max(last - first, 1)
        marks = [{"x": round(100 * at / span, 2), "says": dollars(10.0 ** (first + at))} for at in range(span + 1)]
        return lambda value: round(100 * (math.log10(value) - first) / span, 2), marks
    end = ticks(0.0, high or 1.0)[-1]
    return lambda value: round(100 * value / end, 2), [{"x": 0, "says": "$0"}, {"x": 100, "says": dollars(end)}]


def tornado_shape(tornado: Mapping[str, Any]) -> dict[str, Any]:
    """Each bar between what the difference is at an input's P10 and at its P90, with the zero line."""
    ends = [bar[end] for bar in tornado["bars"] for end in ("at_low", "at_high")]
    marks = ticks(min([0.0, tornado["middle"], *ends]), max([0.0, tornado["middle"], *ends]))
    low, span = marks[0], (marks[-1] - marks[0]) or 1.0

    def at(value: float) -> float:
        return round(100 * (value - low) / span, 2)

    return {
        "zero": at(0.0),
        "middle": at(tornado["middle"]),
        "ticks": [{"x": at(mark), "says": dollars(mark)} for mark in marks],
        "bars": [_bar(bar, at) for bar in tornado["bars"]],
    }


def _bar(bar: Mapping[str, Any], at: Any) -> dict[str, Any]:
    left, right = sorted((at(bar["at_low"]), at(bar["at_high"])))
    return {
        "what": bar["what"],
        "left": left,
        "width": round(max(right - left, 0.3), 2),
        "basis": bar["basis"],
        "turns": bar["turns"],
        "says": f"{_input(bar['low_input'], bar['key'])} to {_input(bar['high_input'], bar['key'])}: "
        f"{dollars(bar['at_low'])} to {dollars(bar['at_high'])}",
    }


def _input(value: float, key: str) -> str:
    name = key.split(":")[0]
    if name in ("accuracy", "preparation", "price fall"):
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if name == "requests" else f"{value:.2g} times"
