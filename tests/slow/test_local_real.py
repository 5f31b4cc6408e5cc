"""The engine on the real model: golden tokens, Paris, exact scores, the same bits, and the speed it is there for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from luthier.models import catalog
from luthier.models.engine import score_plainly
from luthier.types import Message, Request

pytestmark = pytest.mark.slow

LABELS = ("abbreviation", "description", "entity", "human", "location", "numeric")
INSTRUCTION = "Which kind of thing does the question ask for? " + "Answer with one of the kinds. " * 5
QUESTIONS = (
    "Where is Oslo ?",
    "Who wrote Hamlet ?",
    "What does NASA stand for ?",
    "How many feet are there in one mile ?",
    "What is the oldest city in the United States of America ?",
    "Why do leaves fall ?",
)


@pytest.fixture(scope="module")
def model() -> Any:
    return catalog.open_model("smollm2-135m")


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def ask(questions: Sequence[str], instruction: str = INSTRUCTION) -> list[Request]:
    return [Request(user(instruction + question), choices=LABELS) for question in questions]


def test_the_ids_of_a_chat_are_golden(model: Any) -> None:
    system = [1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182]
    asked = [2, 198, 1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198]
    messages = user("What is the capital of France?")
    assert model.chat.prompt_ids(messages) == system + asked
    assert model.chat.answer_ids(messages, "LOC") == [21519, 2]
    assert model.chat.end_of_turn_id == 2
    # "<|im_end|>" as seven tokens of text between "is" and "this", not as token 2
    typed = model.chat.prompt_ids(user("is <|im_end|> this"))
    assert typed.count(2) == model.chat.prompt_ids(user("is this")).count(2)
    assert typed[-14:-7] == [44, 108, 306, 79, 486, 108, 46]


def test_the_capital_of_france_is_paris_and_the_text_ends_there(model: Any) -> None:
    france, germany = model.complete(
        [Request(user(f"What is the capital of {country}?"), max_tokens=20) for country in ("France", "Germany")]
    )
    assert france.texts == ("The capital of France is Paris.",)
    assert germany.texts == ("The capital of Germany is Berlin.",)
    assert france.finish_reason == germany.finish_reason == "stop"


def test_packed_scores_are_those_of_one_pass_for_each_answer(model: Any) -> None:
    assert model.note is None
    for requests in (ask(QUESTIONS[:3]), ask(QUESTIONS[3:4]), ask(QUESTIONS[4:], instruction="")):
        for request, reply in zip(requests, model.complete(requests), strict=True):
            prompt = model.chat.prompt_ids(request.messages)
            for label, logprob in zip(LABELS, reply.choice_logprobs, strict=True):
                answer = model.chat.answer_ids(request.messages, label)
                with torch.inference_mode():
                    logits = model.module(torch.tensor([prompt + answer]), use_cache=False).logits[0]
                steps = torch.log_softmax(logits.double(), dim=-1)[len(prompt) - 1 :]
                expected = sum(float(step[token]) for step, token in zip(steps, answer, strict=False))
                assert logprob == pytest.approx(expected, abs=3e-4)


def test_the_same_batch_gives_the_same_bits_whatever_was_asked_before(model: Any) -> None:
    batch = ask(QUESTIONS)
    expected = [reply.choice_logprobs for reply in model.complete(batch)]
    for before in (ask(QUESTIONS[:2]), ask(QUESTIONS[:3], INSTRUCTION * 2), ask(QUESTIONS[3:], "Quite another. ")):
        model.complete(before)
        assert [reply.choice_logprobs for reply in model.complete(batch)] == expected


def test_alone_and_in_a_batch_it_writes_the_same(model: Any) -> None:
    requests = [Request(user(text), max_tokens=12) for text in ("Name a colour.", "Say hello. " * 20, QUESTIONS[4])]
    assert [model.complete([request])[0].texts for request in requests] == [r.texts for r in model.complete(requests)]


def test_the_best_label_alone_is_the_best_of_all(model: Any) -> None:
    kinds = ("food", "animal", "country", "person", "number", "reason", "letter", "sport", "colour")
    labels = tuple(f"{one} or {other}" for one in kinds for other in kinds if one != other)
    requests = [replace(request, choices=labels) for request in ask(QUESTIONS)]
    walked = model.complete([replace(request, scores="best") for request in requests])
    for reply, full in zip(walked, model.complete(requests), strict=True):
        assert reply.texts == full.texts
        assert reply.usage.output_tokens < full.usage.output_tokens
        assert None in reply.choice_logprobs
        for one, other in zip(reply.choice_logprobs, full.choice_logprobs, strict=True):
            assert one is None or one == pytest.approx(other, abs=3e-4)


def test_it_writes_json_of_a_schema(model: Any) -> None:
    booking = {
        "type": "object",
        "properties": {"people": {"type": "integer"}, "day": {"enum": ["Monday", "Friday", "Sunday"]}},
        "required": ["people", "day"],
        "additionalProperties": False,
    }
    text = "Write how many people and which day, as JSON: A table for 4 people on Friday, please."
    (reply,) = model.complete([Request(user(text), schema=booking, max_tokens=40)])
    assert reply.finish_reason == "stop"
    assert reply.texts == ('{"people": 4, "day": "Friday"}',)


def test_packing_is_many_times_faster_than_a_pass_for_each_answer(model: Any) -> None:
    """Measured on two idle cores: about 40 times, for a prefix of 150 tokens, six labels and 64 items."""
    requests = ask(QUESTIONS * 3, INSTRUCTION * 2)
    item = model._item(requests[0])
    assert model.note is None
    began = time.perf_counter()
    with torch.inference_mode():
        score_plainly(model.module, [item])
    plain = time.perf_counter() - began
    began = time.perf_counter()
    model.complete(requests)
    packed = (time.perf_counter() - began) / len(requests)
    assert plain > 6 * packed
