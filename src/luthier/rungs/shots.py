"""Shots: where the solved examples of a prompt come from: the same for every input, or the nearest to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import bm25s
import numpy as np
from numpy.typing import NDArray

from luthier.rungs.base import same_model
from luthier.types import Embedder

Shot = tuple[str, str]  # an input and its right answer
By = Literal["embedding", "bm25", "both"]

# Cormack, Clarke and Büttcher 2009: a rank r counts 1 / (60 + r), whatever the scores behind it
FUSION = 60


class Shots(Protocol):
    """Solved examples for each of some inputs, the one that should stand next to the question last."""

    def of(self, texts: Sequence[str]) -> list[tuple[Shot, ...]]: ...
    def save(self, folder: Path) -> Mapping[str, Any]: ...
    def describe(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class FixedShots:
    """The same solved examples before every input: a prefix that is run, and paid for, once."""

    shots: tuple[Shot, ...] = ()

    def of(self, texts: Sequence[str]) -> list[tuple[Shot, ...]]:
        return [self.shots] * len(texts)

    def save(self, folder: Path) -> Mapping[str, Any]:
        return {"shots": self.shots}

    def describe(self) -> Mapping[str, Any]:
        return {"examples in the prompt": len(self.shots)}


@dataclass(frozen=True)
class NearestShots:
    """The `count` training examples that are most like the input, the nearest last (Liu et al. 2022).

    Likeness is the cosine of embeddings ("embedding"), BM25 on words ("bm25", Robertson and Zaragoza 2009; Lucene's
    variant, no stop words, no stemming: it knows no language), or both, fused by rank. `vectors` are the unit vectors
    of `pool`, shape (len(pool), dimension); None where only words count.
    """

    pool: tuple[Shot, ...]
    count: int
    by: By
    embedder: Embedder | None = None
    vectors: NDArray[np.float32] | None = field(default=None, compare=False)

    def of(self, texts: Sequence[str]) -> list[tuple[Shot, ...]]:
        return [tuple(self.pool[at] for at in row) for row in self.nearest(texts)]

    def nearest(self, texts: Sequence[str]) -> list[list[int]]:
        """The places in the pool of each text's neighbours, the nearest last."""
        if not len(texts):
            return []
        found = [self._order(scores) for scores in self._scores(texts)]
        return [[int(at) for at in order[: self.count][::-1]] for order in found]

    def _scores(self, texts: Sequence[str]) -> Any:
        ways = []
        if self.by != "bm25":
            assert self.embedder is not None
            assert self.vectors is not None
            ways.append(np.asarray(self.embedder.embed(texts)) @ self.vectors.T)
        if self.by != "embedding":
            ways.append(np.stack([self._by_words(text) for text in texts]))
        if len(ways) == 1:
            return ways[0]
        ranks = [np.argsort(np.argsort(-way, axis=1, kind="stable"), axis=1, kind="stable") for way in ways]
        return sum(1.0 / (FUSION + 1 + rank) for rank in ranks)

    @staticmethod
    def _order(scores: Any) -> Any:
        return np.argsort(-scores, kind="stable")

    def _by_words(self, text: str) -> Any:
        index, known = self._index
        words = [word for word in _words([text])[0] if word in known]
        return index.get_scores(words) if words else np.zeros(len(self.pool))

    @cached_property
    def _index(self) -> tuple[Any, frozenset[str]]:
        words = _words([text for text, _ in self.pool])
        index = bm25s.BM25(method="lucene")
        index.index(words, show_progress=False)
        return index, frozenset(word for row in words for word in row)

    def save(self, folder: Path) -> Mapping[str, Any]:
        if self.vectors is not None:
            np.savez(folder / "vectors.npz", vectors=self.vectors)
        embedder = None if self.embedder is None else self.embedder.fingerprint
        return {"pool": self.pool, "count": self.count, "by": self.by, "embedder": embedder}

    def describe(self) -> Mapping[str, Any]:
        by = {"bm25": "words (BM25)", "both": "words (BM25) and meaning, fused by rank", "embedding": "meaning"}[
            self.by
        ]
        told: dict[str, Any] = {
            "examples in the prompt": min(self.count, len(self.pool)),
            "chosen from": len(self.pool),
            "by likeness of": by,
        }
        return told if self.embedder is None else {**told, "embedder": self.embedder.name}


def load_shots(content: Mapping[str, Any], folder: Path, models: Mapping[str, Any]) -> FixedShots | NearestShots:
    """What `save` told, with the arrays from the folder; the embedder must be the one that made the vectors."""
    if "shots" in content:
        return FixedShots(tuple((text, answer) for text, answer in content["shots"]))
    embedder = vectors = None
    if content["embedder"] is not None:
        embedder = same_model(models, "embedder", content["embedder"], folder)
        with np.load(folder / "vectors.npz", allow_pickle=False) as arrays:
            vectors = arrays["vectors"]
    pool = tuple((text, answer) for text, answer in content["pool"])
    return NearestShots(pool, content["count"], content["by"], embedder, vectors)


def _words(texts: Sequence[str]) -> list[list[str]]:
    found: Any = bm25s.tokenize(
        list(texts), stopwords=None, return_ids=False, show_progress=False, token_pattern=r"(?u)\b\w+\b"
    )
    return [[str(word) for word in row] for row in found]
