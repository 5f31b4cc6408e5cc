"""The source: the measured predictor of a fine-tuned candidate, found again in the store and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from luthier.climb import STORE_FOLDER, predictor_fingerprint
from luthier.errors import ModelError, SpecError, StoreError
from luthier.rungs import LADDER, load_predictor
from luthier.rungs.base import Writing
from luthier.store import FinishedRun, Store
from luthier.types import Input, Message, Prediction, Predictor, Rung, Task

STUDENT = "student"


class Tuned(Protocol):
    """What an export needs of a fine-tuned predictor: the base, the weights that were measured, and its prompts.

    `model` is a local model with the tuned weights in it, whatever the method; `adapter` is the folder of what was
    trained, which holds either an adapter in PEFT's format or the whole weights.
    """

    @property
    def base(self) -> Any: ...
    @property
    def model(self) -> Any: ...
    @property
    def adapter(self) -> Path: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def writing(self) -> Writing | None: ...

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]: ...
    def prompts(self, inputs: Sequence[Input]) -> list[tuple[Message, ...]]: ...


@dataclass(frozen=True)
class Source:
    """A fine-tuned candidate of the last finished run: what the report says about it, and where its predictor lies."""

    run: FinishedRun
    candidate: Mapping[str, Any]
    fingerprint: str
    folder: Path

    @property
    def name(self) -> str:
        return str(self.candidate["name"])

    @property
    def models(self) -> Mapping[str, str]:
        """The fingerprints of the run's models, by role."""
        told: Mapping[str, str] = self.run.summary["verdict"]["provenance"]["models"]
        return {role: text.rpartition(" ")[2] for role, text in told.items()}

    def load(self, student: Any) -> Tuned:
        """The predictor as it was measured. Errors: ModelError where the student is not the one it was tuned from."""
        found: Predictor = load_predictor(self.folder, {STUDENT: student})
        if not all(hasattr(found, part) for part in ("base", "model", "prompts")):
            raise ModelError(
                "its weights cannot be exported", where=self.name, fix="export a candidate that fine-tunes a model"
            )
        return found  # type: ignore[return-value]


NONE_TUNED = "this run has none that is fine-tuned"


def find(task: Task, candidate: str | None = None) -> Source:
    """The named candidate of the last finished run of the task as it stands now; without a name, the chosen one.

    Errors: StoreError where nothing is finished, or where the predictor is gone or changed; SpecError for a candidate
    that is not there, was not measured or is not fine-tuned.
    """
    run = _last_run(task)
    name = candidate or run.summary["verdict"]["chosen"]
    tuned = [each["name"] for each in run.summary["candidates"] if each["guarded"] and not each["not_measured"]]
    if name is None:
        fix = f"name a fine-tuned one: --candidate {tuned[0]}" if tuned else f"{NONE_TUNED}, and only they have weights"
        raise SpecError("the last run chose no candidate", where="luthier export", fix=fix)
    row = _candidate(run, name)
    rung = next((rung for rung in LADDER if rung.name == row["rung"]), None)
    other = f"name one that is: --candidate {tuned[0]}" if tuned else f"{NONE_TUNED}: see [ladder] rungs"
    if rung is None or not rung.guarded:
        raise SpecError("it is not fine-tuned: there are no weights to export", where=str(row["name"]), fix=other)
    if "documents" in rung.roles:
        raise SpecError(
            "it answers from documents that it looks up, and its weights alone are not what was measured",
            where=str(row["name"]),
            fix="export another candidate; what was fine-tuned is a PEFT adapter in the store, .luthier/predictors",
        )
    if row["not_measured"]:
        why = row["not_measured"]
        raise SpecError(f"it was not measured: {why}", where=str(row["name"]), fix="run: luthier run --all-rungs")
    return _stored(task, run, row, rung)


def _last_run(task: Task) -> FinishedRun:
    where = task.folder / STORE_FOLDER
    found = None
    if where.is_dir():
        store = Store(where)
        found = store.last_finished(task.fingerprint)
        store.close()
    if found is None:
        raise StoreError(
            "there is no finished run of this task as it stands now",
            where=str(task.folder),
            fix="run: luthier run (interrupted, it goes on; what has not changed is replayed)",
        )
    return found


def _candidate(run: FinishedRun, name: str) -> Mapping[str, Any]:
    known = [str(row["name"]) for row in run.summary["candidates"]]
    for row in run.summary["candidates"]:
        if row["name"] == name:
            found: Mapping[str, Any] = row
            return found
    raise SpecError(f"the last run has no candidate '{name}'", where="--candidate", fix=f"one of: {', '.join(known)}")


def _stored(task: Task, run: FinishedRun, row: Mapping[str, Any], rung: Rung) -> Source:
    """The predictor's folder, which must hold the very bytes that were measured."""
    fingerprint = run.summary["verdict"]["provenance"]["predictors"][row["name"]]
    store = Store(task.folder / STORE_FOLDER)
    key = store.fit_of(fingerprint)
    folder = store.predictor_folder(key or "none")
    store.close()
    source = Source(run, row, fingerprint, folder)
    roles = [*rung.roles, *(role for role in getattr(rung, "optional_roles", ()) if role in source.models)]
    if key is None or predictor_fingerprint(folder, [(role, source.models[role]) for role in roles]) != fingerprint:
        raise StoreError(
            "the predictor that was measured is gone or was changed",
            where=str(folder),
            fix="run `luthier run` again: it is fitted again, and measured if it came out otherwise",
        )
    return source
