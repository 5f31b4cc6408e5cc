"""Rows: examples as token ids, of which only the answer's carry a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.errors import DataError
from luthier.models.chat import Chat
from luthier.types import Message


@dataclass(frozen=True, slots=True)
class TrainRow:
    """A whole chat as ids; those from `labels_from` on, the answer and its end of turn, are what is learned."""

    input_ids: tuple[int, ...]
    labels_from: int

    def __post_init__(self) -> None:
        assert 0 < self.labels_from < len(self.input_ids), "a row needs a prompt and an answer"

    @property
    def labelled(self) -> int:
        return len(self.input_ids) - self.labels_from


@dataclass(frozen=True, slots=True)
class DevRow:
    """A prompt with each answer that could be given: one row an answer, and which of them are right."""

    rows: tuple[TrainRow, ...]
    right: tuple[int, ...]
    """Indices into rows; the first is the reference whose likelihood is measured."""


def train_row(
    chat: Chat, messages: Sequence[Message], answer: str, *, context_tokens: int, example_id: str
) -> TrainRow:
    """The row of one example, whole: DataError where it is longer than the context, as a cut row teaches no answer."""
    return answer_rows(chat, messages, (answer,), context_tokens=context_tokens, example_id=example_id)[0]


def answer_rows(
    chat: Chat, messages: Sequence[Message], answers: Sequence[str], *, context_tokens: int, example_id: str
) -> tuple[TrainRow, ...]:
    """A row for each answer to one prompt; DataError where one is longer than the context."""
    prompt = chat.prompt_ids(messages)
    rows = []
    for answer in answers:
        ids = (*prompt, *chat.answer_ids(messages, answer, prompt=prompt))
        if len(ids) > context_tokens:
            raise DataError(
                f"its prompt and answer have {len(ids)} tokens, more than the {context_tokens} the model can read",
                where=f"example '{example_id}'",
                fix="shorten its input, or leave it out of the data",
            )
        rows.append(TrainRow(ids, len(prompt)))
    return tuple(rows)
