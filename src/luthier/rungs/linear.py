"""Logistic regression with its penalty chosen on dev: the head of the classic rungs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from luthier.types import Example, FitContext

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # C, the inverse strength
MAX_ITERATIONS = 500


@dataclass(frozen=True)
class Linear:
    """Scores x W^T + b, W of shape (classes, features), and the classes' names."""

    classes: tuple[str, ...]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    penalty: float
    dev_accuracy: float

    def predict(self, features: Any) -> list[str]:
        """The best class for each row of `features`, shape (n, features), dense or sparse."""
        scores = features @ self.weights.T + self.bias
        return [self.classes[at] for at in np.asarray(scores).argmax(axis=1)]

    def save(self, folder: Path) -> None:
        np.savez(folder / "linear.npz", weights=self.weights, bias=self.bias)
        content = {"classes": self.classes, "penalty": self.penalty, "dev_accuracy": self.dev_accuracy}
        (folder / "linear.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Linear:
        content = json.loads((folder / "linear.json").read_text(encoding="utf-8"))
        with np.load(folder / "linear.npz", allow_pickle=False) as arrays:
            weights, bias = arrays["weights"], arrays["bias"]
        return cls(tuple(content["classes"]), weights, bias, content["penalty"], content["dev_accuracy"])

    def describe(self) -> Mapping[str, Any]:
        return {"inverse penalty C": self.penalty, "dev accuracy": round(self.dev_accuracy, 4)}


def fit_linear(
    train_features: Any, train: Sequence[Example], dev_features: Any, dev: Sequence[Example], context: FitContext
) -> Linear:
    """Fit one regression for each penalty on train and keep the one with the best dev accuracy (ties: the stronger).

    A single class in train (a tiny train split) gives a constant predictor.
    """
    references = np.array([example.reference for example in train])
    classes = tuple(str(name) for name in np.unique(references))
    if len(classes) == 1:
        return Linear(classes, np.zeros((1, train_features.shape[1])), np.zeros(1), PENALTIES[0], 0.0)
    wanted = [example.reference for example in dev]
    best: Linear | None = None
    for at, penalty in enumerate(PENALTIES):
        context.working("choosing the penalty on dev", at, len(PENALTIES))
        weights, bias = _fitted(train_features, references, penalty, context.seed)
        fitted = Linear(classes, weights, bias, penalty, 0.0)
        right = [got == want for got, want in zip(fitted.predict(dev_features), wanted, strict=True)]
        accuracy = float(np.mean(right)) if right else 0.0
        if best is None or accuracy > best.dev_accuracy:
            best = Linear(classes, weights, bias, penalty, accuracy)
    assert best is not None
    return best


def _fitted(features: Any, references: Any, penalty: float, seed: int) -> tuple[Any, Any]:
    """Weights and biases, a row a class in the order of np.unique(references).

    Sparse features are many more than examples: there liblinear's dual coordinate descent, one class against the rest,
    reaches the accuracy of the multinomial model in a fiftieth of its time (measured on the question-routing demo).
    """
    with warnings.catch_warnings():
        # A fit stopped early is a valid predictor like any other: dev judges it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if sparse.issparse(features):
            one = LogisticRegression(
                C=penalty, solver="liblinear", dual=True, max_iter=MAX_ITERATIONS, random_state=seed
            )
            parts = OneVsRestClassifier(one).fit(features, references).estimators_
            weights, bias = (
                np.vstack([part.coef_ for part in parts]),
                np.concatenate([part.intercept_ for part in parts]),
            )
        else:
            model = LogisticRegression(C=penalty, max_iter=MAX_ITERATIONS).fit(features, references)
            weights, bias = model.coef_, model.intercept_
    if len(weights) == 1:  # scikit-learn keeps one row for two classes
        return np.vstack([np.zeros_like(weights), weights]), np.concatenate([[0.0], bias])
    return weights, bias
