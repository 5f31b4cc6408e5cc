"""The local engine against the plainest way there is: one full pass for each prompt and each answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tiny_models import tiny_model, tiny_module, tiny_tokenizer

from luthier.errors import ModelError
from luthier.models.engine import CHUNK_TOKENS
from luthier.models.local import LocalModel
from luthier.models.packing import build_trie, common_prefix, fill_rows
from luthier.models.quiet import quiet
from luthier.testing import ModelContract
from luthier.types import Message, Model, Reply, Request

PACKED = ("llama", "qwen2", "qwen3", "gemma", "gpt2")
PLAIN = ("gemma2", "gemma3", "mamba", "longrope", "gpt_neo")
TOLERANCE = 1e-4


@cache
def model_of(kind: str, template: str = "chatml", seed: int = 0) -> LocalModel:
    return tiny_model(kind, template=template, seed=seed)


def plain_choice_logprobs(model: LocalModel, messages: Sequence[Message], choices: Sequence[str]) -> list[float]:
    totals = []
    for choice in choices:
        prompt = model.chat.prompt_ids(messages)
        answer = model.chat.answer_ids(messages, choice)
        with torch.inference_mode():
            logits = model.module(torch.tensor([prompt + answer[:-1]]), use_cache=False).logits[0]
        logprobs = torch.log_softmax(logits.double(), dim=-1)
        totals.append(sum(float(logprobs[len(prompt) - 1 + at, token]) for at, token in enumerate(answer)))
    return totals


def ask(*contents: str, choices: tuple[str, ...] | None, system: str | None = None) -> list[Request]:
    before = () if system is None else (Message("system", system),)
    return [Request((*before, Message("user", content)), choices=choices) for content in contents]


def logprobs(replies: Sequence[Reply]) -> list[tuple[float | None, ...]]:
    for reply in replies:
        assert reply.error is None, reply.error
        assert reply.choice_logprobs is not None
    return [reply.choice_logprobs for reply in replies if reply.choice_logprobs is not None]


def assert_scored_exactly(model: LocalModel, requests: Sequence[Request]) -> None:
    for request, reply in zip(requests, model.complete(requests), strict=True):
        assert reply.error is None, reply.error
        assert request.choices is not None
        expected = plain_choice_logprobs(model, request.messages, request.choices)
        assert reply.choice_logprobs == pytest.approx(expected, abs=TOLERANCE)
        assert reply.texts == (request.choices[int(np.argmax(expected))],)


LABELS = ("number", "number of animals", "animal", "location", "loc", "human: numeric")
SHARED = "Say which kind of thing this is about, number or animal or location. "
contents = st.text(st.sampled_from("abdeh .,?"), max_size=40)
shared = st.sampled_from(["", "a", SHARED, SHARED * 2, SHARED * 5])
label_sets = st.lists(
    st.sampled_from(LABELS) | st.text("ab", min_size=1, max_size=3), min_size=1, max_size=6, unique=True
)


class TestContract(ModelContract):
    def make_model(self) -> Model:
        return tiny_model()

    def make_other_model(self) -> Model:
        return tiny_model(template="turns")


class TestContractScoredPlainly(ModelContract):
    def make_model(self) -> Model:
        return tiny_model("gemma3", seed=1)  # of whose texts some differ

    def make_other_model(self) -> Model:
        return tiny_model("gemma3", seed=1, max_row_tokens=97)


@pytest.mark.parametrize("kind", PACKED)
@given(prefix=shared, texts=st.lists(contents, min_size=1, max_size=7), labels=label_sets)
@settings(max_examples=15, deadline=None)
def test_packed_scores_are_those_of_one_pass_for_each_answer(
    kind: str, prefix: str, texts: list[str], labels: list[str]
) -> None:
    model = model_of(kind)
    assert model.note is None
    assert_scored_exactly(model, ask(*(prefix + text for text in texts), choices=tuple(labels)))


@pytest.mark.parametrize("template", ["turns", "brackets", "plain"])
def test_other_templates_are_scored_exactly(template: str) -> None:
    assert_scored_exactly(model_of("llama", template), ask("a dog", "a house", SHARED, choices=LABELS))


@pytest.mark.parametrize("kind", ["gemma2", "gemma3"])
@given(prefix=shared, texts=st.lists(contents, min_size=1, max_size=4), labels=label_sets)
@settings(max_examples=8, deadline=None)
def test_a_sliding_window_is_scored_exactly(kind: str, prefix: str, texts: list[str], labels: list[str]) -> None:
    assert_scored_exactly(model_of(kind), ask(*(prefix + text for text in texts), choices=tuple(labels)))


@pytest.mark.parametrize("kind", PACKED)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_the_order_of_a_batch_changes_no_score(kind: str, data: st.DataObject) -> None:
    requests = [ask(SHARED + text, choices=tuple(data.draw(label_sets)))[0] for text in ("a dog", "", SHARED, "de h")]
    order = data.draw(st.permutations(range(len(requests))))
    straight = logprobs(model_of(kind).complete(requests))
    turned = logprobs(model_of(kind).complete([requests[at] for at in order]))
    for at, found in zip(order, turned, strict=True):
        assert found == pytest.approx(straight[at], abs=TOLERANCE)


@pytest.mark.parametrize("kind", PLAIN)
def test_a_model_that_cannot_be_packed_says_so_and_is_scored_exactly(kind: str) -> None:
    model = model_of(kind)
    assert model.note is not None
    assert "one answer at a time" in model.note
    assert_scored_exactly(model, ask("a dog", SHARED, choices=LABELS))


def test_where_positions_depend_on_the_length_no_answer_or_text_moves_another() -> None:
    (request,) = ask("a dog dog", choices=LABELS)
    prompt = model_of("longrope").prompt_tokens(request.messages)
    for border in range(prompt - 1, prompt + 6):  # of the answers some end before it and some behind
        model = tiny_model("longrope", border=border)
        assert_scored_exactly(model, [request])
    model = tiny_model("longrope", border=prompt + 12)
    both = [replace(one, max_tokens=20) for one in ask("a dog", SHARED, choices=None)]
    assert [reply.texts for reply in model.complete(both)] == [model.complete([one])[0].texts for one in both]


def test_a_model_that_packing_would_change_is_found_out_and_scored_exactly() -> None:
    model = tiny_model()

    def bend(_module: Any, _inputs: Any, options: dict[str, Any], output: Any) -> Any:
        output.logits *= 1.1 if "position_ids" in options else 1.0
        return output

    model.module.register_forward_hook(bend, with_kwargs=True)
    assert model.note == "llama-0 is scored one answer at a time: packed rows change its scores"
    assert_scored_exactly(model, ask("a dog", SHARED, choices=LABELS))


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_items_may_have_different_choices(data: st.DataObject) -> None:
    texts = data.draw(st.lists(contents, min_size=2, max_size=6))
    requests = [ask(SHARED + text, choices=tuple(data.draw(label_sets)))[0] for text in texts]
    assert_scored_exactly(model_of("llama"), requests)


def test_a_label_that_begins_another_can_win_and_can_lose() -> None:
    winners = set()
    for seed in (0, 10):
        model = model_of("llama", seed=seed)
        requests = ask("dog", "cat", "house", choices=("num", "number"))
        short, long = (model.chat.answer_ids(requests[0].messages, choice) for choice in ("num", "number"))
        assert long[: len(short) - 1] == short[:-1], "the shorter label's tokens must begin the longer one's"
        assert_scored_exactly(model, requests)
        winners |= {reply.texts[0] for reply in model.complete(requests)}
    assert winners == {"num", "number"}


def test_without_their_end_choices_are_scored_as_other_harnesses_do() -> None:
    whole, model = model_of("llama"), tiny_model(end="none")
    requests = ask("a dog", "a house", choices=("num", "number"))
    for reply, request in zip(model.complete(requests), requests, strict=True):
        prompt = model.chat.prompt_ids(request.messages)
        for choice, found in zip(("num", "number"), reply.choice_logprobs or (), strict=True):
            answer = model.chat.answer_ids(request.messages, choice)[:-1]
            with torch.inference_mode():
                steps = model.module(torch.tensor([prompt + answer]), use_cache=False).logits[0].log_softmax(-1)
            expected = sum(float(steps[len(prompt) - 1 + at, token]) for at, token in enumerate(answer))
            assert found == pytest.approx(expected, abs=TOLERANCE)
        assert reply.texts == ("num",), "a choice that begins another cannot lose to it"
    assert model.fingerprint != whole.fingerprint
    assert model.complete(ask("a dog", choices=("",)))[0].error == "an empty choice has no tokens to score"


def test_the_same_batch_gives_the_same_bits_whatever_was_asked_before() -> None:
    batch = ask("a dog", "a house by the sea", "", "how many", choices=LABELS, system=SHARED * 3)
    fresh = logprobs(tiny_model().complete(batch))
    model = tiny_model()
    histories = [
        ask("a dog", "cats", choices=("a", "b"), system=SHARED * 12),  # a longer prefix, cropped
        ask("x", choices=LABELS, system=SHARED * 3),  # the same chunks, another rest
        ask("x", "y", choices=LABELS, system="Quite another. " * 30),
        ask("x", "y", choices=LABELS, system=SHARED),  # a shorter prefix
        batch,
    ]
    for history in histories:
        model.complete(history)
        assert logprobs(model.complete(batch)) == fresh


def test_the_prefix_is_run_once_and_found_again() -> None:
    model = tiny_model()
    batch = ask("a dog", "a house", "how many", choices=LABELS, system=SHARED * 3)
    prompts = [len(model.chat.prompt_ids(request.messages)) for request in batch]
    first, *others = [reply.usage for reply in model.complete(batch)]
    assert first.fresh_tokens == prompts[0]
    assert first.cached_tokens == 0
    for usage, prompt in zip(others, prompts[1:], strict=True):
        assert usage.cached_tokens >= 64
        assert usage.fresh_tokens + usage.cached_tokens == prompt
    again = model.complete(batch)[0].usage
    assert again.cached_tokens == others[0].cached_tokens
    assert again.fresh_tokens + again.cached_tokens == prompts[0]


def test_of_another_prefix_only_whole_chunks_are_kept() -> None:
    """A part of a chunk would have been run in a matrix of another size: other bits on some machines."""
    model = tiny_model()
    model.complete(ask("a dog", "cats", choices=LABELS, system=SHARED * 13))
    shorter = ask("a dog", "cats", "a house", choices=LABELS, system=SHARED * 10)
    assert model.complete(shorter)[0].usage.cached_tokens == CHUNK_TOKENS
    prompts = [model.chat.prompt_ids(ask("a dog", choices=LABELS, system=SHARED * n)[0].messages) for n in (13, 10)]
    assert CHUNK_TOKENS < common_prefix(prompts) < 2 * CHUNK_TOKENS, "the prefixes must part inside a chunk"


def test_each_distinct_token_of_the_choices_is_counted_once() -> None:
    model = tiny_model()
    reply = model.complete(ask("a dog", choices=("number", "number of animals", "number")))[0]
    ids = [model.chat.answer_ids([Message("user", "a dog")], choice) for choice in ("number", "number of animals")]
    assert reply.usage.output_tokens == len(
        {tuple(answer[:end]) for answer in ids for end in range(1, len(answer) + 1)}
    )


def test_rows_stay_bounded_and_long_items_have_one_of_their_own() -> None:
    assert fill_rows([], limit=8) == []
    sizes = [5, 3, 1, 20, 8, 1]
    rows = fill_rows(sizes, limit=8)
    assert [index for row in rows for index in row] == list(range(len(sizes)))
    assert [[sizes[index] for index in row] for row in rows] == [[5, 3], [1], [20], [8], [1]]
    narrow = tiny_model(max_row_tokens=1)
    wide = tiny_model(max_row_tokens=4096)
    batch = ask("a dog", "a house by the sea", SHARED, choices=LABELS)
    for one, other in zip(logprobs(narrow.complete(batch)), logprobs(wide.complete(batch)), strict=True):
        assert one == pytest.approx(other, abs=TOLERANCE)


@given(st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=5))
def test_the_common_prefix_is_the_longest(sequences: list[list[int]]) -> None:
    length = common_prefix(sequences)
    assert len({tuple(sequence[:length]) for sequence in sequences}) == 1
    assert any(len(s) == length for s in sequences) or len({tuple(s[: length + 1]) for s in sequences}) > 1


@given(st.lists(st.lists(st.integers(0, 2), max_size=4), min_size=1, max_size=6))
def test_a_trie_holds_each_answer_and_each_beginning_once(answers: list[list[int]]) -> None:
    ended = [[*answer, 9] for answer in answers]
    trie = build_trie(ended)
    assert len(trie.nodes) == len({tuple(a[:n]) for a in answers for n in range(1, len(a) + 1)})
    for answer, path in zip(ended, trie.paths, strict=True):
        assert [trie.edges[edge][1] for edge in path] == answer
        for (_, token), (parent, _) in zip(
            [trie.edges[e] for e in path], [trie.edges[e] for e in path[1:]], strict=False
        ):
            assert trie.nodes[parent] == token


# ---------------------------------------------------------------- what goes wrong


def test_an_item_that_is_too_long_is_an_error_and_the_others_are_answered() -> None:
    model = tiny_model(context=200)
    good = ask("a dog", "a house", choices=LABELS)
    bad = ask("many words " * 200, choices=LABELS)[0]
    tokens = len(model.chat.prompt_ids(bad.messages))
    replies = model.complete([good[0], bad, replace(bad, choices=None), good[1]])
    for reply in replies[1:3]:
        assert reply.error == f"the prompt has {tokens} tokens, more than the model's 200"
        assert reply.texts == ()
    assert logprobs([replies[0], replies[3]]) == logprobs(model.complete(good))


def test_a_choice_that_no_longer_fits_is_an_error() -> None:
    model = tiny_model(context=60)
    reply = model.complete(ask("a dog", choices=("a", "a b " * 40 + "c")))[0]
    assert reply.error is not None
    assert "its longest choice" in reply.error
    assert "more than the model's 60" in reply.error


def test_no_choices_and_a_refused_chat_are_errors_of_their_items() -> None:
    model = model_of("llama", "turns")
    requests = [*ask("a dog", choices=()), *ask("a dog", choices=("a",), system="Be brief."), *ask("b", choices=("a",))]
    none, refused, fine = model.complete(requests)
    assert none.error == "there are no choices to score"
    assert "no system messages" in (refused.error or "")
    assert fine.texts == ("a",)


def test_an_interrupt_in_the_middle_of_a_pass_leaves_the_model_usable() -> None:
    model = tiny_model()
    batch = ask("a dog", "a house", choices=LABELS, system=SHARED * 3)
    expected = logprobs(model.complete(batch))

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    for calls in (batch, ask("a", "b", choices=LABELS, system="Quite another. " * 30)):
        hook = model.module.model.layers[1].register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.complete(calls)
        hook.remove()
        assert logprobs(model.complete(batch)) == expected


def test_a_module_that_is_being_trained_is_asked_in_evaluation_mode_and_given_back() -> None:
    model = tiny_model("gpt2")  # which drops out while it is trained
    batch = ask("a dog", choices=LABELS)
    expected = logprobs(model.complete(batch))
    model.module.train()
    assert logprobs(model.complete(batch)) == expected
    assert model.module.training


# ---------------------------------------------------------------- writing


def generated_plainly(model: LocalModel, messages: Sequence[Message], max_tokens: int) -> tuple[list[int], bool]:
    ids, answer = model.chat.prompt_ids(messages), []
    for _ in range(max_tokens):
        with torch.inference_mode():
            token = int(model.module(torch.tensor([ids + answer]), use_cache=False).logits[0, -1].argmax())
        if token in (model.chat.end_of_turn_id, model.tokenizer.eos_token_id):
            return answer, True
        answer.append(token)
    return answer, False


# a text that grows past the border of a long rope keeps the keys of its beginning, as transformers' cache does
@pytest.mark.parametrize("kind", [kind for kind in (*PACKED, *PLAIN) if kind != "longrope"])
def test_greedy_texts_are_those_of_prompts_run_alone(kind: str) -> None:
    model = model_of(kind)
    requests = [
        replace(r, max_tokens=n) for r, n in zip(ask("a", SHARED, "how many", choices=None), (3, 9, 30), strict=True)
    ]
    for request, reply in zip(requests, model.complete(requests), strict=True):
        answer, stopped = generated_plainly(model, request.messages, request.max_tokens)
        assert reply.texts == (model.chat.text(answer),)
        assert reply.finish_reason == ("stop" if stopped else "length")
        assert reply.usage.output_tokens == len(answer) + stopped
        usage, prompt = reply.usage, model.chat.prompt_ids(request.messages)
        assert usage.fresh_tokens + usage.cached_tokens == len(prompt)


def always_saying(model: LocalModel, token: int, after: int) -> None:
    """Bend the model so that `token` is all it says from position `after` on."""
    assert model.note is None  # looked up before: its passes are not to be counted

    def bend(_module: Any, _inputs: Any, output: Any) -> Any:
        model.module.calls = getattr(model.module, "calls", 0) + 1
        output.logits[..., token] += 1e4 if model.module.calls > after else -1e4
        return output

    model.module.register_forward_hook(bend)


@pytest.mark.parametrize("name", ["<|im_end|>", "</s>"])
def test_a_text_stops_at_the_end_of_turn_and_at_the_eos(name: str) -> None:
    model = tiny_model()
    always_saying(model, model.tokenizer.convert_tokens_to_ids(name), after=3)
    reply = model.complete([replace(r, max_tokens=20) for r in ask("a dog", choices=None)])[0]
    assert reply.finish_reason == "stop"
    assert reply.usage.output_tokens == 4
    assert name not in reply.texts[0]


def test_a_text_never_runs_over_the_context() -> None:
    model = tiny_model(context=64)
    always_saying(model, 300, after=0)
    request = replace(ask("a dog", choices=None)[0], max_tokens=500)
    reply = model.complete([request])[0]
    assert reply.finish_reason == "length"
    assert reply.usage.fresh_tokens + reply.usage.output_tokens == 64


@pytest.mark.timeout(30)
def test_no_tokens_asked_for_are_no_tokens_written() -> None:
    model = tiny_model()
    none, two = model.complete([replace(ask("a dog", choices=None)[0], max_tokens=count) for count in (0, 2)])
    assert (none.texts, none.usage.output_tokens, none.finish_reason) == (("",), 0, "length")
    assert two.usage.output_tokens == 2


def test_samples_follow_their_seed_and_not_their_company() -> None:
    model = model_of("llama")
    (request,) = [replace(r, temperature=1.0, n=3, seed=5, max_tokens=8) for r in ask("a dog", choices=None)]
    alone = model.complete([request])[0]
    company = model.complete([replace(request, seed=9), request, *ask(SHARED, choices=None)])
    assert company[1].texts == alone.texts
    assert company[0].texts != alone.texts
    assert len(set(alone.texts)) == 3
    greedy = model.complete([replace(request, temperature=0.0)])[0]
    assert len(set(greedy.texts)) == 1


@pytest.mark.parametrize("temperature", [0.5, 0.25])
def test_the_temperature_sharpens_the_models_own_distribution(temperature: float) -> None:
    model = model_of("llama")
    request = replace(ask("a dog", choices=None)[0], temperature=temperature, n=400, max_tokens=1)
    with torch.inference_mode():
        logits = model.module(torch.tensor([model.chat.prompt_ids(request.messages)])).logits[0, -1]
    likeliest = int(logits.argmax())
    expected, plain = (float(torch.softmax(logits / t, dim=-1)[likeliest]) for t in (temperature, 1.0))
    assert abs(expected - plain) > 0.2, "the test could not tell"
    share = model.complete([request])[0].texts.count(model.chat.text([likeliest])) / 400
    assert share == pytest.approx(expected, abs=0.1)


# ---------------------------------------------------------------- folders, fingerprints, adapters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "model"
    tiny_module().save_pretrained(target)
    tiny_tokenizer().save_pretrained(target)
    return target


def save_adapter(target: Path, *, scale: float = 0.3) -> Path:
    config = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    with quiet():
        tuned = get_peft_model(tiny_module(), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_" in name:
                weight.normal_(std=scale)
    tuned.save_pretrained(target)
    return target


def test_a_loaded_model_scores_as_the_one_that_was_saved(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    batch = ask("a dog", "a house", choices=LABELS)
    loaded = LocalModel.load(folder, name="tiny")
    assert logprobs(loaded.complete(batch)) == logprobs(
        LocalModel(tiny_module(), tiny_tokenizer(), name="tiny", fingerprint="tiny").complete(batch)
    )
    assert loaded.name == "tiny"
    assert loaded.context_tokens == 512
    assert loaded.module.dtype == torch.float32
    assert not loaded.thread_safe
    assert capfd.readouterr().err == ""


def test_the_fingerprint_changes_with_weights_tokenizer_template_and_adapter(folder: Path, tmp_path: Path) -> None:
    base = LocalModel.load(folder, name="tiny")
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert LocalModel.load(moved, name="another name").fingerprint == base.fingerprint
    seen = {base.fingerprint, base.with_adapter(save_adapter(tmp_path / "a")).fingerprint}
    assert LocalModel.load(folder, name="t", adapter=tmp_path / "a").fingerprint in seen
    seen.add(base.with_adapter(save_adapter(tmp_path / "b", scale=0.2)).fingerprint)
    tiny_tokenizer("turns").save_pretrained(moved)
    seen.add(LocalModel.load(moved, name="tiny").fingerprint)
    tiny_tokenizer().save_pretrained(moved)
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    seen.add(LocalModel.load(moved, name="tiny").fingerprint)
    tiny_module(seed=1).save_pretrained(moved)
    seen.add(LocalModel.load(moved, name="tiny").fingerprint)
    assert len(seen) == 6


def test_who_wrote_a_folder_and_where_does_not_change_its_fingerprint(folder: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter")
    base = LocalModel.load(folder, name="tiny", adapter=adapter).fingerprint
    for path in (folder / "config.json", adapter / "adapter_config.json"):
        said = {"_name_or_path": "elsewhere", "base_model_name_or_path": "elsewhere", "transformers_version": "5.0.0"}
        path.write_text(json.dumps(json.loads(path.read_text()) | said))
    assert LocalModel.load(folder, name="tiny", adapter=adapter).fingerprint == base


def test_hashes_are_remembered_and_a_folder_that_refuses_them_is_loaded_all_the_same(folder: Path) -> None:
    base = LocalModel.load(folder, name="tiny").fingerprint
    hashes = folder / "luthier-hashes.json"
    assert "model.safetensors" in json.loads(hashes.read_text())
    hashes.write_text("not JSON")
    assert LocalModel.load(folder, name="tiny").fingerprint == base
    hashes.unlink()
    hashes.mkdir()
    before = sorted(folder.iterdir())
    assert LocalModel.load(folder, name="tiny").fingerprint == base
    assert sorted(folder.iterdir()) == before


def test_an_adapter_is_merged_into_a_copy(folder: Path, tmp_path: Path) -> None:
    batch = ask("a dog", "a house", choices=LABELS)
    base = LocalModel.load(folder, name="tiny")
    before = logprobs(base.complete(batch))
    adapter = save_adapter(tmp_path / "adapter")
    tuned = base.with_adapter(adapter)
    assert logprobs(base.complete(batch)) == before
    assert logprobs(tuned.complete(batch)) != before
    assert tuned.module.dtype == torch.float32
    assert tuned.module.lm_head.weight is tuned.module.model.embed_tokens.weight
    with quiet():
        wrapped = get_peft_model(tiny_module(), LoraConfig(r=2, lora_alpha=4, target_modules="all-linear"))
        wrapped.load_adapter(adapter, "trained")
    wrapped.set_adapter("trained")
    unmerged = LocalModel(wrapped, tiny_tokenizer(), name="x", fingerprint="x")
    assert unmerged.note is None
    for one, other in zip(logprobs(tuned.complete(batch)), logprobs(unmerged.complete(batch)), strict=True):
        assert one == pytest.approx(other, abs=TOLERANCE)


def test_an_adapter_that_unties_the_embeddings_is_refused(folder: Path, tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    with quiet():
        get_peft_model(tiny_module(), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match="unties"):
        LocalModel.load(folder, name="tiny", adapter=tmp_path / "adapter")


def test_a_broken_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no adapter"):
        LocalModel.load(folder, name="tiny", adapter=tmp_path)
    with pytest.raises(ModelError, match="cannot be merged"):
        LocalModel.load(folder, name="tiny", adapter=save_adapter(tmp_path / "nan", scale=float("inf")))


def test_a_folder_that_is_no_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights"):
        LocalModel.load(tmp_path / "nowhere", name="tiny")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        broken = Path(shutil.copytree(folder, tmp_path / name))
        (broken / name).write_bytes(b"{")
        with pytest.raises(ModelError):
            LocalModel.load(broken, name="tiny")
