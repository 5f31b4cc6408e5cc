"""Asking: which examples an export is tested on, and what exactly it is asked about each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.release.source import Tuned
from luthier.types import Example, Message

SPARE_TOKENS = 8  # beyond the longest label: room to see that a model goes on where it should stop


@dataclass(frozen=True, slots=True)
class Asked:
    """One chat as it was measured: its messages, the tokens they came to, and how long the answer may be."""

    messages: tuple[Message, ...]
    ids: tuple[int, ...]
    max_tokens: int
    schema: Mapping[str, Any] | None = None

    @property
    def chat(self) -> list[dict[str, str]]:
        return [{"role": message.role, "content": message.content} for message in self.messages]


def one_of_each_group(examples: Sequence[Example], count: int, *, seed: int) -> list[Example]:
    """At most `count` examples in a seeded order, one of each group: near-copies are no new evidence."""
    first: dict[str, Example] = {}
    for example in examples:
        first.setdefault(example.group or example.id, example)
    found = list(first.values())
    random.Random(seed).shuffle(found)
    return found[:count]


def as_asked(tuned: Tuned, examples: Sequence[Example]) -> list[Asked]:
    """Each example's chat with the tokens it comes to here, and the room an answer has."""
    prompts = tuned.prompts([example.input for example in examples])
    chat, writing = tuned.model.chat, tuned.writing
    if writing is None:
        most = SPARE_TOKENS + max(len(chat.answer_ids(prompts[0], label)) for label in tuned.labels)
    else:
        most = writing.max_tokens
    schema = None if writing is None else writing.schema
    return [Asked(messages, tuple(chat.prompt_ids(messages)), most, schema) for messages in prompts]
