"""The race: evaluate a predictor on the test order until the answer is certain, and judge what was measured.

`judge` is pure: rows in, outcome out, and the only place where evidence meets a threshold. `race` asks it after each
block and stops as soon as it is certain, or as soon as it is nearly sure that the split cannot decide (statistics.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from luthier import stats
from luthier.evaluate.runner import Runner
from luthier.evaluate.scorers import Corpus, Mean, Pooled, confusion, metric
from luthier.types import Estimate, EvalRun, MoreExamples, Outcome, Row, Target

FUTILE_BELOW = 0.02  # statistics.md: stop when the rest of the split decides with a probability under 2 %
CHECK_FUTILITY_EVERY = 4  # blocks: the check costs about as much as scoring a cheap predictor's block
MORE_LIMIT = 10  # "over 10 N": how far ahead further examples are looked for, in splits


@dataclass(frozen=True)
class Judgement:
    """What a run's rows prove about the target. `decided_at` counts the rows after which it was certain."""

    outcome: Outcome
    estimate: Estimate | None
    decided_at: int | None = None
    unscored: int = 0
    approximate: bool = False
    why: str = ""


@dataclass(frozen=True)
class _Units:
    """The independent observations among the rows: one a group, in test order.

    An unscored prediction counts as wrong in `low` and as right in `high`: whatever it would have scored, evidence for
    MEETS taken from `low` and evidence against from `high` is not too strong.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    known: NDArray[np.float64]  # the mean of what could be scored; nan where nothing could
    ends: NDArray[np.int64]  # rows seen when each unit was complete
    unscored: int
    betting: bool  # scores between 0 and 1, so that no Bernoulli sequence fits: known before the first score


def judge(run: EvalRun, target: Target, labels: Sequence[str]) -> Judgement:
    """The outcome and the estimate that these rows prove, at this run's share of alpha. Pure.

    MEETS when the evidence that the true value lies above the target reaches 1/alpha at any time, DOES NOT MEET when
    the evidence that it lies below does; the first to get there decides, later rows only sharpen the interval.
    """
    if run.not_measured is not None or not run.rows:
        return Judgement(Outcome.NOT_MEASURED, None, why=run.not_measured or "no test example was scored")
    found = metric(target, labels)
    if not isinstance(found, Mean) or (target.about == "split" and not found.known_beforehand):
        return _judge_whole(run, target, labels, found)
    units = _units(run, found)
    if not len(units.low):
        return Judgement(Outcome.INCONCLUSIVE, None, why=f"no scored example is about {target.metric_name}")
    above, below = _evidence(units, run, target)
    threshold = math.log(1.0 / run.alpha)
    first_above, first_below = _first(above, threshold), _first(below, threshold)
    estimate = _estimate(units, run, target)
    if min(first_above, first_below) == len(units.low):
        return Judgement(Outcome.INCONCLUSIVE, estimate, unscored=units.unscored)
    meets = first_above < first_below
    at = int(units.ends[min(first_above, first_below)])
    return Judgement(Outcome.MEETS if meets else Outcome.DOES_NOT_MEET, estimate, at, units.unscored)


def _units(run: EvalRun, found: Mean) -> _Units:
    low, high, known, ends = [], [], [], []
    unscored = seen = 0
    for group, members in groupby(run.rows, key=lambda row: row.example.group or row.example.id):
        rows = list(members)
        seen += len(rows)
        relevant = [row for row in rows if found.relevant(row.example, row.prediction)]
        open_ended = group == _last_group(run) and seen < run.population and run.grouped
        if not relevant or open_ended:  # a group that the race has only half seen is not yet an observation
            continue
        values = [row.score.value for row in relevant]
        unscored += sum(value is None for value in values)
        scored = [value for value in values if value is not None]
        known.append(float(np.mean(scored)) if scored else math.nan)
        low.append(float(np.mean([0.0 if value is None else value for value in values])))
        high.append(float(np.mean([1.0 if value is None else value for value in values])))
        ends.append(seen)
    betting = run.grouped or not found.binary
    return _Units(np.array(low), np.array(high), np.array(known), np.array(ends, dtype=np.int64), unscored, betting)


def _last_group(run: EvalRun) -> str:
    last = run.rows[-1].example
    return last.group or last.id


def _evidence(units: _Units, run: EvalRun, target: Target) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log evidence above and below the target after each unit (for the split itself: +inf once it is certain)."""
    if target.about == "split":
        low, high = _sequence(units, run, target)
        if len(low) == run.groups:  # nothing is left to be unsure about but what could not be scored
            low[-1], high[-1] = units.low.mean(), units.high.mean()
        return np.where(low >= target.at_least, np.inf, 0.0), np.where(high < target.at_least, np.inf, 0.0)
    if not units.betting:
        above, _ = stats.target_evidence(np.cumsum(units.low).round().astype(int), target.at_least)
        _, below = stats.target_evidence(np.cumsum(units.high).round().astype(int), target.at_least)
    else:
        above, _ = stats.betting_evidence(units.low, target.at_least)
        _, below = stats.betting_evidence(units.high, target.at_least)
    return above, below


def _estimate(units: _Units, run: EvalRun, target: Target) -> Estimate | None:
    if np.isnan(units.known).all():
        return None
    mean, n = float(np.nanmean(units.known)), len(units.low)
    if target.about == "split" and n == run.groups:
        return Estimate(mean, float(units.low.mean()), float(units.high.mean()), n, "census")
    low, high = _sequence(units, run, target)
    method = "betting" if units.betting else "finite" if target.about == "split" else "ppr"
    return Estimate(mean, float(low[-1]), float(high[-1]), n, method)


def _sequence(units: _Units, run: EvalRun, target: Target) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The interval after each unit: the low end as if what is unscored were wrong, the high end as if it were right."""
    size = run.groups if target.about == "split" else None
    if units.betting:
        low, _ = stats.betting_sequence(units.low, run.alpha, population=size)
        _, high = stats.betting_sequence(units.high, run.alpha, population=size)
        return low, high
    fewest, most = (np.cumsum(scores).round().astype(int) for scores in (units.low, units.high))
    if size is not None:
        return (
            stats.finite_sequence(fewest, size, run.alpha)[0] / size,
            stats.finite_sequence(most, size, run.alpha)[1] / size,
        )
    return stats.bernoulli_sequence(fewest, run.alpha)[0], stats.bernoulli_sequence(most, run.alpha)[1]


@dataclass(frozen=True)
class Narrowing:
    """The running estimate: arrays of one length, a place for each independent observation in the test order."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def narrowing(run: EvalRun, target: Target, labels: Sequence[str]) -> Narrowing | None:
    """How the interval of `judge` narrowed, unit by unit; None for a metric of the whole split. Pure."""
    found = metric(target, labels)
    if not isinstance(found, Mean):
        return None
    units = _units(run, found)
    scored = ~np.isnan(units.known)
    means = np.cumsum(np.nan_to_num(units.known)) / np.maximum(np.cumsum(scored), 1)
    return Narrowing(means, *_sequence(units, run, target))


def _first(evidence: NDArray[np.float64], threshold: float) -> int:
    crossed = np.flatnonzero(evidence >= threshold)
    return int(crossed[0]) if len(crossed) else len(evidence)


def _judge_whole(run: EvalRun, target: Target, labels: Sequence[str], found: Mean | Corpus | Pooled) -> Judgement:
    """Metrics that need the whole split: no early stop, and a bootstrap interval, marked approximate."""
    unscored = sum(row.score.value is None for row in run.rows)
    if len(run.rows) < run.population:
        return Judgement(
            Outcome.INCONCLUSIVE, None, why=f"{target.metric_name} needs the whole split", unscored=unscored
        )
    if isinstance(found, Mean):
        values = [row.score.value for row in run.rows if found.relevant(row.example, row.prediction)]
        if not values:
            return Judgement(Outcome.INCONCLUSIVE, None, why=f"'{target.label}' was never predicted", unscored=unscored)
        ends = [float(np.mean([miss if value is None else value for value in values])) for miss in (0.0, 1.0)]
        return _census(ends[0], ends[1], len(values), target, unscored)
    if isinstance(found, Pooled):
        return _judge_pooled(run, target, found, unscored)
    true, predicted = confusion(run.rows, labels)
    # what could not be scored may have been right: the high end takes it so
    hopeful = np.where(predicted == len(labels), true, predicted)
    values_at = [float(found.statistic(_table(true, each, len(labels)))) for each in (predicted, hopeful)]
    if target.about == "split":
        return _census(values_at[0], values_at[1], len(run.rows), target, unscored)
    low, high = (
        stats.confusion_bootstrap(true, each, found.statistic, run.alpha, np.random.default_rng(0), len(labels))[end]
        for end, each in enumerate((predicted, hopeful))
    )
    estimate = Estimate(values_at[0], low, high, len(run.rows), "bootstrap")
    return replace(_settled(estimate, target, unscored), approximate=True)


def _judge_pooled(run: EvalRun, target: Target, found: Pooled, unscored: int) -> Judgement:
    shares = [found.counts(run.rows, hopeful=hopeful) for hopeful in (False, True)]
    values = [float(found.statistic(each.sum(axis=0))) for each in shares]
    if target.about == "split":
        return _census(values[0], values[1], len(run.rows), target, unscored)
    low, high = (
        stats.pooled_bootstrap(each, found.statistic, run.alpha, np.random.default_rng(0))[end]
        for end, each in enumerate(shares)
    )
    estimate = Estimate(values[0], low, high, len(run.rows), "bootstrap")
    return replace(_settled(estimate, target, unscored), approximate=True)


def _table(true: NDArray[np.int64], predicted: NDArray[np.int64], labels: int) -> NDArray[np.float64]:
    counts = np.zeros((labels, labels + 1))
    np.add.at(counts, (true, predicted), 1.0)
    return counts


def _census(low: float, high: float, n: int, target: Target, unscored: int) -> Judgement:
    """The split's own value: certain but for what could not be scored."""
    return _settled(Estimate(low, low, high, n, "census"), target, unscored)


def _settled(estimate: Estimate, target: Target, unscored: int) -> Judgement:
    if estimate.low >= target.at_least:
        return Judgement(Outcome.MEETS, estimate, estimate.n, unscored)
    if estimate.high < target.at_least:
        return Judgement(Outcome.DOES_NOT_MEET, estimate, estimate.n, unscored)
    return Judgement(Outcome.INCONCLUSIVE, estimate, None, unscored)


# ---------------------------------------------------------------- racing


Watch = Callable[[EvalRun, Judgement], None]
GoesOn = Callable[[EvalRun], bool]


def race(
    runner: Runner,
    run: EvalRun,
    target: Target,
    labels: Sequence[str],
    watch: Watch,
    *,
    exhaustive: bool,
    goes_on: GoesOn = lambda run: False,
) -> EvalRun:
    """Score blocks of the test order until `judge` is certain, the split is used up, or going on is futile.

    `run` is the empty run: candidate, alpha, population. `watch` sees the run and its judgement after each block.
    `goes_on` says of a run that MEETS whether something else is still to be seen: what comes after the first crossing
    changes no outcome.
    """
    found = metric(target, labels)
    whole = exhaustive or not isinstance(found, Mean) or (target.about == "split" and not found.known_beforehand)
    rows: list[Row] = []
    gave_up = False
    next_look, next_check = 0.0, float(CHECK_FUTILITY_EVERY)
    for block in range(runner.blocks):
        rows += runner.rows(block)
        # A look costs time in proportion to the rows, so late ones are rarer; a race may be looked at at any time.
        if block + 1 < min(next_look, runner.blocks):
            continue
        next_look = 1.02 * (block + 1)
        current = _grown(run, rows, runner.seconds)
        judgement = judge(current, target, labels) if isinstance(found, Mean) else Judgement(Outcome.INCONCLUSIVE, None)
        watch(current, judgement)
        if whole:
            continue
        if judgement.outcome is not Outcome.INCONCLUSIVE:
            if judgement.outcome is Outcome.MEETS and len(rows) < run.population and goes_on(current):
                continue
            break
        if target.about != "split" and block + 1 >= next_check:
            next_check = max(block + 1 + CHECK_FUTILITY_EVERY, 1.1 * (block + 1))
            gave_up = len(rows) < run.population and futile(current, target, labels)
            if gave_up:
                break
    return _grown(run, rows, runner.seconds, exhaustive=exhaustive, gave_up=gave_up)


def _grown(
    run: EvalRun, rows: Sequence[Row], seconds: float, *, exhaustive: bool = False, gave_up: bool = False
) -> EvalRun:
    return replace(run, rows=tuple(rows), race_seconds=seconds, exhaustive=exhaustive, gave_up=gave_up)


def _counts(run: EvalRun, target: Target, labels: Sequence[str]) -> tuple[int, int, int]:
    """Units seen, successes among them (group means rounded: a Bernoulli has the larger variance), units expected."""
    found = metric(target, labels)
    assert isinstance(found, Mean)
    units = _units(run, found)
    seen = len(units.low)
    expected = run.groups if found.known_beforehand else round(run.groups * seen / max(1, len(run.rows)))
    return seen, round(float(units.low.sum())), max(seen, expected)


def _continued(run: EvalRun, target: Target, found: Mean, further: int) -> NDArray[np.int64]:
    """When simulated continuations of a race of real scores are decided; -1: not within `further` more units."""
    units = _units(run, found)
    times = stats.continued_races(
        units.low, units.high, target.at_least, run.alpha, further, np.random.default_rng(len(units.low))
    )
    return np.maximum(*times)


def futile(run: EvalRun, target: Target, labels: Sequence[str]) -> bool:
    """Whether the rest of the split would decide this race with a probability under 2 %."""
    seen, successes, expected = _counts(run, target, labels)
    if not seen or seen >= expected:
        return False
    found = metric(target, labels)
    if isinstance(found, Mean) and not found.binary:
        return float(np.mean(_continued(run, target, found, expected - seen) > 0)) < FUTILE_BELOW
    boundary = stats.decision_boundary(target.at_least, run.alpha, expected)
    meets, fails = stats.posterior_decision(boundary, seen, successes)
    return meets + fails < FUTILE_BELOW


def more_examples(run: EvalRun, target: Target, labels: Sequence[str]) -> MoreExamples | None:
    """How many further test examples would be expected to decide an inconclusive race, if its rows are typical."""
    found = metric(target, labels)
    if not isinstance(found, Mean) or target.about == "split" or not run.rows:
        return None
    seen, successes, expected = _counts(run, target, labels)
    if not seen:
        return None
    limit = MORE_LIMIT * max(expected, 1)
    if found.binary:
        median, q90 = stats.further_examples(target.at_least, run.alpha, seen, successes, limit=limit)
    else:
        times = _continued(run, target, found, limit)
        median, q90 = (_quantile(times, share) for share in (0.5, 0.9))
    rate = len(run.rows) / seen  # rows asked for one observation: above 1 for recall, precision and groups
    return MoreExamples(*(None if count is None else math.ceil(count * rate) for count in (median, q90)))


def _quantile(times: NDArray[np.int64], share: float) -> int | None:
    """The time by which this share of all continuations is decided; None where it is more than are decided at all."""
    decided = np.sort(times[times > 0])
    place = math.ceil(share * len(times)) - 1
    return int(decided[place]) if place < len(decided) else None
