"""TF-IDF: words and character n-grams, weighted by rarity, into a logistic regression. No LLM, milliseconds an answer.

One example, from input to score: "How many dogs pull a sled ?" becomes sparse weights for "how many", "dogs", "many d",
...; the regression gives NUM the highest probability; the reference is "NUM"; the score is 1.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from luthier.rungs.base import LABELLED, read_predictor, text_of, write_predictor
from luthier.rungs.linear import Linear, fit_linear
from luthier.types import Example, FitContext, Input, Prediction, TaskSpec

# Two views of the text: words say what it is about, character n-grams forgive spelling.
VIEWS: tuple[Mapping[str, Any], ...] = (
    {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b|[^\w\s]"},
    {"analyzer": "char_wb", "ngram_range": (2, 5)},
)
MAX_FEATURES = 50_000  # a view; keeps the saved predictor small on 10,000 long examples


@dataclass(frozen=True)
class _View:
    """A fitted TF-IDF view: its vocabulary in column order, and the inverse document frequencies."""

    terms: tuple[str, ...]
    idf: NDArray[np.float64]
    vectorizer: TfidfVectorizer

    @classmethod
    def of(cls, view: int, terms: Sequence[str], idf: NDArray[np.float64]) -> _View:
        vocabulary = {term: column for column, term in enumerate(terms)}
        vectorizer = TfidfVectorizer(**VIEWS[view], sublinear_tf=True, vocabulary=vocabulary)
        vectorizer.idf_ = idf
        return cls(tuple(terms), idf, vectorizer)


@dataclass(frozen=True)
class TfidfPredictor:
    views: tuple[_View, ...]
    linear: Linear

    kind = "tfidf"

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        if not inputs:
            return []
        started = time.perf_counter()
        texts = [text_of(value) for value in inputs]
        features = sparse.hstack([view.vectorizer.transform(texts) for view in self.views], format="csr")
        labels = self.linear.predict(features)
        latency_s = (time.perf_counter() - started) / max(1, len(texts))
        return [Prediction(label, latency_s=latency_s) for label in labels]

    def save(self, folder: Path) -> None:
        write_predictor(folder, self.kind, {"terms": [list(view.terms) for view in self.views]})
        np.savez(folder / "idf.npz", *[view.idf for view in self.views])
        self.linear.save(folder)

    @classmethod
    def load(cls, folder: Path, models: Mapping[str, Any]) -> TfidfPredictor:
        terms = read_predictor(folder)["terms"]
        with np.load(folder / "idf.npz", allow_pickle=False) as idf:
            views = tuple(_View.of(at, terms[at], idf[f"arr_{at}"]) for at in range(len(VIEWS)))
        return cls(views, Linear.load(folder))

    def describe(self) -> Mapping[str, Any]:
        return {"features": sum(len(view.terms) for view in self.views), **self.linear.describe()}


@dataclass(frozen=True)
class Tfidf:
    """Word 1-2-grams and character 2-5-grams, sublinear TF-IDF, logistic regression with its penalty chosen on dev."""

    name = "tfidf"
    rank = 20
    roles = ()
    kinds = LABELLED
    guarded = False
    version = "1"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> TfidfPredictor:
        context.working("counting words")
        texts = [text_of(example.input) for example in train]
        views = []
        for at, view in enumerate(VIEWS):
            fitted = TfidfVectorizer(**view, sublinear_tf=True, max_features=MAX_FEATURES).fit(texts)
            views.append(_View.of(at, [str(term) for term in fitted.get_feature_names_out()], fitted.idf_))

        def features(examples: Sequence[Example]) -> Any:
            inputs = [text_of(example.input) for example in examples]
            return sparse.hstack([view.vectorizer.transform(inputs) for view in views], format="csr")

        linear = fit_linear(features(train), train, features(dev), dev, context)
        return TfidfPredictor(tuple(views), linear)
