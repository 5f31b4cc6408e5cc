"""What a task's data is made of: messages, inputs, examples, labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat: `role` is "system", "user" or "assistant"."""

    role: str
    content: str


Input = str | tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One input with its right answer. Near-copies share a `group`; None: the example is its own group."""

    id: str
    input: Input
    references: tuple[str, ...]
    group: str | None = None
    weight: float = 1.0
    columns: tuple[tuple[str, str], ...] = ()  # (name, value) of what `[slices] columns` asks for; no rung reads them

    @property
    def reference(self) -> str:
        return self.references[0]


@dataclass(frozen=True, slots=True)
class Label:
    """A class of a classification task, as the data spells it, with a line that tells a model what it means."""

    name: str
    description: str = ""


Kind = Literal["classification", "generation", "extraction"]
