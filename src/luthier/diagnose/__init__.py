"""Diagnose: why a candidate misses: interventions on its failures, and which cause what they repair supports.

sample.py draws failures and passing examples on dev; probes.py has the interventions; learned.py and lenient.py read
answers otherwise; effect.py is what they repair beyond chance and harm; examine.py asks them in order; causes.py
concludes, and holds every threshold.

    candidate -> [sample -> probes -> effects] -> causes -> what to do, and which rungs cannot help
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luthier.diagnose.causes import FEWEST_FAILURES, causes
from luthier.diagnose.effect import LEVEL
from luthier.diagnose.examine import Examination, Subject, examine
from luthier.diagnose.sample import Sample
from luthier.errors import SpecError
from luthier.evaluate.scorers import scorer_of
from luthier.models.shelf import Shelf
from luthier.rungs import ladder
from luthier.rungs.prompted import Chosen, PromptPredictor
from luthier.types import Event, FitContext, Listener, Rung, Task, silent

__all__ = ["VERSION", "Subject", "diagnose", "diagnosed"]

VERSION = 1  # of what a diagnosis says; goes up when the same answers may be read otherwise
STORE_FOLDER = ".luthier"


def diagnose(
    task: Task,
    *,
    rung: str | None = None,
    models: Mapping[str, Any] | None = None,
    examples: int = 64,
    listen: Listener = silent,
) -> dict[str, Any]:
    """Why a rung of the task misses, as plain values; without a name, the first rung of the ladder that is a prompt.

    `models` by role replaces what the task names. `examples`: how many failures are looked for on dev. Replies are kept
    in the response cache beside the task, so that asking again costs nothing. Errors: SpecError for a rung that is not
    on the ladder or is no prompt; LuthierError.
    """
    shelf = Shelf(task, dict(models or {}), task.folder / STORE_FOLDER, listen)
    try:
        chosen = _chosen(task, rung)
        with tempfile.TemporaryDirectory() as folder:
            needed = {role: shelf.model(role) for role in chosen.roles}
            context = FitContext(needed, task.spec.seed, Path(folder), chosen.name, listen)
            predictor = chosen.fit(task.spec, task.train, task.dev, context)
            prompt = prompt_of(predictor)
            if prompt is None:
                raise SpecError(f"'{chosen.name}' is no prompt", where="rung", fix="name a rung that asks a model")
            scorer = scorer_of(task.spec, shelf.model("judge") if task.spec.target.metric == "judge" else None)

            def model(role: str) -> Any:
                return shelf.model(role) if shelf.has(role) else None

            name = f"{chosen.name}@{prompt.model.name}"
            return diagnosed(Subject(task, name, prompt, scorer, model, Path(folder), examples, 8 * examples), listen)
    finally:
        shelf.close()


def diagnosed(subject: Subject, listen: Listener = silent) -> dict[str, Any]:
    """A diagnosis as plain values (docs/diagnosis.md says what each is); it abstains where too few examples fail."""
    started = time.perf_counter()

    def working(text: str, done: int, total: int) -> None:
        listen(Event("working", subject.candidate, f"why it misses: {text}", done, total))

    found = examine(subject, working)
    told = _counts(subject, found)
    if not isinstance(found, Examination):
        failures = 0 if found is None else found.failures
        told["abstained"] = (
            f"{failures} of the dev examples that were asked fail, and {FEWEST_FAILURES} are needed to tell causes "
            "from chance"
        )
    else:
        known = causes(found, subject.task)
        if not any(cause.supported for cause in known):
            told["abstained"] = "no intervention repairs more failures than chance would"
        told["causes"] = [cause.plain for cause in known]
        told["probes"] = [probed.plain for probed in found.probed]
        told["not_probed"] = found.not_probed
        told["usage"] = asdict(found.usage)
    told["seconds"] = round(time.perf_counter() - started, 1)
    return told


def _counts(subject: Subject, found: Examination | Sample | None) -> dict[str, Any]:
    sample = found.sample if isinstance(found, Examination) else found
    return {
        "version": VERSION,
        "candidate": subject.candidate,
        "examples": 0 if sample is None else sample.asked,
        "failures": 0 if sample is None else sample.failures,
        "passing": 0 if sample is None else sample.passing,
        "score": None if sample is None else round(sample.score, 4),
        "confidence": LEVEL,
        "abstained": None,
        "causes": [],
        "probes": [],
        "skips": {},
        "not_probed": [],
        "usage": {} if sample is None else asdict(sample.usage),
        "seconds": 0.0,
    }


def prompt_of(predictor: Any) -> PromptPredictor | None:
    """The prompt that a predictor is; None for one that is no prompt."""
    if isinstance(predictor, Chosen):
        return prompt_of(predictor.prompt)
    return predictor if isinstance(predictor, PromptPredictor) else None


def _chosen(task: Task, name: str | None) -> Rung:
    rungs = ladder(task.spec.rungs, task.spec.kind)
    prompts = [rung for rung in rungs if "prompted" in rung.roles]
    if name is None and prompts:
        return prompts[0]
    found = next((rung for rung in prompts if rung.name == name), None)
    if found is None:
        known = ", ".join(rung.name for rung in prompts) or "none"
        raise SpecError(
            f"'{name}' is no rung of this task that asks a model" if name else "no rung of this task asks a model",
            where="[ladder] rungs",
            fix=f"name one of: {known}",
        )
    return found
