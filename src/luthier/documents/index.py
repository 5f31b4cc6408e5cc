"""Index: the passages of some documents in LanceDB tables on disk, one table a size, brought up to date file by file.

What counts is what `index.json` says: which version of each table, and the hash of every file that is in it. An update
adds versions beside those, and replaces that one small file at its end: until then, and after a crash, the old index is
the index. LanceDB's own versions do the rest (a table is read as of the version that counts).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from luthier.documents import chunk, read
from luthier.documents.chunk import Chunk, chunks_of
from luthier.documents.read import Reading, Unreadable, read_documents
from luthier.errors import DataError, MissingExtra, StoreError
from luthier.task.documents import document_files, file_hashes, settings_content
from luthier.types import Documents, Embedder, Event, Listener, digest, silent

VERSION = 1
STATE = "index.json"
_BATCH = 1024  # passages written at once
_NAMES = 200  # files in one condition
_TAG = "counts"
_KEPT = timedelta(days=1)  # how long an old version stays, for whoever still reads it
# no stemming and no stop words: they would have to know the language. Words beyond 64 letters are no words.
_WORDS: Mapping[str, Any] = {
    "base_tokenizer": "icu/split",  # it parts the words of scripts without spaces too
    "lower_case": True,
    "ascii_folding": True,
    "stem": False,
    "remove_stop_words": False,
    "max_token_length": 64,
    "with_position": False,
}


@dataclass(frozen=True)
class State:
    """What an index holds. `files`: the SHA-256 of each; `skipped`: why there is nothing of it; `guessed`: encodings.

    `versions` and `passages` by the size of the passages.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    guessed: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    passages: Mapping[str, int] = field(default_factory=dict)


class Index:
    """The index of some documents in a folder of its own below `folder`, named by how they are read and embedded.

    Errors: MissingExtra without LanceDB; StoreError where the folder cannot be used.
    """

    def __init__(self, documents: Documents, folder: Path, embedder: Embedder, listen: Listener = silent) -> None:
        self._lancedb = _lancedb()
        self.documents, self._embedder, self._listen = documents, embedder, listen
        self.settings = digest(
            (VERSION, read.VERSION, chunk.VERSION), settings_content(documents), embedder.fingerprint, _WORDS
        )
        self.folder = folder / digest(self.settings, documents.paths)[:12]

    def state(self) -> State:
        """What the index holds now; an empty one where there is none, or none that can be read."""
        try:
            return State(**json.loads((self.folder / STATE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return State()

    def update(self) -> State:
        """Bring the index to what the files say now, reading only those that changed; or leave it as it was.

        Errors: DataError for a file that has to be mended, or where nothing can be read; StoreError.
        """
        files = document_files(self.documents)
        hashes = file_hashes(files)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.folder / "lock"):
                state = self.state()
                if state.files == hashes and self._whole(state):
                    return state
                return self._updated(state if self._whole(state) else State(), files, hashes)
        except (OSError, RuntimeError) as mistake:
            if isinstance(mistake, RuntimeError) and "lance" not in str(mistake).lower():
                raise  # the embedder's, say
            raise StoreError(
                f"the index of the documents cannot be written: {getattr(mistake, 'strerror', None) or mistake}",
                where=str(self.folder),
                fix="make room or make it writable; the old index stays",
            ) from mistake

    def table(self, size: int, state: State) -> Any:
        """The table of that size, as of the version that counts."""
        table = self._lancedb.connect(str(self.folder)).open_table(_name(size))
        table.checkout(state.versions[str(size)])
        return table

    # ------------------------------------------------------------ the update

    def _whole(self, state: State) -> bool:
        """Whether every version that counts is there, and its rows: somebody may have cleaned up in the folder."""
        counts = {}
        try:
            for size in self.documents.chunk_chars:
                table = self.table(size, state)
                counts[str(size)] = len(table.search().select(["start"]).to_arrow()) if table.list_indices() else 0
        except Exception:  # whatever LanceDB says of files that are gone or torn
            return False
        return counts == dict(state.passages)

    def _updated(self, before: State, files: Mapping[str, Path], hashes: Mapping[str, str]) -> State:
        gone = [name for name in before.files if hashes.get(name) != before.files[name]]
        new = [name for name in hashes if hashes[name] != before.files.get(name)]
        skipped = {name: reason for name, reason in before.skipped.items() if name not in gone}
        guessed = {name: codec for name, codec in before.guessed.items() if name not in gone}
        tables = {size: self._opened(size, before) for size in self.documents.chunk_chars}
        for table in tables.values():
            for some in _batches(gone, _NAMES):
                table.delete(f"file IN ({', '.join(map(_quoted, some))})")
        waiting: dict[int, list[tuple[str, Chunk]]] = {size: [] for size in tables}
        seen = dict(hashes)
        for at, name in enumerate(new):
            self._listen(Event("working", text="reading documents", done=at, total=len(new)))
            found = Reading()
            try:
                for document in read_documents(files[name], name, self.documents, found):
                    for size, rows in waiting.items():
                        rows += [(name, each) for each in chunks_of(document, size)]
                        if len(rows) >= _BATCH:
                            self._write(tables[size], rows)
            except Unreadable as reason:
                skipped[name] = str(reason)
            seen[name] = found.sha256 or hashes[name]  # it may have changed since it was looked at
            if found.guessed is not None:
                guessed[name] = found.guessed
        for size, rows in waiting.items():
            self._write(tables[size], rows)
        if not all(table.count_rows() for table in tables.values()):
            raise DataError(
                "nothing of the documents can be read: " + "; ".join(f"{name}: {why}" for name, why in skipped.items()),
                where="[documents] paths",
                fix="name documents that hold text",
            )
        from lancedb.index import FTS

        self._listen(Event("working", text="indexing the words of the documents"))
        for table in tables.values():
            # the words anew, from the rows that are there: what a word weighs must not depend on what was there before
            for each in table.list_indices():
                table.drop_index(each.name)
            table.optimize(cleanup_older_than=_KEPT)  # the version that counts has a tag, and stays
            table.create_index("searched", config=FTS(**_WORDS, num_workers=1))
        after = State(
            files=seen,
            skipped=skipped,
            guessed=guessed,
            versions={str(size): table.version for size, table in tables.items()},
            passages={str(size): table.count_rows() for size, table in tables.items()},
        )
        self._commit(after)
        for table in tables.values():
            _protect(table, table.version)
        return after

    def _opened(self, size: int, before: State) -> Any:
        """The table as it counts, writable; what an update that was killed left behind is taken back."""
        db = self._lancedb.connect(str(self.folder))
        if str(size) not in before.versions:
            db.drop_table(_name(size), ignore_missing=True)
            return db.create_table(_name(size), schema=self._schema())
        table, counts = db.open_table(_name(size)), before.versions[str(size)]
        _protect(table, counts)
        if table.version != counts:
            table.restore(counts)
        return table

    def _schema(self) -> Any:
        import pyarrow as pa

        width = int(np.asarray(self._embedder.embed(["the width of a vector"])).shape[1])
        texts = [pa.field(name, pa.string()) for name in ("file", "document", "text", "searched")]
        places = [pa.field(name, pa.int64()) for name in ("start", "end")]
        headings = pa.field("headings", pa.list_(pa.string()))
        return pa.schema([*texts, *places, headings, pa.field("vector", pa.list_(pa.float32(), width))])

    def _write(self, table: Any, rows: list[tuple[str, Chunk]]) -> None:
        """Embed the passages and add them; the list is empty then."""
        import pyarrow as pa

        if not rows:
            return
        vectors = np.asarray(self._embedder.embed([each.searched for _, each in rows]), dtype=np.float32)
        columns = {
            "file": [name for name, _ in rows],
            "document": [each.document for _, each in rows],
            "text": [each.text for _, each in rows],
            "searched": [each.searched for _, each in rows],
            "start": [each.start for _, each in rows],
            "end": [each.end for _, each in rows],
            "headings": [list(each.headings) for _, each in rows],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
        table.add(pa.table(columns, schema=table.schema))
        rows.clear()

    def _commit(self, state: State) -> None:
        fresh = self.folder / f"{STATE}.new"
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(asdict(state), file, indent=1, sort_keys=True, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.folder / STATE)

    def forget(self) -> None:
        """Delete the index; the documents are untouched."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _lancedb() -> Any:
    try:
        import lancedb
    except ImportError:
        raise MissingExtra("rag", "looking answers up in documents") from None
    return lancedb


def _protect(table: Any, version: int) -> None:
    """Put the tag on the version that counts: a tagged version is never cleaned up."""
    tags = table.tags
    if _TAG in tags.list():
        tags.update(_TAG, version)
    else:
        tags.create(_TAG, version)


def _name(size: int) -> str:
    return f"passages_{size}"


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _batches(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
