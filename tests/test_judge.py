"""The judge: what it is asked, what its words become, and the control that a bad one fails."""

from __future__ import annotations

import pytest

from luthier.errors import DataError, ModelError
from luthier.evaluate.judge import EMPTY_PHRASE, Judge, control
from luthier.evaluate.scorers import scorer_of
from luthier.models.scripted import ScriptedModel
from luthier.testing import ScorerContract
from luthier.types import Constraints, Example, Message, Prediction, Scale, Scorer, Target, TaskSpec

ADA = Example("e", "When was Ada born?", ("1815",))


def between(text: str, mark: str) -> str:
    return text.split(f"<{mark}>\n")[1].split(f"\n</{mark}>")[0]


def honest(messages: tuple[Message, ...]) -> str:
    """Compares answer and reference as a good judge would; A wins where both are alike."""
    asked = messages[-1].content
    if "<A>" in asked:
        return "B" if "1815" in between(asked, "B") and "1815" not in between(asked, "A") else "A"
    same = between(asked, "answer") == between(asked, "reference")
    return ("5" if same else "2") if "number" in asked else ("yes" if same else "no")


def judge(scale: Scale = "yes/no", script: object = honest, **more: object) -> Judge:
    return Judge(ScriptedModel(script, **more), "Answer.", "Says the year.", scale)  # type: ignore[arg-type]


class TestJudge(ScorerContract):
    def make_scorer(self) -> Scorer:
        return judge()

    def right(self) -> tuple[Example, Prediction]:
        return ADA, Prediction("1815")

    def wrong(self) -> tuple[Example, Prediction]:
        return ADA, Prediction("1816")


def test_the_judge_sees_task_rubric_input_references_and_answer() -> None:
    asked = judge()
    example = Example("e", (Message("system", "Be brief."), Message("user", "When?")), ("1815", "in 1815"))
    asked.score([example], [Prediction("late")])
    (request,) = asked.model.requests  # type: ignore[attr-defined]
    text = request.messages[-1].content
    for part in ("Answer.", "Says the year.", "system: Be brief.", "user: When?", "1815", "in 1815", "late"):
        assert part in text
    assert request.choices == ("yes", "no"), "scored, so that no answer can fail to parse"


def test_a_grade_is_a_quarter_step() -> None:
    scores = judge("1-5").score([ADA, ADA], [Prediction("1815"), Prediction("x")])
    assert [score.value for score in scores] == [1.0, 0.25]


def test_a_preference_is_asked_in_both_orders_and_a_flip_is_a_tie() -> None:
    other = Example("e", "When?", ("later",))
    answers = [Prediction("1815"), Prediction("later"), Prediction("1815")]
    scores = judge("preference").score([other, ADA, ADA], answers)
    assert [score.value for score in scores] == [1.0, 0.0, 0.5]
    assert "a tie" in scores[2].reason
    always_first = judge("preference", lambda messages: "A")
    assert always_first.score([ADA], [Prediction("x")])[0].value == 0.5


def test_no_verdict_is_unscored_and_says_why() -> None:
    failing = judge("yes/no", honest, failing=(0,))
    first, second = failing.score([ADA, ADA], [Prediction("1815"), Prediction("1815")])
    assert (first.value, second.value) == (None, 1.0)
    assert "scripted failure" in first.reason


def test_the_fingerprint_knows_the_words_and_the_model() -> None:
    prints = {judge().fingerprint, judge("1-5").fingerprint, judge("yes/no", honest, version="2").fingerprint}
    assert len(prints) == 3
    assert judge().fingerprint == judge().fingerprint


def examples(n: int = 30) -> list[Example]:
    return [Example(f"e{at}", f"question {at}", (f"answer {at % 9}",)) for at in range(n)]


def test_a_judge_that_knows_right_from_constant_passes_and_shows_by_how_much() -> None:
    found = control(judge(), examples(), examples(), seed=0)
    assert found.right == {"mean": 1.0, "n": 30}
    assert set(found.constants.values()) == {0.0}
    assert (found.gap.mean, found.unscored) == (1.0, 0)
    assert found.gap.low > 0.5


@pytest.mark.parametrize("scale", ["yes/no", "1-5"])
def test_a_judge_that_says_the_same_to_everything_is_refused(scale: Scale) -> None:
    asked = judge(scale, lambda messages: "yes" if scale == "yes/no" else "5")
    with pytest.raises(ModelError, match="cannot tell right answers from constant ones") as caught:
        control(asked, examples(), examples(), seed=0)
    assert "scripted" in caught.value.where


def test_a_judge_that_falls_for_an_empty_phrase_is_refused() -> None:
    def gullible(messages: tuple[Message, ...]) -> str:
        return "yes" if EMPTY_PHRASE in messages[-1].content else honest(messages)

    with pytest.raises(ModelError, match="a phrase that says nothing scores 1.00, and the right answers 1.00"):
        control(judge("yes/no", gullible), examples(), examples(), seed=0)


def test_a_judge_that_never_answers_is_refused() -> None:
    with pytest.raises(ModelError, match="no verdict"):
        control(judge("yes/no", lambda messages: "maybe"), examples(), examples(), seed=0)


def test_a_dev_split_without_examples_for_a_control_is_not_the_fault_of_the_judge() -> None:
    same = [Example(f"e{at}", f"question {at}", ("answer 0",)) for at in range(6)]
    with pytest.raises(DataError, match="none of the 6 dev examples") as caught:
        control(judge(), same, same, seed=0)
    assert "judge" not in caught.value.fix
    with pytest.raises(DataError, match="1 dev example is too few") as caught:
        control(judge("yes/no", lambda messages: "yes"), examples(), examples()[1:2], seed=0)
    assert "dev" in caught.value.fix


def test_a_task_that_is_judged_needs_a_judge() -> None:
    task = TaskSpec("t", "generation", "Answer.", (), Target("judge", 0.5), Constraints(), ("majority",), {})
    with pytest.raises(ModelError, match="no model is"):
        scorer_of(task)
    assert isinstance(scorer_of(task, ScriptedModel(honest)), Judge)
