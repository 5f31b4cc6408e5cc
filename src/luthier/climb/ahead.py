"""Ahead: how far more labels would take the rungs that learn, on demand or where no candidate meets the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luthier.climb.fits import CannotFit, fitted
from luthier.climb.plan import plan
from luthier.climb.workshop import Workshop
from luthier.errors import DataError, ModelError, SpecError
from luthier.evaluate.race import judge
from luthier.report import forecasts
from luthier.report.plain import duration
from luthier.rungs import ladder
from luthier.train.forecast import Fitting, forecast, seconds_left
from luthier.types import Candidate, EvalRun, Outcome, Predictor, Rung

WORTH_SAYING = 5.0  # seconds


def forecast_asked(shop: Workshop, name: str | None) -> dict[str, Any]:
    """The forecast of the named rung, else of the best measured one that learns.

    Errors: SpecError, DataError, ModelError for a model that nobody knows.
    """
    task = shop.task
    rungs = ladder(task.spec.rungs, task.spec.kind)
    known = {rung.name: candidate for rung, candidate in zip(rungs, plan(task, shop.shelf.given), strict=True)}
    measured = forecasts.measured_in(shop.store.last_summary(task_fingerprint=task.fingerprint))
    chosen = name or forecasts.most_worth([rung for rung in rungs if forecasts.learns(rung)] or rungs, measured)
    if chosen not in known:
        raise SpecError(
            f"'{chosen}' is not on the ladder of this task",
            where="luthier forecast --rung",
            fix=f"use one of: {', '.join(known)}",
        )
    rung = next(rung for rung in rungs if rung.name == chosen)
    if rung.name in forecasts.UNTAUGHT:
        able = [each.name for each in rungs if each.name not in forecasts.UNTAUGHT]
        raise SpecError(
            f"{chosen} learns nothing from more examples",
            where="luthier forecast --rung",
            fix=f"use one of: {', '.join(able) or 'none on this ladder; add tfidf to [ladder] rungs'}",
        )
    shop.shelf.check(shop.roles(rung))
    shop.open_scorer()  # before the first fit is paid for
    if name is None:
        why = (
            "the best one of the last run that learns"
            if measured
            else "the last one that learns, as nothing has run yet"
        )
        shop.note(f"forecasting {known[chosen].name}, {why}; --rung names another")
    shop.note(f"it is fitted on all {len(task.train):,} training examples, then on parts of them; each fit is kept")
    try:
        predictor, fit = fitted(shop, rung, known[chosen])
    except CannotFit as error:
        raise DataError(str(error), where=known[chosen].name) from error
    fitting = _fitting(shop, rung, known[chosen], predictor, fit.seconds)
    if (left := seconds_left(fitting)) > WORTH_SAYING:
        shop.note(f"the fits on parts take about {duration(left)}")
    found = forecast(fitting).given(measured.get(known[chosen].name))
    return forecasts.told(found, task.spec.target, forecasts.best_other(measured, known[chosen].name))


def after_misses(
    shop: Workshop, rungs: Sequence[Rung], runs: Sequence[EvalRun]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The forecasts of the best learned rung and of the best fine-tune that miss, and why others were left out.

    Within the task's `forecast_seconds` together: what is thought to take longer is left out, and said.
    """
    spec, left = shop.task.spec, shop.task.forecast_seconds
    told: list[dict[str, Any]] = []
    skipped: list[str] = []
    judged = [(run, judge(run, spec.target, spec.label_names)) for run in runs]
    measured = {run.candidate.name: found.estimate for run, found in judged if found.estimate is not None}
    missed = [run for run, found in judged if run.rows and found.outcome is not Outcome.MEETS]
    of = {rung.name: rung for rung in rungs}
    for run in forecasts.worth_a_look(missed, of, measured) if left else ():
        rung, name = of[run.candidate.rung], run.candidate.name
        fitting = _fitting(shop, rung, run.candidate, shop.fitted[rung.name][0], run.fit_seconds)
        try:
            needs = seconds_left(fitting)
            if needs > left:
                skipped.append(forecasts.skipped(name, needs, left))
                continue
            left -= needs
            found = forecast(fitting).given(measured.get(name))
        except (DataError, ModelError) as error:
            shop.note(f"{name}: no forecast of more examples: {error.what}")
            continue
        told.append(forecasts.told(found, spec.target, forecasts.best_other(measured, name)))
    return told, skipped


def _fitting(shop: Workshop, rung: Rung, candidate: Candidate, whole: Predictor, seconds: float) -> Fitting:
    return Fitting(
        rung=rung,
        candidate=candidate.name,
        task=shop.task.spec,
        train=shop.task.train,
        dev=shop.task.dev,
        models=shop.models(rung),
        scorer=shop.scorer,
        store=shop.store,
        listen=shop.listen,
        clock=shop.shelf.clock,
        fitted={name: predictor for name, (predictor, _) in shop.below(rung).items()},
        whole=whole,
        whole_seconds=seconds,
    )
