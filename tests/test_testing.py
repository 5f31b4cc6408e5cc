"""The conformance suite of models is strict: each way of being wrong that it names makes it fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from luthier.evaluate.scorers import ExactMatch
from luthier.models.scripted import ScriptedModel
from luthier.testing import ModelContract, ScorerContract
from luthier.types import Arrived, Example, Model, Prediction, Reply, Request, Score, Scorer, Usage

SCRIPT = {"dog": "animal", "many": "number of animals", "house": {"animal": -1.5}, "when": "number"}


class Warming(ScriptedModel):
    """A scripted model whose prompts are cached once they were seen, as a remote one's are."""

    def __init__(self) -> None:
        super().__init__(SCRIPT)
        self.seen: set[Any] = set()

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return [
            self.counted(request, reply) for request, reply in zip(requests, super().complete(requests), strict=True)
        ]

    def counted(self, request: Request, reply: Reply) -> Reply:
        known, prompt = request.messages in self.seen, reply.usage.fresh_tokens
        self.seen.add(request.messages)
        return replace(reply, usage=Usage(1, prompt - 1, 0, reply.usage.output_tokens)) if known else reply


class CountsTwice(Warming):
    """Takes the cached tokens for an addition to the prompt's, of which they are a part."""

    def counted(self, request: Request, reply: Reply) -> Reply:
        right = super().counted(request, reply).usage
        wrong = replace(right, fresh_tokens=right.fresh_tokens + right.cached_tokens)
        return replace(reply, usage=wrong)


class Turned(ScriptedModel):
    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return super().complete(requests)[::-1]


class AsTheyCome(ScriptedModel):
    """Gives the replies in the order in which they would arrive: the shortest question first."""

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        replies = super().complete(requests)
        order = sorted(range(len(requests)), key=lambda at: len(requests[at].messages[-1].content))
        return [replies[at] for at in order]


class SwapsLate(ScriptedModel):
    """Keeps the order of small batches only."""

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        replies = super().complete(requests)
        return replies if len(replies) < 9 else [*replies[:7], replies[8], replies[7], *replies[9:]]


class DropsOne(ScriptedModel):
    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return super().complete(requests)[: 3 if len(requests) > 3 else None]


class DropsTheFailed(ScriptedModel):
    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return [reply for reply in super().complete(requests) if reply.error is None]


class CountsNothing(ScriptedModel):
    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return [replace(reply, usage=Usage()) for reply in super().complete(requests)]


class Forgets(ScriptedModel):
    """Claims to score choices and tells no scores."""

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return [replace(reply, choice_logprobs=None) for reply in super().complete(requests)]


class TurnsTheWritten(ScriptedModel):
    """As when written and chosen answers are put together again from two lists."""

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        replies = super().complete(requests)
        written = [at for at, request in enumerate(requests) if request.choices is None]
        turned = dict(zip(written, written[::-1], strict=True))
        return [replies[turned.get(at, at)] for at in range(len(replies))]


class OneByOne(ScriptedModel):
    """Tells its replies as they arrive, the last one first, and keeps the contract."""

    def complete_each(self, requests: Sequence[Request], arrived: Arrived) -> list[Reply]:
        replies = self.complete(requests)
        for at in reversed(range(len(replies))):
            arrived(at, replies[at])
        return replies


class TellsWrongPlaces(OneByOne):
    def complete_each(self, requests: Sequence[Request], arrived: Arrived) -> list[Reply]:
        return super().complete_each(requests, lambda at, reply: arrived(len(requests) - 1 - at, reply))


class TellsTwice(OneByOne):
    def complete_each(self, requests: Sequence[Request], arrived: Arrived) -> list[Reply]:
        arrived(0, self.complete(requests[:1])[0])
        return super().complete_each(requests, arrived)


class ReturnsTurned(OneByOne):
    def complete_each(self, requests: Sequence[Request], arrived: Arrived) -> list[Reply]:
        return super().complete_each(requests, arrived)[::-1]


class GuessesTheBest(ScriptedModel):
    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return [
            replace(reply, texts=request.choices[-1:])
            if request.scores == "best" and request.choices and request.prior is None
            else reply
            for request, reply in zip(requests, super().complete(requests), strict=True)
        ]


class IgnoresThePrior(ScriptedModel):
    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return super().complete([replace(request, prior=None) for request in requests])


class WritesOn(ScriptedModel):
    """Knows no max_tokens."""

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return super().complete([replace(request, max_tokens=999) for request in requests])


class CutsAndSaysNothing(ScriptedModel):
    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return [replace(reply, finish_reason="stop") for reply in super().complete(requests)]


class KnowsNoSchema(ScriptedModel):
    follows_schemas = True


class Structured(ScriptedModel):
    """Writes JSON of a schema, and keeps the contract."""

    follows_schemas = True

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return [
            replace(reply, texts=('{"kind": "animal"}',)) if request.schema else reply
            for request, reply in zip(requests, super().complete(requests), strict=True)
        ]


class CountsTheCachedAlways(ScriptedModel):
    """Takes a prompt's tokens for cached ones and for fresh ones, cold or warm."""

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return [
            replace(reply, usage=replace(reply.usage, cached_tokens=reply.usage.fresh_tokens))
            for reply in super().complete(requests)
        ]


class CountsTheSame(ScriptedModel):
    """Tells the same count of every prompt."""

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return [replace(reply, usage=Usage(9, output_tokens=1)) for reply in super().complete(requests)]


class CountsLettersTwice(ScriptedModel):
    """More tokens than a prompt has bytes, and the same whenever it is asked."""

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        sizes = [2 * sum(len(message.content.encode()) for message in request.messages) for request in requests]
        return [
            replace(reply, usage=Usage(size, output_tokens=1))
            for size, reply in zip(sizes, super().complete(requests), strict=True)
        ]


class AnotherEachTime(ScriptedModel):
    """Takes what it was asked for a part of what it is."""

    @property
    def fingerprint(self) -> str:
        return f"asked {self.calls} times"


def failures(make: Callable[[], Model], other: Callable[[], Model | None] = lambda: None) -> list[str]:
    """The tests of the contract that this model fails."""

    class Contract(ModelContract):
        def make_model(self) -> Model:
            return make()

        def make_other_model(self) -> Model | None:
            return other()

    contract, failed = Contract(), []
    for name in (name for name in dir(contract) if name.startswith("test_")):
        try:
            getattr(contract, name)()
        except AssertionError:
            failed.append(name)
    return failed


@pytest.mark.parametrize(
    "make", [lambda: ScriptedModel(SCRIPT), Warming, lambda: OneByOne(SCRIPT), lambda: Structured(SCRIPT)]
)
def test_a_model_that_keeps_the_contract_passes_all_of_it(make: Callable[[], Model]) -> None:
    assert failures(make, lambda: ScriptedModel(SCRIPT, version="2")) == []


@pytest.mark.parametrize(
    ("wrong", "found_by"),
    [
        (Turned, "test_a_request_alone_is_answered_as_in_company"),
        (AsTheyCome, "test_replies_stand_in_the_order_of_the_requests"),
        (SwapsLate, "test_a_large_batch_with_repeats_is_answered_like_a_small_one"),
        (DropsOne, "test_a_request_alone_is_answered_as_in_company"),
        (DropsTheFailed, "test_a_request_that_fails_is_an_error_in_its_place_and_leaves_the_others"),
        (CountsNothing, "test_every_prompt_token_is_counted_once_whether_it_was_cached_or_not"),
        (Forgets, "test_the_best_choice_is_the_answer"),
    ],
)
def test_a_model_that_breaks_the_contract_fails_it(wrong: type[ScriptedModel], found_by: str) -> None:
    assert found_by in failures(lambda: wrong(SCRIPT))


def test_cached_tokens_that_are_counted_twice_are_found() -> None:
    assert failures(CountsTwice) == [
        "test_a_longer_prompt_has_as_many_more_tokens_as_its_text",
        "test_every_prompt_token_is_counted_once_whether_it_was_cached_or_not",
    ]


@pytest.mark.parametrize(
    ("wrong", "found_by"),
    [
        (TurnsTheWritten, "test_written_answers_stand_in_the_order_of_the_requests"),
        (TellsWrongPlaces, "test_replies_that_arrive_one_by_one_are_those_of_the_batch"),
        (TellsTwice, "test_replies_that_arrive_one_by_one_are_those_of_the_batch"),
        (ReturnsTurned, "test_replies_that_arrive_one_by_one_are_those_of_the_batch"),
        (GuessesTheBest, "test_the_best_alone_is_the_best_of_all"),
        (IgnoresThePrior, "test_a_prior_makes_any_choice_the_answer_that_rises_most_above_it"),
        (WritesOn, "test_a_written_answer_keeps_to_max_tokens_and_says_when_it_was_cut"),
        (CutsAndSaysNothing, "test_a_written_answer_keeps_to_max_tokens_and_says_when_it_was_cut"),
        (KnowsNoSchema, "test_json_of_a_schema_is_written_where_the_model_says_that_it_can"),
        (CountsTheCachedAlways, "test_a_longer_prompt_has_as_many_more_tokens_as_its_text"),
        (CountsTheSame, "test_a_longer_prompt_has_as_many_more_tokens_as_its_text"),
        (CountsLettersTwice, "test_a_longer_prompt_has_as_many_more_tokens_as_its_text"),
        (AnotherEachTime, "test_the_same_model_has_the_same_fingerprint"),
    ],
)
def test_a_model_that_is_wrong_in_one_way_is_found_by_one_test(wrong: type[ScriptedModel], found_by: str) -> None:
    assert failures(lambda: wrong(SCRIPT)) == [found_by]


def test_another_model_under_the_same_fingerprint_is_found() -> None:
    def other() -> Model:
        return ScriptedModel({"dog": "number"})

    assert failures(lambda: ScriptedModel(SCRIPT), other) == ["test_another_model_has_another_fingerprint"]


# ---------------------------------------------------------------- scorers


class UnscoredLast(ExactMatch):
    """Scores what was answered, and hangs on what was not."""

    def score(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Score]:
        return sorted(super().score(examples, predictions), key=lambda score: score.value is None)


class NotANumber(ExactMatch):
    """Divides by the length of the answer."""

    def score(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Score]:
        scores = super().score(examples, predictions)
        return [
            Score(float("nan"), "0 of 0") if prediction.output == "" else score
            for score, prediction in zip(scores, predictions, strict=True)
        ]


class LooksAround(ExactMatch):
    """In a large batch a miss is half right."""

    def score(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Score]:
        scores = super().score(examples, predictions)
        return [Score(0.5, "-") if score.value == 0 and len(scores) > 6 else score for score in scores]


@pytest.mark.parametrize(
    ("scorer", "found_by"),
    [
        (ExactMatch(), []),
        (UnscoredLast(), ["test_a_failed_prediction_is_unscored_in_its_place"]),
        (NotANumber(), ["test_a_score_is_a_number_from_0_to_1_whatever_was_answered"]),
        (LooksAround(), ["test_a_score_is_a_number_from_0_to_1_whatever_was_answered"]),
    ],
)
def test_a_scorer_that_is_wrong_in_one_way_is_found_by_one_test(scorer: Scorer, found_by: list[str]) -> None:
    class Contract(ScorerContract):
        def make_scorer(self) -> Scorer:
            return scorer

        def right(self) -> tuple[Example, Prediction]:
            return Example("e", "a dog", ("animal",)), Prediction("animal")

        def wrong(self) -> tuple[Example, Prediction]:
            return Example("e", "a dog", ("animal",)), Prediction("number")

    contract, failed = Contract(), []
    for name in (name for name in dir(contract) if name.startswith("test_")):
        try:
            getattr(contract, name)()
        except AssertionError:
            failed.append(name)
    assert failed == found_by
