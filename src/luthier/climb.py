"""The climb: the stages in order, from a task to a verdict. The one place that knows the order."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from luthier.audit import VERSION as AUDIT_VERSION
from luthier.audit import audit_task
from luthier.errors import DataError, LuthierError, MissingExtra, ModelError, SpecError, Stopped, StoreError
from luthier.evaluate import outlook
from luthier.evaluate.judge import Judge, control
from luthier.evaluate.race import Judgement, judge, race
from luthier.evaluate.runner import Runner, order_hash
from luthier.evaluate.scorers import FingerprintedScorer, scorer_of, signatures
from luthier.models.shelf import Shelf
from luthier.report import forecasts
from luthier.report.changes import changes
from luthier.report.plain import REPORT
from luthier.report.pricing import Pricing
from luthier.report.verdict import Verdict, decide, eligibility, may_be_chosen
from luthier.rungs import ladder, load_predictor
from luthier.rungs.consistency import VERSION as CONSISTENCY_VERSION
from luthier.rungs.consistency import Rewordable, consistency
from luthier.rungs.repair import Scalable, anew, repaired, search_content
from luthier.store import FitRecord, RunRecord, Store
from luthier.task import load_task
from luthier.train.forecast import Fitting, forecast, seconds_left
from luthier.train.general import general
from luthier.train.pairs import read_pairs
from luthier.types import (
    Candidate,
    EvalRun,
    Event,
    FitContext,
    Listener,
    Message,
    Outcome,
    Predictor,
    Rung,
    Task,
    TaskSpec,
    Training,
    Usage,
    digest,
    silent,
)

STORE_FOLDER = ".luthier"
AUDIT_EVIDENCE = 5  # of each finding, in the verdict; luthier audit tells the rest
GUARD_TASK_PROMPTS = 16  # of the task itself: how far its answers moved is reported, not judged

Clock = Callable[[], datetime]


def now() -> datetime:
    return datetime.now(UTC)


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
            where=str(climb.store.folder),
            fix="make room, or make the folder writable, and run the same command again to resume",
        ) from error
    finally:
        climb.close()


def look_ahead(
    task: Task | str | os.PathLike[str],
    rung: str | None = None,
    *,
    models: Mapping[str, Any] | None = None,
    listen: Listener = silent,
) -> dict[str, Any]:
    """The forecast of one rung as plain values (`report.forecasts.told`): its score with two and four times the data.

    Without a name: the best candidate of the last run that learns from examples, else the last such rung of the ladder.
    What was measured is kept: interrupted, the same call goes on. Errors: SpecError for a rung that is not on the
    ladder, DataError for too few examples, Stopped, LuthierError.
    """
    loaded = task if isinstance(task, Task) else load_task(Path(task))
    climb = _Climb(loaded, Options(), dict(models or {}), listen, now)
    try:
        return climb.forecast_asked(rung)
    except KeyboardInterrupt:
        raise Stopped("interrupted", done="the fits that were measured are kept") from None
    finally:
        climb.close()


def plan(task: Task, models: Mapping[str, Any] | None = None) -> list[Candidate]:
    """The candidates of a task in ladder order: each rung with the model of its first role."""
    given = models or {}

    def name(role: str) -> str:
        return str(given[role].name) if role in given else task.spec.models[role]

    return [
        Candidate(rung.name, name(rung.roles[0]) if rung.roles else None, rung.rank)
        for rung in ladder(task.spec.rungs, task.spec.kind)
    ]


class _Climb:
    """One climb: the task, the store, and what has been measured so far."""

    def __init__(self, task: Task, options: Options, models: dict[str, Any], listen: Listener, clock: Clock) -> None:
        self.task, self.options, self.listen, self.clock = task, options, listen, clock
        self.store = Store(task.folder / STORE_FOLDER)
        self.shelf = Shelf(task, models, self.store.folder, listen)
        self.runs: list[EvalRun] = []
        self.fitted: dict[str, tuple[Predictor, FitRecord]] = {}
        self.winner: str | None = None
        self.scorer: FingerprintedScorer | None = None
        self.judged: dict[str, Any] = {}
        self.others: list[Task] = []
        self.forecasts: list[dict[str, Any]] = []
        self.not_forecast: list[str] = []
        self.audit: dict[str, Any] = {}
        self.pricing = Pricing.of(task, clock().date())
        self.choosable: list[str] = []  # which meet the target and may be chosen, in ladder order

    def verdict(self) -> Verdict:
        with self.store.lock(), _terminable():
            started = time.perf_counter()
            rungs = ladder(self.task.spec.rungs, self.task.spec.kind)
            candidates = plan(self.task, self.shelf.given)
            self._audit()
            record = self._begin(candidates)
            self.scorer = self._scorer()
            if any(rung.guarded for rung in rungs):
                self.others = guarded_against(self.task)
            for at, (rung, candidate) in enumerate(zip(rungs, candidates, strict=True)):
                self.runs.append(self._measure(rung, candidate, record, remaining=len(rungs) - at))
            self._measure_consistency()
            self._look_ahead(rungs)
            verdict = self._decided(record, time.perf_counter() - started)
            before = self.store.last_summary(task=self.task.spec.name)
            if before is not None and before.get("report") == REPORT:
                verdict = replace(verdict, changes=tuple(changes(before["verdict"], verdict.to_dict())))
            self.store.finish_run(record.id, verdict.to_summary(), self._now())
            return verdict

    def close(self) -> None:
        self.shelf.close()
        self.store.close()

    def progress(self) -> str:
        names = ", ".join(run.candidate.name for run in self.runs if run.rows)
        return f"finished so far: {names}" if names else ""

    def _now(self) -> str:
        return self.clock().isoformat(timespec="seconds")

    # ------------------------------------------------------------ before anything is spent

    def _audit(self) -> None:
        """What the data shows, before anything is spent on it; nothing of it changes what a rung learns."""
        hashes = [self.task.findings.get(name) for name in ("data_sha256", "test_sha256")]
        key = digest("audit", AUDIT_VERSION, self.task.fingerprint, hashes)
        known = self.store.measurement(key)
        if known is None:
            self.listen(Event("working", "audit", "looking at the data"))
            try:
                known = audit_task(self.task).plain(AUDIT_EVIDENCE)
            except LuthierError as error:  # the files changed after they were read
                self._note(f"the data was not audited: {error.what}")
                return
            self.store.keep_measurement(key, known)
        self.audit = known
        for finding in known["findings"]:
            if finding["severity"] != "note":
                self._note(f"audit: {finding['what']}")

    def _begin(self, candidates: list[Candidate]) -> RunRecord:
        spec, test = self.task.spec, self.task.test
        record = self.store.begin_run(
            spec.name,
            self.task.fingerprint,
            test.hash,
            item_hashes(self.task),
            {"candidates": [candidate.name for candidate in candidates], "options": asdict(self.options)},
            self._now(),
        )
        if record.resumed:
            self._note(f"resuming the run of {record.started_at}")
        if record.repeats:
            self._note("repeating a finished run: what has not changed is replayed, and spends nothing")
            return record
        self._note(outlook.reading_line(self.task))
        share = self.store.alpha_available(record.id, test.hash, alpha=spec.target.alpha) / len(candidates)
        self._note(outlook.power_line(self.task, share))
        return record

    def _note(self, text: str) -> None:
        self.listen(Event("note", text=text))

    def _scorer(self) -> FingerprintedScorer:
        """The scorer of the task's metric; a judge has to tell right answers from constant ones first, on dev."""
        spec = self.task.spec
        scorer = scorer_of(spec, self.shelf.model("judge") if spec.target.metric == "judge" else None)
        assert scorer.fingerprint  # a missing extra shows here, before anything is spent
        if isinstance(scorer, Judge):
            self._note(f"asking the judge {scorer.model.name} about right and constant answers, on dev")
            found = control(scorer, self.task.train, self.task.dev, seed=spec.seed)
            self.judged = {"control": found.plain()}
            if found.gap.low <= 0:
                self._note(
                    f"the judge prefers right answers to constant ones by {found.gap.mean:.2f} on {found.gap.n} dev "
                    "examples, which may be chance: read its scores with care"
                )
        return scorer

    # ------------------------------------------------------------ one candidate

    def _measure(self, rung: Rung, candidate: Candidate, record: RunRecord, *, remaining: int) -> EvalRun:
        empty = self._empty(rung, candidate)
        if self.winner is not None and not self.options.all_rungs:
            reason = self._no_bargain(rung, candidate)
            if reason is not None:
                return self._finished(replace(empty, not_measured=reason))
        if self.pricing is not None and self._by_token(rung):
            self.pricing.check(candidate.model)
        try:
            predictor, fit = self._fit(rung, candidate)
        except (MissingExtra, _CannotFit) as error:
            return self._finished(replace(empty, not_measured=str(error).replace("\n  fix: ", ": ")))
        share = self.store.alpha_share(
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
            remote=self._leaves(rung),
            by_token=self._by_token(rung),
            fit=fit.description,
            fit_seconds=fit.seconds,
            licences={name: found for role in self._roles(rung) for name, found in self.shelf.licence(role).items()},
        )
        assert self.scorer is not None
        runner = Runner(
            predictor,
            fit.predictor,
            candidate,
            self.task.test,
            self.scorer,
            self.store,
            record.id,
            clock=self.shelf.clock,
        )
        spec = self.task.spec
        raced = race(runner, run, spec.target, spec.label_names, self._watch, exhaustive=self.options.exhaustive)
        return self._finished(self._guarded(predictor, raced))

    def _no_bargain(self, rung: Rung, candidate: Candidate) -> str | None:
        """Why it is not worth racing another candidate after one that meets the target; None where it may be."""
        assert self.winner is not None
        if self.pricing is None:
            return f"{self.winner} already meets the target, and it is simpler"
        money = self.pricing.money(self.runs)
        best = min(self.choosable, key=lambda name: money[name]["usd_total"])
        return self.pricing.no_bargain(rung, candidate, remote=self._by_token(rung), runs=self.runs, best=best)

    def _roles(self, rung: Rung) -> tuple[str, ...]:
        """The models that this rung uses here: those it needs, and those it can use and that the task names."""
        return (*rung.roles, *(role for role in getattr(rung, "optional_roles", ()) if self.shelf.has(role)))

    def _leaves(self, rung: Rung) -> bool:
        """Whether examples leave this machine for this rung: to be answered, to learn from, or to be judged."""
        judge = ("judge",) if self.task.spec.target.metric == "judge" else ()
        return any(getattr(self.shelf.model(role), "remote", False) for role in (*self._roles(rung), *judge))

    def _by_token(self, rung: Rung) -> bool:
        """Whether the model that answers stands on another machine; a teacher or a judge is not asked in production."""
        return bool(rung.roles) and bool(getattr(self.shelf.model(rung.roles[0]), "remote", False))

    def _question(self) -> str:
        """What is asked of the test split, for the alpha ledger: written answers also depend on how they are scored."""
        asked = (asdict(self.task.spec.target), order_hash(self.task.test))
        if self.task.spec.kind == "classification" or self.scorer is None:
            return digest(*asked)
        return digest(*asked, self.scorer.fingerprint)

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
        if may_be_chosen(judgement.outcome, eligibility(run, spec.constraints, self._money(run)).answer):
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

    # ------------------------------------------------------------ fitting, once for each content

    def _contexts(self, roles: Iterable[str]) -> list[tuple[str, int]]:
        """What luthier.toml says a remote model's context holds: how many examples a prompt shows depends on it."""
        remote, named = self.task.remote, self.task.spec.models
        sizes = [(role, remote[named[role]].context_tokens) for role in roles if named.get(role) in remote]
        return [(role, size) for role, size in sizes if size is not None]

    def _fit(self, rung: Rung, candidate: Candidate) -> tuple[Predictor, FitRecord]:
        """The fitted predictor: from the store where nothing changed, else fitted, saved and loaded again.

        Loading what was just saved makes sure that what is raced is what a release or a resumed run would load.
        """
        task = self.task
        models = {role: self.shelf.model(role) for role in self._roles(rung)}
        models_used = [(role, model.fingerprint) for role, model in models.items()]
        below = {name: self.fitted[name] for name in getattr(rung, "builds_on", ()) if name in self.fitted}
        key = digest(
            (rung.name, rung.version),
            models_used,
            (task.spec.kind, task.spec.instruction, task.spec.labels, task.spec.seed, task.spec.search_tokens),
            [(example.input, example.references, example.weight) for example in (*task.train, *task.dev)],
            len(task.train),
            {name: fit.predictor for name, (_, fit) in below.items()},
            *_written_content(task.spec),
            *_training_content(task.spec, rung),
            *(getattr(task.extra, name) for name in getattr(rung, "learns_from", ())),
            *_repair_content(task.spec, rung),
            *self._contexts(models),
        )
        folder = self.store.predictor_folder(key)
        record = self.store.fit(key)
        if record is not None and record.predictor != predictor_fingerprint(folder, models_used):
            self._note(f"{candidate.name}: its saved predictor was changed or damaged, so it is fitted again")
            record = None
        if record is None:
            workdir = self.store.folder / "work" / key
            workdir.mkdir(parents=True, exist_ok=True)
            context = FitContext(
                models,
                task.spec.seed,
                workdir,
                candidate.name,
                self.listen,
                {name: predictor for name, (predictor, _) in below.items()},
                task.extra,
                {role: terms for role in models if (terms := self._terms(role))},
            )
            context.working("fitting")
            started = self.shelf.clock()
            try:
                predictor = rung.fit(task.spec, task.train, task.dev, context)
                predictor, strength = self._repaired(rung, predictor, context)
            except (DataError, ModelError) as error:
                raise _CannotFit(str(error)) from error
            seconds = self.shelf.clock() - started
            _save(predictor, folder)
            record = FitRecord(
                predictor_fingerprint(folder, models_used),
                {**predictor.describe(), **strength},
                seconds,
            )
            self.store.keep_fit(key, candidate.name, record)
            shutil.rmtree(workdir, ignore_errors=True)
        self.fitted[rung.name] = (load_predictor(folder, models), record)
        return self.fitted[rung.name]

    # ------------------------------------------------------------ what was forgotten

    def _repaired(self, rung: Rung, predictor: Predictor, context: FitContext) -> tuple[Predictor, Mapping[str, Any]]:
        """What to race: a fine-tune that forgets too much at its full strength has less, or is trained with replay."""
        if not isinstance(predictor, Scalable):
            return predictor, {}
        task = self.task

        def fitting(other: Rung) -> Callable[[FitContext], Predictor]:
            return lambda given: other.fit(task.spec, task.train, task.dev, given)

        again = {way: fitting(other) for way, other in anew(rung, task.spec.training).items()}
        return repaired(predictor, task.spec, task.dev, context, again)

    def _guarded(self, predictor: Predictor, run: EvalRun) -> EvalRun:
        """The run with the guard's certificate, once for each predictor; without one where it would decide nothing."""
        spec = self.task.spec
        outcome = judge(run, spec.target, spec.label_names).outcome
        if not run.guarded or not may_be_chosen(outcome, eligibility(run, spec.constraints).answer):
            return run
        from luthier.rungs.own_tasks import OwnTask
        from luthier.train.guard import Guard, Tuned, certify

        if not isinstance(predictor, Tuned):
            return run
        guard = Guard.of(spec.guard, *(OwnTask(other, spec.guard) for other in self.others))
        key = digest("guard", run.fingerprint, guard.fingerprint)
        known = self.store.measurement(key)
        if known is None:
            inputs = [example.input for example in self.task.dev[:GUARD_TASK_PROMPTS]]
            asked: list[tuple[Message, ...]] = getattr(predictor, "prompts", lambda _inputs: [])(inputs)

            def working(text: str, done: int, total: int) -> None:
                self.listen(
                    Event("working", run.candidate.name, f"looking for what was forgotten: {text}", done, total)
                )

            known = certify(guard, predictor, task_prompts=asked, kept=self.store, working=working).describe()
            self.store.keep_measurement(key, known)
        return replace(run, guard=known)

    def _terms(self, role: str) -> str | None:
        endpoint = self.task.remote.get(self.task.spec.models.get(role, ""))
        return None if endpoint is None or role in self.shelf.given else endpoint.terms

    # ------------------------------------------------------------ how steady the answers are

    def _measure_consistency(self) -> None:
        """For the best prompt that was raced, and for each tuned model: how often it says the same again, on dev."""
        inputs = [example.input for example in self.task.dev[: self.task.spec.consistency]]
        raced = [(at, run) for at, run in enumerate(self.runs) if run.rows and run.candidate.rung in self.fitted]
        steady = {at: found for at, run in raced if isinstance(found := self.fitted[run.candidate.rung][0], Rewordable)}
        tuned = [at for at in steady if self.runs[at].guarded]
        prompts = [at for at in steady if not self.runs[at].guarded]
        best = [max(prompts, key=lambda at: _mean_score(self.runs[at]))] if prompts else []
        for at in (*best, *tuned) if inputs else ():
            name = self.runs[at].candidate.name
            key = digest("consistency", CONSISTENCY_VERSION, self.runs[at].fingerprint, inputs)

            def working(done: int, total: int, name: str = name) -> None:
                self.listen(Event("working", name, "asking again in other words", done, total))

            known = self.store.measurement(key)
            if known is None and (measured := consistency(steady[at], inputs, working)) is not None:
                known = measured.describe()
                if not measured.failed:  # a failure may pass: then it is asked again
                    self.store.keep_measurement(key, known)
            self.runs[at] = replace(self.runs[at], consistency=known or {})

    # ------------------------------------------------------------ how far more labels would go

    def forecast_asked(self, name: str | None) -> dict[str, Any]:
        with self.store.lock(), _terminable():
            rungs = ladder(self.task.spec.rungs, self.task.spec.kind)
            known = {
                rung.name: candidate for rung, candidate in zip(rungs, plan(self.task, self.shelf.given), strict=True)
            }
            last = self.store.last_summary(task_fingerprint=self.task.fingerprint)
            measured = forecasts.measured_in(last)
            chosen = name or forecasts.most_worth([rung for rung in rungs if forecasts.learns(rung)] or rungs, measured)
            if chosen not in known:
                raise SpecError(
                    f"'{chosen}' is not on the ladder of this task",
                    where="luthier forecast --rung",
                    fix=f"use one of: {', '.join(known)}",
                )
            rung = next(rung for rung in rungs if rung.name == chosen)
            self.scorer = self._scorer()
            try:
                predictor, fit = self._fit(rung, known[chosen])
            except _CannotFit as error:
                raise DataError(str(error), where=known[chosen].name) from error
            found = forecast(self._fitting(rung, known[chosen], predictor, fit.seconds))
            return forecasts.told(found, self.task.spec.target, forecasts.best_other(measured, known[chosen].name))

    def _look_ahead(self, rungs: list[Rung]) -> None:
        """Where no candidate meets the target: would more labels bring the best learned rung, or fine-tune, there?"""
        left = self.task.forecast_seconds
        if self.winner is not None or not left:
            return
        judged = [(run, judge(run, self.task.spec.target, self.task.spec.label_names)) for run in self.runs]
        measured = {run.candidate.name: found.estimate for run, found in judged if found.estimate is not None}
        missed = [run for run, found in judged if run.rows and found.outcome is not Outcome.MEETS]
        of = {rung.name: rung for rung in rungs}
        for run in forecasts.worth_a_look(missed, of, measured):
            rung, name = of[run.candidate.rung], run.candidate.name
            fitting = self._fitting(rung, run.candidate, self.fitted[rung.name][0], run.fit_seconds)
            try:
                needs = seconds_left(fitting)
                if needs > left:
                    self.not_forecast.append(forecasts.skipped(name, needs, left))
                    continue
                left -= needs
                found = forecast(fitting)
            except (DataError, ModelError) as error:
                self._note(f"{name}: no forecast of more examples: {error.what}")
                continue
            self.forecasts.append(forecasts.told(found, self.task.spec.target, forecasts.best_other(measured, name)))

    def _fitting(self, rung: Rung, candidate: Candidate, whole: Predictor, seconds: float) -> Fitting:
        assert self.scorer is not None
        return Fitting(
            rung=rung,
            candidate=candidate.name,
            task=self.task.spec,
            train=self.task.train,
            dev=self.task.dev,
            models={role: self.shelf.model(role) for role in self._roles(rung)},
            scorer=self.scorer,
            store=self.store,
            listen=self.listen,
            clock=self.shelf.clock,
            fitted={name: self.fitted[name][0] for name in getattr(rung, "builds_on", ()) if name in self.fitted},
            whole=whole,
            whole_seconds=seconds,
        )

    # ------------------------------------------------------------ the verdict

    def _decided(self, record: RunRecord, seconds: float) -> Verdict:
        spec = self.task.spec
        costs = {} if self.pricing is None else self.pricing.costs(self.runs, self.choosable)
        verdict = decide(self.runs, costs, spec.target, spec.constraints, task=spec)
        seen = replace(verdict, forecasts=tuple(self.forecasts))
        worth = {} if self.pricing is None else self.pricing.told(seen)
        raced = [run for run in self.runs if run.rows]
        beside = [Usage(**run.consistency["usage"]) for run in raced if "usage" in run.consistency]
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
            spend={
                "examples_scored": sum(len(run.rows) for run in raced),
                "examples_available": len(self.task.test) * len(raced),
                "usage": asdict(usage) if usage else {},
                "seconds": round(seconds, 3),
                "test_accesses": self.store.test_accesses(self.task.test.hash),
            },
            provenance=self._provenance(record),
        )

    def _provenance(self, record: RunRecord) -> dict[str, Any]:
        return {
            "luthier": metadata.version("luthier"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": _versions(),
            "seed": self.task.spec.seed,
            "task_fingerprint": self.task.fingerprint,
            "split_hash": self.task.test.hash,
            "order_hash": order_hash(self.task.test),
            "models": self.shelf.fingerprints(),
            "predictors": {run.candidate.name: run.fingerprint for run in self.runs if run.fingerprint},
            "alpha_ledger": self.store.ledger(self.task.test.hash),
            "metric": {**signatures(self.task.spec), **self.judged},
            "options": asdict(self.options),
            "started_at": record.started_at,
            "finished_at": self._now(),
        }


def _written_content(spec: TaskSpec) -> tuple[Any, ...]:
    """What else a fit depends on where answers are written; nothing for labels, whose fits keep their addresses."""
    return () if spec.kind == "classification" else (spec.max_tokens, spec.schema, spec.target.metric)


def _training_content(spec: TaskSpec, rung: Rung) -> tuple[Any, ...]:
    """Where a fine-tune ran, if a person chose it: the same recipe gives other roundings there."""
    if not rung.guarded:
        return ()
    chosen = (spec.training,) if spec.training != Training() else ()
    return (*chosen, *(["any licence"] if spec.constraints.allow_unknown_licence else []))


def _repair_content(spec: TaskSpec, rung: Rung) -> tuple[Any, ...]:
    """What the strength of a fine-tune was chosen by."""
    if not rung.guarded or not spec.guard.repair:
        return ()
    return (search_content(spec.guard), spec.target.at_least)


def guarded_against(task: Task) -> list[Task]:
    """The other tasks that the guard asks about, loaded. What `[guard]` names is read before anything is spent.

    Errors: DataError and SpecError of those files.
    """
    rules = task.spec.guard
    if rules.probe is not None:
        read_pairs(Path(rules.probe))
    if rules.text is not None:
        general("certificate", documents=rules.documents, prompts=rules.prompts, text=rules.text)
    return [load_task(Path(other)) for other in rules.tasks]


def item_hashes(task: Task) -> list[str]:
    """What tells the test examples again: what is asked, and, should only the template change, the row of the file."""
    source = task.findings.get("test_sha256", task.findings.get("data_sha256", ""))
    asked = [digest("input", example.input) for example in task.test.order]
    return asked + [digest("row", source, example.id) for example in task.test.order]


def _mean_score(run: EvalRun) -> float:
    known = [row.score.value for row in run.rows if row.score.value is not None]
    return sum(known) / len(known) if known else 0.0


class _CannotFit(Exception):
    """This rung cannot be fitted on this data; the other candidates can still be measured."""


def _save(predictor: Predictor, folder: Path) -> None:
    """Save into a folder that appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="saving-", dir=folder.parent))
    try:
        predictor.save(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def predictor_fingerprint(folder: Path, models_used: list[tuple[str, str]]) -> str:
    """What a saved predictor is known by: its files, and its models' fingerprints by role, in the rung's order."""
    return digest(_contents(folder), models_used)


def _contents(folder: Path) -> list[tuple[str, str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), digest(path.read_bytes())) for path in files]


def _versions() -> dict[str, str]:
    found = {}
    for name in ("numpy", "scipy", "scikit-learn", "torch", "transformers", "peft", "sentence-transformers"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@contextmanager
def _terminable() -> Iterator[None]:
    """Let a polite kill (SIGTERM) stop the climb like Ctrl-C does, where signals can be caught at all."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
