"""The engine: runs prefixes and packed rows through a torch module; it knows token ids, not chats."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.errors import MissingExtra
from luthier.models.packing import Item, Row, Trie, build_trie, common_prefix, fill_rows, pack
from luthier.models.sidebyside import SideBySide

try:
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer
except ImportError as error:  # the only optional parts this module needs
    raise MissingExtra("local", "a local model") from error

# measured: from 192 tokens on, longer rows win nothing in the layers' products, and attention costs their square
ROW_TOKENS = 320
# a chunk is run alike whatever follows it, so a cached one has the same bits as one that is run again; measured: the
# prefill is 14 % faster than in chunks of 64, and longer ones win little but share less
CHUNK_TOKENS = 128
# below this many tokens saved, a pass of its own for the rest of the prefix costs more than it saves
WORTH_A_PASS = 32


@dataclass(frozen=True, slots=True)
class Scored:
    """The log-probability of each answer, in nats, with what it took."""

    logprobs: tuple[float, ...]
    fresh_tokens: int
    cached_tokens: int
    seconds: float


class PrefixCache:
    """The keys and values of the prefix that was run last.

    Prefixes are run in chunks of `CHUNK_TOKENS`, whole chunks that a new prefix shares with the last one stay, the rest
    is cropped. So the bits of what is cached depend on the prefix alone, not on what was asked before.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._grown = 0
        self.clear()

    def clear(self) -> None:
        self.ids: tuple[int, ...] = ()
        self.cache = DynamicCache()

    def hold(self, ids: tuple[int, ...]) -> int:
        """Make `ids` the cached prefix; returns how many of its tokens were there already."""
        if ids == self.ids:
            return len(ids)
        shared = common_prefix([ids, self.ids]) // CHUNK_TOKENS * CHUNK_TOKENS
        with self._whole_or_empty():
            self.cache.crop(shared - len(self.ids))
            for start in range(shared, len(ids), CHUNK_TOKENS):
                self._extend(ids[start : start + CHUNK_TOKENS], start)
        self.ids = ids
        return shared

    def run(self, row: Row) -> Any:
        """The logits at the row's wanted positions, [wanted, vocabulary]; the cache holds the prefix alone again."""
        with self.branching():
            return self.grow(row.ids, row.positions, row.sees, row.wanted)

    @contextmanager
    def branching(self) -> Iterator[None]:
        """What `grow` runs inside is taken out of the cache at the end: it holds the prefix alone again."""
        self._grown = 0
        with self._whole_or_empty():
            yield
            self.cache.crop(-self._grown)

    def grow(self, ids: Any, positions: Any, sees: Any, wanted: Any) -> Any:
        """Run tokens behind all that is cached: the logits at the wanted ones, [wanted, vocabulary].

        `sees` is [tokens, cached + tokens]. Only inside `branching`.
        """
        seen = torch.from_numpy(sees)
        # additive and not boolean: every attention kernel takes it, and none converts it once a layer
        mask = torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)
        output = self._module(
            input_ids=self._tensor(ids[None]),
            position_ids=self._tensor(positions[None]),
            attention_mask=mask[None, None].to(self._module.device),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=self._tensor(wanted),
        )
        self._grown += len(ids)
        logits = output.logits[0]
        # a model that knows no logits_to_keep gives those of all tokens
        return logits if len(logits) == len(wanted) else logits[self._tensor(wanted)]

    def side_by_side(self, lengths: Sequence[int], rooms: Sequence[int]) -> SideBySide:
        """Texts of the same module that are to go on side by side."""
        return SideBySide(self._module, lengths, rooms)

    def _extend(self, ids: tuple[int, ...], start: int) -> None:
        self._module(
            input_ids=self._tensor(np.array([ids])),
            position_ids=self._tensor(np.arange(start, start + len(ids))[None]),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )

    def _tensor(self, values: Any) -> Any:
        return torch.from_numpy(values).to(self._module.device)

    @contextmanager
    def _whole_or_empty(self) -> Iterator[None]:
        # an interrupt in the middle of a pass leaves some layers longer than others
        try:
            yield
        except BaseException:
            self.clear()
            raise


def score_packed(cache: PrefixCache, items: Sequence[Item], row_tokens: int = ROW_TOKENS) -> list[Scored]:
    """Score the answers of each item: the shared prefix once, then rows of items packed behind it.

    Which prefix and which rows depends on these items alone, so the same items give the same bits.
    """
    return _score_rows(cache, items, prefix_tokens([item.prompt for item in items]), row_tokens) if items else []


def _score_rows(cache: PrefixCache, items: Sequence[Item], prefix: int, row_tokens: int) -> list[Scored]:
    began = time.perf_counter()
    reused = cache.hold(items[0].prompt[:prefix])
    prefix_seconds = time.perf_counter() - began
    scored: list[Scored] = []
    for indices in fill_rows([item.tokens_after(prefix) for item in items], row_tokens):
        began = time.perf_counter()
        packed = [items[index] for index in indices]
        row = pack(packed, prefix)
        edges = edge_logprobs(cache.run(row), row.edge_from, row.edge_token)
        cuts = np.cumsum([len(item.trie.edges) for item in packed])[:-1]
        totals = [item.trie.totals(part) for item, part in zip(packed, np.split(edges, cuts), strict=True)]
        # the seconds of all items together are those of the batch
        seconds = (time.perf_counter() - began) / len(packed) + prefix_seconds / len(items)
        for item, logprobs in zip(packed, totals, strict=True):
            cached = prefix if scored else reused
            scored.append(Scored(logprobs, len(item.prompt) - cached, cached, seconds))
    return scored


def score_plainly(module: Any, items: Sequence[Item], row_tokens: int = ROW_TOKENS) -> list[Scored]:
    """The same scores from one sequence for each prompt and answer, in right-padded batches: any causal model can."""
    scored = []
    if by_length(module.config.get_text_config()):
        row_tokens = 1  # each sequence by itself: of a batch, the longest decides
    for item in items:
        began = time.perf_counter()
        totals = [0.0] * len(item.trie.paths)
        length = len(item.prompt)
        answers = [[item.trie.edges[edge][1] for edge in path] for path in item.trie.paths]
        for indices in fill_rows([length + len(answer) for answer in answers], row_tokens):
            rows = [[*item.prompt, *answers[index][:-1]] for index in indices]
            width = max(map(len, rows))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=module.device)
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=module.device)
            logits = module(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, length - 1 :]
            for index, row_logits in zip(indices, logits, strict=True):
                tokens = np.array(answers[index])
                totals[index] = float(edge_logprobs(row_logits, np.arange(len(tokens)), tokens).sum())
        scored.append(Scored(tuple(totals), length, 0, time.perf_counter() - began))
    return scored


def why_not_packed(module: Any) -> str | None:
    """Why a model cannot score packed rows; None: it can. Its caches are looked at, then a small case is tried."""
    layers = DynamicCache(config=module.config).layers
    if any(type(layer) is not DynamicLayer for layer in layers):
        return "its cache (sliding window or recurrent) cannot be cropped"
    if by_length(module.config.get_text_config()):
        return "what a token is depends on how long its text is (dynamic or long rope, local attention)"
    items, shared = _trial(int(module.config.get_text_config().vocab_size))
    try:
        packed = _score_rows(PrefixCache(module), items, shared, ROW_TOKENS)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        return f"it does not take a mask and positions for each token ({type(error).__name__})"
    plain = score_plainly(module, items)
    near = all(np.allclose(a.logprobs, b.logprobs, rtol=1e-4, atol=1e-3) for a, b in zip(packed, plain, strict=True))
    return None if near else "packed rows change its scores"


def by_length(config: Any) -> bool:
    """Whether long texts turn positions otherwise than short ones, or see no further than some tokens without a cache
    that says so: the small case that is tried would show neither."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {each.get("rope_type") for each in (rope, *rope.values()) if isinstance(each, dict)}
    return bool(kinds & {"dynamic", "longrope"}) or "local" in (getattr(config, "attention_layers", None) or ())


def prefix_tokens(prompts: Sequence[Sequence[int]]) -> int:
    """How much of the prompts to run once. The last token of each prompt stays out: its logits are needed."""
    shared = min(common_prefix(prompts), min(map(len, prompts)) - 1)
    rest = shared % CHUNK_TOKENS
    return shared if rest * (len(prompts) - 1) >= WORTH_A_PASS else shared - rest


def edge_logprobs(logits: Any, edge_from: Any, edge_token: Any) -> Any:
    # in double precision from here on: a score is a sum of differences of large numbers
    normalizers = torch.logsumexp(logits, dim=-1).double()
    source = torch.from_numpy(edge_from).to(logits.device)
    chosen = logits[source, torch.from_numpy(edge_token).to(logits.device)].double()
    return (chosen - normalizers[source]).cpu().numpy()


def _trial(vocabulary: int) -> tuple[list[Item], int]:
    """Two short items, and how much of them they share."""
    rng = np.random.default_rng(0)
    a, b, c, end, *prefix = (int(token) for token in rng.integers(vocabulary, size=8))
    trie: Trie = build_trie([[a, b, end], [a, end], [c, end]])
    return [Item((*prefix, a), trie), Item((*prefix, b, c, b), trie)], len(prefix)
