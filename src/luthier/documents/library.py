"""Library: what is asked of documents: the passages nearest to a text, by words, by meaning, or both fused by rank.

One example: to "How many days off do I have?" the best passage by words is `handbook/faq.md:0-410`, by meaning
`handbook/leave.md:0-380` ("Everyone has 30 days."); fused, the one that stands high in both lists comes first.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from luthier.documents.chunk import Chunk, chunks_of
from luthier.documents.index import Index, State
from luthier.documents.read import Reading, Unreadable, read_documents
from luthier.documents.rerank import CrossEncoder, Reranker
from luthier.errors import SpecError, StoreError
from luthier.task.documents import document_files
from luthier.types import Documents, Embedder, Example, Listener, digest, silent

By = Literal["both", "bm25", "embedding"]
BYS: tuple[By, ...] = ("both", "bm25", "embedding")
WORDS: Mapping[By, str] = {
    "both": "words (BM25) and meaning, fused by rank",
    "bm25": "words (BM25)",
    "embedding": "meaning",
}
# Cormack, Clarke and Büttcher 2009: a rank r counts 1 / (60 + r), whatever the scores behind it
FUSION = 60
POOL = 100  # of each list, before they are fused
DEPTH = 20  # how many passages a search gives at most
RERANKED = 20
LONGEST_QUERY = 256  # different words
_REMEMBERED = 4096  # searches
_SHARED = 0.5  # of the runs of five words, from which on two passages are one
_WORD = re.compile(r"\w+")
_COLUMNS = ["document", "start", "end", "headings", "text"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found, and how well it suits: only the order of the scores of one search says something."""

    chunk: Chunk
    score: float


class Library:
    """Documents that can be asked, as they were when it was opened: later changes are in the next one.

    The fingerprint changes with what the documents say, with how they are cut, searched and ordered, and with the
    embedder. Vectors are compared one by one, without an approximate index: exact, in time that grows with them.
    """

    name = "documents"

    def __init__(
        self,
        documents: Documents,
        index: Index,
        state: State,
        embedder: Embedder,
        reranker: Reranker | None = None,
    ) -> None:
        self.documents, self.state, self.reranker = documents, state, reranker
        self._index, self._embedder = index, embedder
        self._tables: dict[int, Any] = {}
        self._searched: OrderedDict[tuple[str, int, By], tuple[Hit, ...]] = OrderedDict()

    @cached_property
    def fingerprint(self) -> str:
        return digest(
            "library",
            1,
            self._index.settings,
            self.state.files,
            None if self.reranker is None else self.reranker.fingerprint,
            self.documents.no_answer,
            self.documents.oracles,
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of passages that there are, in characters, the smallest first."""
        return self.documents.chunk_chars

    @property
    def no_answer(self) -> str:
        return self.documents.no_answer

    def describe(self) -> dict[str, Any]:
        """What was read, and what was not, for people."""
        state = self.state
        told: dict[str, Any] = {
            "files": len(state.files),
            "passages": {f"of at most {size} characters": count for size, count in state.passages.items()},
        }
        if state.skipped:
            told["skipped"] = [f"{name}: {reason}" for name, reason in sorted(state.skipped.items())]
        if state.guessed:
            told["encoding guessed"] = [f"{name}: {codec}" for name, codec in sorted(state.guessed.items())]
        return told

    # ------------------------------------------------------------ searching

    def search(
        self, texts: Sequence[str], count: int, *, by: By = "both", size: int | None = None
    ) -> list[tuple[Hit, ...]]:
        """The `count` (at most 20) best passages for each text, the best first; the same passage twice counts once.

        A text without words finds nothing by words. `size` None: the smallest passages.
        """
        wanted = self._size(size)
        missing = [text for text in dict.fromkeys(texts) if (text, wanted, by) not in self._searched]
        vectors = self._embedder.embed(missing) if missing and by != "bm25" else [None] * len(missing)
        fresh = {text: self._found(text, vector, by, wanted) for text, vector in zip(missing, vectors, strict=True)}
        hits = [fresh[text] if text in fresh else self._searched[text, wanted, by] for text in texts]
        for text, found in fresh.items():
            self._searched[text, wanted, by] = found
        while len(self._searched) > _REMEMBERED:
            self._searched.popitem(last=False)
        return [found[:count] for found in hits]

    def _found(self, text: str, vector: Any, by: By, size: int) -> tuple[Hit, ...]:
        lists = []
        if by != "embedding":
            lists.append(self._by_words(text, size))
        if by != "bm25":
            lists.append(self._by_meaning(vector, size))
        hits = lists[0] if len(lists) == 1 else fused(lists)
        distinct = list({" ".join(hit.chunk.text.split()): hit for hit in reversed(hits)}.values())[::-1]
        if self.reranker is not None and distinct:
            distinct = _reranked(self.reranker, text, distinct[:RERANKED])
        return tuple(distinct[:DEPTH])

    def _by_words(self, text: str, size: int) -> list[Hit]:
        from lancedb.query import MatchQuery

        words = list(dict.fromkeys(_WORD.findall(text.lower())))[:LONGEST_QUERY]
        if not words:
            return []
        query = self._table(size).search(MatchQuery(" ".join(words), "searched"), query_type="fts")
        rows = self._rows(query.select([*_COLUMNS, "_score"]).limit(POOL))
        return _ordered([Hit(_chunk(row), float(row["_score"])) for row in rows])

    def _by_meaning(self, vector: Any, size: int) -> list[Hit]:
        query = self._table(size).search(vector, vector_column_name="vector").distance_type("cosine")
        rows = self._rows(query.select([*_COLUMNS, "_distance"]).limit(POOL))
        return _ordered([Hit(_chunk(row), 1.0 - float(row["_distance"])) for row in rows])

    def _rows(self, query: Any) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = query.to_list()
        except (RuntimeError, OSError, ValueError) as mistake:
            raise StoreError(
                f"the index of the documents cannot be read: {mistake}",
                where=str(self._index.folder),
                fix="delete this folder: it is built anew from the documents",
            ) from mistake
        return found

    def _table(self, size: int) -> Any:
        if size not in self._tables:
            self._tables[size] = self._index.table(size, self.state)
        return self._tables[size]

    def _size(self, size: int | None) -> int:
        if size is not None and size not in self.sizes:
            raise SpecError(
                f"there are no passages of {size} characters",
                where="[documents] chunk_chars",
                fix=f"use one of {', '.join(map(str, self.sizes))}",
            )
        return self.sizes[0] if size is None else size

    # ------------------------------------------------------------ what the documents say, and where answers stand

    def chunks(self, size: int | None = None) -> Iterator[Chunk]:
        """Every passage, by document and place: what a leak would have to stand in."""
        table = self._table(self._size(size)).search().select(_COLUMNS).to_arrow()
        rows = table.sort_by([("document", "ascending"), ("start", "ascending")])
        for batch in rows.to_batches(max_chunksize=1024):
            yield from map(_chunk, batch.to_pylist())

    def texts(self, size: int | None = None) -> Iterator[tuple[str, str]]:
        """The id and the text of every passage."""
        for each in self.chunks(size):
            yield each.id, each.text

    def wanted(self, example: Example) -> tuple[str, ...]:
        """What the data say of where this example's answer stands: documents, or passages; perhaps nothing."""
        return self.documents.oracles.get(example.id, ())

    def is_wanted(self, chunk: Chunk, wanted: Sequence[str]) -> bool:
        """Whether a passage is of such a document, or one of those passages (half of its runs of five words)."""
        return any(
            self._is_of(chunk.document, each) if each in self._names else _shares(chunk.text, each) for each in wanted
        )

    def oracle(self, example: Example, *, size: int | None = None) -> tuple[Chunk, ...]:
        """The right passages for an example, those that hold a right answer first; none where nobody knows them."""
        found = []
        for each in self.wanted(example):
            if each not in self._names:
                found.append(Chunk("as in the data", 0, len(each), (), each))
                continue
            found += [chunk for chunk in self._by_document(self._size(size)) if self._is_of(chunk.document, each)]
        return tuple(sorted(found, key=lambda chunk: not any(holds(chunk.text, one) for one in example.references)))

    def _by_document(self, size: int) -> tuple[Chunk, ...]:
        if size not in self._all:
            self._all[size] = tuple(self.chunks(size))
        return self._all[size]

    @cached_property
    def _all(self) -> dict[int, tuple[Chunk, ...]]:
        return {}

    @cached_property
    def _names(self) -> frozenset[str]:
        table = self._table(self.sizes[0]).search().select(["document"]).to_arrow()
        names = set(table["document"].to_pylist())
        return frozenset(names | {name.rpartition("#")[2] for name in names if "#" in name})

    @staticmethod
    def _is_of(document: str, name: str) -> bool:
        return document == name or ("#" in document and document.rpartition("#")[2] == name)


def passages(documents: Documents, size: int | None = None) -> Iterator[Chunk]:
    """Every passage of the files as they are now, without an index: what a leak of an answer would have to stand in.

    `size` None: the smallest. Files without text are left out. Errors: DataError; MissingExtra for a PDF without pypdf.
    """
    for name, path in document_files(documents).items():
        try:
            for document in read_documents(path, name, documents, Reading()):
                yield from chunks_of(document, size or documents.chunk_chars[0])
        except Unreadable:
            continue


def open_library(documents: Documents, folder: Path, embedder: Embedder, listen: Listener = silent) -> Library:
    """The documents as they are now, their index in `folder` brought up to date.

    Errors: MissingExtra, DataError (a file to mend, nothing to read), StoreError; then the index is what it was.
    """
    reranker = None if documents.reranker is None else CrossEncoder(Path(documents.reranker))
    index = Index(documents, folder, embedder, listen)
    return Library(documents, index, index.update(), embedder, reranker)


def fused(lists: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Several lists as one by reciprocal rank, ties by the passage's id.

    >>> a, b, c = (Hit(Chunk("d", at, at, (), ""), 0.0) for at in range(3))
    >>> [hit.chunk.start for hit in fused([[a, b], [b, c]])]
    [1, 0, 2]
    """
    chunks = {hit.chunk.id: hit.chunk for hits in lists for hit in hits}
    scores = dict.fromkeys(chunks, 0.0)
    for hits in lists:
        for rank, hit in enumerate(hits, 1):
            scores[hit.chunk.id] += 1.0 / (FUSION + rank)
    return _ordered([Hit(chunks[key], score) for key, score in scores.items()])


def holds(text: str, answer: str) -> bool:
    """Whether the words of an answer stand in a text, one after the other.

    >>> holds("Everyone has 30 days off.", "30 days"), holds("Everyone has 30 days off.", "3"), holds("a", "?")
    (True, False, False)
    """
    words = _plain(answer)
    return bool(words) and f" {words} " in f" {_plain(text)} "


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))


def _shares(one: str, other: str) -> bool:
    runs = []
    for text in (one, other):
        words = _plain(text).split()
        runs.append({tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))})
    return len(runs[0] & runs[1]) >= _SHARED * min(map(len, runs))


def _reranked(reranker: Reranker, text: str, hits: Sequence[Hit]) -> list[Hit]:
    scores = reranker.score(text, [hit.chunk.searched for hit in hits])
    return _ordered([Hit(hit.chunk, float(score)) for hit, score in zip(hits, scores, strict=True)])


def _ordered(hits: Sequence[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-round(hit.score, 6), hit.chunk.id))


def _chunk(row: Mapping[str, Any]) -> Chunk:
    return Chunk(row["document"], row["start"], row["end"], tuple(row["headings"] or ()), row["text"])
