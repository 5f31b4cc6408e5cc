"""The engine: runs packed rows and generations through a torch module; it knows token ids, not chats."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.errors import MissingExtra
from luthier.models.packing import Item, Row, Trie, build_trie, common_prefix, fill_rows, pack

try:
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer
except ImportError as error:  # the only optional parts this module needs
    raise MissingExtra("local", "a local model") from error

# measured on two cores: longer rows win nothing in the layers and lose in attention, shorter ones lose in both
ROW_TOKENS = 384
# a chunk is run alike whatever follows it, so a cached one has the same bits as one that is run again
CHUNK_TOKENS = 64
# below this many tokens saved, a pass of its own for the rest of the prefix costs more than it saves
WORTH_A_PASS = 32
GENERATION_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Scored:
    """The log-probability of each answer, in nats, with what it took."""

    logprobs: tuple[float, ...]
    fresh_tokens: int
    cached_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to continue, and how: `max_tokens` at most, greedily at temperature 0."""

    ids: tuple[int, ...]
    max_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True, slots=True)
class Generated:
    """The ids of a continuation without the token that stopped it; not `stopped`: it ran into `max_tokens`."""

    ids: tuple[int, ...]
    stopped: bool
    seconds: float


class PrefixCache:
    """The keys and values of the prefix that was run last.

    Prefixes are run in chunks of `CHUNK_TOKENS`, whole chunks that a new prefix shares with the last one stay, the rest
    is cropped. So the bits of what is cached depend on the prefix alone, not on what was asked before.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
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
        sees = torch.from_numpy(row.sees)
        # additive and not boolean: every attention kernel takes it, and none converts it once a layer
        mask = torch.zeros(sees.shape).masked_fill_(~sees, torch.finfo(torch.float32).min)
        with self._whole_or_empty():
            output = self._module(
                input_ids=self._tensor(row.ids[None]),
                position_ids=self._tensor(row.positions[None]),
                attention_mask=mask[None, None].to(self._module.device),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=self._tensor(row.wanted),
            )
            self.cache.crop(-len(row.ids))
        logits = output.logits[0]
        # a model that knows no logits_to_keep gives those of all tokens
        return logits if len(logits) == len(row.wanted) else logits[self._tensor(row.wanted)]

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
    return _score_rows(cache, items, _prefix_tokens(items), row_tokens) if items else []


def _score_rows(cache: PrefixCache, items: Sequence[Item], prefix: int, row_tokens: int) -> list[Scored]:
    began = time.perf_counter()
    reused = cache.hold(items[0].prompt[:prefix])
    prefix_seconds = time.perf_counter() - began
    scored: list[Scored] = []
    for indices in fill_rows([item.tokens_after(prefix) for item in items], row_tokens):
        began = time.perf_counter()
        packed = [items[index] for index in indices]
        row = pack(packed, prefix)
        edges = _edge_logprobs(cache.run(row), row.edge_from, row.edge_token)
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
    for item in items:
        began = time.perf_counter()
        edges = np.zeros(len(item.trie.edges))
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
                edges[list(item.trie.paths[index])] = _edge_logprobs(row_logits, np.arange(len(tokens)), tokens)
        scored.append(Scored(item.trie.totals(edges), length, 0, time.perf_counter() - began))
    return scored


def why_not_packed(module: Any) -> str | None:
    """Why a model cannot score packed rows; None: it can. Its caches are looked at, then a small case is tried."""
    layers = DynamicCache(config=module.config).layers
    if any(type(layer) is not DynamicLayer for layer in layers):
        return "its cache (sliding window or recurrent) cannot be cropped"
    items, shared = _trial(int(module.config.get_text_config().vocab_size))
    try:
        packed = _score_rows(PrefixCache(module), items, shared, ROW_TOKENS)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        return f"it does not take a mask and positions for each token ({type(error).__name__})"
    plain = score_plainly(module, items)
    near = all(np.allclose(a.logprobs, b.logprobs, rtol=1e-4, atol=1e-3) for a, b in zip(packed, plain, strict=True))
    return None if near else "packed rows change its scores"


def generate(module: Any, prompts: Sequence[Prompt], stop_ids: Iterable[int]) -> list[Generated]:
    """Continue each prompt up to a stop token, prompts of like length in left-padded batches.

    A model that takes no positions or keeps its past elsewhere is run over the whole text for each token, alone.
    """
    stops = frozenset(stop_ids)
    takes = inspect.signature(getattr(module, "get_base_model", lambda: module)().forward).parameters
    if not {"position_ids", "past_key_values"} <= takes.keys():
        return [_continue([prompt], stops, _Replay(module, [prompt]))[0] for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index].ids))
    sizes = [len(prompts[index].ids) + prompts[index].max_tokens for index in order]
    done: dict[int, Generated] = {}
    for row in fill_rows(sizes, GENERATION_TOKENS):
        batch = [order[at] for at in row]
        group = [prompts[index] for index in batch]
        done.update(zip(batch, _continue(group, stops, _Batch(module, group)), strict=True))
    return [done[index] for index in range(len(prompts))]


class _Batch:
    """Left-padded prompts and the past of what was generated: `step` gives the logits of the next tokens."""

    def __init__(self, module: Any, prompts: Sequence[Prompt]) -> None:
        width = max(len(prompt.ids) for prompt in prompts)
        rows = [[0] * (width - len(prompt.ids)) + list(prompt.ids) for prompt in prompts]
        starts = torch.tensor([width - len(prompt.ids) for prompt in prompts], device=module.device)[:, None]
        columns = torch.arange(width, device=module.device)[None]
        self._module = module
        self._ids = torch.tensor(rows, device=module.device)
        self._mask = (columns >= starts).long()
        self._positions = (columns - starts).clamp_min(0)
        self._past: Any = None

    def step(self, tokens: Sequence[int] | None) -> Any:
        if tokens is not None:
            self._ids = torch.tensor(tokens, device=self._module.device)[:, None]
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
            self._positions = self._positions[:, -1:] + 1
        output = self._module(
            input_ids=self._ids,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._past,
            use_cache=True,
            logits_to_keep=1,
        )
        self._past = output.past_key_values
        return output.logits[:, -1].float().cpu()


class _Replay:
    """One prompt, run over and over as it grows: for models with a past of another kind."""

    def __init__(self, module: Any, prompts: Sequence[Prompt]) -> None:
        (prompt,) = prompts
        self._module, self._ids = module, list(prompt.ids)

    def step(self, tokens: Sequence[int] | None) -> Any:
        self._ids += tokens or []
        ids = torch.tensor([self._ids], device=self._module.device)
        return self._module(input_ids=ids, use_cache=False).logits[:, -1].float().cpu()


def _continue(prompts: Sequence[Prompt], stops: frozenset[int], text: _Batch | _Replay) -> list[Generated]:
    began = time.perf_counter()
    rngs = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
    answers: list[list[int]] = [[] for _ in prompts]
    stopped = [False] * len(prompts)
    tokens: list[int] | None = None
    going = {at for at, prompt in enumerate(prompts) if prompt.max_tokens > 0}
    while going:
        logits = text.step(tokens)
        tokens = [_pick(*row) for row in zip(logits, (prompt.temperature for prompt in prompts), rngs, strict=True)]
        for at in sorted(going):
            stopped[at] = tokens[at] in stops
            answers[at] += [] if stopped[at] else [tokens[at]]
            if stopped[at] or len(answers[at]) >= prompts[at].max_tokens:
                going.remove(at)
    seconds = (time.perf_counter() - began) / len(prompts)
    return [Generated(tuple(ids), end, seconds) for ids, end in zip(answers, stopped, strict=True)]


def _pick(logits: Any, temperature: float, rng: Any) -> int:
    if temperature <= 0:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / temperature, dim=-1), 1, generator=rng))


def _prefix_tokens(items: Sequence[Item]) -> int:
    """How much of the prompts to run once. The last token of each prompt stays out: its logits are needed."""
    shared = min(common_prefix([item.prompt for item in items]), min(len(item.prompt) for item in items) - 1)
    rest = shared % CHUNK_TOKENS
    return shared if rest * (len(items) - 1) >= WORTH_A_PASS else shared - rest


def _edge_logprobs(logits: Any, edge_from: Any, edge_token: Any) -> Any:
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
