"""Packing: prompts and the tree of their answers, laid behind each other in one row without any padding.

    prefix (run once, cached)   | item 0: rest of the prompt, tree of its answers | item 1: ... |
    "Which class is it? "       | "Where is Oslo?"  LOC  NUM .day .year           | ...

A token sees the prefix, and of its own item the tokens it follows: the rest of the prompt, and its ancestors in the
tree. Its position is its depth, so that it is where it would stand if its answer were alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trie:
    """The answers to one prompt as a tree of tokens, parents before their children.

    A node is a token that must be run: all but the last token of each answer, shared beginnings once. An edge is a
    token whose probability is needed, as (the node it follows, its id); node -1 is the end of the prompt. A path holds
    the edges of one answer.
    """

    nodes: tuple[int, ...]
    parents: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    paths: tuple[tuple[int, ...], ...]

    @cached_property
    def depths(self) -> tuple[int, ...]:
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return tuple(depths)

    @cached_property
    def sees(self) -> Bools:
        """[nodes, nodes]: which nodes a node sees: its ancestors and itself."""
        sees = np.eye(len(self.nodes), dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] |= sees[parent]
        return sees

    def totals(self, edge_logprobs: Floats) -> tuple[float, ...]:
        """The log-probability of each answer from those of the edges."""
        return tuple(float(edge_logprobs[list(path)].sum()) for path in self.paths)


def build_trie(answers: Sequence[Sequence[int]]) -> Trie:
    """The tree of answers; an answer holds at least one token, its end of turn.

    >>> build_trie([[5, 6, 0], [5, 0]])
    Trie(nodes=(5, 6), parents=(-1, 0), edges=((-1, 5), (0, 6), (1, 0), (0, 0)), paths=((0, 1, 2), (0, 3)))
    """
    nodes: list[int] = []
    parents: list[int] = []
    node_of: dict[tuple[int, ...], int] = {(): -1}
    edges: dict[tuple[int, int], int] = {}
    paths: list[tuple[int, ...]] = []
    for answer in map(tuple, answers):
        path = []
        for at, token in enumerate(answer):
            parent = node_of[answer[:at]]
            path.append(edges.setdefault((parent, token), len(edges)))
            if at + 1 < len(answer) and answer[: at + 1] not in node_of:
                node_of[answer[: at + 1]] = len(nodes)
                nodes.append(token)
                parents.append(parent)
        paths.append(tuple(path))
    return Trie(tuple(nodes), tuple(parents), tuple(edges), tuple(paths))


@dataclass(frozen=True)
class Item:
    """One prompt with the tree of its answers."""

    prompt: tuple[int, ...]
    trie: Trie

    def tokens_after(self, prefix: int) -> int:
        return len(self.prompt) - prefix + len(self.trie.nodes)


@dataclass(frozen=True)
class Row:
    """Several items behind each other: what is run in one pass.

    `sees` is [tokens, prefix + tokens]. `wanted` are the indices of the tokens whose next-token probabilities are
    needed; an edge is (index into wanted, token id), those of the items behind each other.
    """

    ids: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    sees: Bools
    wanted: npt.NDArray[np.int64]
    edge_from: npt.NDArray[np.int64]
    edge_token: npt.NDArray[np.int64]


def pack(items: Sequence[Item], prefix: int) -> Row:
    """Lay items behind each other; `prefix` tokens of each prompt, the same for all, are already in the cache."""
    size = sum(item.tokens_after(prefix) for item in items)
    sees = np.zeros((size, prefix + size), dtype=np.bool_)
    sees[:, :prefix] = True
    ids: list[int] = []
    positions: list[int] = []
    wanted: list[int] = []
    edge_from: list[int] = []
    edge_token: list[int] = []
    for item in items:
        rest, trie, start = item.prompt[prefix:], item.trie, len(ids)
        tree, end = start + len(rest), start + item.tokens_after(prefix)
        sees[start:tree, prefix + start : prefix + tree] = np.tri(len(rest), dtype=np.bool_)
        sees[tree:end, prefix + start : prefix + tree] = True
        sees[tree:end, prefix + tree : prefix + end] = trie.sees
        # node -1, the end of the prompt, stands right before the nodes: node n is at index tree + n
        edge_from += [len(wanted) + node + 1 for node, _ in trie.edges]
        edge_token += [token for _, token in trie.edges]
        wanted += range(tree - 1, end)
        ids += [*rest, *trie.nodes]
        positions += [*range(prefix, len(item.prompt)), *(len(item.prompt) + depth for depth in trie.depths)]
    return Row(
        ids=np.array(ids),
        positions=np.array(positions),
        sees=sees,
        wanted=np.array(wanted),
        edge_from=np.array(edge_from),
        edge_token=np.array(edge_token),
    )


def fill_rows(sizes: Sequence[int], limit: int) -> list[range]:
    """Cut a batch, in its order, into rows of at most `limit` tokens; an item above the limit has a row of its own.

    >>> fill_rows([3, 3, 3, 9, 1], limit=6)
    [range(0, 2), range(2, 3), range(3, 4), range(4, 5)]
    """
    rows: list[range] = []
    start, used = 0, 0
    for index, size in enumerate(sizes):
        if index > start and used + size > limit:
            rows.append(range(start, index))
            start, used = index, 0
        used += size
    return [*rows, range(start, len(sizes))] if sizes else rows


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with; the smallest and the largest differ first.

    >>> common_prefix([[1, 2, 3], [1, 2, 4], [1, 2, 3, 5]])
    2
    """
    first, last = min(sequences, key=tuple), max(sequences, key=tuple)
    shared = min(len(first), len(last))
    return next((at for at in range(shared) if first[at] != last[at]), shared)
