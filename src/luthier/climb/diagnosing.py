"""Diagnosing: why a candidate misses, on demand or after the first rung that asks a model and fails."""

from __future__ import annotations

import shutil
from typing import Any

from luthier.climb.fits import CannotFit, fitted
from luthier.climb.plan import plan
from luthier.climb.workshop import Workshop
from luthier.diagnose import VERSION, Subject, diagnosed, prompt_of
from luthier.errors import DataError, LuthierError, MissingExtra, SpecError, Stopped
from luthier.models.shelf import DOCUMENTS
from luthier.rungs import ladder
from luthier.types import Candidate, digest

PER_FAILURE = 8  # dev examples that are asked for each failure that is looked for, at most


def diagnosis_asked(shop: Workshop, name: str | None) -> dict[str, Any]:
    """The diagnosis of the named rung, else of the first one on the ladder that asks a model.

    Errors: SpecError for a rung that is not on the ladder or is no prompt, DataError where it cannot be fitted.
    """
    task = shop.task
    known = dict(zip(ladder(task.spec.rungs, task.spec.kind), plan(task, shop.shelf.given), strict=True))
    prompts = {rung.name: (rung, candidate) for rung, candidate in known.items() if "prompted" in rung.roles}
    if name is not None and name not in prompts:
        raise SpecError(
            f"'{name}' is not on the ladder of this task as a rung that asks a prompted model",
            where="luthier diagnose --rung",
            fix=f"use one of: {', '.join(prompts) or 'none: add zero-shot to [ladder] rungs'}",
        )
    if not prompts:
        raise SpecError(
            "no rung on the ladder of this task asks a model", where="[ladder] rungs", fix="add a rung: zero-shot"
        )
    rung, candidate = prompts[name] if name else next(iter(prompts.values()))
    shop.shelf.check(shop.roles(rung))
    shop.open_scorer()  # before the first fit is paid for
    try:
        fitted(shop, rung, candidate)
    except CannotFit as error:
        raise DataError(str(error), where=candidate.name) from error
    found = why_it_misses(shop, candidate)
    if not found:
        raise SpecError(
            f"'{rung.name}' is no prompt that can be asked in another way",
            where="luthier diagnose --rung",
            fix="use another of: "
            + (", ".join(each for each in prompts if each != rung.name) or "none; add zero-shot"),
        )
    return found


def why_it_misses(shop: Workshop, candidate: Candidate) -> dict[str, Any]:
    """The diagnosis of a fitted candidate, from the store where it is known; empty for one that is no prompt."""
    predictor, fit = shop.fitted[candidate.rung]
    prompt = prompt_of(predictor)
    if prompt is None:
        return {}
    task = shop.task
    failures = task.diagnosing.examples
    roles = [role for role in ("embedder", DOCUMENTS, "teacher") if _usable(shop, role)]
    subject = Subject(
        task=task,
        candidate=candidate.name,
        prompt=prompt,
        scorer=shop.scorer,
        model=lambda role: _opened(shop, role) if role in roles else None,
        workdir=shop.store.folder / "work" / "diagnosis",
        failures=failures,
        most=PER_FAILURE * failures,
    )
    key = digest(
        "diagnosis",
        VERSION,
        fit.predictor,
        [(role, model.fingerprint) for role in roles if (model := _opened(shop, role)) is not None],
        [(example.id, example.input, example.references, example.group) for example in (*task.train, *task.dev)],
        (len(task.train), task.spec.kind, task.spec.instruction, task.spec.labels, task.spec.target, task.spec.rungs),
        (task.spec.max_tokens, task.spec.seed, failures, shop.scorer.fingerprint),
    )
    known = shop.store.measurement(key)
    if known is None:
        subject.workdir.mkdir(parents=True, exist_ok=True)
        known = diagnosed(subject, shop.listen)
        shutil.rmtree(subject.workdir, ignore_errors=True)
        if not known["failed"]:  # a failure may pass: then it is asked again
            shop.store.keep_measurement(key, known)
    return known


def _usable(shop: Workshop, role: str) -> bool:
    """Whether a probe may use the model of a role: given, named for this (documents), or used by a rung anyway."""
    if role in shop.shelf.given or role == DOCUMENTS:
        return shop.shelf.has(role)
    if role == "embedder" and shop.shelf.has(DOCUMENTS):
        return True
    rungs = ladder(shop.task.spec.rungs, shop.task.spec.kind)
    return shop.shelf.has(role) and any(role in shop.roles(rung) for rung in rungs)


def _opened(shop: Workshop, role: str) -> Any:
    """The model of a role; None, with a note, where it cannot be opened: the probes that need it are left out."""
    try:
        return shop.shelf.model(role)
    except Stopped:
        raise
    except (MissingExtra, LuthierError) as error:
        shop.note(f"the diagnosis goes without {role}: {error.what}")
        return None
