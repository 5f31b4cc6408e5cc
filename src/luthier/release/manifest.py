"""The manifest: what was released, by content, so that anyone can tell whether a file is still what was tested."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.errors import StoreError
from luthier.types import digest

FORMAT = 1
FILE = "manifest.json"


def hashes(folder: Path, root: Path) -> dict[str, str]:
    """The SHA-256 of each file in `folder`, by its path below `root`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): sha256(path) for path in files}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write manifest.json: the same bytes for the same content; `address` is the digest of all the rest."""
    whole = {"format": FORMAT, **content}
    whole["address"] = digest(whole)
    text = json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
    return whole


def changed(folder: Path) -> list[str]:
    """What in a release is no longer what its manifest says: files, and "manifest.json" where that was edited itself.

    Errors: StoreError where there is no manifest of a known format.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        rest = {key: value for key, value in content.items() if key != "address"}
        listed = {name: sha for export in content["exports"] for name, sha in export["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"no manifest: {error}", where=str(folder / FILE), fix="export the candidate again") from error
    if content.get("format") != FORMAT:
        raise StoreError(
            f"manifest format {content.get('format')}, this luthier reads {FORMAT}",
            where=str(folder / FILE),
            fix="use the version of luthier that wrote it",
        )
    apart = [name for name, sha in listed.items() if not (folder / name).is_file() or sha256(folder / name) != sha]
    return sorted([*apart, *([FILE] if digest(rest) != content.get("address") else [])])
