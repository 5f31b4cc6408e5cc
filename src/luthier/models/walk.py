"""The best-first walk: finds the best answer of a tree exactly, and scores only as much of it as that takes.

An answer's log-probability can only fall with each token. So what a node has so far bounds all the answers below it,
and as soon as an answer is finished that no bound exceeds, it is the best. With priors, an answer's value is its
log-probability less its prior, and a node's bound is what it has so far less the smallest prior below it.
"""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from luthier.models.branches import ROOT, Branch, Branches, growing
from luthier.models.engine import ROW_TOKENS, PrefixCache, edge_logprobs, prefix_tokens
from luthier.models.packing import Floats, Item, Trie, fill_rows

# a tree with fewer nodes is scored whole, in one pass
WORTH_A_WALK = 32
# nodes an item runs in its second pass (the first is the prompt), twice as many in each further one, up to the last
FIRST_WIDTH, LAST_WIDTH = 4, 16


@dataclass(frozen=True, slots=True)
class Walked:
    """`best` is the index of the best answer; `logprobs` (nats) are None for answers not scored to their end."""

    best: int
    logprobs: tuple[float | None, ...]
    edges: int
    fresh_tokens: int
    cached_tokens: int
    seconds: float


@dataclass(frozen=True)
class _Tree:
    """What the walk looks up in a trie: for each node (-1: the prompt's end) its edges, and what an edge leads to."""

    edges: Mapping[int, Sequence[int]]
    child: Mapping[int, int]
    answers: Mapping[int, Sequence[int]]  # the answers that end with an edge: several if they are written alike
    below: Mapping[int, Sequence[int]]  # the answers that go through a node


@lru_cache(maxsize=256)
def _tree(trie: Trie) -> _Tree:
    edges: dict[int, list[int]] = defaultdict(list)
    for edge, (node, _) in enumerate(trie.edges):
        edges[node].append(edge)
    numbers = {edge: number for number, edge in enumerate(trie.edges)}
    led = zip(trie.parents, trie.nodes, strict=True)
    child = {numbers[parent, token]: node for node, (parent, token) in enumerate(led)}
    answers: dict[int, list[int]] = defaultdict(list)
    below: dict[int, list[int]] = defaultdict(list)
    for answer, path in enumerate(trie.paths):
        answers[path[-1]].append(answer)
        for edge in path[:-1]:
            below[child[edge]].append(answer)
    return _Tree(edges, child, answers, below)


class _Walk:
    """The walk of one item: nodes that wait with their bounds, and the answers that are finished."""

    def __init__(self, item: Item, prior: Sequence[float] | None) -> None:
        self.item = item
        self.tree = _tree(item.trie)
        self.prior = prior or (0.0,) * len(item.trie.paths)
        self.logprobs: dict[int, float] = {}
        self.best = -np.inf
        self.scored = 0
        self.waiting: list[tuple[float, int, float]] = []  # (minus the bound, node, log-probability so far)
        self.branch: dict[int, Branch] = {}

    def saw(self, node: int, sofar: float, branch: Branch, logprobs: Floats) -> None:
        """The log-probabilities of a node's edges, in their order."""
        self.branch[node] = branch
        self.scored += len(logprobs)
        for edge, logprob in zip(self.tree.edges[node], logprobs, strict=True):
            total = sofar + min(float(logprob), 0.0)  # rounding must not raise it
            for answer in self.tree.answers.get(edge, ()):
                self.logprobs[answer] = total
                self.best = max(self.best, total - self.prior[answer])
            if edge in self.tree.child:
                below = self.tree.child[edge]
                bound = total - min(self.prior[answer] for answer in self.tree.below[below])
                heapq.heappush(self.waiting, (-bound, below, total))

    def next(self, width: int) -> list[tuple[int, float]]:
        """The nodes to run next, with their log-probabilities so far; none: the best answer is found."""
        chosen: list[tuple[int, float]] = []
        # a bound that equals the best may still tie with it, and ties go to the answer that is named first
        while self.waiting and len(chosen) < width and -self.waiting[0][0] >= self.best:
            _, node, sofar = heapq.heappop(self.waiting)
            chosen.append((node, sofar))
        return chosen

    def done(self, fresh: int, cached: int, seconds: float) -> Walked:
        values = {answer: logprob - self.prior[answer] for answer, logprob in self.logprobs.items()}
        logprobs = tuple(self.logprobs.get(answer) for answer in range(len(self.prior)))
        best = min(values, key=lambda answer: (-values[answer], answer))
        return Walked(best, logprobs, self.scored, fresh, cached, seconds)


def find_best(
    cache: PrefixCache,
    items: Sequence[Item],
    priors: Sequence[Sequence[float] | None],
    row_tokens: int = ROW_TOKENS,
) -> list[Walked]:
    """The best answer of each item; `priors` holds log-probabilities to subtract, one for each answer, or None.

    What is run depends on these items alone, so the same items give the same bits. Source of the bound: design of A*
    with a heuristic of 0 (Hart et al. 1968).
    """
    began = time.perf_counter()
    prefix = prefix_tokens([item.prompt for item in items])
    reused = cache.hold(items[0].prompt[:prefix])
    prefix_seconds = time.perf_counter() - began
    walked: list[Walked] = []
    for indices in fill_rows([len(item.prompt) - prefix + FIRST_WIDTH for item in items], row_tokens):
        began = time.perf_counter()
        walks = [_Walk(items[index], priors[index]) for index in indices]
        with growing(cache) as branches:
            _walk(branches, walks, prefix, row_tokens)
        seconds = (time.perf_counter() - began) / len(walks) + prefix_seconds / len(items)
        for walk in walks:
            cached = prefix if walked else reused
            walked.append(walk.done(len(walk.item.prompt) - cached, cached, seconds))
    return walked


def _walk(branches: Branches, walks: Sequence[_Walk], prefix: int, row_tokens: int) -> None:
    asked = [(walk, -1, 0.0, ROOT, walk.item.prompt[prefix:]) for walk in walks]
    width = FIRST_WIDTH
    while asked:
        longer, logits = branches.grow([(branch, tokens) for *_, branch, tokens in asked])
        edges = [walk.tree.edges[node] for walk, node, *_ in asked]
        source = np.repeat(np.arange(len(asked)), [len(some) for some in edges])
        tokens = [walk.item.trie.edges[edge][1] for (walk, *_), some in zip(asked, edges, strict=True) for edge in some]
        found = edge_logprobs(logits, source, np.array(tokens))
        parts = np.split(found, np.cumsum([len(some) for some in edges])[:-1])
        for (walk, node, sofar, *_), branch, logprobs in zip(asked, longer, parts, strict=True):
            walk.saw(node, sofar, branch, logprobs)
        most = max(1, min(width, row_tokens // len(walks)))
        asked = [
            (walk, node, sofar, walk.branch[walk.item.trie.parents[node]], (walk.item.trie.nodes[node],))
            for walk in walks
            for node, sofar in walk.next(most)
        ]
        width = min(2 * width, LAST_WIDTH)
