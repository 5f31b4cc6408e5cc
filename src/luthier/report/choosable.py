"""Choosable: which ways may be chosen, and why the others may not: the target, what is stated, and the ceilings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from luthier.economics.calculation import Calculation
from luthier.economics.ways import DO_NOTHING
from luthier.report.amounts import dollars
from luthier.report.plain import level
from luthier.types import Constraints, Outcome, Target


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
        elif way.gone is not None:
            excluded[way.name] = f"its model was shut down on {way.gone}"
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
            broken.append(f"{name}: {dollars(money[name])} against at most {dollars(most)}")
    return tuple(broken)
