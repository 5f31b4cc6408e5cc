"""The climb: the stages in order, from a task to a verdict. The one place that knows the order."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from luthier.climb.ahead import after_misses
from luthier.climb.auditing import audited
from luthier.climb.diagnosing import why_it_misses
from luthier.climb.fits import CannotFit, fitted
from luthier.climb.guarding import guarded, guarded_against
from luthier.climb.plan import plan
from luthier.climb.provenance import provenance
from luthier.climb.steadiness import with_consistency
from luthier.climb.waiting import with_latency
from luthier.climb.workshop import Clock, Workshop, now, terminable
from luthier.errors import LuthierError, MissingExtra, Stopped, StoreError
from luthier.evaluate import outlook, slices
from luthier.evaluate.race import Judgement, judge, race
from luthier.evaluate.runner import Runner, order_hash
from luthier.report import forecasts
from luthier.report.changes import changes
from luthier.report.plain import REPORT
from luthier.report.pricing import Pricing
from luthier.report.verdict import Verdict, decide, eligibility, may_be_chosen
from luthier.rungs import ladder
from luthier.store import RunRecord
from luthier.task import load_task
from luthier.types import Candidate, EvalRun, Event, Listener, Outcome, Rung, Task, Usage, digest, silent


@dataclass(frozen=True)
class Options:
    """How to climb. `all_rungs`: go on after the first winner; `exhaustive`: score the whole split for every rung."""

    all_rungs: bool = False
    exhaustive: bool = False


def run(
    task: Task | str | os.PathLike[str],
    *,
    options: Options | None = None,
    models: Mapping[str, Any] | None = None,
    listen: Listener = silent,
    clock: Clock = now,
) -> Verdict:
    """Climb the ladder of a task (or of the luthier.toml at a path) and return the verdict.

    `models` by role ("prompted", "student", "embedder") replaces what the task names, e.g. by a ScriptedModel.
    Everything measured is kept in `.luthier/` beside luthier.toml: interrupted, the same call resumes; repeated, it
    replays. Errors: Stopped when interrupted; PowerError when the test split cannot decide the target; LuthierError.
    """
    loaded = task if isinstance(task, Task) else load_task(Path(task))
    climb = _Climb(loaded, options or Options(), dict(models or {}), listen, clock)
    try:
        return climb.verdict()
    except KeyboardInterrupt:
        raise Stopped("interrupted", done=climb.progress()) from None
    except Stopped as stopped:  # out of budget, or an endpoint that is down: say how far it came
        raise Stopped(
            stopped.reason, done=stopped.done or climb.progress(), where=stopped.where, fix=stopped.fix
        ) from None
    except OSError as error:  # a full disk, a folder that became read-only: what was stored is kept
        raise StoreError(
            f"cannot write or read: {error}",
            where=str(climb.shop.store.folder),
            fix="make room, or make the folder writable, and run the same command again to resume",
        ) from error
    finally:
        climb.shop.close()


class _Climb:
    """One climb: the task, the store, and what has been measured so far."""

    def __init__(self, task: Task, options: Options, models: dict[str, Any], listen: Listener, clock: Clock) -> None:
        self.task, self.options, self.listen = task, options, listen
        self.shop = Workshop(task, models, listen, clock)
        self.runs: list[EvalRun] = []
        self.winner: str | None = None
        self.others: list[Task] = []
        self.forecasts: list[dict[str, Any]] = []
        self.not_forecast: list[str] = []
        self.audit: dict[str, Any] = {}
        self.diagnosis: dict[str, Any] = {}
        self.pricing = Pricing.of(task, clock().date())
        self.choosable: list[str] = []  # which meet the target and may be chosen, in ladder order

    def verdict(self) -> Verdict:
        shop, store = self.shop, self.shop.store
        with store.lock(), terminable():
            started = time.perf_counter()
            rungs = ladder(self.task.spec.rungs, self.task.spec.kind)
            candidates = plan(self.task, shop.shelf.given)
            shop.shelf.check(role for rung in rungs for role in shop.roles(rung))
            self.audit = audited(shop)
            record = self._begin(candidates)
            shop.open_scorer()
            if any(rung.guarded for rung in rungs):
                self.others = guarded_against(self.task)
            for at, (rung, candidate) in enumerate(zip(rungs, candidates, strict=True)):
                # who is left out keeps its share: the test split says whether there is a diagnosis, and shares must not
                # depend on it
                left_out = sum(run.candidate.rung in self.skips for run in self.runs)
                self.runs.append(self._measure(rung, candidate, record, remaining=len(rungs) - at + left_out))
                self._diagnose(rung, self.runs[-1])
            self.runs = with_consistency(shop, self.runs)
            if self.winner is None:
                self.forecasts, self.not_forecast = after_misses(shop, rungs, self.runs)
            verdict = self._decided(record, time.perf_counter() - started)
            before = store.last_summary(task=self.task.spec.name)
            if before is not None and before.get("report") == REPORT:
                verdict = replace(verdict, changes=tuple(changes(before["verdict"], verdict.to_dict())))
            store.finish_run(record.id, verdict.to_summary(), shop.time())
            return verdict

    def progress(self) -> str:
        names = ", ".join(run.candidate.name for run in self.runs if run.rows)
        return f"finished so far: {names}" if names else ""

    # ------------------------------------------------------------ before anything is spent

    def _begin(self, candidates: list[Candidate]) -> RunRecord:
        spec, test = self.task.spec, self.task.test
        record = self.shop.store.begin_run(
            spec.name,
            self.task.fingerprint,
            test.hash,
            item_hashes(self.task),
            {"candidates": [candidate.name for candidate in candidates], "options": asdict(self.options)},
            self.shop.time(),
        )
        if record.resumed:
            self.shop.note(f"resuming the run of {record.started_at}")
        if record.repeats:
            self.shop.note("repeating a finished run: what has not changed is replayed, and spends nothing")
            return record
        self.shop.note(outlook.reading_line(self.task))
        share = self.shop.store.alpha_available(record.id, test.hash, alpha=spec.target.alpha) / len(candidates)
        self.shop.note(outlook.power_line(self.task, share))
        for line in outlook.slice_lines(self.task, share):
            self.shop.note(line)
        return record

    # ------------------------------------------------------------ one candidate

    def _measure(self, rung: Rung, candidate: Candidate, record: RunRecord, *, remaining: int) -> EvalRun:
        empty = self._empty(rung, candidate)
        if self.winner is not None and not self.options.all_rungs:
            reason = self._no_bargain(rung, candidate)
            if reason is not None:
                return self._finished(replace(empty, not_measured=reason))
        if rung.name in self.skips:
            return self._finished(replace(empty, not_measured=self.skips[rung.name]))
        if self.pricing is not None and self.shop.by_token(rung):
            self.pricing.check(candidate.model)
        try:
            predictor, fit = fitted(self.shop, rung, candidate)
        except (MissingExtra, CannotFit) as error:
            return self._finished(replace(empty, not_measured=str(error).replace("\n  fix: ", ": ")))
        share = self.shop.store.alpha_share(
            record.id,
            self.task.test.hash,
            fit.predictor,
            self._question(),
            candidate.name,
            alpha=self.task.spec.target.alpha,
            remaining=remaining,
        )
        if share <= 0.0:  # the run's budget went to candidates that were fitted anew after an interruption
            return self._finished(replace(empty, not_measured="this run has no error probability left to spend on it"))
        run = replace(
            empty,
            fingerprint=fit.predictor,
            alpha=share,
            remote=self.shop.leaves(rung),
            by_token=self.shop.by_token(rung),
            fit=fit.description,
            fit_seconds=fit.seconds,
            licences={
                name: found for role in self.shop.roles(rung) for name, found in self.shop.shelf.licence(role).items()
            },
        )
        runner = Runner(
            predictor,
            fit.predictor,
            candidate,
            self.task.test,
            self.shop.scorer,
            self.shop.store,
            record.id,
            clock=self.shop.shelf.clock,
        )
        spec = self.task.spec
        raced = race(
            runner,
            run,
            spec.target,
            spec.label_names,
            self._watch,
            exhaustive=self.options.exhaustive,
            goes_on=lambda run: slices.undecided(run, spec),
        )
        safe = guarded(self.shop, self.others, predictor, raced)
        return self._finished(with_latency(self.shop, self.pricing, rung, safe))

    def _diagnose(self, rung: Rung, run: EvalRun) -> None:
        """Why the first rung that asks a model misses, where nothing simpler meets the target."""
        rules = self.task.diagnosing
        if rules.off or self.winner is not None or self.diagnosis or not run.rows or "prompted" not in rung.roles:
            return
        spec = self.task.spec
        if judge(run, spec.target, spec.label_names).outcome is Outcome.DOES_NOT_MEET:
            try:
                self.diagnosis = why_it_misses(self.shop, run.candidate)
            except Stopped:
                raise
            except LuthierError as error:  # the other candidates can still be measured
                self.shop.note(f"{run.candidate.name}: no diagnosis: {error.what}")

    @property
    def skips(self) -> Mapping[str, str]:
        """The rungs that cannot reach the target, by the diagnosis, each with the reason; none where all are wanted."""
        if not self.task.diagnosing.skip or self.options.all_rungs or self.options.exhaustive:
            return {}
        found: Mapping[str, str] = self.diagnosis.get("skips", {})
        return found

    def _no_bargain(self, rung: Rung, candidate: Candidate) -> str | None:
        """Why it is not worth racing another candidate after one that meets the target; None where it may be."""
        assert self.winner is not None
        if self.pricing is None:
            return f"{self.winner} already meets the target, and it is simpler"
        money = self.pricing.money(self.runs)
        best = min(self.choosable, key=lambda name: money[name]["usd_total"])
        return self.pricing.no_bargain(rung, candidate, remote=self.shop.by_token(rung), runs=self.runs, best=best)

    def _question(self) -> str:
        """What is asked of the test split, for the alpha ledger: written answers also depend on how they are scored."""
        asked = (asdict(self.task.spec.target), order_hash(self.task.test))
        if self.task.spec.kind == "classification":
            return digest(*asked)
        return digest(*asked, self.shop.scorer.fingerprint)

    def _empty(self, rung: Rung, candidate: Candidate) -> EvalRun:
        test = self.task.test
        return EvalRun(
            candidate=candidate,
            split="test",
            rows=(),
            fingerprint="",
            alpha=0.0,
            population=len(test),
            groups=outlook.units_available(self.task),
            grouped=test.groups < len(test),
            guarded=rung.guarded,
        )

    def _watch(self, run: EvalRun, judgement: Judgement) -> None:
        self.listen(Event("racing", run.candidate.name, run=run, estimate=judgement.estimate))

    def _finished(self, run: EvalRun) -> EvalRun:
        spec = self.task.spec
        judgement = judge(run, spec.target, spec.label_names)
        may = eligibility(run, spec.constraints, self._money(run), slices.judged(run, spec))
        if may_be_chosen(judgement.outcome, may.answer):
            self.choosable.append(run.candidate.name)
            self.winner = self.choosable[0]
        text = run.not_measured or ""
        self.listen(
            Event(
                "finished",
                run.candidate.name,
                text=text,
                run=run,
                outcome=judgement.outcome,
                estimate=judgement.estimate,
            )
        )
        return run

    def _money(self, run: EvalRun) -> Mapping[str, float]:
        if self.pricing is None or not run.rows:
            return {}
        return self.pricing.money([run])[run.candidate.name]

    # ------------------------------------------------------------ the verdict

    def _decided(self, record: RunRecord, seconds: float) -> Verdict:
        spec = self.task.spec
        costs = {} if self.pricing is None else self.pricing.costs(self.runs, self.choosable)
        verdict = decide(self.runs, costs, spec.target, spec.constraints, task=spec)
        seen = replace(verdict, forecasts=tuple(self.forecasts), diagnosis=self.diagnosis)
        worth = {} if self.pricing is None else self.pricing.told(seen)
        raced = [run for run in self.runs if run.rows]
        beside = [Usage(**run.consistency["usage"]) for run in raced if "usage" in run.consistency]
        beside += [Usage(**self.diagnosis["usage"])] if self.diagnosis.get("usage") else []
        usage = sum((run.usage for run in raced), sum(beside, Usage())) if raced else None
        return replace(
            verdict,
            costs=worth,
            flips=(
                *verdict.flips,
                *(flip["sentence"] for flip in worth.get("flips", ())),
                *(line for told in self.forecasts for line in forecasts.lines(told)),
                *self.not_forecast,
            ),
            forecasts=tuple(self.forecasts),
            findings=self.task.findings,
            audit=self.audit,
            diagnosis=self.diagnosis,
            spend={
                "examples_scored": sum(len(run.rows) for run in raced),
                "examples_available": len(self.task.test) * len(raced),
                "usage": asdict(usage) if usage else {},
                "seconds": round(seconds, 3),
                "test_accesses": self.shop.store.test_accesses(self.task.test.hash),
            },
            provenance=provenance(self.shop, record, self.runs, asdict(self.options)),
        )


def item_hashes(task: Task) -> list[str]:
    """What tells the test examples again: what is asked, and, should only the template change, the row of the file."""
    source = task.findings.get("test_sha256", task.findings.get("data_sha256", ""))
    asked = [digest("input", example.input) for example in task.test.order]
    return asked + [digest("row", source, example.id) for example in task.test.order]
