"""Embed: texts to unit vectors, by a sentence model, from a cache on disk, or by hashing (the public fake)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import math
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from luthier.errors import MissingExtra, StoreError
from luthier.models.quiet import quiet
from luthier.types import Embedder, Event, Listener, digest, silent

Vectors = NDArray[np.float32]

_CHUNK = 256  # texts between two progress events, and per transaction of the cache


class SentenceEmbedder:
    """A sentence-transformers folder on this machine; nothing is ever asked of a model hub.

    `embed` gives float32 of shape (n, dimension), rows of length 1, in the order of the texts. Texts beyond the model's
    length (256 tokens for all-MiniLM-L6-v2) are cut at their end. The fingerprint covers every file of the folder and
    the versions of the engine; the model itself is loaded at the first text.
    """

    def __init__(self, folder: Path, name: str, listen: Listener = silent) -> None:
        self.check_installed(name)
        self.folder, self._name, self._listen = folder, name, listen

    @staticmethod
    def check_installed(name: str) -> None:
        if any(importlib.util.find_spec(module) is None for module in ("torch", "sentence_transformers")):
            raise MissingExtra("local", f"the embedder '{name}'")

    @property
    def name(self) -> str:
        return self._name

    @cached_property
    def fingerprint(self) -> str:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".md")
        hashes = {str(path.relative_to(self.folder)): _file_sha256(path) for path in files}
        engine = {name: importlib.metadata.version(name) for name in ("sentence-transformers", "transformers", "torch")}
        return digest("sentence-embedder-2", hashes, engine)

    @cached_property
    def _model(self) -> Any:
        self._listen(Event("working", text=f"loading {self._name}"))
        from sentence_transformers import SentenceTransformer

        from luthier.models.linear import with_products

        with quiet():
            return with_products(SentenceTransformer(str(self.folder), local_files_only=True))

    def embed(self, texts: Sequence[str]) -> Vectors:
        # by length, longest first: a batch is padded to its longest text, and memory is short at once or never
        order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
        vectors = np.zeros((len(texts), self._model.get_embedding_dimension()), dtype=np.float32)
        for start in range(0, len(order), _CHUNK):
            rows = order[start : start + _CHUNK]
            with quiet():
                vectors[rows] = self._model.encode(
                    [texts[i] for i in rows], batch_size=64, show_progress_bar=False, normalize_embeddings=True
                )
            if len(order) > _CHUNK:  # who asks for less tells of the progress
                self._listen(Event("working", text="embedding", done=start + len(rows), total=len(order)))
        return vectors


class CachedEmbedder:
    """Another embedder, with its vectors kept in `folder`/embeddings.sqlite: what was embedded once is only read.

    The texts of a call are cut into fixed chunks, each stored whole or not at all, so that a call that was killed
    gives, when it is repeated, the very vectors it would have given. Any number of processes may share the file.
    """

    FILE: ClassVar[str] = "embeddings.sqlite"

    def __init__(self, embedder: Embedder, folder: Path, listen: Listener = silent) -> None:
        self._embedder, self._path, self._listen = embedder, folder / self.FILE, listen

    @property
    def model(self) -> Embedder:
        """The embedder behind the cache."""
        return self._embedder

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def fingerprint(self) -> str:
        return self._embedder.fingerprint

    def embed(self, texts: Sequence[str]) -> Vectors:
        by_key = {_text_key(text): text for text in texts}
        # the order is the texts' own, not the caller's: the same texts in any order make the same chunks
        keys = sorted(by_key, key=lambda key: (len(by_key[key]), key))
        found: dict[bytes, Vectors] = {}
        with _cache(self._path) as cache:
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                found |= _read(cache, self.fingerprint, chunk)
                missing = [key for key in chunk if key not in found]
                if missing:
                    fresh = self._embedder.embed([by_key[key] for key in missing])
                    _write(cache, self.fingerprint, missing, np.asarray(fresh, dtype="<f4"))
                    found |= _read(cache, self.fingerprint, missing)  # another process may have been first
                    if len(keys) > _CHUNK:
                        self._listen(Event("working", text="embedding", done=start + len(chunk), total=len(keys)))
        if not texts:
            return np.asarray(self._embedder.embed([]), dtype=np.float32)
        return np.stack([found[_text_key(text)] for text in texts]).astype(np.float32, copy=False)


class HashEmbedder:
    """The public fake: hashed character n-grams as unit vectors. Deterministic, no model, no extra.

    Texts that share letters are near each other, which is enough for tests; it knows nothing of meaning.

    >>> vectors = HashEmbedder().embed(["a red car", "a red cart", "monday"])
    >>> bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[2])
    True
    """

    name: ClassVar[str] = "hash"

    def __init__(self, dimension: int = 256) -> None:
        self.dimension = dimension

    @property
    def fingerprint(self) -> str:
        return digest("hash-embedder", 1, self.dimension)

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            padded = f" {text.lower()} "
            for size in (3, 4):
                for start in range(max(1, len(padded) - size + 1)):
                    code = zlib.crc32(padded[start : start + size].encode("utf-8", "surrogatepass"))
                    row[code % self.dimension] += 1.0 if code & (1 << 31) else -1.0
            norm = math.sqrt(float(row @ row))
            if norm == 0.0:  # the signs of all its n-grams cancelled
                row[0] = norm = 1.0
            row /= norm
        return vectors


# ---------------------------------------------------------------- the cache file


@contextmanager
def _cache(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection = _connect(path)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreError(
            f"the cache of embeddings cannot be used: {error}",
            where=str(path),
            fix="make room or make it writable; if it is damaged, delete it: it is only a cache",
        ) from error


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder of the cache cannot be made: {error.strerror}", where=str(path.parent), fix="make it writable"
        ) from error
    connection = sqlite3.connect(path, timeout=60.0, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may lose the last chunk, never tear the file
    connection.execute(
        "CREATE TABLE IF NOT EXISTS vectors (fingerprint TEXT, text BLOB, vector BLOB,"
        " PRIMARY KEY (fingerprint, text)) WITHOUT ROWID"
    )
    return connection


def _read(cache: sqlite3.Connection, fingerprint: str, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
    marks = ",".join("?" * len(keys))
    rows = cache.execute(
        f"SELECT text, vector FROM vectors WHERE fingerprint = ? AND text IN ({marks})", (fingerprint, *keys)
    )
    return {key: np.frombuffer(vector, dtype="<f4") for key, vector in rows}


def _write(cache: sqlite3.Connection, fingerprint: str, keys: Sequence[bytes], vectors: Vectors) -> None:
    rows = [(fingerprint, key, vector.tobytes()) for key, vector in zip(keys, vectors, strict=True)]
    cache.execute("BEGIN IMMEDIATE")
    try:
        cache.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", rows)
        cache.execute("COMMIT")
    except BaseException:
        if cache.in_transaction:
            cache.execute("ROLLBACK")
        raise


def _text_key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
