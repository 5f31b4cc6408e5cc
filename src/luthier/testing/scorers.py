"""The contract of a scorer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from luthier.types import (
    Example,
    Prediction,
    Score,
    Scorer,
)


class ScorerContract(ABC):
    """What every scorer keeps: scores in [0, 1] with a reason, in order, and a failure is unscored, never a zero."""

    @abstractmethod
    def make_scorer(self) -> Scorer: ...

    @abstractmethod
    def right(self) -> tuple[Example, Prediction]:
        """An example with a prediction that deserves a 1."""

    @abstractmethod
    def wrong(self) -> tuple[Example, Prediction]:
        """An example with a prediction that deserves a 0."""

    def _score(self, *pairs: tuple[Example, Prediction]) -> list[Score]:
        scores = self.make_scorer().score([example for example, _ in pairs], [prediction for _, prediction in pairs])
        assert len(scores) == len(pairs)
        return scores

    def test_right_is_one_and_wrong_is_zero_in_order(self) -> None:
        assert [score.value for score in self._score(self.right(), self.wrong())] == [1.0, 0.0]
        assert [score.value for score in self._score(self.wrong(), self.right())] == [0.0, 1.0]

    def test_a_failed_prediction_is_unscored_and_says_why(self) -> None:
        example, _ = self.right()
        (score,) = self._score((example, Prediction(None, error="the prompt was too long")))
        assert score.value is None
        assert "too long" in score.reason

    def test_a_failed_prediction_is_unscored_in_its_place(self) -> None:
        failed = self.right()[0], Prediction(None, error="it failed")
        scores = self._score(failed, self.right(), failed, self.wrong(), self.right(), failed)
        assert [score.value for score in scores] == [None, 1.0, None, 0.0, 1.0, None]

    def test_a_score_is_a_number_from_0_to_1_whatever_was_answered(self) -> None:
        """Alone as in company: what else stands in a batch has no say."""
        (example, prediction), known = self.right(), self.wrong()[1]
        right, wrong = str(prediction.output), str(known.output)
        odd = (
            "",
            " ",
            "\n",
            right * 2,
            f"{right} {wrong}",
            right[: len(right) // 2],
            "nan",
            "1e9",
            "{",
            "{}",
            "\0",
            "é🙂",
        )
        pairs = [(example, Prediction(text)) for text in (*odd, " ".join([wrong] * 200))]
        scores = self._score(*pairs)
        for pair, score in zip(pairs, scores, strict=True):
            assert score.reason
            assert score.value is None or (math.isfinite(score.value) and 0 <= score.value <= 1), score
            assert self._score(pair)[0].value == score.value

    def test_every_score_has_a_reason(self) -> None:
        failed = self.right()[0], Prediction(None, error="it failed")
        assert all(score.reason for score in self._score(self.right(), self.wrong(), failed))

    def test_an_empty_batch_gives_no_scores(self) -> None:
        assert self._score() == []
