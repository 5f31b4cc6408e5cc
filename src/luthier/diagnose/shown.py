"""Shown: a prompt that is shown passages of documents, as one that probes can change like any other.

One example: the rung `rag` answers "How many days off do I have?" after three passages. Asked with eight solved
examples, in other words, or with the passage that was not found, it keeps the passages that its own search finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from luthier.rungs.prompted import Chosen, PromptPredictor
from luthier.rungs.reading import Look, ReadingPredictor, parted
from luthier.types import Input, Message, Prediction


@dataclass(frozen=True)
class ReadingPrompt(PromptPredictor):
    """A prompt with `look`: whatever else is changed, each input has the passages that were found for it before it."""

    look: Look | None = None

    @classmethod
    def of(cls, predictor: ReadingPredictor) -> ReadingPrompt:
        reader = predictor.reader
        return cls(**{each.name: getattr(reader, each.name) for each in fields(PromptPredictor)}, look=predictor.look)

    @property
    def reading(self) -> ReadingPredictor:
        """The prompt as the rung has it, which cites, and says so where nothing is found."""
        assert self.look is not None
        plain = PromptPredictor(**{each.name: getattr(self, each.name) for each in fields(PromptPredictor)})
        return ReadingPredictor(plain, self.look)

    @property
    def characters(self) -> int:
        """About how much of each prompt is passages."""
        assert self.look is not None
        return self.look.count * self.look.size

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        return self.reading.predict(inputs)

    def prompts(self, inputs: Sequence[Input]) -> list[tuple[Message, ...]]:
        return self.reading.prompts(inputs)

    def said(self, text: str) -> str:
        """A written answer without the numbers of passages at its end."""
        assert self.look is not None
        return parted(text, range(1, self.look.count + 1))[0]


def prompt_of(predictor: Any) -> PromptPredictor | None:
    """The prompt that a predictor is, with its passages where it looks some up; None for one that is no prompt."""
    if isinstance(predictor, Chosen):
        return prompt_of(predictor.prompt)
    if isinstance(predictor, ReadingPredictor) and isinstance(predictor.reader, PromptPredictor):
        return ReadingPrompt.of(predictor)
    return predictor if isinstance(predictor, PromptPredictor) else None
