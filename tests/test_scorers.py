"""The exact-match scorer against the public contract, and the metrics against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from luthier.evaluate.scorers import Corpus, ExactMatch, Mean, confusion, metric
from luthier.testing import ScorerContract
from luthier.types import Example, Prediction, Row, Score, Scorer, Target

EXAMPLE = Example("e", "Who was Galileo ?", ("HUM",))
LABELS = ("a", "b", "c")


class TestExactMatch(ScorerContract):
    def make_scorer(self) -> Scorer:
        return ExactMatch()

    def right(self) -> tuple[Example, Prediction]:
        return EXAMPLE, Prediction("HUM")

    def wrong(self) -> tuple[Example, Prediction]:
        return EXAMPLE, Prediction("DESC")


def test_a_near_miss_is_a_miss() -> None:
    assert ExactMatch().score([EXAMPLE], [Prediction("hum")])[0].value == 0.0


def test_f1_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    true, predicted = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    rows = [
        Row(Example(str(at), "x", (LABELS[t],)), Prediction(LABELS[p]), Score(float(t == p), ""))
        for at, (t, p) in enumerate(zip(true, predicted, strict=True))
    ]
    at_true, at_predicted = confusion(rows, LABELS)
    counts = np.zeros((3, 4))
    np.add.at(counts, (at_true, at_predicted), 1)
    macro = metric(Target("macro_f1", 0.5), LABELS)
    one = metric(Target("f1", 0.5, label="b"), LABELS)
    assert isinstance(macro, Corpus)
    assert isinstance(one, Corpus)
    assert macro.statistic(counts) == pytest.approx(f1_score(true, predicted, average="macro"))
    assert one.statistic(counts) == pytest.approx(f1_score(true, predicted, average=None)[1])


def test_an_answer_that_is_no_label_is_a_miss_of_its_class_and_a_hit_of_none() -> None:
    rows = [Row(Example("1", "x", ("a",)), Prediction(None, error="too long"), Score(None, "too long"))]
    true, predicted = confusion(rows, LABELS)
    assert (true.tolist(), predicted.tolist()) == ([0], [3])


def test_accuracy_recall_and_precision_are_means_that_can_be_raced() -> None:
    for name in ("accuracy", "recall", "precision"):
        found = metric(Target(name, 0.5, label=None if name == "accuracy" else "a"), LABELS)  # type: ignore[arg-type]
        assert isinstance(found, Mean)
