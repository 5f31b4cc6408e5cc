"""The best-first walk against scoring every label: the same answer, and only as much of the tree as that takes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_local import LABELS, PACKED, SHARED, TOLERANCE, ask, contents, model_of, shared
from tiny_models import tiny_model

from luthier.models.scripted import ScriptedModel
from luthier.models.walk import WORTH_A_WALK
from luthier.types import Request

WORDS = ("red", "house", "sea", "dog", "many", "how", "number", "of animals", "rain", "place", "Oslo", "who")
MANY = (*LABELS, *(f"{one} {other}" for one in WORDS for other in WORDS if one < other))
many = st.lists(st.sampled_from(MANY), min_size=25, max_size=60, unique=True)


def best_of(request: Request, prior: tuple[float, ...] | None = None) -> Request:
    return replace(request, scores="best", prior=prior)


def values(logprobs: tuple[float | None, ...] | None, prior: tuple[float, ...] | None) -> list[float]:
    assert logprobs is not None
    taken = prior or (0.0,) * len(logprobs)
    return [-math.inf if score is None else score - less for score, less in zip(logprobs, taken, strict=True)]


@pytest.mark.parametrize("kind", PACKED)
@given(prefix=shared, texts=st.lists(contents, min_size=1, max_size=5), labels=many, data=st.data())
@settings(max_examples=8, deadline=None)
def test_it_finds_the_best_of_all_choices_with_and_without_a_prior(
    kind: str, prefix: str, texts: list[str], labels: list[str], data: st.DataObject
) -> None:
    model = model_of(kind)
    priors = st.none() | st.tuples(*(st.floats(-30.0, 0.0) for _ in labels))
    requests = [replace(r, prior=data.draw(priors)) for r in ask(*(prefix + t for t in texts), choices=tuple(labels))]
    whole = model.complete(requests)
    for request, reply, full in zip(
        requests, model.complete([best_of(r, r.prior) for r in requests]), whole, strict=True
    ):
        assert reply.error is None, reply.error
        every, some = values(full.choice_logprobs, request.prior), values(reply.choice_logprobs, request.prior)
        assert full.texts == (labels[every.index(max(every))],)
        assert reply.texts == (labels[some.index(max(some))],)
        assert max(some) == pytest.approx(max(every), abs=TOLERANCE)
        for one, other in zip(reply.choice_logprobs or (), full.choice_logprobs or (), strict=True):
            assert one is None or one == pytest.approx(other, abs=TOLERANCE)


def test_it_scores_a_fraction_and_marks_the_rest() -> None:
    model = model_of("llama")
    (request,) = ask("a dog", choices=MANY)
    assert len(model._item(request).trie.nodes) >= WORTH_A_WALK
    full, walked = model.complete([request])[0], model.complete([best_of(request)])[0]
    assert walked.texts == full.texts
    assert walked.usage.output_tokens < full.usage.output_tokens / 2
    assert walked.choice_logprobs is not None
    assert 0 < walked.choice_logprobs.count(None) < len(MANY)


def test_a_prior_can_make_any_choice_the_best() -> None:
    model = model_of("llama")
    (request,) = ask("a dog", choices=MANY)
    for wanted in range(0, len(MANY), 9):
        prior = tuple(-1000.0 if at == wanted else 0.0 for at in range(len(MANY)))
        assert model.complete([best_of(request, prior)])[0].texts == (MANY[wanted],)


def test_close_values_are_told_apart() -> None:
    """Where the rest of a choice is nearly certain its bound is close to its value: stopping early would miss it."""
    model = tiny_model()
    assert model.note is None
    end = model.chat.end_of_turn_id

    def likely_end(_module: Any, _inputs: Any, output: Any) -> None:
        output.logits[..., end] = -torch.inf
        output.logits[..., end] = output.logits.logsumexp(-1) + 0.5

    model.module.register_forward_hook(likely_end)
    (request,) = ask("a dog", choices=MANY)
    scores = model.complete([request])[0].choice_logprobs or ()
    for seed in range(6):
        ahead = np.random.default_rng(seed).permutation(len(MANY)) / len(MANY)
        prior = tuple(float(score or 0.0) - little for score, little in zip(scores, ahead, strict=True))
        assert model.complete([best_of(request, prior)])[0].texts == (MANY[int(ahead.argmax())],)


def test_a_choice_that_is_written_twice_is_answered_by_the_first() -> None:
    model = model_of("llama")
    (request,) = ask("a dog", choices=MANY)
    (best,) = model.complete([request])[0].texts
    reply = model.complete([best_of(replace(request, choices=(*MANY, best)))])[0]
    assert reply.texts == (best,)
    assert reply.choice_logprobs is not None
    assert reply.choice_logprobs[-1] == reply.choice_logprobs[MANY.index(best)]


def test_all_scores_and_the_best_alone_may_be_asked_for_in_one_batch_and_bits_do_not_depend_on_history() -> None:
    model = tiny_model()
    batch = ask("a dog", "a house", "", choices=MANY, system=SHARED * 3)
    mixed = [batch[0], best_of(batch[1]), *ask("x", choices=()), best_of(batch[2])]
    first = model.complete(mixed)
    assert [reply.error for reply in first] == [None, None, "there are no choices to score", None]
    assert None not in (first[0].choice_logprobs or ())
    assert None in (first[1].choice_logprobs or ())
    model.complete(ask("x", "y", choices=LABELS, system="Quite another. " * 30))
    again = model.complete(mixed)
    assert [reply.choice_logprobs for reply in again] == [reply.choice_logprobs for reply in first]


def test_an_interrupt_in_the_middle_of_a_walk_leaves_the_model_usable() -> None:
    model = tiny_model()
    batch = [best_of(request) for request in ask("a dog", "a house", choices=MANY, system=SHARED * 3)]
    expected = [reply.choice_logprobs for reply in model.complete(batch)]
    passes = 0

    def interrupt(*_: object) -> None:
        nonlocal passes
        passes += 1
        if passes == 3:
            raise KeyboardInterrupt

    hook = model.module.model.layers[1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.complete(batch)
    hook.remove()
    assert [reply.choice_logprobs for reply in model.complete(batch)] == expected


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_prior_of_another_length_is_an_error(kind: str) -> None:
    requests = [best_of(ask("a dog", choices=LABELS)[0], (0.0,))]
    for model in (model_of(kind), ScriptedModel({"dog": "loc"})):
        assert model.complete(requests)[0].error == f"the prior has 1 numbers for {len(LABELS)} choices"


def test_a_scripted_model_takes_the_prior_too() -> None:
    model = ScriptedModel({"dog": {"loc": -1.0, "animal": -0.5}})
    request = ask("a dog", choices=("loc", "animal"))[0]
    assert model.complete([request])[0].texts == ("animal",)
    assert model.complete([best_of(request, (-2.0, 0.0))])[0].texts == ("loc",)
