"""Embedding: a small sentence encoder and a logistic regression on its vectors. A model, but no LLM.

One example, from input to score: "What is the tallest mountain ?" becomes a unit vector of 384 numbers; the regression
gives LOC the highest probability; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.rungs.base import LABELLED, read_predictor, role_model, same_model, text_of, write_predictor
from luthier.rungs.linear import Linear, fit_linear
from luthier.types import Embedder, Example, FitContext, Input, Prediction, TaskSpec


@dataclass(frozen=True)
class EmbeddingPredictor:
    embedder: Embedder
    linear: Linear

    kind = "embedding"

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        started = time.perf_counter()
        labels = self.linear.predict(self.embedder.embed([text_of(value) for value in inputs]))
        latency_s = (time.perf_counter() - started) / max(1, len(labels))
        return [Prediction(label, latency_s=latency_s) for label in labels]

    def save(self, folder: Path) -> None:
        write_predictor(folder, self.kind, {"embedder": self.embedder.fingerprint})
        self.linear.save(folder)

    @classmethod
    def load(cls, folder: Path, models: Mapping[str, Any]) -> EmbeddingPredictor:
        content = read_predictor(folder)
        return cls(same_model(models, "embedder", content["embedder"], folder), Linear.load(folder))

    def describe(self) -> Mapping[str, Any]:
        return {"embedder": self.embedder.name, **self.linear.describe()}


@dataclass(frozen=True)
class Embedding:
    """Sentence vectors and logistic regression, its penalty chosen on dev."""

    name = "embedding"
    rank = 30
    roles = ("embedder",)
    kinds = LABELLED
    guarded = False
    version = "1"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> EmbeddingPredictor:
        embedder: Embedder = role_model(context.models, "embedder", self.name)
        context.working("embedding train and dev", 0, len(train) + len(dev))
        vectors = embedder.embed([text_of(example.input) for example in (*train, *dev)])
        linear = fit_linear(vectors[: len(train)], train, vectors[len(train) :], dev, context)
        return EmbeddingPredictor(embedder, linear)
