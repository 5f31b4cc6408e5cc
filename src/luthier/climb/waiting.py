"""Waiting: how long requests wait for what meets the target, probed once for each predictor and load."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from luthier.climb.fits import CannotFit, fitted
from luthier.climb.plan import plan
from luthier.climb.workshop import Workshop
from luthier.economics.measured import Measured
from luthier.errors import DataError, SpecError
from luthier.evaluate.latency import BATCH, REQUESTS, VERSION, Load, probe
from luthier.evaluate.race import judge
from luthier.report.plain import plain
from luthier.report.pricing import Pricing
from luthier.report.verdict import eligibility, may_be_chosen
from luthier.rungs import ladder, load_predictor
from luthier.types import EvalRun, Event, Rung, digest


def with_latency(shop: Workshop, pricing: Pricing | None, rung: Rung, run: EvalRun) -> EvalRun:
    """The run with what a probe measured, where a limit or `[economics] probe_latency` asks for it, and it may be
    chosen; else as it is."""
    spec, economics = shop.task.spec, shop.task.economics
    if not spec.constraints.latency_ms and not (economics is not None and economics.probe_latency):
        return run
    outcome = judge(run, spec.target, spec.label_names).outcome
    money = {} if pricing is None or not run.rows else pricing.money([run])[run.candidate.name]
    if not may_be_chosen(outcome, eligibility(run, spec.constraints, money).answer):
        return run
    raced = None if pricing is None else next(iter(pricing.measured([run])))
    return replace(run, latency=_probed(shop, pricing, rung, raced, run.fingerprint, run.candidate.name))


def latency_asked(shop: Workshop, pricing: Pricing | None) -> dict[str, Any]:
    """The latency of what the last run chose, else of its best candidate. Errors: SpecError, DataError."""
    task = shop.task
    summary = shop.store.last_summary(task_fingerprint=task.fingerprint)
    raced = [each for each in (summary or {}).get("verdict", {}).get("candidates", ()) if each.get("measured")]
    if summary is None or not raced:
        raise SpecError(
            "no run of this task has finished, so there is nothing to probe",
            where="luthier cost --probe",
            fix="run: luthier run",
        )
    chosen = summary["verdict"]["chosen"]
    best = max(raced, key=lambda each: (each["name"] == chosen, (each["estimate"] or {"mean": 0.0})["mean"]))
    rungs = ladder(task.spec.rungs, task.spec.kind)
    rung = next(rung for rung in rungs if rung.name == best["rung"])
    names = {rung.name: candidate for rung, candidate in zip(rungs, plan(task, shop.shelf.given), strict=True)}
    for below in (other for other in rungs if other.name in getattr(rung, "builds_on", ())):
        fitted(shop, below, names[below.name])
    try:
        _, record = fitted(shop, rung, names[rung.name])
    except CannotFit as error:
        raise DataError(str(error), where=best["name"]) from error
    measured = Measured.read(best["measured"])
    return {"candidate": best["name"], **_probed(shop, pricing, rung, measured, record.predictor, best["name"])}


def _probed(
    shop: Workshop, pricing: Pricing | None, rung: Rung, raced: Measured | None, predictor: str, name: str
) -> dict[str, Any]:
    """What the probe measured, from the store where the very predictor was probed at the very load."""
    load, elsewhere = _load(shop, pricing, rung, raced)
    key = digest("latency", VERSION, predictor, load, shop.task.spec.seed)
    known = shop.store.measurement(key)
    if known is None:
        folder = shop.store.predictor_folder(shop.store.fit_of(predictor) or "")
        # as it was saved, with models that answer anew: what is kept would take no time
        fresh = load_predictor(folder, {role: shop.shelf.fresh(role) for role in shop.roles(rung)})
        inputs = [example.input for example in (*shop.task.dev, *shop.task.train)]

        def working(done: int, total: int) -> None:
            shop.listen(Event("working", name, "probing how long requests wait", done, total))

        known = plain(probe(fresh, inputs, load, seed=shop.task.spec.seed, working=working).plain())
        shop.store.keep_measurement(key, known)
    return {**known, "elsewhere": elsewhere}


def _load(shop: Workshop, pricing: Pricing | None, rung: Rung, raced: Measured | None) -> tuple[Load, str | None]:
    """What arrives at one machine, and the machine it is to run on, where that is not this one."""
    constraints = shop.task.spec.constraints
    rate, elsewhere = constraints.requests_per_s, None
    if pricing is not None and raced is not None:
        per_machine, elsewhere = pricing.requests_per_s(raced)
        rate = rate or per_machine
    if rate is None:
        raise SpecError(
            "nothing says how many requests arrive",
            where="luthier.toml, [constraints] requests_per_s",
            fix="add requests_per_s = 2, or [economics] with monthly_requests = ...",
        )
    endpoint = shop.task.remote.get(shop.task.spec.models.get(rung.roles[0], "")) if rung.roles else None
    workers = 1 if endpoint is None else endpoint.concurrency
    wanted = max((REQUESTS[name] for name in constraints.latency_ms), default=REQUESTS["p95"])
    return Load(rate, constraints.concurrency, wanted, workers, BATCH if workers == 1 else 1), elsewhere
