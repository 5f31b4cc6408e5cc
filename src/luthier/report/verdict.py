"""The verdict: which candidate is chosen and why. `decide` is pure: the same measurements give the same verdict."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from luthier.evaluate.extraction import rates
from luthier.evaluate.race import Judgement, judge, more_examples
from luthier.evaluate.slices import JudgedSlice, judged
from luthier.report import render, summary
from luthier.report.amounts import dollars
from luthier.report.choosable import over_ceilings
from luthier.report.forgetting import elsewhere, lost
from luthier.report.plain import interval, level, percent
from luthier.report.questions import listed
from luthier.report.slices import missed, not_shown, slices_of, targets_told
from luthier.report.waiting import too_slow
from luthier.task.licences import BASE_OF, allows
from luthier.types import (
    CandidateResult,
    Constraints,
    Eligible,
    Estimate,
    EvalRun,
    Outcome,
    Target,
    TaskSpec,
    VerdictFacts,
)

GUARD = "forgetting guard"
NAMED = 3  # more candidates than this are counted, not listed, in the sentence
NOT_AN_LLM = ("majority", "tfidf", "nearest", "embedding")


class Verdict(VerdictFacts):
    """All that was found out, with its renderings. `chosen` is the first candidate that MEETS and is eligible."""

    def to_dict(self) -> dict[str, Any]:
        """The verdict as schema 1 of design.md: what `--json` prints."""
        return summary.verdict_json(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def to_summary(self) -> dict[str, Any]:
        """The verdict and everything the report shows, as one plain dict: what the store keeps."""
        return summary.summarise(self)

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as one self-contained HTML file; returns its path."""
        return _write(path, render.html(self.to_summary()))

    def to_markdown(self, path: str | os.PathLike[str]) -> Path:
        return _write(path, render.markdown(self.to_summary()))


def _write(path: str | os.PathLike[str], text: str) -> Path:
    target = Path(path)
    target.write_text(text, encoding="utf-8")
    return target


def decide(
    runs: Sequence[EvalRun],
    costs: Mapping[str, Any],
    target: Target,
    constraints: Constraints,
    *,
    task: TaskSpec,
) -> Verdict:
    """The verdict on these runs, which stand in ladder order. Pure: no clock, no store, no model.

    `costs` by candidate name is what each would cost: at least `usd_total` over the horizon, `usd_per_month`,
    `usd_per_1k_requests` and `usd_to_start`; `p_cheapest` where several may be chosen. With them the cheapest of those
    that may be chosen is; without, the simplest.
    """
    results = tuple(_result(run, target, constraints, task, costs.get(run.candidate.name)) for run in runs)
    fit = [result for result in results if may_be_chosen(result.outcome, result.eligible)]
    chosen = min(fit, key=lambda result: _price(result, costs), default=None)
    return Verdict(
        task=task,
        outcome=_overall(results, chosen),
        chosen=chosen.candidate.name if chosen else None,
        sentence=_sentence(results, chosen, target) + _cheaper(fit, chosen, costs),
        candidates=results,
        runs=tuple(runs),
        reasons=_reasons(results, chosen, target),
        flips=_flips(results, chosen, target),
        costs=dict(costs),
        slices=slices_of(results, runs, chosen.candidate.name if chosen else None, task),
    )


def _price(result: CandidateResult, costs: Mapping[str, Any]) -> tuple[float, int]:
    """What a candidate costs over the horizon, then how simple it is; without costs only that."""
    cost = costs.get(result.candidate.name)
    return (float(cost["usd_total"]) if cost else 0.0, result.candidate.rank)


def _cheaper(fit: Sequence[CandidateResult], chosen: CandidateResult | None, costs: Mapping[str, Any]) -> str:
    """Why the chosen one was preferred to others that meet the target too."""
    others = [result for result in fit if result is not chosen and result.candidate.name in costs]
    if chosen is None or not others or chosen.candidate.name not in costs:
        return ""
    own = costs[chosen.candidate.name]
    next_one = min(others, key=lambda result: _price(result, costs))
    text = (
        f" It is the cheapest of {len(others) + 1} that do: {dollars(own['usd_total'])} over {own['months']} months, "
        f"against {dollars(costs[next_one.candidate.name]['usd_total'])} for {next_one.candidate.name}"
    )
    chance = own.get("p_cheapest")
    return f"{text}, with a probability of {percent(chance)}." if chance is not None else f"{text}."


def may_be_chosen(outcome: Outcome, eligible: Eligible) -> bool:
    """MEETS, and nothing known stands against it. An open question ("unknown") does not block: the verdict names it."""
    return outcome is Outcome.MEETS and eligible != "no"


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Whether a candidate may be chosen, what blocks it, and which questions about it are open."""

    answer: Eligible
    blocked_by: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()


def eligibility(
    run: EvalRun,
    constraints: Constraints,
    cost: Mapping[str, float] | None = None,
    slices: Sequence[JudgedSlice] = (),
) -> Eligibility:
    """Constraints, the targets of slices and the guard decide whether a candidate may be chosen, never its own score.

    `cost` holds what the ceilings are about; without it they block nothing. Of `slices` a missed target blocks, and one
    that is not shown is an open question.
    """
    if run.not_measured is not None:
        return Eligibility("unknown")
    if constraints.local_only and run.remote:
        return Eligibility("no", blocked_by=("local_only",))
    slow, unshown = too_slow(run.latency, constraints)
    unlicensed, let_through = _licences(run, constraints)
    blocked = (*unlicensed, *over_ceilings(cost or {}, constraints), *slow, *missed(slices))
    if blocked:
        return Eligibility("no", blocked_by=blocked)
    found = _by_guard(run.guard) if run.guarded else Eligibility("yes")
    if found.answer == "no":
        return found
    unshown = (*unshown, *not_shown(slices))
    answer: Eligible = "unknown" if unshown else found.answer
    return Eligibility(answer, unsettled=(*found.unsettled, *unshown, *let_through))


def _licences(run: EvalRun, constraints: Constraints) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which models, or bases of models, have a licence that is not on the list or that nobody knows; and which of
    those were let through, or were only stated."""
    if not constraints.licences:
        return (), ()
    blocked, said = [], []
    for name, found in run.licences.items():
        stated = constraints.licence_of.get(name.split(BASE_OF)[0])
        licence = found or stated
        if licence is None:
            line = f"licences: nobody knows that of {name}"
            if constraints.allow_unknown_licence:
                said.append(f"{line}, which allow_unknown_licence lets through")
            else:
                blocked.append(line)
        elif not allows(constraints.licences, licence):
            blocked.append(f"licences: {name} has {licence}, allowed are {', '.join(sorted(constraints.licences))}")
        elif found is None:
            said.append(f"licences: {name} has {licence} by [constraints] licence_of alone")
    return tuple(blocked), tuple(said)


def _by_guard(guard: Mapping[str, Any] | None) -> Eligibility:
    """Passed: yes. Failed or not shown: no, where the task requires it."""
    if guard is None or guard["answer"] == "not measured":
        # No guard has looked: that is neither a pass nor a block, and the verdict's sentence says so.
        return Eligibility("unknown", unsettled=(f"{GUARD}: NOT MEASURED",))
    if guard["answer"] == "passed":
        return Eligibility("yes")
    if guard["required"]:
        return Eligibility("no", blocked_by=(GUARD,))
    return Eligibility("yes", unsettled=(f"{GUARD}: {lost(guard)}, which the task allows",))


def _overall(results: Sequence[CandidateResult], chosen: CandidateResult | None) -> Outcome:
    if chosen:
        return Outcome.MEETS
    outcomes = {result.outcome for result in results}
    if Outcome.INCONCLUSIVE in outcomes:
        return Outcome.INCONCLUSIVE
    if outcomes <= {Outcome.NOT_MEASURED}:
        return Outcome.NOT_MEASURED
    return Outcome.DOES_NOT_MEET


def _result(
    run: EvalRun, target: Target, constraints: Constraints, task: TaskSpec, cost: Mapping[str, Any] | None
) -> CandidateResult:
    judgement = judge(run, target, task.label_names)
    undecided = judgement.outcome is Outcome.INCONCLUSIVE
    more = more_examples(run, target, task.label_names) if undecided else None
    slices = judged(run, task)
    asked = [each for each in slices if judgement.outcome is Outcome.MEETS or each.outcome is Outcome.DOES_NOT_MEET]
    may = eligibility(run, constraints, cost, asked)
    return CandidateResult(
        candidate=run.candidate,
        outcome=judgement.outcome,
        eligible=may.answer,
        blocked_by=may.blocked_by,
        alpha=run.alpha,
        estimate=judgement.estimate,
        population=run.population,
        reasons=_why(run, judgement, target, _off_label(run, task)),
        usage=run.usage,
        seconds=run.race_seconds,
        fit_seconds=run.fit_seconds,
        decided_at=judgement.decided_at,
        unscored=judgement.unscored,
        off_label=_off_label(run, task),
        approximate=judgement.approximate,
        more=more,
        unsettled=may.unsettled,
        consistency=run.consistency,
        rates=rates(run, task),
        guard=run.guard,
        slice_targets=targets_told(run, slices, task),
        latency=run.latency,
    )


def _off_label(run: EvalRun, task: TaskSpec) -> int:
    """How many answers are none of the labels: each is wrong, and a class of its own."""
    labels = set(task.label_names)
    answers = (row.prediction.output for row in run.rows)
    return sum(answer is not None and answer not in labels for answer in answers) if labels else 0


def _why(run: EvalRun, judgement: Judgement, target: Target, off_label: int) -> tuple[str, ...]:
    if judgement.outcome is Outcome.NOT_MEASURED:
        return (judgement.why,)
    reasons = []
    bar = level(target.at_least)
    if judgement.estimate is None:
        return (judgement.why,)
    figure = _figure(judgement.estimate)
    if judgement.outcome is Outcome.MEETS:
        reasons.append(f"{figure} is provably at or above {bar}: certain after {judgement.decided_at:,} test examples")
    elif judgement.outcome is Outcome.DOES_NOT_MEET:
        reasons.append(f"{figure} is provably below {bar}: certain after {judgement.decided_at:,} test examples")
    elif run.gave_up:
        reasons.append(
            f"{figure} is too close to {bar}: stopped after {len(run.rows):,} of {run.population:,} test examples, "
            "since the rest would decide it with a probability under 2 %"
        )
    else:
        reasons.append(f"{figure} is too close to {bar} for the {len(run.rows):,} test examples there are")
    if judgement.unscored:
        reasons.append(f"{judgement.unscored:,} answers could not be scored: they count against any certainty")
    if off_label:
        share = level(round(off_label / len(run.rows), 4))
        reasons.append(f"{off_label:,} of {len(run.rows):,} answers ({share}) are none of the labels: they are wrong")
    if judgement.approximate:
        reasons.append(f"{target.metric_name} is not a mean: the whole split was scored, the interval is approximate")
    return tuple(reasons)


def _sentence(results: Sequence[CandidateResult], chosen: CandidateResult | None, target: Target) -> str:
    bar = f"{target.metric_name} of at least {level(target.at_least)}"
    if chosen is None:
        return _no_winner(results, bar)
    assert chosen.estimate is not None
    name, rung = chosen.candidate.name, chosen.candidate.rung
    lead = f"You don't need an LLM for this: {name} meets" if rung in NOT_AN_LLM else f"{name} meets"
    text = f"{lead} {bar}, with {_figure(chosen.estimate)} on {chosen.estimate.n:,} test examples"
    simpler = [r for r in results if r.candidate.rank < chosen.candidate.rank]
    simpler = [r for r in simpler if not may_be_chosen(r.outcome, r.eligible)]  # those are compared by cost
    if simpler:
        text += f"; {_tally(simpler)}"
    text += "."
    forgotten = elsewhere(chosen.guard, guarded=any(each.startswith(GUARD) for each in chosen.unsettled))
    return " ".join(part for part in (text, _slices_in_words(chosen), forgotten) if part)


def _slices_in_words(result: CandidateResult) -> str:
    """How it stands to the targets of slices, in one sentence; nothing where there are none."""
    standing = {
        name: [each["slice"] for each in result.slice_targets if each["standing"] == name]
        for name in ("missed", "not shown")
    }
    told = [f"{_named(names)} {'is' if len(names) == 1 else 'are'} {name}" for name, names in standing.items() if names]
    if not result.slice_targets:
        return ""
    if not told:
        return "It is shown to meet the target of each slice."
    return f"Of the targets of slices, {listed(told)}."


def _no_winner(results: Sequence[CandidateResult], bar: str) -> str:
    measured = [r for r in results if r.estimate is not None]
    if not measured:
        return f"Nothing was measured: no candidate could be tried for {bar}."
    best = max(measured, key=lambda r: r.estimate.mean if r.estimate else 0.0)
    assert best.estimate is not None
    text = f"No candidate provably meets {bar}: {_tally(results)}. The best is {best.candidate.name}"
    text += f" with {_figure(best.estimate)} on {best.estimate.n:,} test examples."
    blocked = [r.candidate.name for r in results if r.outcome is Outcome.MEETS and r.eligible == "no"]
    if blocked:
        text += f" {', '.join(blocked)} would meet it but may not be used."
        text += "".join(
            f" {result.candidate.name}: {lost(result.guard)}."
            for result in results
            if result.guard and GUARD in result.blocked_by and result.outcome is Outcome.MEETS
        )
        text += "".join(
            f" {result.candidate.name}: {each['sentence']}."
            for result in results
            for each in result.slice_targets
            if each["standing"] == "missed" and result.outcome is Outcome.MEETS
        )
    return text


def _named(names: Sequence[str]) -> str:
    """
    >>> _named(["majority", "tfidf"]), _named(["a", "b", "c", "d"])
    ('majority and tfidf', '4 candidates')
    """
    return listed(names) if len(names) <= NAMED else f"{len(names)} candidates"


def _tally(results: Sequence[CandidateResult]) -> str:
    """How many simpler candidates have which outcome, in words.

    >>> _tally([])
    'no other candidate was tried'
    """
    parts = []
    for outcome in (Outcome.MEETS, Outcome.DOES_NOT_MEET, Outcome.INCONCLUSIVE, Outcome.NOT_MEASURED):
        names = [result.candidate.name for result in results if result.outcome is outcome]
        if names:
            verb = "is" if len(names) == 1 else "are"
            what = {
                Outcome.MEETS: f"{verb} blocked",
                Outcome.DOES_NOT_MEET: "does not meet it" if len(names) == 1 else "do not meet it",
                Outcome.INCONCLUSIVE: f"{verb} inconclusive",
                Outcome.NOT_MEASURED: f"{'was' if len(names) == 1 else 'were'} not measured",
            }[outcome]
            parts.append(f"{_named(names)} {what}")
    return "; ".join(parts) or "no other candidate was tried"


def _reasons(results: Sequence[CandidateResult], chosen: CandidateResult | None, target: Target) -> tuple[str, ...]:
    reasons = [f"{result.candidate.name}: {result.outcome}. {' '.join(result.reasons)}" for result in results]
    if chosen and chosen.unsettled:
        reasons.append(f"{chosen.candidate.name} is chosen with an open question: {'; '.join(chosen.unsettled)}")
    return tuple(reasons)


def _flips(results: Sequence[CandidateResult], chosen: CandidateResult | None, target: Target) -> tuple[str, ...]:
    """The targets at which a simpler candidate would have been enough: the sequences hold for all targets at once."""
    sentences: list[str] = []
    best = 0.0
    for result in results:
        if result is chosen:
            break
        if result.estimate is None or result.approximate or result.eligible == "no" or result.estimate.low <= best:
            continue
        best = result.estimate.low
        if target.at_least / 2 < best < target.at_least:  # a far lower target is another task
            bar = level(math.floor(1000 * best) / 1000)
            sentences.insert(0, f"At a target of {bar} or less, {result.candidate.name} is enough")
    del sentences[3:]
    for result in results:
        if result is chosen:
            break
        missed_ones = [each["slice"] for each in result.slice_targets if each["standing"] == "missed"]
        if result.outcome is Outcome.MEETS and len(missed_ones) == len(result.blocked_by) > 0:
            sentences.append(f"Without the target of {_named(missed_ones)}, {result.candidate.name} could be chosen")
    for result in results:
        if result.more and result.outcome is Outcome.INCONCLUSIVE and (chosen is None or result is not chosen):
            sentences.append(f"{result.candidate.name} is undecided: {more_in_words(result)}")
    return tuple(sentences)


def more_in_words(result: CandidateResult) -> str:
    """How many further test examples would decide an inconclusive candidate, as a sentence part."""
    assert result.more is not None
    limit = f"more than {10 * result.population:,}"
    median = f"about {result.more.median:,}" if result.more.median is not None else limit
    q90 = f"{result.more.q90:,}" if result.more.q90 is not None else limit
    return f"{median} further test examples would be expected to decide it (with 90 % probability: {q90})"


def _figure(estimate: Estimate) -> str:
    return interval(asdict(estimate))
