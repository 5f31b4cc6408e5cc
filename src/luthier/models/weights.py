"""Weights on disk: what a folder of them hashes to, and merging a LoRA adapter into them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from luthier.errors import MissingExtra, ModelError
from luthier.models.quiet import quiet
from luthier.types import digest

HASHES = "luthier-hashes.json"

# where a folder stood and who wrote it do not change an answer
_UNSAID = ("_name_or_path", "_model_name_or_path", "name_or_path", "base_model_name_or_path", "transformers_version")


def weights_fingerprint(folder: Path) -> str:
    """The hash of a model's weights and configuration. Raises ModelError where the folder holds no safetensors."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(
            "there are no weights (*.safetensors) here",
            where=str(folder),
            fix="point to a folder with config.json, *.safetensors and tokenizer.json",
        )
    return digest([[path.name, sha] for path, sha in _hashes(folder, files).items()], _config(folder / "config.json"))


def adapter_fingerprint(folder: Path) -> str:
    """The hash of a LoRA adapter. Raises ModelError where the folder holds none."""
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise ModelError(
            "there is no adapter (adapter_model.safetensors) here",
            where=str(folder),
            fix="point to a folder that PEFT's save_pretrained wrote",
        )
    return digest(_sha256(weights), _config(folder / "adapter_config.json"))


def trained_fingerprint(folder: Path) -> str:
    """The hash of a full fine-tune's weights; unlike that of a model's folder it leaves no note there.

    Raises ModelError where the folder holds none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(
            "there are no weights (*.safetensors) here", where=str(folder), fix="fit it again: something was deleted"
        )
    return digest([[path.name, _sha256(path)] for path in files], _config(folder / "config.json"))


def merge_adapter(module: Any, folder: Path) -> Any:
    """`module` with the PEFT adapter in `folder` merged into it, in the module's own precision; tied weights stay tied.

    The module itself is changed: pass a copy. Raises ModelError where the adapter does not fit.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtra("train", "a model with a LoRA adapter") from error
    tied = _is_tied(module)
    try:
        with quiet():
            # safe_merge refuses an adapter with NaN or infinite weights instead of shipping it
            merged = PeftModel.from_pretrained(module, str(folder)).merge_and_unload(safe_merge=True)
    except Exception as error:  # each file format has errors of its own; all of them are the folder's
        raise ModelError(f"the adapter cannot be merged: {error}", where=str(folder)) from error
    if tied and not _is_tied(merged):
        raise ModelError("the adapter unties the model's embeddings", where=str(folder), fix="adapt other layers")
    return merged.eval()


def _is_tied(module: Any) -> bool:
    head = module.get_output_embeddings()
    return head is not None and head.weight is module.get_input_embeddings().weight


def _config(path: Path) -> Any:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"it cannot be read: {error}", where=str(path), fix="fetch or train the model again"
        ) from error
    return {key: value for key, value in values.items() if key not in _UNSAID}


def _hashes(folder: Path, files: list[Path]) -> dict[Path, str]:
    """The SHA-256 of each file, remembered beside them for as long as its size and time stay the same."""
    known = _remembered(folder / HASHES)
    found: dict[str, list[Any]] = {}
    for path in files:
        stat = path.stat()
        before = known.get(path.name, [])
        same = before[:2] == [stat.st_size, stat.st_mtime_ns]
        found[path.name] = [stat.st_size, stat.st_mtime_ns, before[2] if same else _sha256(path)]
    if found != known:
        _remember(folder, found)
    return {path: str(found[path.name][2]) for path in files}


def _remembered(path: Path) -> Mapping[str, list[Any]]:
    with suppress(OSError, ValueError):
        known = json.loads(path.read_text("utf-8"))
        if isinstance(known, dict) and all(isinstance(row, list) and len(row) == 3 for row in known.values()):
            return known
    return {}


def _remember(folder: Path, found: Mapping[str, list[Any]]) -> None:
    with suppress(OSError):  # a read-only folder is hashed again each time
        handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(found, file)
            os.replace(name, folder / HASHES)
        except OSError:
            os.unlink(name)
            raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
