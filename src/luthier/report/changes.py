"""Changes: what moved since the last run of a task, and why, from the two verdicts alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from luthier.report.amounts import dollars
from luthier.report.plain import count, interval, level

MOVED = 0.01  # costs that move by less are not told
MOST = 12


def changes(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """What differs between two verdicts (as JSON) of one task, in sentences; nothing where there is no earlier one."""
    if before is None:
        return []
    found = [*_question(before, after), *_candidates(before, after), *_costs(before.get("costs"), after.get("costs"))]
    if before["chosen"] != after["chosen"]:
        found.insert(0, f"Chosen is {after['chosen'] or 'nothing'}, and was {before['chosen'] or 'nothing'}")
    more = len(found) - MOST
    return found if more <= 0 else [*found[:MOST], f"and {more} more"]


def _question(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    old, new = before["target"], after["target"]
    if old["metric"] != new["metric"]:
        yield f"The target is about {new['metric']}, and was about {old['metric']}"
    elif old["at_least"] != new["at_least"]:
        yield f"The target is {level(new['at_least'])}, and was {level(old['at_least'])}"
    hashes = [verdict["provenance"].get("split_hash") for verdict in (before, after)]
    if hashes[0] != hashes[1]:
        yield "The test split is another one: data, split or seed changed"


def _candidates(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    known = {each["name"]: each for each in before["candidates"]}
    fitted = [verdict["provenance"].get("predictors", {}) for verdict in (before, after)]
    for each in after["candidates"]:
        name, old = each["name"], known.get(each["name"])
        if old is None:
            yield f"{name} is new: {each['outcome']}"
            continue
        if (old["outcome"], old["eligible"]) == (each["outcome"], each["eligible"]):
            continue
        same = fitted[0].get(name) is not None and fitted[0].get(name) == fitted[1].get(name)
        why = "the same predictor" if same else "fitted anew" if fitted[0].get(name) and fitted[1].get(name) else ""
        figures = [interval(one["estimate"]) for one in (old, each) if one["estimate"]]
        told = (
            f" ({' then '.join(dict.fromkeys(figures))}{'; ' if figures and why else ''}{why})"
            if figures or why
            else ""
        )
        yield f"{name} is {_standing(each)}, and was {_standing(old)}{told}"
    gone = [name for name in known if name not in {each["name"] for each in after["candidates"]}]
    for name in gone:
        yield f"{name} is no more on the ladder"


def _standing(candidate: Mapping[str, Any]) -> str:
    blocked = f", blocked by {'; '.join(candidate['blocked_by'])}" if candidate["blocked_by"] else ""
    return f"{candidate['outcome']}{blocked}"


def _costs(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Iterator[str]:
    if not old or not new:
        return
    for key, what in (("monthly_requests", "requests a month"), ("horizon_months", "months of horizon")):
        if old[key] != new[key]:
            yield f"{count(new[key])} {what}, and there were {count(old[key])}"
    if old["cheapest"] != new["cheapest"]:
        yield f"{new['cheapest'] or 'nothing'} costs least, and {old['cheapest'] or 'nothing'} did"
    known = {way["name"]: way for way in old["ways"]}
    for way in new["ways"]:
        was = known.get(way["name"])
        if was is None or not _moved(was["usd_per_month"], way["usd_per_month"]):
            continue
        reasons = "; ".join(_lines(was, way))
        yield (
            f"{way['name']} costs {dollars(way['usd_per_month'])} a month, and did {dollars(was['usd_per_month'])}"
            + (f" ({reasons})" if reasons else "")
        )


def _lines(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Which of its sums moved: what is left is the volume."""
    known = {(line["what"], line["due"]): line for line in old["lines"]}
    for line in new["lines"]:
        was = known.get((line["what"], line["due"]))
        if line["due"] != "once" and was is not None and _moved(was["usd"], line["usd"]):
            yield f"{line['what']} {line['due']}: {dollars(was['usd'])} then {dollars(line['usd'])}"


def _moved(old: float, new: float) -> bool:
    return abs(new - old) > MOVED * max(abs(old), abs(new), 1e-12)
