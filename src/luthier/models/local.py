"""A model that runs here: weights in a folder, choices scored exactly, short texts generated."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from luthier.errors import MissingExtra, ModelError
from luthier.models.chat import Chat
from luthier.models.engine import (
    ROW_TOKENS,
    PrefixCache,
    Prompt,
    Scored,
    generate,
    score_packed,
    score_plainly,
    why_not_packed,
)
from luthier.models.packing import Item, Trie, build_trie
from luthier.models.quiet import quiet
from luthier.models.weights import adapter_fingerprint, merge_adapter, weights_fingerprint
from luthier.types import Message, Reply, Request, Usage, digest

try:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError as error:
    raise MissingExtra("local", "a local model") from error

# changes whenever the same weights and the same tokens could give other bits
ENGINE = "packed-1"

TRIES_KEPT = 256

End = Literal["turn", "none"]

T = TypeVar("T")


class LocalModel:
    """A causal language model on this machine: fp32, one request batch at a time, the same bits for the same batch.

    Usage counts prompt tokens that were run (`fresh_tokens`; those of a shared prefix on the first item that needed
    it), prompt tokens whose keys and values were there already (`cached_tokens`; both together are the prompt), and
    answer tokens (`output_tokens`: each distinct token of the choices' tree that was scored, or each token generated,
    end of turn included). `latency_s` is an item's share of the passes it took part in. With `choices`, `max_tokens`,
    `temperature`, `seed` and `n` say nothing. `note` says why a model is scored the plain, slow way; None: it is not.

    `end="none"` scores choices without their end-of-turn token, only to compare with harnesses that do: a choice that
    begins another then always beats it.
    """

    thread_safe = False

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        *,
        name: str,
        fingerprint: str,
        max_row_tokens: int = ROW_TOKENS,
        end: End = "turn",
    ) -> None:
        """Around a module that is loaded already; `fingerprint` stands for its weights, the caller knows them."""
        self.module = module
        self.tokenizer = tokenizer
        self.name = name
        self.chat = Chat(tokenizer)
        self.max_row_tokens = max_row_tokens
        self.end = end
        self._weights = fingerprint
        self._prefix = PrefixCache(module)
        self._tries: dict[tuple[Any, ...], Trie] = {}

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str,
        adapter: Path | None = None,
        threads: int | None = None,
        end: End = "turn",
    ) -> LocalModel:
        """From a folder with safetensors and a tokenizer, with the LoRA adapter in `adapter` merged into a copy.

        `threads` sets how many CPU threads torch uses in this whole process. Raises ModelError where the folder holds
        no such model.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        weights = weights_fingerprint(folder)
        with quiet():
            try:
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
            except Exception as error:  # each file format has errors of its own; all of them are the folder's
                raise ModelError(
                    f"it is not a model that transformers can load: {error}",
                    where=str(folder),
                    fix="point to a folder with config.json, *.safetensors and tokenizer.json",
                ) from error
        module = module.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        model = cls(module, tokenizer, name=name, fingerprint=weights, end=end)
        return model if adapter is None else model.with_adapter(adapter)

    def with_adapter(self, folder: Path) -> LocalModel:
        """A copy of this model with the PEFT LoRA adapter in `folder` merged into its weights, in fp32."""
        weights = digest(self._weights, "adapter", adapter_fingerprint(folder))
        merged = merge_adapter(copy.deepcopy(self.module), folder)
        return LocalModel(
            merged,
            self.tokenizer,
            name=self.name,
            fingerprint=weights,
            max_row_tokens=self.max_row_tokens,
            end=self.end,
        )

    @property
    def fingerprint(self) -> str:
        how = (ENGINE, self.module.device.type, self.max_row_tokens, self.end)
        return digest(*how, self._weights, self.chat.fingerprint)

    @cached_property
    def context_tokens(self) -> int:
        """How many tokens a prompt and its answer may have together."""
        # a recurrent model has no last position; a tokenizer that knows no limit says 10^30
        limit = getattr(self.module.config.get_text_config(), "max_position_embeddings", None)
        return int(min(limit or self.tokenizer.model_max_length, self.tokenizer.model_max_length))

    @cached_property
    def note(self) -> str | None:
        with self._asking():
            reason = why_not_packed(self.module)
        return None if reason is None else f"{self.name} is scored one answer at a time: {reason}"

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer a batch, in its order; what fails is a reply with an error and leaves the others as they are."""
        with self._asking():
            choosing = [index for index, request in enumerate(requests) if request.choices is not None]
            writing = [index for index, request in enumerate(requests) if request.choices is None]
            replies = dict(zip(choosing, self._choose([requests[index] for index in choosing]), strict=True))
            replies |= zip(writing, self._write([requests[index] for index in writing]), strict=True)
        return [replies[index] for index in range(len(requests))]

    def _choose(self, requests: Sequence[Request]) -> list[Reply]:
        items = _each(requests, self._item)
        fit = [item for item in items if isinstance(item, Item)]
        scored = iter(self._score(fit) if fit else [])
        return [
            _chosen(request, item, next(scored)) if isinstance(item, Item) else Reply(error=item)
            for request, item in zip(requests, items, strict=True)
        ]

    def _score(self, items: Sequence[Item]) -> list[Scored]:
        if self.note is not None:
            return score_plainly(self.module, items, self.max_row_tokens)
        return score_packed(self._prefix, items, self.max_row_tokens)

    def _item(self, request: Request) -> Item:
        if not request.choices:
            raise ModelError("there are no choices to score")
        prompt = self._fitting_prompt(request.messages)
        trie = self._trie(request.messages, prompt, request.choices)
        longest = max(map(len, trie.paths))
        if len(prompt) + longest > self.context_tokens:
            raise ModelError(
                f"the prompt has {len(prompt)} tokens and its longest choice {longest}, "
                f"more than the model's {self.context_tokens}"
            )
        return Item(prompt, trie)

    def _fitting_prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        prompt = tuple(self.chat.prompt_ids(messages))
        if len(prompt) >= self.context_tokens:
            raise ModelError(f"the prompt has {len(prompt)} tokens, more than the model's {self.context_tokens}")
        return prompt

    def _trie(self, messages: Sequence[Message], prompt: tuple[int, ...], choices: tuple[str, ...]) -> Trie:
        # rendering each choice behind each prompt would cost as much as running it
        key = (self.chat.seam(prompt), tuple(message.role for message in messages), choices)
        if key not in self._tries:
            if len(self._tries) >= TRIES_KEPT:
                self._tries.clear()
            answers = [self.chat.answer_ids(messages, choice, prompt=prompt) for choice in choices]
            if self.end == "none":
                answers = [answer[:-1] for answer in answers]
                if not all(answers):
                    raise ModelError("an empty choice has no tokens to score", fix='use end="turn"')
            self._tries[key] = build_trie(answers)
        return self._tries[key]

    def _write(self, requests: Sequence[Request]) -> list[Reply]:
        prompts = _each(requests, lambda request: self._fitting_prompt(request.messages))
        asked = [
            Prompt(
                ids,
                max_tokens=min(request.max_tokens, self.context_tokens - len(ids)),
                temperature=request.temperature,
                seed=int(digest(request.seed, sample)[:15], 16),
            )
            for request, ids in zip(requests, prompts, strict=True)
            if not isinstance(ids, str)
            for sample in range(request.n)
        ]
        done = iter(generate(self.module, asked, self._stop_ids) if asked else [])
        replies = []
        for request, ids in zip(requests, prompts, strict=True):
            if isinstance(ids, str):
                replies.append(Reply(error=ids))
                continue
            samples = [next(done) for _ in range(request.n)]
            written = sum(len(sample.ids) + sample.stopped for sample in samples)
            replies.append(
                Reply(
                    texts=tuple(self.chat.text(sample.ids) for sample in samples),
                    usage=Usage(fresh_tokens=len(ids) * request.n, output_tokens=written),
                    latency_s=sum(sample.seconds for sample in samples),
                    finish_reason="stop" if all(sample.stopped for sample in samples) else "length",
                )
            )
        return replies

    @property
    def _stop_ids(self) -> frozenset[int]:
        eos = self.tokenizer.eos_token_id
        return frozenset({self.chat.end_of_turn_id} if eos is None else {self.chat.end_of_turn_id, eos})

    @contextmanager
    def _asking(self) -> Iterator[None]:
        # a module may be lent by a training loop, which wants it back as it was
        was_training = self.module.training
        self.module.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.module.train(was_training)


def _each(requests: Sequence[Request], prepare: Callable[[Request], T]) -> list[T | str]:
    """What each request prepares to, or the error's text."""
    prepared: list[T | str] = []
    for request in requests:
        try:
            prepared.append(prepare(request))
        except ModelError as error:
            prepared.append(error.what)
    return prepared


def _chosen(request: Request, item: Item, scored: Scored) -> Reply:
    assert request.choices is not None
    best = max(range(len(request.choices)), key=scored.logprobs.__getitem__)
    return Reply(
        texts=(request.choices[best],),
        choice_logprobs=scored.logprobs,
        usage=Usage(scored.fresh_tokens, scored.cached_tokens, 0, len(item.trie.edges)),
        latency_s=scored.seconds,
        finish_reason="stop",
    )
