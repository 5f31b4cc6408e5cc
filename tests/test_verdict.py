"""decide(): the first candidate that meets the target and may be used."""

from __future__ import annotations

from builders import eval_run, spec

from luthier.report.verdict import Verdict, decide
from luthier.types import Constraints, EvalRun, Outcome, Target

TARGET = Target("accuracy", 0.85)
GOOD, BAD = [1.0] * 200, [0.0] * 200
NEAR = ([1.0] * 17 + [0.0] * 3) * 10


def verdict(*runs: EvalRun, constraints: Constraints = Constraints(), target: Target = TARGET) -> Verdict:
    return decide(runs, {}, target, constraints, task=spec(target, constraints))


def test_the_first_candidate_that_meets_is_chosen_even_if_a_later_one_scores_better() -> None:
    found = verdict(
        eval_run(BAD, name="majority", rank=10),
        eval_run(GOOD[:-5] + [0.0] * 5, name="tfidf", rank=20),
        eval_run(GOOD, name="lora", rank=70, guarded=True),
    )
    assert found.chosen == "tfidf"
    assert found.outcome is Outcome.MEETS
    assert found.sentence.startswith("You don't need an LLM for this: tfidf meets accuracy of at least 85 %")


def test_a_value_on_the_target_is_not_taken_for_a_proof() -> None:
    found = verdict(eval_run(NEAR))
    assert (found.chosen, found.outcome) == (None, Outcome.INCONCLUSIVE)
    assert "No candidate provably meets" in found.sentence
    assert found.candidates[0].more is not None


def test_a_candidate_below_the_target_is_never_chosen() -> None:
    found = verdict(eval_run(BAD))
    assert (found.chosen, found.outcome) == (None, Outcome.DOES_NOT_MEET)


def test_a_remote_candidate_is_blocked_where_data_must_stay() -> None:
    runs = (eval_run(GOOD, remote=True), eval_run(GOOD, name="few-shot", rank=50))
    assert verdict(*runs).chosen == "zero-shot"
    found = verdict(*runs, constraints=Constraints(local_only=True))
    assert found.chosen == "few-shot"
    assert found.candidates[0].outcome is Outcome.MEETS
    assert (found.candidates[0].eligible, found.candidates[0].blocked_by) == ("no", ("local_only",))


def test_a_fine_tune_without_a_guard_is_chosen_with_the_open_question_said() -> None:
    found = verdict(eval_run(GOOD, name="lora", rank=70, guarded=True))
    assert found.chosen == "lora"
    assert found.candidates[0].eligible == "unknown"
    assert "NOT MEASURED" in found.sentence


def test_nothing_measured_is_said_so() -> None:
    found = verdict(eval_run([], population=50, not_measured="needs the extra 'local'"))
    assert (found.chosen, found.outcome) == (None, Outcome.NOT_MEASURED)
    assert found.candidates[0].reasons == ("needs the extra 'local'",)


def test_what_would_flip_it_names_the_target_at_which_a_simpler_candidate_is_enough() -> None:
    scores = ([1.0] * 7 + [0.0] * 3) * 40
    found = verdict(eval_run(scores, name="tfidf", rank=20), eval_run(GOOD, name="lora", rank=70))
    low = found.candidates[0].estimate.low  # type: ignore[union-attr]
    assert any("tfidf is enough" in flip for flip in found.flips)
    lower = decide([eval_run(scores)], {}, Target("accuracy", low - 0.01), Constraints(), task=spec(TARGET))
    assert lower.outcome is Outcome.MEETS


def test_the_same_measurements_give_the_same_verdict() -> None:
    runs = (eval_run(NEAR), eval_run(GOOD, name="lora", rank=70))
    assert verdict(*runs) == verdict(*runs)
