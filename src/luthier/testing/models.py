"""The contract of a model."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import uuid4

from luthier.types import (
    AnswersOneByOne,
    Message,
    Model,
    Reply,
    Request,
)

RECORD = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}
# closed, so that a small model comes to its end
KIND: dict[str, Any] = {"type": "string", "enum": ["animal", "number", "number of animals"]}
THING = {**RECORD, "properties": {"kind": KIND}, "additionalProperties": False}
TOLERANCE = 1e-4  # nats: what batching may move a log-probability
# rare letters, which no tokenizer takes together: a token more than they have bytes is one that was counted twice
RARE = " ".join(chr(0x2A6D6 - 37 * at) for at in range(24))
SEAM_TOKENS = 2  # by how many tokens a text may differ for what stands before it


class ModelContract(ABC):
    """What every model keeps: a batch comes back whole and in order, alone or together, and tokens are counted once."""

    @abstractmethod
    def make_model(self) -> Model: ...

    def requests(self) -> list[Request]:
        """Different prompts with a common beginning, and different choices. Override to suit a model's vocabulary."""
        questions = ("a dog", "how many", "the red house by the sea", "when")
        system = Message("system", "Say which kind of thing this is about.")
        return [
            Request((system, Message("user", text)), choices=("animal", "number", "number of animals"))
            for text in questions
        ]

    def prompt_tokens(self, request: Request) -> int | None:
        """How many tokens this prompt has, where the suite can count them apart from the model; None: it cannot."""
        return None

    def written_requests(self) -> list[Request]:
        """The same without choices. Override where the texts are all the same, or all of a single token."""
        return [replace(request, choices=None, max_tokens=6) for request in self.requests()]

    def make_other_model(self) -> Model | None:
        """A model that answers otherwise: other weights, another address. None: its fingerprint is not looked at."""
        return None

    def test_an_empty_batch_gives_no_replies(self) -> None:
        assert self.make_model().complete([]) == []

    def test_the_best_choice_is_the_answer(self) -> None:
        model, requests = self.make_model(), self.requests()
        for request, reply in zip(requests, _answered(model, requests), strict=True):
            assert request.choices is not None
            if not getattr(model, "gives_logprobs", True):
                assert reply.choice_logprobs is None, "a model with gives_logprobs = False tells texts only"
                assert len(reply.texts) == 1
                assert reply.texts[0] in request.choices, "requests() must be ones that the model can answer"
                continue
            logprobs = _logprobs(reply)
            assert len(logprobs) == len(request.choices)
            assert max(logprobs) <= TOLERANCE
            best = max(range(len(request.choices)), key=logprobs.__getitem__)
            assert reply.texts == (request.choices[best],)

    def test_replies_stand_in_the_order_of_the_requests(self) -> None:
        model, requests = self.make_model(), self.requests()
        forward, backward = _answered(model, requests), _answered(model, requests[::-1])
        answers = {(reply.texts, reply.choice_logprobs) for reply in forward}
        assert len(answers) > 1, "requests() must not all have the same answer"
        for one, other in zip(forward, backward[::-1], strict=True):
            _same(one, other)

    def test_written_answers_stand_in_the_order_of_the_requests(self) -> None:
        """Each is compared with its request's own, asked alone: turned round twice, a batch looks right."""
        model, requests = self.make_model(), self.written_requests()
        alone = [_answered(model, [request])[0].texts for request in requests]
        assert len(set(alone)) > 1, "written_requests() must not all have the same answer"
        mixed = [request for pair in zip(self.requests(), requests, strict=True) for request in pair]
        assert [reply.texts for reply in _answered(model, requests)] == alone
        assert [reply.texts for reply in _answered(model, requests[::-1])] == alone[::-1]
        assert [reply.texts for reply in _answered(model, mixed)][1::2] == alone, "in company with choices"

    def test_replies_that_arrive_one_by_one_are_those_of_the_batch(self) -> None:
        """Only for a model with `complete_each`: the response cache keeps what it tells."""
        model = self.make_model()
        if not isinstance(model, AnswersOneByOne):
            return
        first, *rest = self.requests()
        requests = [first, *self.written_requests(), replace(first, choices=()), *rest]
        told: list[tuple[int, Reply]] = []
        replies = model.complete_each(requests, lambda position, reply: told.append((position, reply)))
        assert sorted(position for position, _ in told) == list(range(len(requests))), "each is told once"
        assert len(replies) == len(requests)
        expected = model.complete(requests)
        for given in ([reply for _, reply in sorted(told, key=lambda pair: pair[0])], replies):
            for one, other in zip(given, expected, strict=True):
                assert (one.error is None) == (other.error is None)
                assert one.error is not None or one.texts == other.texts, "a reply that belongs to another request"

    def test_the_best_alone_is_the_best_of_all(self) -> None:
        model, requests = self.make_model(), self.requests()
        best = _answered(model, [replace(request, scores="best") for request in requests])
        for one, other in zip(best, _answered(model, requests), strict=True):
            assert one.texts == other.texts, "scores='best' has another answer than scores='all'"
            for found, known in zip(one.choice_logprobs or (), other.choice_logprobs or (), strict=True):
                assert found is None or known is None or abs(found - known) <= TOLERANCE

    def test_a_prior_makes_any_choice_the_answer_that_rises_most_above_it(self) -> None:
        """Only for a model that gives log-probabilities."""
        model, requests = self.make_model(), self.requests()
        if not getattr(model, "gives_logprobs", True):
            return
        for request, reply in zip(requests, _answered(model, requests), strict=True):
            logprobs, choices = _logprobs(reply), request.choices or ()
            for at, choice in enumerate(choices):
                prior = tuple(logprob - (at == other) for other, logprob in enumerate(logprobs))
                both = [replace(request, prior=prior), replace(request, prior=prior, scores="best")]
                for found in _answered(model, both):
                    assert found.texts == (choice,), "the prior is not taken into account"
                plain, _ = _answered(model, both)
                assert all(abs(a - b) <= TOLERANCE for a, b in zip(_logprobs(plain), logprobs, strict=True))

    def test_a_written_answer_keeps_to_max_tokens_and_says_when_it_was_cut(self) -> None:
        model, whole = self.make_model(), self.written_requests()
        short = [replace(request, max_tokens=1) for request in whole]
        cut = 0
        for many, few in zip(_answered(model, whole), _answered(model, short), strict=True):
            assert few.usage.output_tokens <= 1, "more tokens than max_tokens"
            assert {many.finish_reason, few.finish_reason} <= {"stop", "length"}
            assert few.finish_reason == "length" or few.texts == many.texts, "a text was cut and does not say so"
            cut += few.texts != many.texts
        for request, many in zip(whole, _answered(model, whole), strict=True):
            assert many.usage.output_tokens <= request.max_tokens, "more tokens than max_tokens"
        assert cut, "written_requests() must have an answer of several tokens"

    def test_json_of_a_schema_is_written_where_the_model_says_that_it_can(self) -> None:
        model = self.make_model()
        if not getattr(model, "follows_schemas", True):
            return
        for reply in _answered(model, [replace(r, schema=THING, max_tokens=64) for r in self.written_requests()]):
            (text,) = reply.texts
            assert reply.finish_reason == "stop"
            assert _json(text) in [{"kind": kind} for kind in KIND["enum"]], "it is not JSON of the schema"

    def test_a_request_alone_is_answered_as_in_company(self) -> None:
        model, requests = self.make_model(), self.requests()
        for request, reply in zip(requests, _answered(model, requests), strict=True):
            _same(_answered(model, [request])[0], reply)

    def test_a_large_batch_with_repeats_is_answered_like_a_small_one(self) -> None:
        model, requests = self.make_model(), self.requests()
        turns = [requests[(7 * at) % len(requests)] for at in range(5 * len(requests))]
        expected = dict(zip(map(repr, requests), _answered(model, requests), strict=True))
        for request, reply in zip(turns, _answered(model, turns), strict=True):
            _same(expected[repr(request)], reply)

    def test_a_request_that_fails_is_an_error_in_its_place_and_leaves_the_others(self) -> None:
        model, requests = self.make_model(), self.requests()
        first, *rest = requests
        replies = model.complete([first, replace(first, choices=()), *rest])
        assert len(replies) == len(requests) + 1
        failed = replies.pop(1)
        assert failed.error, "no choices to choose from must be an error"
        assert failed.texts == ()
        for one, other in zip(replies, _answered(model, requests), strict=True):
            assert one.error is None
            _same(one, other)

    def test_as_many_texts_as_were_asked_for(self) -> None:
        requests = [replace(request, choices=None, max_tokens=3, n=2) for request in self.requests()]
        for reply in _answered(self.make_model(), requests):
            assert len(reply.texts) == 2
            assert reply.texts[0] == reply.texts[1], "at temperature 0 all samples are the same"

    def test_the_order_of_the_choices_does_not_matter(self) -> None:
        model, request = self.make_model(), self.requests()[0]
        assert request.choices is not None
        turned = Request(request.messages, choices=request.choices[::-1])
        one, other = _answered(model, [request])[0], _answered(model, [turned])[0]
        assert one.texts == other.texts
        if not getattr(model, "gives_logprobs", True):
            return
        pairs = zip(_logprobs(one), _logprobs(other)[::-1], strict=True)
        assert all(abs(a - b) <= TOLERANCE for a, b in pairs)

    def test_every_prompt_token_is_counted_once_whether_it_was_cached_or_not(self) -> None:
        """A cache warms up from call to call: what is counted twice shows as a prompt that grows."""
        model, requests = self.make_model(), self.requests()
        together, again = _answered(model, requests), _answered(model, requests)
        alone = [_answered(model, [request])[0] for request in requests]
        for replies in (together, again, alone):
            for request, reply in zip(requests, replies, strict=True):
                usage = reply.usage
                assert min(usage.fresh_tokens, usage.cached_tokens, usage.cache_write_tokens, usage.output_tokens) >= 0
                assert usage.output_tokens > 0, "an answer has tokens"
                assert _prompt_tokens(reply) > 0, "a prompt has tokens"
                assert self.prompt_tokens(request) in (None, _prompt_tokens(reply))
        assert [_prompt_tokens(r) for r in together] == [_prompt_tokens(r) for r in again]
        assert [_prompt_tokens(r) for r in together] == [_prompt_tokens(r) for r in alone]

    def test_a_longer_prompt_has_as_many_more_tokens_as_its_text(self) -> None:
        """A prompt that nobody has asked before has little in a cache, and no token is shorter than a byte."""
        model = self.make_model()
        first = self.requests()[0]
        *before, last = first.messages
        unheard = f"{uuid4().hex[:8]} {last.content}"
        texts = [unheard, f"{unheard} {RARE}", f"{unheard} {RARE} {RARE}"]
        requests = [replace(first, messages=(*before, Message(last.role, text))) for text in texts]
        cold = [_answered(model, [request])[0] for request in requests]
        counts = [_prompt_tokens(reply) for reply in cold]
        growth = [longer - shorter for shorter, longer in pairwise(counts)]
        assert min(growth) > 0, "a longer prompt has more tokens"
        assert max(growth) <= len(f" {RARE}".encode()), "more tokens than bytes: some are counted twice"
        assert abs(growth[1] - growth[0]) <= SEAM_TOKENS, "the same text again has the same tokens again"
        for shorter, reply in zip(counts, cold[1:], strict=False):
            assert reply.usage.cached_tokens <= shorter, "tokens that were never seen are said to be cached"
        warm = _answered(model, requests)
        assert [_prompt_tokens(reply) for reply in warm] == counts, "the same prompt, another count"

    def test_the_same_model_has_the_same_fingerprint(self) -> None:
        model = self.make_model()
        fingerprint = model.fingerprint
        assert fingerprint
        assert self.make_model().fingerprint == fingerprint
        model.complete(self.requests())
        assert model.fingerprint == fingerprint, "asking a model does not make it another"

    def test_another_model_has_another_fingerprint(self) -> None:
        other = self.make_other_model()
        assert other is None or other.fingerprint != self.make_model().fingerprint


def _answered(model: Model, requests: Sequence[Request]) -> list[Reply]:
    replies = model.complete(requests)
    assert len(replies) == len(requests)
    for reply in replies:
        assert reply.error is None, reply.error
    return replies


def _logprobs(reply: Reply) -> tuple[float, ...]:
    logprobs = reply.choice_logprobs or ()
    found = tuple(logprob for logprob in logprobs if logprob is not None)
    assert found, "there are no scores of the choices"
    assert len(found) == len(logprobs), "all scores were asked for"
    return found


def _same(one: Reply, other: Reply) -> None:
    assert (one.choice_logprobs is None) == (other.choice_logprobs is None)
    if one.choice_logprobs is None:
        assert one.texts == other.texts, "another batch, another answer"
        return
    pairs = zip(_logprobs(one), _logprobs(other), strict=True)
    assert all(abs(a - b) <= TOLERANCE for a, b in pairs), "another batch, another answer"


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _prompt_tokens(reply: Reply) -> int:
    return reply.usage.fresh_tokens + reply.usage.cached_tokens + reply.usage.cache_write_tokens
