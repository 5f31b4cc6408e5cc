"""The race of scores between 0 and 1: the mean is what is proven, by betting, and futility knows their spread."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import eval_run

from luthier import stats
from luthier.evaluate.race import judge, more_examples
from luthier.types import EvalRun, Example, Outcome, Prediction, Row, Score, Target

ROUGE = Target("rouge_l", 0.5)


def drawn(mean: float, n: int, seed: int, spread: float = 8.0) -> list[float]:
    return np.random.default_rng(seed).beta(mean * spread, (1 - mean) * spread, n).tolist()  # type: ignore[no-any-return]


def test_real_scores_are_judged_by_betting() -> None:
    scores = drawn(0.7, 120, 1)
    found = judge(eval_run(scores), ROUGE, ())
    low, high = stats.betting_sequence(scores, 0.05)
    assert found.outcome is Outcome.MEETS
    assert found.estimate is not None
    assert (found.estimate.low, found.estimate.high, found.estimate.method) == (low[-1], high[-1], "betting")
    assert judge(eval_run(drawn(0.3, 120, 2)), ROUGE, ()).outcome is Outcome.DOES_NOT_MEET


def test_scores_are_not_rounded_to_right_and_wrong() -> None:
    """All at 0.55: rounded sums would do, but rounded scores would prove anything."""
    found = judge(eval_run([0.55] * 60), Target("rouge_l", 0.6), ())
    assert found.outcome is not Outcome.MEETS
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(0.55)


def test_at_the_target_a_wrong_certainty_is_as_rare_as_promised() -> None:
    wrong = sum(judge(eval_run(drawn(0.5, 200, seed, 3.0)), ROUGE, ()).outcome is Outcome.MEETS for seed in range(200))
    assert wrong <= 200 * 0.05 + 3 * (200 * 0.05 * 0.95) ** 0.5


def test_unscored_answers_count_against_any_certainty() -> None:
    scores: list[float | None] = [*drawn(0.7, 60, 3)]
    failing = [None if at % 3 == 0 else score for at, score in enumerate(scores)]
    assert judge(eval_run(scores), ROUGE, ()).outcome is Outcome.MEETS
    found = judge(eval_run(failing), ROUGE, ())
    assert (found.outcome, found.unscored) == (Outcome.INCONCLUSIVE, 20)


def test_more_examples_knows_that_scores_close_to_each_other_decide_soon() -> None:
    close, wide = drawn(0.53, 60, 4, 200.0), [1.0] * 32 + [0.0] * 28
    np.random.default_rng(0).shuffle(wide)
    needed = []
    for scores in (close, wide):
        run = eval_run(scores, population=60)
        assert judge(run, ROUGE, ()).outcome is Outcome.INCONCLUSIVE
        more = more_examples(run, ROUGE, ())
        assert more is not None
        needed.append(more.median or 10**6)
    assert needed[0] < needed[1] / 2


def test_bleu_waits_for_the_whole_split_and_is_approximate() -> None:
    def bleu_run(answers: list[str], population: int) -> EvalRun:
        rows = tuple(
            Row(Example(f"e{at}", "x", (f"the old man number {at} and the sea",)), Prediction(answer), Score(0.5, "-"))
            for at, answer in enumerate(answers)
        )
        return replace(eval_run([1.0] * len(rows), population=population), rows=rows)

    good = [f"the old man number {at} and the sea" if at % 10 else "a sea" for at in range(60)]
    target = Target("bleu", 0.5)
    assert judge(bleu_run(good[:30], 60), target, ()).outcome is Outcome.INCONCLUSIVE
    found = judge(bleu_run(good, 60), target, ())
    assert (found.outcome, found.approximate) == (Outcome.MEETS, True)
    assert found.estimate is not None
    assert found.estimate.low < found.estimate.mean < found.estimate.high
    assert found.estimate.method == "bootstrap"
    bad = judge(bleu_run(["nothing like that"] * 60, 60), target, ())
    assert bad.outcome is Outcome.DOES_NOT_MEET
    perfect = judge(bleu_run([f"the old man number {at} and the sea" for at in range(60)], 60), target, ())
    assert perfect.estimate is not None
    assert perfect.estimate.low < 1.0, "60 right answers do not prove that all are"
