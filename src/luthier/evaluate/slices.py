"""Slices: where a raced candidate is worse than elsewhere, and whether it misses the target of a slice.

A candidate with 90 % of 300 answers right, and 60 % of the 40 that came by phone: the difference to the rest is named
where chance alone would hardly make it, all slices taken together; a target of 80 % for the phone is judged as the
race judges its own, on the 40.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from luthier import stats
from luthier.evaluate.race import futile, judge
from luthier.evaluate.runner import BLOCK
from luthier.evaluate.scorers import Mean, Pooled, metric
from luthier.task.slices import members
from luthier.types import Estimate, EvalRun, Outcome, Row, Slice, SliceTarget, Target, TaskSpec

# ---------------------------------------------------------------- the targets of slices


@dataclass(frozen=True)
class JudgedSlice:
    """What a candidate's rows prove about the target of one slice, at `alpha`; `seen` of its examples were scored."""

    target: SliceTarget
    outcome: Outcome
    estimate: Estimate | None
    seen: int
    alpha: float
    unscored: int = 0


def share_of_alpha(task: TaskSpec, alpha: float) -> float:
    """What the target of each slice may spend of a candidate whose own share is `alpha`.

    The slices have an error probability of their own, 1 - `[slices] confidence`. It is shared among the candidates just
    as the task's is, so that all that a test split ever spends on slices stays within it, and evenly among the targets.
    """
    return task.slices.alpha * min(alpha / task.target.alpha, 1.0) / max(len(task.slices.targets), 1)


def judged(run: EvalRun, task: TaskSpec) -> tuple[JudgedSlice, ...]:
    """Each target of a slice, judged like the task's own on the rows of the slice. Pure.

    Who belongs to a slice is known before the answer, so its rows are a race of their own in the same random order, and
    it may be looked at whenever the whole race is.
    """
    if run.not_measured is not None or not run.rows:
        return ()
    share = share_of_alpha(task, run.alpha)
    found = []
    for each in task.slices.targets:
        part = part_of(run, each.slice, share, task)
        judgement = judge(part, target_of(each, task), task.label_names) if part.rows else None
        found.append(
            JudgedSlice(
                each,
                judgement.outcome if judgement else Outcome.INCONCLUSIVE,
                judgement.estimate if judgement else None,
                len(part.rows),
                share,
                judgement.unscored if judgement else 0,
            )
        )
    return tuple(found)


def target_of(each: SliceTarget, task: TaskSpec) -> Target:
    """The task's target with the slice's bar; in accuracy, where the task's metric is one of all classes together."""
    target = replace(task.target, at_least=each.at_least)
    if isinstance(metric(task.target, task.label_names), Mean):
        return target
    return replace(target, metric="accuracy", label=None)


def undecided(run: EvalRun, task: TaskSpec) -> bool:
    """Whether racing on could still decide the target of a slice: none is missed yet, and one of those open may be."""
    found = judged(run, task)
    if any(each.outcome is Outcome.DOES_NOT_MEET for each in found):
        return False
    return any(
        not futile(part_of(run, each.target.slice, each.alpha, task), target_of(each.target, task), task.label_names)
        for each in found
        if each.outcome is Outcome.INCONCLUSIVE and each.seen < each.target.slice.population
    )


def part_of(run: EvalRun, part: Slice, alpha: float, task: TaskSpec) -> EvalRun:
    """The run's rows in a slice that the metric is about, as a run of its own that may spend `alpha`."""
    whole, found = _whole_groups(run), metric(task.target, task.label_names)
    if isinstance(found, Mean) and found.known_beforehand:
        whole = [row for row in whole if found.relevant(row.example, row.prediction)]
    (mask,) = members([part], [row.example for row in whole])
    rows = tuple(row for row, is_in in zip(whole, mask, strict=True) if is_in)
    # of groups only whole ones are left, so none of these rows waits for others
    population = len(rows) if run.grouped else max(part.population, len(rows))
    groups = max(part.groups, len({_group(row) for row in rows}))
    return replace(run, rows=rows, alpha=alpha, population=population, groups=groups)


def _group(row: Row) -> str:
    return row.example.group or row.example.id


def _whole_groups(run: EvalRun) -> Sequence[Row]:
    """The rows without a group that the race has only half seen."""
    if not run.grouped or not run.rows or len(run.rows) >= run.population:
        return run.rows
    last = _group(run.rows[-1])
    return [row for row in run.rows if _group(row) != last]


# ---------------------------------------------------------------- slices against the rest


@dataclass(frozen=True)
class Compared:
    """A slice against the rest. `scored` and `rest` count independent observations, `missed` the answers not right.

    `found` is None where one side has too few; `p` is Holm's over all slices that were compared; `worse`: it is lower,
    and that is hardly chance.
    """

    slice: Slice
    scored: int
    rest: int
    missed: int
    found: stats.Apart | None
    p: float | None = None
    worse: bool = False


def why_not(task: TaskSpec) -> str | None:
    """Why slices of this task are not compared; None where they are."""
    if isinstance(metric(task.target, task.label_names), Pooled):
        return f"{task.target.metric_name} is a figure of all texts together: a slice has none of its own"
    return None


def rows_compared(run: EvalRun, task: TaskSpec) -> Sequence[Row]:
    """The rows on which slices are compared: all, or those at which the task's own target was settled.

    The task's own stop depends on the scores alone. A race that went on for the targets of slices stopped by what it
    saw of them: then only the rows up to the task's own stop, or the whole split, are an honest sample.
    """
    rows = _whole_groups(run)
    if looks(run, task) == 1 or len(run.rows) >= run.population:
        return rows
    at = judge(run, task.target, task.label_names).decided_at
    return rows if at is None else rows[: BLOCK * math.ceil(at / BLOCK)]


def looks(run: EvalRun, task: TaskSpec) -> int:
    """At how many sizes a comparison could have been made: p-values are multiplied by it (Bonferroni)."""
    return 2 if task.slices.targets and not run.exhaustive else 1


def compared(run: EvalRun, task: TaskSpec) -> list[Compared]:
    """Each slice against the rest of the rows, the worst first: those named, then by difference. Pure.

    The test is exact given the scores (see `stats.apart`), and Holm's correction holds for all slices of the report
    together however they overlap: each slice that is named costs somebody a day, so none shall be named by chance.
    """
    rules, found = task.slices, metric(task.target, task.label_names)
    if isinstance(found, Pooled):
        return []
    rows = [
        row
        for row in rows_compared(run, task)
        if not isinstance(found, Mean) or found.relevant(row.example, row.prediction)
    ]
    known = [row for row in rows if row.score.value is not None]
    masks = members(rules.slices, [row.example for row in known])
    sizes = [_sizes(known, mask) for mask in masks]
    enough = [at for at, size in enumerate(sizes) if min(size) >= rules.least]
    differences = dict(zip(enough, _apart(known, [masks[at] for at in enough], run), strict=True))
    tests = [min(1.0, looks(run, task) * differences[at].p) for at in enough]
    adjusted = dict(zip(enough, stats.holm(tests).tolist(), strict=True))
    results = []
    for at, part in enumerate(rules.slices):
        inside = [row for row, is_in in zip(known, masks[at], strict=True) if is_in]
        gap, p = differences.get(at), adjusted.get(at)
        results.append(
            Compared(
                part,
                *sizes[at],
                sum((row.score.value or 0.0) < 1.0 for row in inside),
                gap,
                p,
                worse=gap is not None and p is not None and p <= rules.alpha and gap.difference < 0,
            )
        )
    return sorted(results, key=_worst_first)


def _worst_first(each: Compared) -> tuple[bool, bool, float]:
    return (not each.worse, each.found is None, each.found.difference if each.found else 0.0)


def _sizes(rows: Sequence[Row], mask: Sequence[bool]) -> tuple[int, int]:
    sides: tuple[set[str], set[str]] = (set(), set())
    for row, is_in in zip(rows, mask, strict=True):
        sides[0 if is_in else 1].add(_group(row))
    return len(sides[0]), len(sides[1])


def _apart(rows: Sequence[Row], masks: Sequence[Sequence[bool]], run: EvalRun) -> list[stats.Apart]:
    if not masks:
        return []
    scores = [row.score.value or 0.0 for row in rows]
    return stats.apart(scores, masks, [_group(row) for row in rows] if run.grouped else None)


def alone(run: EvalRun, part: Slice, task: TaskSpec) -> Estimate | None:
    """The slice's own figure, at 95 % by itself: it holds whenever the race stopped."""
    target = target_of(SliceTarget(part, task.target.at_least), task)
    found = part_of(run, part, 0.05, task)
    return judge(found, target, task.label_names).estimate if found.rows else None
