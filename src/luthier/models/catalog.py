"""The catalog: the models, embedders and data that luthier fetches by itself, and how each is opened.

>>> [entry.name for entry in entries()]
['smollm2-135m', 'all-minilm-l6-v2', 'demo-data']
>>> get("all-minilm-l6-v2").licence
'Apache-2.0'
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path

from luthier.errors import ModelError
from luthier.models import prepare
from luthier.models.download import Wheel
from luthier.models.embed import HashEmbedder, SentenceEmbedder
from luthier.models.prepare import Entry, Kind
from luthier.types import Embedder, Listener, Model, silent


@cache
def entries() -> tuple[Entry, ...]:
    """All that can be fetched, in the order of catalog.toml."""
    text = resources.files("luthier.models").joinpath("catalog.toml").read_text(encoding="utf-8")
    return tuple(
        Entry(
            name=name,
            kind=row["kind"],
            wheel=Wheel(row["package"], row["version"], row["wheel"], row["sha256"], row["size"]),
            inside=row["inside"],
            files=tuple(row["files"]),
            licence=row["licence"],
            note=row["note"],
        )
        for name, row in tomllib.loads(text).items()
    )


def get(name: str) -> Entry:
    """The entry with exactly this name; ModelError lists the known ones."""
    for entry in entries():
        if entry.name == name:
            return entry
    known = [entry.name for entry in entries()]
    raise ModelError(f"'{name}' is not in the catalog", where="catalog", fix=_choose(name, known))


def prepared_folder(name: str) -> Path:
    """Where this entry lies once it is prepared, whether or not it is there yet."""
    return prepare.prepared_folder(get(name))


def data_folder(name: str, listen: Listener = silent) -> Path:
    """The folder with the files of a data entry, fetched and unpacked if needed."""
    return prepare.prepare(_of_kind(name, "data"), listen)


NEEDED: dict[Kind, tuple[str, ...]] = {
    "model": ("config.json", "tokenizer_config.json"),
    "embedder": ("config.json",),
}


def open_model(name: str, listen: Listener = silent) -> Model:
    """A local model by its name in the catalog, or by the path of a folder with safetensors weights.

    A folder's model is named by the folder. Raises MissingExtra without torch and transformers, ModelError for an
    unknown name or a folder that holds no model, and what fetching raises.
    """
    found = _find(name, "model")
    if isinstance(found, Path):
        return _local_model(found, name=found.name)
    return _local_model(prepare.prepare(found, listen), name=name, licence=found.licence)


def open_embedder(name: str, listen: Listener = silent) -> Embedder:
    """An embedder by its name in the catalog, by the path of a sentence-transformers folder, or `hash` (no model).

    Raises MissingExtra without sentence-transformers. The weights are only loaded when something is embedded.
    """
    if name == HashEmbedder.name:
        return HashEmbedder()
    found = _find(name, "embedder")
    if isinstance(found, Path):
        return SentenceEmbedder(found, found.name, listen)
    SentenceEmbedder.check_installed(name)  # before anything is fetched
    return SentenceEmbedder(prepare.prepare(found, listen), name, listen)


def check(name: str, kind: Kind) -> None:
    """ModelError where `open_model` or `open_embedder` would find nothing; nothing is fetched or loaded."""
    if kind != "embedder" or name != HashEmbedder.name:
        _find(name, kind)


def _find(name: str, kind: Kind) -> Entry | Path:
    """The entry of the catalog, or the folder that holds the model."""
    local = _path(name)
    if local is None:
        return _of_kind(name, kind)
    _check_folder(local, weights="*.safetensors", needs=NEEDED[kind])
    return local


def _of_kind(name: str, kind: Kind) -> Entry:
    known = [entry.name for entry in entries() if entry.kind == kind]
    if kind == "embedder":
        known.append(HashEmbedder.name)
    if name in known:
        return get(name)
    other = next((entry.kind for entry in entries() if entry.name == name), None)
    what = f"'{name}' is {_a(other)}, not {_a(kind)}" if other else f"there is no {kind} '{name}'"
    fix = _choose(name, known) + (
        "" if kind == "data" else ", or the path of a folder with a config.json and safetensors"
    )
    raise ModelError(what, where="catalog", fix=fix)


def _a(kind: str | None) -> str:
    return {"embedder": "an embedder", "model": "a model"}.get(kind or "", "data")


def _choose(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean '{close[0]}'? " if close else ""
    return f"{meant}use one of: {', '.join(known)}"


def _path(name: str) -> Path | None:
    """A name that is written as a path, or that names a folder here; the catalog's own names come first."""
    if any(entry.name == name for entry in entries()):
        return None
    path = Path(name).expanduser()
    written_so = name.startswith((".", "~")) or any(mark in name for mark in (os.sep, os.altsep or os.sep))
    return path.resolve() if written_so or path.is_dir() else None


def _check_folder(folder: Path, *, weights: str, needs: tuple[str, ...]) -> None:
    if not folder.is_dir():
        known = ", ".join(entry.name for entry in entries() if entry.kind != "data")
        raise ModelError(
            "there is no such folder",
            where=str(folder),
            fix=f"give an existing folder, or one of: {known}; no model hub is asked",
        )
    missing = [name for name in needs if not (folder / name).is_file()]
    missing += [] if any(folder.glob(weights)) else [weights]
    if missing:
        raise ModelError(
            f"the folder holds no model: {', '.join(missing)} is missing",
            where=str(folder),
            fix="give the folder that save_pretrained wrote, tokenizer included",
        )


def _local_model(folder: Path, *, name: str, licence: str | None = None) -> Model:
    from luthier.models.local import LocalModel  # raises MissingExtra without torch

    return LocalModel.load(folder, name=name, licence=licence)
