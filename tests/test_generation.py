"""Writing: JSON of a schema, samples that share their prompt, prompts that share their prefix."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from scipy.stats import chisquare
from test_local import PACKED, PLAIN, SHARED, ask, generated_plainly, model_of
from tiny_models import tiny_model

from luthier.errors import ModelError
from luthier.models import generation
from luthier.models.engine import PrefixCache
from luthier.models.generation import Prompt, generate_packed
from luthier.models.scripted import ScriptedModel
from luthier.types import Message, Request

BOOKING = {
    "type": "object",
    "properties": {
        "people": {"type": "integer", "minimum": 1, "maximum": 20},
        "kind": {"enum": ["table", "room"]},
        "names": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
        "late": {"type": ["boolean", "null"]},
    },
    "required": ["people", "kind", "names", "late"],
    "additionalProperties": False,
}


def of_schema(schema: Any, *texts: str, max_tokens: int = 80, temperature: float = 0.0, n: int = 1) -> list[Request]:
    return [
        Request((Message("user", text),), schema=schema, max_tokens=max_tokens, temperature=temperature, n=n, seed=3)
        for text in texts
    ]


@pytest.mark.parametrize("kind", [*PACKED, *PLAIN])
def test_texts_are_json_of_the_schema_unless_they_are_cut(kind: str) -> None:
    requests = of_schema(BOOKING, "a table for two", SHARED, "", temperature=1.0, n=4, max_tokens=60)
    whole = 0
    for reply in model_of(kind).complete(requests):
        assert reply.error is None, reply.error
        parsed = [valid(text, BOOKING) for text in reply.texts]
        assert (reply.finish_reason == "stop") == all(parsed)
        whole += sum(parsed)
    assert whole > 0


def valid(text: str, schema: Any) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    Draft202012Validator(schema).validate(found)
    # but for numbers, which may be written in several ways (-0 is one), and for how escapes write their digits
    digits = re.compile(r"-?\d[\d.eE+-]*")
    same = re.sub(
        r"\\u00[0-9A-Fa-f]{2}", lambda escape: json.dumps(json.loads(f'"{escape[0]}"'), ensure_ascii=False)[1:-1], text
    )
    dumped = json.dumps(found, ensure_ascii=False)
    assert digits.sub("0", same) == digits.sub("0", dumped), "written as json.dumps writes it"
    return True


leaves = st.sampled_from(
    [
        {"type": "integer"},
        {"type": "boolean"},
        {"enum": ["a", "b"]},
        {"type": "string", "maxLength": 3},
        {"type": "null"},
    ]
)
schemas = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items, "minItems": 1, "maxItems": 2}, inner)
        | st.dictionaries(st.sampled_from(["x", "y", "long name"]), inner, min_size=1).map(
            lambda keys: {"type": "object", "properties": keys, "required": [*keys], "additionalProperties": False}
        )
    ),
    max_leaves=5,
)


@given(schema=schemas, seed=st.integers(0, 3))
@settings(max_examples=12, deadline=None)
def test_any_schema_is_kept(schema: Any, seed: int) -> None:
    requests = [replace(r, seed=seed) for r in of_schema(schema, "a dog", "how many", temperature=1.5, max_tokens=120)]
    for reply in model_of("llama").complete(requests):
        assert reply.error is None, reply.error
        assert valid(reply.texts[0], schema) or reply.finish_reason == "length"


def test_schemas_free_texts_and_choices_go_together_in_one_batch() -> None:
    model = model_of("llama")
    one = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": False}
    (free,) = ask("a dog", choices=None)
    batch = [*of_schema(one, "a dog"), free, *of_schema({"const": "x"}, "a dog"), *ask("a", choices=("b", "c"))]
    replies = model.complete(batch)
    assert replies[0].texts == ('{"a": 1}',)
    assert replies[2].texts == ('"x"',)
    for request, reply in zip(batch[:3], replies, strict=False):
        assert model.complete([request])[0].texts == reply.texts


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "#/nowhere"}, {"type": object()}])
def test_a_schema_that_cannot_be_compiled_is_an_error_of_its_request(schema: Any) -> None:
    bad, good = model_of("llama").complete([*of_schema(schema, "a"), *of_schema({"const": 1}, "a")])
    assert (bad.error or "").startswith(("the schema cannot be compiled: ", "the schema is not JSON: "))
    assert bad.texts == ()
    assert good.texts == ("1",)


class Refusing:
    """A guide that cannot follow the first token."""

    def mask(self, logits: Any) -> Any:
        return logits

    def accept(self, token: int) -> bool:
        raise ModelError(f"token {token} is refused")


def test_what_a_guide_refuses_ends_its_own_text_alone() -> None:
    model = tiny_model()
    ids = tuple(model.chat.prompt_ids((Message("user", "a dog"),)))
    (free,) = model.complete([replace(r, max_tokens=5) for r in ask("a dog", choices=None)])
    prompt = Prompt(ids, 5, 0.0, (0, 1), (Refusing(), None))
    with torch.inference_mode():
        refused, written = generate_packed(PrefixCache(model.module), [prompt], [model.chat.end_of_turn_id])[0].texts
    assert "is refused" in (refused.error or "")
    assert written.error is None
    assert (model.chat.text(written.ids),) == free.texts


def test_a_text_of_a_schema_that_is_cut_says_so() -> None:
    reply = model_of("llama").complete(of_schema(BOOKING, "a table", max_tokens=3))[0]
    assert reply.finish_reason == "length"
    assert reply.usage.output_tokens == 3


def test_a_scripted_model_knows_no_schemas_and_says_what_its_script_says() -> None:
    model = ScriptedModel({"one": '{"a": 1}', "no": "hello", "cut": '{"a": [1, 2, 3] }'})
    one, none, cut = model.complete(of_schema(BOOKING, "one", "no", "cut", max_tokens=2))
    assert (one.texts, one.finish_reason) == (('{"a": 1}',), "stop")
    assert (none.texts, none.error) == (("hello",), None)
    assert cut.finish_reason == "length"


# ---------------------------------------------------------------- samples and prefixes


def test_the_prompt_of_several_samples_is_run_once() -> None:
    model = tiny_model()
    (request,) = [replace(r, temperature=1.0, n=5, max_tokens=6) for r in ask("a dog", choices=None)]
    shapes = []
    model.module.register_forward_pre_hook(
        lambda _module, _inputs, options: shapes.append(tuple(options["input_ids"].shape)), with_kwargs=True
    )
    assert model.note is None
    shapes.clear()
    reply = model.complete([request])[0]
    prompt = len(model.chat.prompt_ids(request.messages))
    assert len(reply.texts) == 5
    assert reply.usage.fresh_tokens + reply.usage.cached_tokens == prompt
    (first, *steps) = shapes
    assert first == (1, prompt)
    assert steps == [(5, 1)] * 5, "each sample's last token needs no pass"


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
def test_a_sample_is_the_same_alone_and_in_company(kind: str) -> None:
    model = model_of(kind)
    asked = ask("a dog", "", SHARED * 3, "how many", choices=None)
    requests = [replace(r, temperature=0.8, n=3, seed=at, max_tokens=9) for at, r in enumerate(asked)]
    together = [reply.texts for reply in model.complete(requests)]
    assert [model.complete([request])[0].texts for request in requests] == together
    assert [reply.texts for reply in model.complete(requests[::-1])][::-1] == together
    more = model.complete([replace(requests[0], n=5)])[0].texts
    assert more[:3] == together[0]


def test_tokens_are_drawn_as_often_as_the_model_says() -> None:
    model, text, draws = tiny_model(), (40, 7, 90), 3000
    with torch.inference_mode():
        expected = draws * torch.softmax(model.module(torch.tensor([text])).logits[0, -1].double(), dim=-1)
    counts = torch.zeros(len(expected))
    for _, _, _, *drawn in model.continued([text] * draws, max_tokens=1, seed=1):
        counts[drawn or list(model._stop_ids)[:1]] += 1  # what ends a text is not part of it
    often = expected > 5
    assert often.sum() > 20
    fit = chisquare([*counts[often], counts[~often].sum()], [*expected[often], expected[~often].sum()])
    assert fit.pvalue > 0.001


def test_a_model_that_gives_no_numbers_is_an_error_and_no_empty_text() -> None:
    model = tiny_model()
    (request,) = [replace(r, temperature=1.0, max_tokens=1) for r in ask("a dog", choices=None)]
    assert (
        model.complete([replace(request, temperature=1e-38)])[0].texts
        == model.complete([replace(request, temperature=0.0)])[0].texts
    )
    model.module.lm_head.register_forward_hook(lambda _module, _inputs, output: output * torch.nan)
    (reply,) = model.complete([request])
    assert "no probabilities" in (reply.error or "")


@pytest.mark.parametrize("kind", PACKED)
def test_prompts_with_a_long_prefix_share_it_and_write_what_they_write_alone(kind: str) -> None:
    model = tiny_model(kind)
    requests = [replace(r, max_tokens=7) for r in ask("a dog", "a house", "when", choices=None, system=SHARED * 6)]
    replies = model.complete(requests)
    for at, (request, reply) in enumerate(zip(requests, replies, strict=True)):
        answer, _ = generated_plainly(model, request.messages, 7)
        assert reply.texts == (model.chat.text(answer),)
        prompt = len(model.chat.prompt_ids(request.messages))
        assert reply.usage.fresh_tokens + reply.usage.cached_tokens == prompt
        assert (reply.usage.cached_tokens >= 64) == (at > 0)
    assert model.complete(requests)[0].usage.cached_tokens >= 64


@pytest.mark.parametrize("plainly", [False, True])
def test_a_text_that_is_finished_at_the_end_of_the_context_lets_the_others_go_on(plainly: bool) -> None:
    model = tiny_model("gpt2", context=128)
    if plainly:
        vars(model)["note"] = "as if it could not be packed"
    room = 128 - model.prompt_tokens((Message("user", ""),))
    long = next(text for text in ("x" * length for length in range(room, 0, -1)) if tokens_left(model, text) == 3)
    batch = [replace(r, max_tokens=40) for r in ask(long, *"abcdefg", choices=None)]
    for request, reply in zip(batch, model.complete(batch), strict=True):
        assert reply.error is None
        assert reply.texts == model.complete([request])[0].texts
    assert model.complete(batch)[0].usage.output_tokens == 3


def tokens_left(model: Any, text: str) -> int:
    return int(model.context_tokens - model.prompt_tokens((Message("user", text),)))


def test_texts_of_unlike_lengths_do_not_take_each_others_room(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(context=2048)
    asked = ask(SHARED * 10, *(f"a dog {at}" for at in range(12)), choices=None)
    batch = [replace(r, max_tokens=1 + 7 * (at % 3), n=1 + at % 2, temperature=1.0) for at, r in enumerate(asked)]
    batch.append(replace(batch[-1], max_tokens=60))
    before = [reply.texts for reply in model.complete(batch)]
    seen = []
    model.module.register_forward_pre_hook(
        lambda _module, _inputs, options: seen.append(options["attention_mask"].shape), with_kwargs=True
    )
    monkeypatch.setattr(generation, "APART_TOKENS", 300)
    assert [reply.texts for reply in model.complete(batch)] == before
    steps = [shape for shape in seen if shape[0] > 1]
    assert steps
    assert max(texts * places for texts, _, _, places in steps) <= 300
    longest = model.prompt_tokens(batch[0].messages)
    assert max(places for _, _, _, places in seen) < longest + 60, "no prompt looks past all the others"


def test_scores_are_the_same_bits_after_something_was_written() -> None:
    model = tiny_model()
    batch = ask("a dog", "a house", choices=("a", "b c"), system=SHARED * 3)
    before = [reply.choice_logprobs for reply in model.complete(batch)]
    model.complete([replace(request, choices=None, n=2, temperature=1.0) for request in batch])
    assert [reply.choice_logprobs for reply in model.complete(batch)] == before
