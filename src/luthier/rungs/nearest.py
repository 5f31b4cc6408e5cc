"""Nearest: the answer of the training example that is most like the input. No LLM, nothing is written.

One example, from input to score: "How do I reset my PIN?" is most like the training example "How can I reset a PIN?",
by the words and letters they share; its answer, "In the app, under Card.", is copied; the reference is "In the app,
under Card > PIN."; the score by `exact_match` is 0, by `rouge_l` 0.91.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from luthier.rungs.base import WRITTEN, read_predictor, text_of, write_predictor
from luthier.rungs.tfidf import MAX_FEATURES, VIEWS
from luthier.types import Example, FitContext, Input, Prediction, TaskSpec


@dataclass(frozen=True)
class NearestPredictor:
    """`solved` are the training texts with their answers; the one with the highest cosine similarity is copied."""

    solved: tuple[tuple[str, str], ...]

    kind = "nearest"

    @cached_property
    def _views(self) -> list[tuple[TfidfVectorizer, Any]]:
        texts = [text for text, _ in self.solved]
        views = [TfidfVectorizer(**view, sublinear_tf=True, max_features=MAX_FEATURES) for view in VIEWS]
        return [(view, view.fit_transform(texts)) for view in views]

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        if not inputs:
            return []
        started = time.perf_counter()
        texts = [text_of(value) for value in inputs]
        # both views have unit rows: the sum of the two products is twice the mean cosine
        products = [(view.transform(texts) @ known.T).toarray() for view, known in self._views]
        best = np.sum(products, axis=0).argmax(axis=1)
        latency_s = (time.perf_counter() - started) / len(texts)
        return [Prediction(self.solved[at][1], latency_s=latency_s) for at in best]

    def save(self, folder: Path) -> None:
        write_predictor(folder, self.kind, {"solved": self.solved})

    @classmethod
    def load(cls, folder: Path, models: Mapping[str, Any]) -> NearestPredictor:
        return cls(tuple((text, answer) for text, answer in read_predictor(folder)["solved"]))

    def describe(self) -> Mapping[str, Any]:
        return {"copied from": len(self.solved)}


@dataclass(frozen=True)
class Nearest:
    """The nearest neighbour by TF-IDF over words and letters; ties go to the earlier example of train."""

    name = "nearest"
    rank = 25
    roles = ()
    kinds = WRITTEN
    guarded = False
    version = "1"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> NearestPredictor:
        context.working("counting words")
        return NearestPredictor(tuple((text_of(example.input), example.reference) for example in train))
