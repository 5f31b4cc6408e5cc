"""Branches: texts that grow behind one cached prefix, all in one row, each seeing the prefix and itself alone.

    prefix (cached)            | "Where is Oslo?" | "Who wrote it?" | LOC | HUM | ation | ...
    columns of branch "HUM":     1st question's, then the one of HUM

A branch is the columns of its tokens in the cache behind the prefix; a child begins with its parent's. So what
branches share is held once, however many they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from luthier.models.engine import PrefixCache
from luthier.models.sidebyside import SideBySide

Branch = npt.NDArray[np.int64]

ROOT: Branch = np.array([], dtype=np.int64)


class Branches:
    """What has grown so far; `growing` makes one, and takes the branches out of the cache at its end."""

    def __init__(self, cache: PrefixCache) -> None:
        self._cache = cache
        self._prefix = len(cache.ids)
        self._columns = 0

    def grow(self, parts: Sequence[tuple[Branch, Sequence[int]]]) -> tuple[list[Branch], Any]:
        """Append tokens to branches in one pass: the longer branches, and the logits after each [parts, vocabulary]."""
        size = sum(len(tokens) for _, tokens in parts)
        start = self._prefix + self._columns
        sees = np.zeros((size, start + size), dtype=np.bool_)
        sees[:, : self._prefix] = True
        ids: list[int] = []
        positions: list[int] = []
        longer: list[Branch] = []
        for branch, tokens in parts:
            at, end = len(ids), len(ids) + len(tokens)
            sees[at:end, self._prefix + branch] = True
            sees[at:end, start + at : start + end] = np.tri(len(tokens), dtype=np.bool_)
            ids += tokens
            depth = self._prefix + len(branch)
            positions += range(depth, depth + len(tokens))
            longer.append(np.append(branch, self._columns + np.arange(at, end)))
        wanted = np.cumsum([len(tokens) for _, tokens in parts]) - 1
        logits = self._cache.grow(np.array(ids), np.array(positions), sees, wanted)
        self._columns += size
        return longer, logits

    def copy(self, branch: Branch, texts: SideBySide, at: int) -> None:
        """Let the text `at` of others begin with this branch, prefix included."""
        texts.put(at, self._cache.cache, np.append(np.arange(self._prefix), self._prefix + branch))


@contextmanager
def growing(cache: PrefixCache) -> Iterator[Branches]:
    """Branches behind the cache's prefix; afterwards the cache holds the prefix alone again."""
    with cache.branching():
        yield Branches(cache)
