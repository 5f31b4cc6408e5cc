"""Generation: texts token by token, all of a batch in one row, the prompt of several samples run once."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from luthier.errors import MissingExtra, ModelError
from luthier.models.branches import ROOT, Branch, growing
from luthier.models.engine import ROW_TOKENS, PrefixCache, prefix_tokens
from luthier.models.packing import fill_rows
from luthier.models.sidebyside import SideBySide

try:
    import torch
except ImportError as error:
    raise MissingExtra("local", "a local model") from error

# of prompts behind the shared prefix and their texts together: what attention looks at in each step
GENERATION_TOKENS = 2048
# a prefix of up to so many tokens is repeated for each text, and texts are written side by side: so many tokens of all
# of them together, prefixes included
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
    """Continue each prompt up to a stop token: the shared prefix once, each prompt once, then texts side by side."""
    began = time.perf_counter()
    stops = frozenset(stop_ids)
    prefix = prefix_tokens([prompt.ids for prompt in prompts])
    reused = cache.hold(prompts[0].ids[:prefix])
    prefix_seconds = time.perf_counter() - began
    sizes = [len(prompt.ids) - prefix + prompt.max_tokens * len(prompt.seeds) for prompt in prompts]
    done: list[Generated] = []
    apart = prefix <= REPEATED_TOKENS
    if apart:
        sizes = [size + prefix * len(prompt.seeds) for size, prompt in zip(sizes, prompts, strict=True)]
    for indices in fill_rows(sizes, APART_TOKENS if apart else GENERATION_TOKENS):
        began = time.perf_counter()
        group = [prompts[index] for index in indices]
        texts = _write_together(cache, group, prefix, stops, row_tokens)
        seconds = (time.perf_counter() - began) / len(group) + prefix_seconds / len(prompts)
        for prompt, written in zip(group, texts, strict=True):
            cached = prefix if done else reused
            done.append(Generated(written, len(prompt.ids) - cached, cached, seconds))
    return done


def _write_together(
    cache: PrefixCache, prompts: Sequence[Prompt], prefix: int, stops: frozenset[int], row_tokens: int
) -> list[tuple[Text, ...]]:
    writers = [[_Writer(prompt, sample) for sample in range(len(prompt.seeds))] for prompt in prompts]
    with growing(cache) as branches:
        going: list[tuple[_Writer, Branch]] = []
        rests = [prompt.ids[prefix:] for prompt in prompts]
        for row in fill_rows([len(rest) for rest in rests], row_tokens):
            some = [at for at in row if prompts[at].max_tokens > 0]
            if some:
                longer, logits = branches.grow([(ROOT, rests[at]) for at in some])
                ends = zip(some, longer, logits.float().cpu(), strict=True)
                begun = [(writer, branch, end) for at, branch, end in ends for writer in writers[at]]
                going += _taken(begun, stops)
        if going and prefix <= REPEATED_TOKENS:
            room = max(writer.prompt.max_tokens for writer, _ in going) - 1
            _go_on([writer for writer, _ in going], branches.apart([branch for _, branch in going], room), stops)
        else:
            while going:
                longer, logits = branches.grow([(branch, writer.ids[-1:]) for writer, branch in going])
                going = _taken(list(zip([w for w, _ in going], longer, logits.float().cpu(), strict=True)), stops)
    return [tuple(writer.text() for writer in some) for some in writers]


def _taken(steps: Sequence[tuple[_Writer, Branch, Any]], stops: frozenset[int]) -> list[tuple[_Writer, Branch]]:
    """Give each text its next token; returns those that go on."""
    for writer, _, logits in steps:
        writer.take(logits, stops)
    return [(writer, branch) for writer, branch, _ in steps if writer.going]


def _go_on(writers: list[_Writer], texts: SideBySide, stops: frozenset[int]) -> None:
    """Write texts to their ends; the finished ones are run on with any token until enough of them are to be let go."""
    while any(writer.going for writer in writers):
        left = [at for at, writer in enumerate(writers) if writer.going]
        if len(left) <= LET_GO * len(writers):
            texts.keep(left)
            writers = [writers[at] for at in left]
        logits = texts.step([writer.ids[-1] for writer in writers]).float().cpu()
        for writer, row in zip(writers, logits, strict=True):
            if writer.going:
                writer.take(row, stops)


# ---------------------------------------------------------------- models that cannot be packed


def generate_plainly(module: Any, prompts: Sequence[Prompt], stop_ids: Iterable[int]) -> list[Generated]:
    """The same from left-padded batches of prompts of like length, each sample a prompt of its own.

    A model that takes no positions or keeps its past elsewhere is run over the whole text for each token, alone.
    """
    stops = frozenset(stop_ids)
    takes = inspect.signature(getattr(module, "get_base_model", lambda: module)().forward).parameters
    batched = {"position_ids", "past_key_values"} <= takes.keys()
    writers = [[_Writer(prompt, sample) for sample in range(len(prompt.seeds))] for prompt in prompts]
    order = sorted((writer for some in writers for writer in some), key=lambda writer: len(writer.prompt.ids))
    sizes = [len(writer.prompt.ids) + writer.prompt.max_tokens for writer in order]
    seconds: dict[int, float] = {}
    for row in fill_rows(sizes, GENERATION_TOKENS if batched else 0):
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
