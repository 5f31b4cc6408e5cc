"""Steadiness: how often the best prompt, and each tuned model, says the same again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from luthier.climb.workshop import Workshop
from luthier.rungs.consistency import VERSION, Rewordable, consistency
from luthier.types import EvalRun, Event, Input, digest


def with_consistency(shop: Workshop, runs: Sequence[EvalRun]) -> list[EvalRun]:
    """The runs, the best raced prompt and the tuned models among them with how steady their answers are, on dev."""
    found = list(runs)
    inputs = [example.input for example in shop.task.dev[: shop.task.spec.consistency]]
    raced = [(at, run) for at, run in enumerate(runs) if run.rows and run.candidate.rung in shop.fitted]
    steady = {at: made for at, run in raced if isinstance(made := shop.fitted[run.candidate.rung][0], Rewordable)}
    tuned = [at for at in steady if runs[at].guarded]
    prompts = [at for at in steady if not runs[at].guarded]
    best = [max(prompts, key=lambda at: _mean_score(runs[at]))] if prompts else []
    for at in (*best, *tuned) if inputs else ():
        found[at] = replace(runs[at], consistency=_measured(shop, runs[at], steady[at], inputs))
    return found


def _measured(shop: Workshop, run: EvalRun, predictor: Rewordable, inputs: list[Input]) -> dict[str, Any]:
    key = digest("consistency", VERSION, run.fingerprint, inputs)

    def working(done: int, total: int) -> None:
        shop.listen(Event("working", run.candidate.name, "is it steady? asking again in other words", done, total))

    known = shop.store.measurement(key)
    if known is None and (measured := consistency(predictor, inputs, working)) is not None:
        known = measured.describe()
        if not measured.failed:  # a failure may pass: then it is asked again
            shop.store.keep_measurement(key, known)
    return known or {}


def _mean_score(run: EvalRun) -> float:
    known = [row.score.value for row in run.rows if row.score.value is not None]
    return sum(known) / len(known) if known else 0.0
