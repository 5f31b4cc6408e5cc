"""Fits: each rung fitted once for each content, kept in the store, and loaded as a release would load it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from luthier.climb.workshop import Workshop
from luthier.errors import DataError, ModelError
from luthier.rungs import load_predictor
from luthier.rungs.repair import Scalable, anew, repaired, search_content
from luthier.store import FitRecord
from luthier.types import Candidate, FitContext, Predictor, Rung, Task, TaskSpec, Training, digest


class CannotFit(Exception):
    """This rung cannot be fitted on this data; the other candidates can still be measured."""


def fitted(shop: Workshop, rung: Rung, candidate: Candidate) -> tuple[Predictor, FitRecord]:
    """The fitted predictor: from the store where nothing changed, else fitted, saved and loaded again.

    Loading what was just saved makes sure that what is raced is what a release or a resumed run would load.
    Errors: CannotFit where this rung cannot learn from this data; MissingExtra, LuthierError.
    """
    models = shop.models(rung)
    models_used = [(role, model.fingerprint) for role, model in models.items()]
    key = _address(shop, rung, models_used)
    folder = shop.store.predictor_folder(key)
    record = shop.store.fit(key)
    if record is not None and record.predictor != predictor_fingerprint(folder, models_used):
        shop.note(f"{candidate.name}: its saved predictor was changed or damaged, so it is fitted again")
        record = None
    if record is None:
        workdir = shop.store.folder / "work" / key
        workdir.mkdir(parents=True, exist_ok=True)
        started = shop.shelf.clock()
        predictor, strength = _learned(shop, rung, candidate, models, workdir)
        seconds = shop.shelf.clock() - started
        _save(predictor, folder)
        record = FitRecord(predictor_fingerprint(folder, models_used), {**predictor.describe(), **strength}, seconds)
        shop.store.keep_fit(key, candidate.name, record)
        shutil.rmtree(workdir, ignore_errors=True)
    shop.fitted[rung.name] = (load_predictor(folder, models), record)
    return shop.fitted[rung.name]


def _address(shop: Workshop, rung: Rung, models_used: list[tuple[str, str]]) -> str:
    """Everything that a fit depends on."""
    task = shop.task
    return digest(
        (rung.name, rung.version),
        models_used,
        (task.spec.kind, task.spec.instruction, task.spec.labels, task.spec.seed, task.spec.search_tokens),
        [(example.input, example.references, example.weight) for example in (*task.train, *task.dev)],
        len(task.train),
        {name: fit.predictor for name, (_, fit) in shop.below(rung).items()},
        *_written_content(task.spec),
        *_training_content(task.spec, rung),
        *(getattr(task.extra, name) for name in getattr(rung, "learns_from", ())),
        *_repair_content(task.spec, rung),
        *_contexts(task, (role for role, _ in models_used)),
    )


def _learned(
    shop: Workshop, rung: Rung, candidate: Candidate, models: dict[str, Any], workdir: Path
) -> tuple[Predictor, Mapping[str, Any]]:
    task = shop.task
    context = FitContext(
        models,
        task.spec.seed,
        workdir,
        candidate.name,
        shop.listen,
        {name: predictor for name, (predictor, _) in shop.below(rung).items()},
        task.extra,
        {role: terms for role in models if (terms := _terms(shop, role))},
    )
    context.working("fitting")
    try:
        return _repaired(task, rung, rung.fit(task.spec, task.train, task.dev, context), context)
    except (DataError, ModelError) as error:
        raise CannotFit(str(error)) from error


def _repaired(task: Task, rung: Rung, predictor: Predictor, context: FitContext) -> tuple[Predictor, Mapping[str, Any]]:
    """What to race: a fine-tune that forgets too much at its full strength has less, or is trained with replay."""
    if not isinstance(predictor, Scalable):
        return predictor, {}

    def fitting(other: Rung) -> Callable[[FitContext], Predictor]:
        return lambda given: other.fit(task.spec, task.train, task.dev, given)

    again = {way: fitting(other) for way, other in anew(rung, task.spec.training).items()}
    return repaired(predictor, task.spec, task.dev, context, again)


def _contexts(task: Task, roles: Iterable[str]) -> list[tuple[str, int]]:
    """What luthier.toml says a remote model's context holds: how many examples a prompt shows depends on it."""
    remote, named = task.remote, task.spec.models
    sizes = [(role, remote[named[role]].context_tokens) for role in roles if named.get(role) in remote]
    return [(role, size) for role, size in sizes if size is not None]


def _terms(shop: Workshop, role: str) -> str | None:
    endpoint = shop.task.remote.get(shop.task.spec.models.get(role, ""))
    return None if endpoint is None or role in shop.shelf.given else endpoint.terms


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
