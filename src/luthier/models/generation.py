"""Generation: texts token by token, many at once: side by side, or in one row behind a long prefix that they share."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from luthier.errors import MissingExtra, ModelError
from luthier.models.branches import ROOT, Branch, growing
from luthier.models.engine import ROW_TOKENS, PrefixCache, by_length, prefix_tokens
from luthier.models.packing import fill_rows

try:
    import torch
except ImportError as error:
    raise MissingExtra("local", "a local model") from error

# of prompts behind the shared prefix and their texts together: what attention looks at in each step
GENERATION_TOKENS = 2048
# a prefix of up to so many tokens is repeated for each text, and texts are written side by side, with room for so many
# tokens of all of them together, prefixes included: as many as are worth the memory of their keys
REPEATED_TOKENS, APART_TOKENS = 256, 8192
# finished texts stay in the passes until at most this share of them goes on
LET_GO = 0.75


class Guide(Protocol):
    """Says which tokens may come next; one for each text, since it remembers what came."""

    def mask(self, logits: Any) -> Any:
        """The logits [vocabulary] with minus infinity where a token may not come."""

    def accept(self, token: int) -> bool:
        """Take note of a token; True: the text is whole and nothing may follow."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to continue, and how: `max_tokens` at most, greedily at temperature 0; a text a seed, with its guide."""

    ids: tuple[int, ...]
    max_tokens: int
    temperature: float
    seeds: tuple[int, ...]
    guides: tuple[Guide | None, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """The ids of a continuation; not `stopped`: it ran into `max_tokens`. `tokens` counts the one that stopped it.

    An `error` is the guide's: the text ends before the token that it could not follow.
    """

    ids: tuple[int, ...]
    stopped: bool
    tokens: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """The texts of a prompt, in the order of its seeds, with what they took."""

    texts: tuple[Text, ...]
    fresh_tokens: int
    cached_tokens: int
    seconds: float


class _Writer:
    """One text as it is written."""

    def __init__(self, prompt: Prompt, sample: int) -> None:
        self.prompt = prompt
        self.guide = prompt.guides[sample]
        self.rng = torch.Generator().manual_seed(prompt.seeds[sample])
        self.ids: list[int] = []
        self.tokens = 0
        self.stopped = False
        self.error: str | None = None

    @property
    def going(self) -> bool:
        return not self.stopped and self.error is None and self.tokens < self.prompt.max_tokens

    def take(self, logits: Any, stops: frozenset[int]) -> None:
        """Choose the next token from the logits [vocabulary]; what a guide refuses ends this text alone."""
        try:
            self._take(logits, stops)
        except ModelError as error:
            self.error = error.what

    def _take(self, logits: Any, stops: frozenset[int]) -> None:
        logits = logits if self.guide is None else self.guide.mask(logits)
        token = _pick(logits, self.prompt.temperature, self.rng)
        self.tokens += 1
        if token in stops:
            self.stopped = True
            return
        self.ids.append(token)
        self.stopped = self.guide is not None and self.guide.accept(token)

    def text(self) -> Text:
        return Text(tuple(self.ids), self.stopped, self.tokens, self.error)


def generate_packed(
    cache: PrefixCache, prompts: Sequence[Prompt], stop_ids: Iterable[int], row_tokens: int = ROW_TOKENS
) -> list[Generated]:
    """Continue each prompt up to a stop token: the shared prefix once, each prompt once, then texts together."""
    began = time.perf_counter()
    stops = frozenset(stop_ids)
    prefix = prefix_tokens([prompt.ids for prompt in prompts])
    reused = cache.hold(prompts[0].ids[:prefix])
    prefix_seconds = time.perf_counter() - began
    writers = [[_Writer(prompt, sample) for sample in range(len(prompt.seeds))] for prompt in prompts]
    seconds: dict[int, float] = {}
    for write, indices in _groups(prompts, prefix):
        began = time.perf_counter()
        write(cache, [(prompts[at].ids[prefix:], writers[at]) for at in indices], stops, row_tokens)
        seconds |= dict.fromkeys(indices, (time.perf_counter() - began) / len(indices))
    done: list[Generated] = []
    for at, (prompt, some) in enumerate(zip(prompts, writers, strict=True)):
        cached = prefix if done else reused
        took = seconds.get(at, 0.0) + prefix_seconds / len(prompts)
        done.append(Generated(tuple(writer.text() for writer in some), len(prompt.ids) - cached, cached, took))
    return done


# the rest of each prompt, behind the prefix, with its texts
_Begun = Sequence[tuple[Sequence[int], Sequence[_Writer]]]
_Way = Callable[[PrefixCache, _Begun, frozenset[int], int], None]


def _groups(prompts: Sequence[Prompt], prefix: int) -> Iterator[tuple[_Way, list[int]]]:
    """Which prompts are written together, and in which way."""
    asking = [at for at, prompt in enumerate(prompts) if prompt.max_tokens > 0 and prompt.seeds]
    apart = [at for at in asking if prefix <= REPEATED_TOKENS and _box([prompts[at]]) <= APART_TOKENS]
    group: list[int] = []
    for at in sorted(apart, key=lambda at: (prompts[at].max_tokens, len(prompts[at].ids))):
        if group and _box([prompts[other] for other in (*group, at)]) > APART_TOKENS:
            yield _write_side_by_side, group
            group = []
        group.append(at)
    if group:
        yield _write_side_by_side, group
    rest = [at for at in asking if at not in apart]
    sizes = [len(prompts[at].ids) - prefix + prompts[at].max_tokens * len(prompts[at].seeds) for at in rest]
    for indices in fill_rows(sizes, GENERATION_TOKENS):
        yield _write_in_one_row, [rest[at] for at in indices]


def _box(prompts: Sequence[Prompt]) -> int:
    """How many tokens there is room for where these are written side by side: each text is as wide as the widest."""
    widest = max(len(prompt.ids) for prompt in prompts) + max(prompt.max_tokens for prompt in prompts)
    return widest * sum(len(prompt.seeds) for prompt in prompts)


def _write_side_by_side(cache: PrefixCache, begun: _Begun, stops: frozenset[int], row_tokens: int) -> None:
    writers = [writer for _, some in begun for writer in some]
    prompts = [writer.prompt for writer in writers]
    texts = cache.side_by_side([len(prompt.ids) for prompt in prompts], [prompt.max_tokens - 1 for prompt in prompts])
    at = 0
    for row in fill_rows([len(rest) for rest, _ in begun], row_tokens):
        with growing(cache) as branches:
            longer, logits = branches.grow([(ROOT, begun[index][0]) for index in row])
            for index, branch, end in zip(row, longer, logits.float().cpu(), strict=True):
                for writer in begun[index][1]:
                    branches.copy(branch, texts, at)
                    writer.take(end, stops)
                    at += 1
    while any(writer.going for writer in writers):
        left = [at for at, writer in enumerate(writers) if writer.going]
        if len(left) <= LET_GO * len(writers):
            texts.keep(left)
            writers = [writers[at] for at in left]
        # what is finished is run on with any token: its rows are not looked at
        logits = texts.step([writer.ids[-1] if writer.ids else 0 for writer in writers]).float().cpu()
        for writer, row_logits in zip(writers, logits, strict=True):
            if writer.going:
                writer.take(row_logits, stops)


def _write_in_one_row(cache: PrefixCache, begun: _Begun, stops: frozenset[int], row_tokens: int) -> None:
    with growing(cache) as branches:
        going: list[tuple[_Writer, Branch]] = []
        for row in fill_rows([len(rest) for rest, _ in begun], row_tokens):
            longer, logits = branches.grow([(ROOT, begun[index][0]) for index in row])
            ends = zip(row, longer, logits.float().cpu(), strict=True)
            going += _taken([(writer, branch, end) for at, branch, end in ends for writer in begun[at][1]], stops)
        while going:
            longer, logits = branches.grow([(branch, writer.ids[-1:]) for writer, branch in going])
            going = _taken(list(zip([w for w, _ in going], longer, logits.float().cpu(), strict=True)), stops)


def _taken(steps: Sequence[tuple[_Writer, Branch, Any]], stops: frozenset[int]) -> list[tuple[_Writer, Branch]]:
    """Give each text its next token; returns those that go on."""
    for writer, _, logits in steps:
        writer.take(logits, stops)
    return [(writer, branch) for writer, branch, _ in steps if writer.going]


# ---------------------------------------------------------------- models that cannot be packed


def generate_plainly(module: Any, prompts: Sequence[Prompt], stop_ids: Iterable[int]) -> list[Generated]:
    """The same from left-padded batches of prompts of like length, each sample a prompt of its own.

    A model that takes no positions or keeps its past elsewhere is run over the whole text for each token, alone. One
    whose positions depend on the length of a text is run alone, too; what grows long keeps the keys of its beginning,
    as in transformers' cache.
    """
    stops = frozenset(stop_ids)
    takes = inspect.signature(getattr(module, "get_base_model", lambda: module)().forward).parameters
    batched = {"position_ids", "past_key_values"} <= takes.keys()
    writers = [[_Writer(prompt, sample) for sample in range(len(prompt.seeds))] for prompt in prompts]
    order = sorted((writer for some in writers for writer in some), key=lambda writer: len(writer.prompt.ids))
    sizes = [len(writer.prompt.ids) + writer.prompt.max_tokens for writer in order]
    seconds: dict[int, float] = {}
    together = batched and not by_length(module.config.get_text_config())
    for row in fill_rows(sizes, GENERATION_TOKENS if together else 0):
        began = time.perf_counter()
        group = [order[at] for at in row]
        _continue(group, stops, _Batch(module, group) if batched else _Replay(module, group))
        seconds |= {id(writer): (time.perf_counter() - began) / len(group) for writer in group}
    return [
        Generated(
            texts=tuple(writer.text() for writer in some),
            fresh_tokens=len(prompt.ids) * len(some),
            cached_tokens=0,
            seconds=sum(seconds[id(writer)] for writer in some),
        )
        for prompt, some in zip(prompts, writers, strict=True)
    ]


def _continue(writers: Sequence[_Writer], stops: frozenset[int], text: _Batch | _Replay) -> None:
    tokens: list[int] | None = None
    while any(writer.going for writer in writers):
        logits = text.step(tokens)
        for writer, row in zip(writers, logits, strict=True):
            if writer.going:
                writer.take(row, stops)
        # what is finished is run on with any token: its rows are not looked at
        tokens = [writer.ids[-1] if writer.ids else 0 for writer in writers]


class _Batch:
    """Left-padded prompts and the past of what was generated: `step` gives the logits of the next tokens."""

    def __init__(self, module: Any, writers: Sequence[_Writer]) -> None:
        prompts = [writer.prompt.ids for writer in writers]
        width = max(map(len, prompts))
        rows = [[0] * (width - len(ids)) + list(ids) for ids in prompts]
        starts = torch.tensor([width - len(ids) for ids in prompts], device=module.device)[:, None]
        columns = torch.arange(width, device=module.device)[None]
        # what is run on behind its end stays where it is: a model may have no position beyond
        last = [len(writer.prompt.ids) + writer.prompt.max_tokens - 2 for writer in writers]
        self._last = torch.tensor(last, device=module.device)[:, None]
        self._module = module
        self._ids = torch.tensor(rows, device=module.device)
        self._mask = (columns >= starts).long()
        self._positions = (columns - starts).clamp_min(0)
        self._past: Any = None

    def step(self, tokens: Sequence[int] | None) -> Any:
        if tokens is not None:
            self._ids = torch.tensor(tokens, device=self._module.device)[:, None]
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
            self._positions = (self._positions[:, -1:] + 1).minimum(self._last)
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

    def __init__(self, module: Any, writers: Sequence[_Writer]) -> None:
        (writer,) = writers
        self._module, self._ids = module, list(writer.prompt.ids)

    def step(self, tokens: Sequence[int] | None) -> Any:
        self._ids += tokens or []
        ids = torch.tensor([self._ids], device=self._module.device)
        return self._module(input_ids=ids, use_cache=False).logits[:, -1].float().cpu()


def _pick(logits: Any, temperature: float, rng: Any) -> int:
    if temperature <= 0:
        return int(logits.argmax())
    # by inversion: torch.multinomial draws a number for each token of the vocabulary, a tenth of the time of a step
    upto = torch.softmax((logits - logits.max()) / temperature, dim=-1).cumsum(-1, dtype=torch.float64)
    if not upto[-1] > 0:
        raise ModelError("the model gives no probabilities: its logits are no numbers")
    return int(torch.searchsorted(upto, torch.rand(1, generator=rng, dtype=torch.float64) * upto[-1], right=True))
