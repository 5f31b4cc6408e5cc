"""The scripted model: the public fake keeps the contract that real models keep."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from luthier.models.scripted import ScriptedModel
from luthier.testing import ModelContract
from luthier.types import Message, Model, Request, Usage

LABELS = ("LOC", "HUM", "NUM")


def ask(*contents: str, choices: tuple[str, ...] | None = LABELS) -> list[Request]:
    return [Request((Message("system", "Say which."), Message("user", content)), choices) for content in contents]


class TestContract(ModelContract):
    def make_model(self) -> Model:
        return self.scripted("1")

    def make_other_model(self) -> Model:
        return self.scripted("2")

    def scripted(self, version: str) -> Model:
        script = {"dog": "animal", "many": "number of animals", "house": {"animal": -1.5}, "when": "number"}
        return ScriptedModel(script, version=version)


def test_the_longest_key_in_the_last_message_answers() -> None:
    model = ScriptedModel({"zoo": "LOC", "keeper of the zoo": "HUM", "which": "NUM"})
    replies = model.complete(ask("Where is the zoo?", "Who is the keeper of the zoo?"))
    assert [reply.texts for reply in replies] == [("LOC",), ("HUM",)]


def test_a_function_sees_the_messages() -> None:
    model = ScriptedModel(lambda messages: "NUM" if "many" in messages[-1].content else "HUM")
    assert [reply.texts for reply in model.complete(ask("how many", "who"))] == [("NUM",), ("HUM",)]


def test_log_probabilities_are_as_scripted_and_peaked_at_a_text() -> None:
    model = ScriptedModel({"sure": "HUM", "unsure": {"LOC": math.log(0.5), "NUM": math.log(0.4)}})
    sure, unsure = model.complete(ask("sure", "unsure"))
    assert sure.choice_logprobs == (-12.0, -0.01, -12.0)
    assert unsure.choice_logprobs == (math.log(0.5), -12.0, math.log(0.4))
    assert unsure.texts == ("LOC",)


def test_what_the_script_cannot_answer_is_an_error_of_that_reply() -> None:
    model = ScriptedModel({"a": "LOC", "b": "DESC", "c": {"LOC": 0.5}, "d": {"LOC": math.nan}})
    fine, none_of_them, above, nan, unknown = model.complete(ask("a", "b", "c", "d", "e"))
    assert fine.error is None
    assert none_of_them.error == "the script says 'DESC', which is none of the choices"
    assert above.error == nan.error == "the script's log-probabilities must be numbers of at most 0"
    assert unknown.error == "the script has no answer to 'e'"
    assert unknown.texts == ()


def test_requests_fail_by_their_number_over_all_batches() -> None:
    model = ScriptedModel({"a": "LOC"}, failing=(1, 2))
    first, second = model.complete(ask("a", "a")), model.complete(ask("a", "a"))
    assert [reply.error is None for reply in first + second] == [True, False, False, True]
    assert first[1].error == "scripted failure of request 1"
    assert model.calls == 2
    assert model.requests == ask("a", "a", "a", "a")


def test_words_are_counted_and_nothing_is_cached() -> None:
    model = ScriptedModel({"how many": "two or three"})
    (free,) = [replace(request, n=2) for request in ask("how many are there", choices=None)]
    reply = model.complete([free])[0]
    assert reply.texts == ("two or three",) * 2
    assert reply.usage == Usage(fresh_tokens=12, output_tokens=6)
    assert reply.finish_reason == "stop"
    chosen = model.complete(ask("how many", choices=("two or three", "four")))[0]
    assert chosen.usage == Usage(fresh_tokens=4, output_tokens=4)


def test_a_text_is_cut_at_max_tokens() -> None:
    model = ScriptedModel({"a": "one two three"})
    reply = model.complete([replace(request, max_tokens=2) for request in ask("a", choices=None)])[0]
    assert (reply.texts, reply.finish_reason) == (("one two",), "length")


def test_latency_is_told_and_shared_by_the_batch() -> None:
    replies = ScriptedModel({"a": "LOC"}, latency_s=0.02).complete(ask("a", "a"))
    assert [reply.latency_s for reply in replies] == [0.01, 0.01]


def test_the_fingerprint_is_name_and_version() -> None:
    made = [ScriptedModel({}, name=name, version=version) for name, version in (("a", "1"), ("b", "1"), ("a", "2"))]
    assert len({model.fingerprint for model in made}) == 3
    assert ScriptedModel({"x": "y"}, name="a").fingerprint == made[0].fingerprint


def test_an_empty_choice_list_is_an_error() -> None:
    assert ScriptedModel({"a": "LOC"}).complete(ask("a", choices=()))[0].error == "there are no choices to score"


@pytest.mark.parametrize("batch", [[], ask("a")])
def test_each_call_counts_even_an_empty_one(batch: list[Request]) -> None:
    model = ScriptedModel({"a": "LOC"})
    model.complete(batch)
    assert model.calls == 1
