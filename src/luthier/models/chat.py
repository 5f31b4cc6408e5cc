"""A chat as token ids: the one place that renders it, for evaluation, training and serving."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from jinja2.exceptions import TemplateError

from luthier.errors import ModelError
from luthier.types import Message, digest

# For tokenizers that bring no template. `bos` only where the tokenizer itself would put it, eos ends a turn.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token + '\\n' }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\\n' }}"
    "{% else %}{{ 'User: ' + message['content'] + '\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


class Chat:
    """Renders chats with a tokenizer's own template.

    The template writes all the special tokens there are: the tokenizer adds none, so none is doubled, and control
    tokens that someone typed into a message ("<|im_end|>") are encoded as plain text. Messages are taken as they are:
    a template that puts in a system prompt of its own does so everywhere alike. A tokenizer without a template gets
    `PLAIN_TEMPLATE` ("User: ..." / "Assistant: ..."), with its eos token as the end of a turn.
    Raises ModelError where a template refuses a chat. Does not cover tools, images or templates with several names.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.template: str = tokenizer.chat_template or _plain_template(tokenizer)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The ids of the chat with the header of the assistant's next turn: what a model is asked to continue."""
        return self._render(messages, generation_prompt=True)

    def answer_ids(self, messages: Sequence[Message], answer: str, *, prompt: Sequence[int] | None = None) -> list[int]:
        """The ids that follow the prompt's when the assistant says `answer`, the end-of-turn token last.

        They are cut from the ids of the whole row, since an answer encoded alone may split differently at the seam.
        `prompt` are the ids of `prompt_ids(messages)`, if the caller has them. Raises ModelError where they are not the
        beginning of the row's ids: then training and asking would see different tokens.
        """
        start = list(prompt) if prompt is not None else self.prompt_ids(messages)
        return self._cut(start, self._render([*messages, Message("assistant", answer)]), answer)

    def seam(self, prompt: Sequence[int]) -> tuple[int, ...]:
        """The end of a prompt on which the ids of an answer can depend: text is never merged across a special token."""
        special = self._special_ids
        start = next((at for at in range(len(prompt) - 1, -1, -1) if prompt[at] in special), 0)
        return tuple(prompt[start:])

    @cached_property
    def end_of_turn_id(self) -> int:
        """The token that ends the assistant's turn, read from the template, whatever the tokenizer calls its eos.

        Two chats that differ in the assistant's words alone agree again from there on: it is the first special token of
        the part they share, or the first token where the template ends a turn with plain text.
        """
        asked, more = Message("user", "Hi"), Message("user", "So")
        tails = [self._render([asked, Message("assistant", word), more]) for word in ("yes", "no")]
        shared = 0
        while shared < min(map(len, tails)) and tails[0][-1 - shared] == tails[1][-1 - shared]:
            shared += 1
        tail = tails[0][len(tails[0]) - shared :]
        if not tail:
            raise ModelError(
                "the chat template never ends the assistant's turn", fix="use a model with a chat template"
            )
        special = self._special_ids
        return next((token for token in tail if token in special), tail[0])

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever the ids of a chat could: the template and the whole tokenizer are in it."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return digest(self.template, sorted(self.tokenizer.get_vocab().items()), self._special_tokens)
        state = json.loads(backend.to_str())
        # a call leaves its padding and truncation settings behind; they are not part of what a tokenizer is
        return digest(self.template, {**state, "truncation": None, "padding": None}, self._special_tokens)

    def text(self, ids: Sequence[int]) -> str:
        """The text of an answer's ids, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    @property
    def _special_tokens(self) -> dict[str, str]:
        return {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()}

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        # some vocabularies add white space ("\n" in Gemma's): that ends no turn
        added = self.tokenizer.added_tokens_decoder.items()
        control = [index for index, token in added if token.special or not token.content.isspace()]
        return frozenset(self.tokenizer.all_special_ids) | frozenset(control)

    def _render(self, messages: Sequence[Message], *, generation_prompt: bool = False) -> list[int]:
        if not messages:
            raise ModelError("a chat needs at least one message")
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            ids = self.tokenizer.apply_chat_template(
                turns,
                chat_template=self.template,
                add_generation_prompt=generation_prompt,
                sanitize_control_tokens=True,
                return_dict=False,
            )
        except TemplateError as error:
            raise ModelError(f"the model's chat template refuses this chat: {error}") from error
        return list(ids)

    def _cut(self, prompt: list[int], row: list[int], answer: str) -> list[int]:
        if row[: len(prompt)] != prompt:
            raise ModelError(
                f"with the answer {answer!r} the prompt is split into other tokens than without it",
                fix="begin no answer with white space, or use a template whose generation prompt begins the answer",
            )
        rest, end = row[len(prompt) :], self.end_of_turn_id
        if end not in rest:  # a template that ends only turns which another turn follows
            return [*rest, end]
        return rest[: len(rest) - rest[::-1].index(end)]


def _plain_template(tokenizer: Any) -> str:
    if tokenizer.eos_token is None:
        raise ModelError(
            "the tokenizer has neither a chat template nor an end-of-sequence token",
            fix="use an instruction-tuned model, or set its tokenizer's chat_template",
        )
    begins = tokenizer("")["input_ids"]
    with_bos = tokenizer.bos_token_id is not None and begins[:1] == [tokenizer.bos_token_id]
    return "{{ bos_token }}" + PLAIN_TEMPLATE if with_bos else PLAIN_TEMPLATE
