"""Scorers judge one prediction; metrics say which scores make up the figure that the target is about.

One example, from input to score: "Who was Galileo ?" has the reference "HUM". The prediction "HUM" scores 1 ("right"),
"DESC" scores 0 ("DESC instead of HUM"), and a prediction that failed is unscored, with the failure as its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from luthier.errors import ModelError
from luthier.evaluate.extraction import FieldF1, RecordExact
from luthier.evaluate.judge import PROMPTS, Judge
from luthier.evaluate.texts import Bleu, ChrF, RougeL, SameText, bleu
from luthier.types import Example, MetricName, Model, Prediction, Row, Score, Scorer, Target, TaskSpec, digest


class FingerprintedScorer(Scorer, Protocol):
    """A scorer that says, by its fingerprint, when a score could have become another."""

    @property
    def fingerprint(self) -> str: ...


def scorer_of(task: TaskSpec, judge: Model | None = None) -> FingerprintedScorer:
    """The scorer of a task's metric. Errors: ModelError where the metric is judge and there is no model for it."""
    return _scorer(task, task.target.metric, judge)


def dev_scorer(task: TaskSpec) -> FingerprintedScorer:
    """The scorer by which a choice is made on dev: no judge is asked, and half a success counts where that is known."""
    finer: Mapping[MetricName, MetricName] = {"bleu": "chrf", "judge": "chrf", "record_exact": "field_f1"}
    return _scorer(task, finer.get(task.target.metric, task.target.metric), None)


def signatures(task: TaskSpec) -> dict[str, str]:
    """What a published figure of this metric has to name: the library's signature, or the judge's prompts and scale."""
    name = task.target.metric
    if name == "judge":
        return {"name": name, "prompts": PROMPTS, "scale": task.scale, "rubric": task.rubric}
    if name == "bleu":
        return {"name": name, "signature": Bleu().signature}
    if name == "chrf":
        return {"name": name, "signature": f"mean over answers of {ChrF().signature}"}
    return {"name": name}


def _scorer(task: TaskSpec, name: MetricName, judge: Model | None) -> FingerprintedScorer:
    if name == "judge":
        if judge is None:
            raise ModelError("the metric is judge, and no model is", fix='add judge = "a model" under [models]')
        return Judge(judge, task.instruction, task.rubric, task.scale)
    if name in ("record_exact", "field_f1"):
        return (RecordExact if name == "record_exact" else FieldF1)(task.schema or {})
    plain: Mapping[str, Callable[[], FingerprintedScorer]] = {
        "exact_match": SameText,
        "rouge_l": RougeL,
        "chrf": ChrF,
        "bleu": Bleu,
    }
    return plain.get(name, ExactMatch)()


class ExactMatch:
    """1 where the output is one of the references, letter for letter; unscored where there is no output."""

    fingerprint = digest("exact-match", 1)

    def score(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Score]:
        return [_exact(example, prediction) for example, prediction in zip(examples, predictions, strict=True)]


def _exact(example: Example, prediction: Prediction) -> Score:
    if prediction.output is None:
        return Score(None, prediction.error or "the predictor gave no output")
    if prediction.output in example.references:
        return Score(1.0, "right")
    return Score(0.0, f"{prediction.output} instead of {example.reference}")


Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class PooledCounts(Protocol):
    def __call__(self, rows: Sequence[Row], *, hopeful: bool) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class Mean:
    """A metric that is the mean score over the rows it is about: it can be raced."""

    relevant: Callable[[Example, Prediction], bool]
    known_beforehand: bool  # whether the example alone tells if it is relevant
    binary: bool = True  # whether every score is 0 or 1


@dataclass(frozen=True, slots=True)
class Corpus:
    """A metric of the whole confusion table: no early stop. `statistic` maps counts (..., K, K + 1) to (...)."""

    statistic: Statistic


@dataclass(frozen=True, slots=True)
class Pooled:
    """A metric of what all answers add up to: no early stop.

    `counts` gives each row's share, shape (n, k), failures at their worst or with `hopeful` at their best; `statistic`
    maps sums (..., k) to (...).
    """

    counts: PooledCounts
    statistic: Statistic


def metric(target: Target, labels: Sequence[str]) -> Mean | Corpus | Pooled:
    """The metric that the target names.

    Recall of a class is the mean score among examples of that class, and precision the mean score among examples that
    were called that class: both are means over a random subsequence of the test order, so both can be raced. An
    unscored prediction may have been of the class: for precision it counts as relevant.
    """
    name, label = target.metric, target.label
    if name in ("accuracy", "exact_match", "record_exact"):
        return Mean(lambda example, prediction: True, known_beforehand=True)
    if name in ("rouge_l", "chrf", "field_f1", "judge"):
        return Mean(lambda example, prediction: True, known_beforehand=True, binary=False)
    if name == "bleu":
        return Pooled(Bleu().counts, bleu)
    if name == "recall":
        return Mean(lambda example, prediction: example.reference == label, known_beforehand=True)
    if name == "precision":
        return Mean(lambda example, prediction: prediction.output in (label, None), known_beforehand=False)
    if name == "f1":
        index = list(labels).index(label or "")
        return Corpus(lambda counts: f1_scores(counts)[..., index])
    return Corpus(lambda counts: f1_scores(counts).mean(axis=-1))


def f1_scores(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of each class from a confusion table of shape (..., K, K + 1), rows the truth, the last column "no label".

    A class that neither occurs nor is predicted has F1 0, as in scikit-learn's `zero_division=0`.

    >>> f1_scores(np.array([[8.0, 2.0, 0.0], [1.0, 9.0, 0.0]])).round(4).tolist()
    [0.8421, 0.8571]
    """
    square = counts[..., :, :-1]
    hits = np.diagonal(square, axis1=-2, axis2=-1)
    size = counts.sum(axis=-1) + square.sum(axis=-2)
    scores: NDArray[np.float64] = np.divide(2.0 * hits, size, out=np.zeros(hits.shape), where=size > 0)
    return scores


def confusion(rows: Sequence[Row], labels: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """True and predicted class of each row as indices into `labels`; len(labels) stands for "none of them"."""
    index: Mapping[str, int] = {label: at for at, label in enumerate(labels)}
    true = np.array([index[row.example.reference] for row in rows], dtype=np.int64)
    predicted = np.array([index.get(row.prediction.output or "", len(index)) for row in rows], dtype=np.int64)
    return true, predicted
