"""Retrieved shots: for each input, its nearest training examples as solved turns before it.

One example, from input to score: before "What is the tallest mountain ?" the prompt shows "What is the highest peak in
Africa ?" with LOC and seven more neighbours. LOC comes out best; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.rungs.base import (
    ask_choices,
    conversation,
    instruction,
    prediction,
    read_predictor,
    role_model,
    same_model,
    text_of,
    write_predictor,
)
from luthier.types import Embedder, Example, FitContext, Input, Model, Prediction, TaskSpec

NEIGHBOURS = 8


@dataclass(frozen=True)
class RetrievedShotsPredictor:
    """`vectors` are the unit vectors of `shots`, shape (len(shots), dimension)."""

    model: Model
    embedder: Embedder
    system: str
    shots: tuple[tuple[str, str], ...]
    vectors: NDArray[np.float32]
    labels: tuple[str, ...]

    kind = "retrieved-shots"

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        texts = [text_of(value) for value in inputs]
        prompts = [
            conversation(self.system, [self.shots[at] for at in nearest], text)
            for nearest, text in zip(self.nearest(texts), texts, strict=True)
        ]
        return [prediction(reply) for reply in ask_choices(self.model, prompts, self.labels, scores="best")]

    def nearest(self, texts: Sequence[str]) -> list[list[int]]:
        """The neighbours of each text, the nearest last: it stands next to the question."""
        similarity = np.asarray(self.embedder.embed(texts)) @ self.vectors.T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS]
        return [[int(at) for at in row[::-1]] for row in order]

    def save(self, folder: Path) -> None:
        content = {
            "model": self.model.fingerprint,
            "embedder": self.embedder.fingerprint,
            "system": self.system,
            "shots": self.shots,
            "labels": self.labels,
        }
        write_predictor(folder, self.kind, content)
        np.savez(folder / "vectors.npz", vectors=self.vectors)

    @classmethod
    def load(cls, folder: Path, models: Mapping[str, Any]) -> RetrievedShotsPredictor:
        content = read_predictor(folder)
        with np.load(folder / "vectors.npz", allow_pickle=False) as arrays:
            vectors = arrays["vectors"]
        return cls(
            model=same_model(models, "prompted", content["model"], folder),
            embedder=same_model(models, "embedder", content["embedder"], folder),
            system=content["system"],
            shots=tuple((text, label) for text, label in content["shots"]),
            vectors=vectors,
            labels=tuple(content["labels"]),
        )

    def describe(self) -> Mapping[str, Any]:
        return {
            "prompt": self.system,
            "examples in the prompt": min(NEIGHBOURS, len(self.shots)),
            "chosen from": len(self.shots),
            "by similarity of": self.embedder.name,
        }


@dataclass(frozen=True)
class RetrievedShots:
    """The eight nearest training examples by embedding (Liu et al. 2022), the nearest last."""

    name = "retrieved-shots"
    rank = 60
    roles = ("prompted", "embedder")
    guarded = False
    version = "1"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> RetrievedShotsPredictor:
        model = role_model(context.models, "prompted", self.name)
        embedder: Embedder = role_model(context.models, "embedder", self.name)
        context.working("embedding train", 0, len(train))
        vectors = np.asarray(embedder.embed([text_of(example.input) for example in train]), dtype=np.float32)
        shots = tuple((text_of(example.input), example.reference) for example in train)
        return RetrievedShotsPredictor(model, embedder, instruction(task), shots, vectors, task.label_names)
