"""Rerank: a cross-encoder reads the question together with each found passage, and puts them in order."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from luthier.errors import MissingExtra, SpecError
from luthier.types import digest


class Reranker(Protocol):
    """Says how well each passage suits a text: higher is better, and only the order counts."""

    @property
    def fingerprint(self) -> str: ...

    def score(self, text: str, passages: Sequence[str]) -> Sequence[float]: ...


class CrossEncoder:
    """A sentence-transformers cross-encoder in a folder on this machine; nothing is asked of a model hub."""

    def __init__(self, folder: Path) -> None:
        if any(importlib.util.find_spec(module) is None for module in ("torch", "sentence_transformers")):
            raise MissingExtra("local", "[documents] reranker")
        if not (folder / "config.json").is_file():
            raise SpecError(
                "there is no model in this folder",
                where=f"[documents] reranker = {str(folder)!r}",
                fix="name a folder with the config.json and the weights of a cross-encoder",
            )
        self.folder = folder

    @cached_property
    def fingerprint(self) -> str:
        hashes = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.suffix != ".md":
                with path.open("rb") as file:
                    hashes[path.relative_to(self.folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
        return digest("cross-encoder", hashes)

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import CrossEncoder as Encoder

        return Encoder(str(self.folder), local_files_only=True)

    def score(self, text: str, passages: Sequence[str]) -> list[float]:
        pairs = [(text, passage) for passage in passages]
        return [float(score) for score in self._model.predict(pairs, show_progress_bar=False)]
