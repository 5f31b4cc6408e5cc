"""The conformance suite of models is strict: each way of being wrong that it names makes it fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from luthier.models.scripted import ScriptedModel
from luthier.testing import ModelContract
from luthier.types import Model, Reply, Request, Usage

SCRIPT = {"dog": "animal", "many": "number", "house": {"animal": -1.5}, "when": "number"}


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


def failures(make: Callable[[], Model]) -> list[str]:
    """The tests of the contract that this model fails."""

    class Contract(ModelContract):
        def make_model(self) -> Model:
            return make()

    contract, failed = Contract(), []
    for name in (name for name in dir(contract) if name.startswith("test_")):
        try:
            getattr(contract, name)()
        except AssertionError:
            failed.append(name)
    return failed


@pytest.mark.parametrize("make", [lambda: ScriptedModel(SCRIPT), Warming])
def test_a_model_that_keeps_the_contract_passes_all_of_it(make: Callable[[], Model]) -> None:
    assert failures(make) == []


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
    assert failures(CountsTwice) == ["test_every_prompt_token_is_counted_once_whether_it_was_cached_or_not"]
