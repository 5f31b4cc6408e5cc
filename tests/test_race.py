"""Judging what a run measured, and racing until it is certain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import LABELS, eval_run

from luthier.evaluate.race import judge, more_examples, race
from luthier.evaluate.runner import BLOCK, Runner
from luthier.evaluate.scorers import ExactMatch
from luthier.store import Store
from luthier.types import Candidate, Example, Outcome, Prediction, SealedSplit, Target

TARGET = Target("accuracy", 0.85)


def bernoulli(p: float, n: int, seed: int = 0) -> list[float]:
    return [float(hit) for hit in np.random.default_rng(seed).random(n) < p]


def test_clear_cases_are_decided_on_the_right_side() -> None:
    assert judge(eval_run(bernoulli(0.97, 400)), TARGET, LABELS).outcome is Outcome.MEETS
    assert judge(eval_run(bernoulli(0.5, 400)), TARGET, LABELS).outcome is Outcome.DOES_NOT_MEET
    assert judge(eval_run(bernoulli(0.85, 100)), TARGET, LABELS).outcome is Outcome.INCONCLUSIVE


def test_no_rows_is_not_measured() -> None:
    judgement = judge(eval_run([], population=10, not_measured="no model"), TARGET, LABELS)
    assert (judgement.outcome, judgement.why) == (Outcome.NOT_MEASURED, "no model")


def test_later_rows_never_take_a_decision_back() -> None:
    scores = [1.0] * 60 + [0.0] * 60
    judgement = judge(eval_run(scores), TARGET, LABELS)
    assert judgement.outcome is Outcome.MEETS
    assert judgement.decided_at is not None
    assert judgement.decided_at <= 60


def test_a_smaller_share_of_alpha_needs_more_examples() -> None:
    def decided(alpha: float) -> int:
        at = judge(eval_run([1.0] * 300, alpha=alpha), TARGET, LABELS).decided_at
        assert at is not None
        return at

    assert decided(0.05) < decided(0.05 / 7) < decided(0.0001)


def test_unscored_predictions_weaken_both_sides() -> None:
    good = judge(eval_run([1.0] * 60), TARGET, LABELS)
    assert good.outcome is Outcome.MEETS
    holes = judge(eval_run([1.0, 1.0, 1.0, None] * 20), TARGET, LABELS)
    assert holes.outcome is not Outcome.MEETS
    assert holes.unscored == 20
    assert holes.estimate is not None
    assert holes.estimate.mean == 1.0  # of what was scored; the interval knows about the rest
    assert holes.estimate.low < 0.75
    bad = judge(eval_run([0.0, 0.0, None, None] * 10), Target("accuracy", 0.6), LABELS)
    assert bad.outcome is not Outcome.DOES_NOT_MEET


def test_a_group_is_one_observation_however_many_members_it_has() -> None:
    groups = [f"g{at // 5}" for at in range(300)]
    alone = judge(eval_run([1.0] * 60), TARGET, LABELS)
    grouped = judge(eval_run([1.0] * 300, groups=groups), TARGET, LABELS)
    assert alone.estimate is not None
    assert grouped.estimate is not None
    assert grouped.estimate.n == 60
    assert grouped.decided_at is None or grouped.decided_at > 5 * (alone.decided_at or 0) - 5


def test_recall_counts_only_its_class() -> None:
    references = ["a", "b"] * 100
    scores = [1.0 if reference == "a" else 0.0 for reference in references]
    run = replace(eval_run(scores, references=references), groups=100)
    recall = judge(run, Target("recall", 0.8, label="a"), LABELS)
    assert recall.outcome is Outcome.MEETS
    assert recall.estimate is not None
    assert (recall.estimate.mean, recall.estimate.n) == (1.0, 100)
    assert judge(run, Target("recall", 0.8, label="b"), LABELS).outcome is Outcome.DOES_NOT_MEET


def test_precision_counts_only_what_was_called_the_class() -> None:
    references = ["a", "b"] * 100
    scores = [1.0 if reference == "a" else 0.0 for reference in references]  # everything is called "a"
    precision = judge(eval_run(scores, references=references), Target("precision", 0.9, label="a"), LABELS)
    assert precision.outcome is Outcome.DOES_NOT_MEET
    assert precision.estimate is not None
    assert precision.estimate.mean == pytest.approx(0.5)


def test_macro_f1_needs_the_whole_split_and_is_marked_approximate() -> None:
    references = ["a", "b"] * 150
    scores = bernoulli(0.97, 300, seed=3)
    target = Target("macro_f1", 0.9)
    part = judge(eval_run(scores, references=references, population=400), target, LABELS)
    assert part.outcome is Outcome.INCONCLUSIVE
    whole = judge(eval_run(scores, references=references), target, LABELS)
    assert whole.approximate
    assert whole.outcome is Outcome.MEETS
    assert judge(eval_run(scores, references=references), Target("macro_f1", 0.999), LABELS).outcome is (
        Outcome.DOES_NOT_MEET
    )


def test_the_split_itself_is_certain_once_it_is_used_up() -> None:
    about = Target("accuracy", 0.85, about="split")
    scores = ([1.0] * 6 + [0.0]) * 7 + [1.0]
    whole = judge(eval_run(scores), about, LABELS)
    assert whole.outcome is Outcome.MEETS
    assert whole.estimate is not None
    assert whole.estimate.low == whole.estimate.high == pytest.approx(0.86)
    assert judge(eval_run(scores), TARGET, LABELS).outcome is Outcome.INCONCLUSIVE
    assert judge(eval_run(scores), Target("accuracy", 0.87, about="split"), LABELS).outcome is Outcome.DOES_NOT_MEET


def test_what_could_not_be_scored_is_not_wrong_for_certain() -> None:
    scores = [1.0, 1.0, None] * 30
    references = ["a", "b", "a"] * 30
    run = eval_run(scores, references=references)
    for target in (
        Target("macro_f1", 0.9, about="split"),
        Target("precision", 0.9, about="split", label="a"),
        Target("macro_f1", 0.9),
    ):
        judgement = judge(run, target, LABELS)
        assert judgement.outcome is Outcome.INCONCLUSIVE, target
        assert judgement.estimate is not None
        assert judgement.estimate.low < 0.9 < judgement.estimate.high


def test_an_undecided_race_says_how_many_more_examples_would_decide() -> None:
    near = more_examples(eval_run(([1.0] * 9 + [0.0]) * 10), TARGET, LABELS)
    nearer = more_examples(eval_run([1.0] * 95 + [0.0] * 5), TARGET, LABELS)
    assert near is not None
    assert nearer is not None
    assert near.median is not None
    assert nearer.median is not None
    assert near.q90 is None or near.median < near.q90
    assert nearer.median < near.median


class Counting:
    """A predictor whose answers are given, which counts what it is asked."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers, self.batches = answers, [0]

    def predict(self, inputs: list[str]) -> list[Prediction]:
        self.batches.append(len(inputs))
        return [Prediction(self.answers[text]) for text in inputs]


def race_on(scores: list[float], store: Store, **how: bool) -> tuple[object, Counting]:
    order = tuple(Example(f"e{at}", f"input {at}", ("a",)) for at in range(len(scores)))
    answers = {f"input {at}": "a" if score else "b" for at, score in enumerate(scores)}
    test = SealedSplit(order, hash="h")
    predictor = Counting(answers)
    record = store.begin_run(
        "t", "fingerprint", "h", [e.id for e in order], {"candidates": ["zero-shot"]}, "2026-01-01"
    )
    candidate = Candidate("zero-shot", None, 40)
    runner = Runner(predictor, "p", candidate, test, ExactMatch(), store, record.id)  # type: ignore[arg-type]
    empty = eval_run([], population=len(order), alpha=0.01)
    found = race(runner, empty, TARGET, LABELS, lambda run, judgement: None, exhaustive=how.get("exhaustive", False))
    return found, predictor


def test_a_race_stops_as_soon_as_it_is_certain(tmp_path: Path) -> None:
    found, predictor = race_on(bernoulli(0.4, 800), Store(tmp_path))
    assert judge(found, TARGET, LABELS).outcome is Outcome.DOES_NOT_MEET  # type: ignore[arg-type]
    assert sum(predictor.batches) <= 4 * BLOCK


def test_an_exhaustive_race_scores_everything_and_agrees(tmp_path: Path) -> None:
    scores = bernoulli(0.4, 800)
    whole, predictor = race_on(scores, Store(tmp_path), exhaustive=True)
    assert sum(predictor.batches) == 800
    short, again = race_on(scores, Store(tmp_path))
    assert sum(again.batches) == 0, "an unchanged predictor is replayed from the store"
    assert judge(whole, TARGET, LABELS).outcome is judge(short, TARGET, LABELS).outcome  # type: ignore[arg-type]


def test_a_futile_race_gives_up_and_is_inconclusive(tmp_path: Path) -> None:
    scores = ([1.0] * 17 + [0.0] * 3) * 20  # exactly on the target: 400 examples will not decide at alpha 1 %
    found, predictor = race_on(scores, Store(tmp_path))
    judgement = judge(found, TARGET, LABELS)  # type: ignore[arg-type]
    assert judgement.outcome is Outcome.INCONCLUSIVE
    assert found.gave_up  # type: ignore[attr-defined]
    assert sum(predictor.batches) < 400
