"""A model that runs here: weights in a folder, choices scored exactly, short texts generated."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from luthier.errors import MissingExtra, ModelError
from luthier.models.chat import Chat
from luthier.models.engine import ROW_TOKENS, PrefixCache, Scored, score_packed, score_plainly, why_not_packed
from luthier.models.generation import Generated, Prompt, generate_packed, generate_plainly
from luthier.models.licence import licence_of
from luthier.models.linear import with_products
from luthier.models.packing import Item, Trie, build_trie
from luthier.models.quiet import quiet
from luthier.models.walk import WORTH_A_WALK, Walked, find_best
from luthier.models.weights import adapter_fingerprint, merge_adapter, trained_fingerprint, weights_fingerprint
from luthier.types import Message, Reply, Request, Usage, digest

if TYPE_CHECKING:
    from luthier.models.guide import SchemaGuides

try:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError as error:
    raise MissingExtra("local", "a local model") from error

# changes whenever the same weights and the same tokens could give other bits
ENGINE = "packed-5"

TRIES_KEPT = 256

End = Literal["turn", "none"]

T = TypeVar("T")


class LocalModel:
    """A causal language model on this machine: fp32, one request batch at a time, the same bits for the same batch.

    Usage counts prompt tokens that were run (`fresh_tokens`; those of a shared prefix on the first item that needed
    it), prompt tokens whose keys and values were there already (`cached_tokens`; both together are the prompt), and
    answer tokens (`output_tokens`: each distinct token of the choices' tree that was scored, or each token generated,
    end of turn included; at temperature 0 the n equal texts are generated once). `latency_s` is an item's share of the
    passes it took part in. With `choices`, `max_tokens`, `temperature`, `seed` and `n` say nothing, and where only the
    best is asked for, a large set of choices is walked best first. JSON of a `schema` comes as `json.dumps` writes it.
    `note` says why a model is run the plain, slow way, each answer and each sample by itself; None: it is not.

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
        folder: Path | None = None,
        licence: str | None = None,
    ) -> None:
        """Around a module that is loaded already; `fingerprint` stands for its weights, the caller knows them.

        `folder` is where the weights came from, for those who need them in another precision, and `licence` its
        licence's name, as far as it is known.
        """
        self.module = with_products(module)
        self.tokenizer = tokenizer
        self.name = name
        self.chat = Chat(tokenizer)
        self.max_row_tokens = max_row_tokens
        self.end = end
        self.folder = folder
        self.licence = licence
        self._weights = fingerprint
        self._prefix = PrefixCache(module)
        self._tries: dict[tuple[Any, ...], Trie] = {}
        self._guides: SchemaGuides | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str,
        adapter: Path | None = None,
        threads: int | None = None,
        end: End = "turn",
        licence: str | None = None,
    ) -> LocalModel:
        """From a folder with safetensors and a tokenizer, with the LoRA adapter in `adapter` merged into a copy.

        `licence`: left out, what the folder says (`models.licence`).
        `threads` sets how many CPU threads torch uses in this whole process. Raises ModelError where the folder holds
        no such model.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        weights = weights_fingerprint(folder)
        with quiet():
            try:
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            except Exception as error:  # each file format has errors of its own; all of them are the folder's
                raise _no_model(folder, error) from error
        module = _module_of(folder, "cuda" if torch.cuda.is_available() else "cpu")
        known = licence or licence_of(folder)
        model = cls(module, tokenizer, name=name, fingerprint=weights, end=end, folder=folder, licence=known)
        return model if adapter is None else model.with_adapter(adapter)

    def with_adapter(self, folder: Path) -> LocalModel:
        """A copy of this model with the PEFT LoRA adapter in `folder` merged into its weights, in fp32."""
        weights = digest(self._weights, "adapter", adapter_fingerprint(folder))
        return self._with(merge_adapter(copy.deepcopy(self.module), folder), weights)

    def with_weights(self, folder: Path) -> LocalModel:
        """This model with the weights of a full fine-tune in `folder`, in fp32; the tokenizer stays."""
        weights = digest(self._weights, "weights", trained_fingerprint(folder))
        return self._with(_module_of(folder, self.module.device), weights)

    def _with(self, module: Any, fingerprint: str) -> LocalModel:
        return LocalModel(
            module,
            self.tokenizer,
            name=self.name,
            fingerprint=fingerprint,
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

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        """How many tokens a prompt has, up to where the model answers."""
        return len(self.chat.prompt_ids(messages))

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
        replies = [Reply(error=item) if isinstance(item, str) else Reply() for item in items]
        fit = [(at, item) for at, item in enumerate(items) if isinstance(item, Item)]
        walking = [(at, item) for at, item in fit if self._worth_a_walk(requests[at], item)]
        scoring = [pair for pair in fit if pair not in walking]
        for (at, item), scored in zip(scoring, self._score([item for _, item in scoring]), strict=True):
            replies[at] = _chosen(requests[at], item, scored)
        if walking:
            priors = [requests[at].prior for at, _ in walking]
            found = find_best(self._prefix, [item for _, item in walking], priors, self.max_row_tokens)
            for (at, _), walked in zip(walking, found, strict=True):
                replies[at] = _found(requests[at], walked)
        return replies

    def _worth_a_walk(self, request: Request, item: Item) -> bool:
        return request.scores == "best" and len(item.trie.nodes) >= WORTH_A_WALK and self.note is None

    def _score(self, items: Sequence[Item]) -> list[Scored]:
        if not items:
            return []
        if self.note is not None:
            return score_plainly(self.module, items, self.max_row_tokens)
        return score_packed(self._prefix, items, self.max_row_tokens)

    def _item(self, request: Request) -> Item:
        if not request.choices:
            raise ModelError("there are no choices to score")
        if request.prior is not None and len(request.prior) != len(request.choices):
            raise ModelError(f"the prior has {len(request.prior)} numbers for {len(request.choices)} choices")
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
        prompts = _each(requests, self._prompt)
        fit = [prompt for prompt in prompts if isinstance(prompt, Prompt)]
        generated = iter(self._generate(fit) if fit else [])
        return [
            Reply(error=prompt) if isinstance(prompt, str) else self._written(request, next(generated))
            for request, prompt in zip(requests, prompts, strict=True)
        ]

    def _generate(self, prompts: Sequence[Prompt]) -> list[Generated]:
        if self.note is not None:
            return generate_plainly(self.module, prompts, self._stop_ids)
        return generate_packed(self._prefix, prompts, self._stop_ids, self.max_row_tokens)

    def _prompt(self, request: Request) -> Prompt:
        ids = self._fitting_prompt(request.messages)
        # at temperature 0 all samples are the same: one is written
        samples = request.n if request.temperature > 0 else min(request.n, 1)
        return Prompt(
            ids,
            max_tokens=min(request.max_tokens, self.context_tokens - len(ids)),
            temperature=request.temperature,
            seeds=tuple(int(digest(request.seed, sample)[:15], 16) for sample in range(samples)),
            guides=tuple(self._guide(request) for _ in range(samples)),
        )

    def continued(self, texts: Sequence[tuple[int, ...]], *, max_tokens: int, seed: int) -> list[tuple[int, ...]]:
        """Texts as token ids without any chat, each with what the model writes behind it at temperature 1.

        At most `max_tokens` more, fewer where it ends a text itself; the same seed gives the same texts. Errors:
        ModelError for a text without a token, or one that leaves no room in the context.
        """
        for ids in texts:
            if not 0 < len(ids) <= self.context_tokens - max_tokens:
                raise ModelError(
                    f"a text of {len(ids)} tokens cannot be continued by {max_tokens}",
                    where=self.name,
                    fix=f"give it at least one, and at most the context of {self.context_tokens}",
                )
        prompts = [
            Prompt(ids, max_tokens, 1.0, (int(digest("continued", seed, at)[:15], 16),), (None,))
            for at, ids in enumerate(texts)
        ]
        with self._asking():
            written = self._generate(prompts) if prompts else []
        return [(*ids, *found.texts[0].ids) for ids, found in zip(texts, written, strict=True)]

    def _guide(self, request: Request) -> Any:
        if request.schema is None:
            return None
        from luthier.models.guide import SchemaGuides

        if self._guides is None:
            vocabulary = int(self.module.config.get_text_config().vocab_size)
            self._guides = SchemaGuides(self.tokenizer, vocabulary, sorted(self._stop_ids))
        return self._guides.guide(request.schema)

    def _written(self, request: Request, generated: Generated) -> Reply:
        failed = next((text.error for text in generated.texts if text.error is not None), None)
        texts = tuple(self.chat.text(text.ids) for text in generated.texts) if failed is None else ()
        return Reply(
            texts=texts if request.temperature > 0 else texts * request.n,
            usage=Usage(
                generated.fresh_tokens, generated.cached_tokens, 0, sum(text.tokens for text in generated.texts)
            ),
            latency_s=generated.seconds,
            finish_reason="stop" if all(text.stopped for text in generated.texts) else "length",
            error=failed,
        )

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


def _module_of(folder: Path, device: Any) -> Any:
    with quiet():
        try:
            module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        except Exception as error:  # each file format has errors of its own; all of them are the folder's
            raise _no_model(folder, error) from error
    return module.to(device).eval()


def _no_model(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"it is not a model that transformers can load: {error}",
        where=str(folder),
        fix="point to a folder with config.json, *.safetensors and tokenizer.json",
    )


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
    prior = request.prior or (0.0,) * len(request.choices)
    best = max(range(len(request.choices)), key=lambda at: scored.logprobs[at] - prior[at])
    return Reply(
        texts=(request.choices[best],),
        choice_logprobs=scored.logprobs,
        usage=Usage(scored.fresh_tokens, scored.cached_tokens, 0, len(item.trie.edges)),
        latency_s=scored.seconds,
        finish_reason="stop",
    )


def _found(request: Request, walked: Walked) -> Reply:
    assert request.choices is not None
    return Reply(
        texts=(request.choices[walked.best],),
        choice_logprobs=walked.logprobs,
        usage=Usage(walked.fresh_tokens, walked.cached_tokens, 0, walked.edges),
        latency_s=walked.seconds,
        finish_reason="stop",
    )
