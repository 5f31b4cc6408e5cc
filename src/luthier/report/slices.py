"""Slices: where a candidate is worse than elsewhere, and how it stands to the targets of slices, as plain values.

One example: "class NUM: 61.0 % [44.5, 75.8] of 41, 25.3 points below the rest [−41.2, −9.8]", named because among 14
slices chance alone makes one so much lower in fewer than 5 of 100 reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from luthier.audit.personal import masked
from luthier.evaluate.race import more_examples
from luthier.evaluate.slices import Compared, JudgedSlice, alone, compared, part_of, rows_compared, target_of, why_not
from luthier.report.plain import count, interval, level, percent, plain, shorten
from luthier.task.slices import name_of
from luthier.types import CandidateResult, EvalRun, Outcome, Slice, TaskSpec

LONGEST_NAME = 80
NAMED = 3
STANDINGS: Mapping[Outcome, str] = {
    Outcome.MEETS: "shown to meet",
    Outcome.DOES_NOT_MEET: "missed",
    Outcome.INCONCLUSIVE: "not shown",
}


def shown_name(part: Slice) -> str:
    """The slice's name for a report: short, and without what may be personal."""
    return shorten(masked(name_of(part)), LONGEST_NAME)


# ---------------------------------------------------------------- targets


def targets_told(run: EvalRun, found: Sequence[JudgedSlice], task: TaskSpec) -> tuple[dict[str, Any], ...]:
    """How a candidate stands to each target of a slice, and how many more examples of it would decide."""
    return tuple(_target_told(run, each, task) for each in found)


def _target_told(run: EvalRun, each: JudgedSlice, task: TaskSpec) -> dict[str, Any]:
    more = None
    if each.outcome is Outcome.INCONCLUSIVE and each.seen:
        part = part_of(run, each.target.slice, each.alpha, task)
        more = more_examples(part, target_of(each.target, task), task.label_names)
    return plain(  # type: ignore[no-any-return]
        {
            "slice": shown_name(each.target.slice),
            "at_least": each.target.at_least,
            "standing": STANDINGS[each.outcome],
            "estimate": each.estimate,
            "scored": each.seen,
            "available": each.target.slice.population,
            "alpha": each.alpha,
            "more_examples": more,
            "sentence": _standing(each),
        }
    )


def missed(found: Sequence[JudgedSlice]) -> tuple[str, ...]:
    """What blocks a candidate: the slices whose target it is proven to miss."""
    return tuple(_standing(each) for each in found if each.outcome is Outcome.DOES_NOT_MEET)


def not_shown(found: Sequence[JudgedSlice]) -> tuple[str, ...]:
    """What is open about a candidate: the slices whose target is proven neither met nor missed."""
    return tuple(_standing(each) for each in found if each.outcome is Outcome.INCONCLUSIVE)


def _standing(each: JudgedSlice) -> str:
    name, bar = shown_name(each.target.slice), level(each.target.at_least)
    if each.estimate is None:
        return f"slice target, {name}: NOT SHOWN to be at or above {bar}: none of its test examples was scored"
    figure = f"{interval(asdict(each.estimate))} on {count(each.seen)} test examples"
    if each.outcome is Outcome.MEETS:
        return f"slice target, {name}: {figure} is provably at or above {bar}"
    if each.outcome is Outcome.DOES_NOT_MEET:
        return f"slice target, {name}: {figure} is provably below {bar}"
    there = count(each.target.slice.population)
    return f"slice target, {name}: NOT SHOWN to be at or above {bar}: {figure} (of {there})"


# ---------------------------------------------------------------- against the rest


def slices_of(
    results: Sequence[CandidateResult], runs: Sequence[EvalRun], chosen: str | None, task: TaskSpec
) -> dict[str, Any]:
    """The chosen candidate's slices against the rest, or the best one's where none is chosen; empty without a race."""
    measured = [each for each in results if each.estimate is not None]
    if not task.slices.slices or not measured:
        return {}
    best = max(measured, key=lambda each: each.estimate.mean if each.estimate else 0.0).candidate.name
    run = next(run for run in runs if run.candidate.name == (chosen or best))
    rules, rows = task.slices, rows_compared(run, task)
    found = compared(run, task)
    told = {
        "candidate": run.candidate.name,
        "chosen": chosen is not None,
        "scored": len(rows),
        "available": run.population,
        "stopped_early": len(rows) < run.population,
        "least": rules.least,
        "confidence": rules.confidence,
        "why_not": why_not(task),
        "compared": [_told(each, run, task) for each in found if each.found is not None],
        "too_small": [
            {"name": shown_name(each.slice), "scored": each.scored, "available": each.slice.population}
            for each in found
            if each.found is None
        ],
    }
    return plain({**told, "sentences": _sentences(told)})  # type: ignore[no-any-return]


def _told(each: Compared, run: EvalRun, task: TaskSpec) -> dict[str, Any]:
    assert each.found is not None
    part, gap = each.slice, each.found
    return {
        "name": shown_name(part),
        "by": part.by,
        "column": part.column,
        "scored": each.scored,
        "rest": each.rest,
        "missed": each.missed,
        "available": part.population,
        "estimate": alone(run, part, task),
        "mean": gap.inside,
        "rest_mean": gap.outside,
        "difference": {"mean": gap.difference, "low": gap.low, "high": gap.high},
        "p": each.p,
        "exact": gap.exact,
        "worse": each.worse,
    }


def _sentences(told: Mapping[str, Any]) -> list[str]:
    if told["why_not"]:
        return [f"Slices were not compared: {told['why_not']}."]
    name, slices = told["candidate"], told["compared"]
    small = len(told["too_small"])
    if not slices:
        return [
            f"No slice of {name} could be compared: none has {told['least']} of the {count(told['scored'])} scored "
            f"test examples, with as many outside it. {_more(told)}"
        ]
    worse = [each for each in slices if each["worse"]]
    if not worse:
        lead = (
            f"No slice of {name} is provably worse than the rest: {count(len(slices))} were compared on "
            f"{count(told['scored'])} test examples."
        )
    else:
        named = "; ".join(_worse(each) for each in worse[:NAMED])
        more = f"; and {len(worse) - NAMED} more" if len(worse) > NAMED else ""
        which = "One slice is" if len(worse) == 1 else f"{len(worse)} of {len(slices)} slices are"
        lead = f"{which} provably worse than the rest of what {name} was asked: {named}{more}."
    left = f" {'One slice has' if small == 1 else f'{count(small)} slices have'} too few scored examples to tell."
    left = left if small else ""
    return [lead + left + (f" {_more(told)}" if small and told["stopped_early"] else "")]


def _worse(each: Mapping[str, Any]) -> str:
    gap = each["difference"]
    ends = f"{percent(-gap['high'], unit=False)} to {percent(-gap['low'], unit=False)}"
    return (
        f"{each['name']}, {percent(each['mean'])} against {percent(each['rest_mean'])} elsewhere ({ends} points lower)"
    )


def _more(told: Mapping[str, Any]) -> str:
    if not told["stopped_early"]:
        return "More test examples would tell more."
    return (
        f"They are compared on the {count(told['scored'])} of {count(told['available'])} test examples at which the "
        "target was settled: luthier run --exhaustive scores all."
    )
