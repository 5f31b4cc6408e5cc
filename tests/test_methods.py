"""What a recipe trains: LoRA, DoRA or all weights; each as a rung, resumable, and merged as it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_train_loop import LABELS, RECIPE, TEXTS, data, interrupt, prompt, same_bits, stop_at, tune
from test_train_tree import assert_same, loss_and_gradients, some_rows
from tiny_models import tiny_model, tiny_module, tiny_tokenizer

from luthier.errors import ModelError
from luthier.models.local import LocalModel
from luthier.models.quiet import quiet
from luthier.rungs.dora import Dora
from luthier.rungs.full import Full
from luthier.rungs.qlora import QLora
from luthier.testing import RungContract
from luthier.train.adapter import adapted, put_weights, trainable, trained_weights, write_adapter, write_weights
from luthier.train.check import dev_scores
from luthier.train.quantized import nf4
from luthier.train.recipe import Method, Recipe
from luthier.types import FitContext, Kind, Request, Rung

DORA = replace(RECIPE, method="dora")
FULL = replace(RECIPE, method="full", learning_rate=3e-3)
OTHERS = pytest.mark.parametrize("recipe", [DORA, FULL], ids=["dora", "full"])


class TestDora(RungContract):
    def make_rung(self) -> Rung:
        return Dora(replace(DORA, epochs=1, dev_checks_per_epoch=1))

    def make_models(self) -> Mapping[str, Any]:
        return {"student": tiny_model()}


class TestFull(RungContract):
    def make_rung(self) -> Rung:
        return Full(replace(FULL, epochs=1, dev_checks_per_epoch=1))

    def make_models(self) -> Mapping[str, Any]:
        return {"student": tiny_model()}


class TestFullWrites(TestFull):
    kind: Kind = "generation"


def moved(base: Any, recipe: Recipe) -> Any:
    """Away from the start, where B is 0, so that every gradient is something."""
    module = adapted(base, recipe, seed=1)
    generator = torch.Generator().manual_seed(2)
    for _, parameter in trainable(module):
        parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return module


# ---------------------------------------------------------------- traps 12, 13 and 14


@OTHERS
def test_after_one_step_what_is_trained_has_moved_and_the_base_has_not(tmp_path: Path, recipe: Recipe) -> None:
    """Trap 13."""
    module = tiny_module()
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    tuned = tune(tmp_path, replace(recipe, epochs=1, step_examples=100), module=module)
    assert tuned.steps == 1
    start = trained_weights(adapted(tiny_module(), recipe, seed=0), recipe.method)
    assert tuned.weights.keys() == start.keys()
    for name, weight in start.items():
        assert torch.equal(tuned.weights[name], weight) == ("lora_A" in name), "while B is 0, A has no gradient"
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())


def test_the_trainable_counts_equal_the_formulas(tmp_path: Path) -> None:
    """Trap 13: DoRA adds a number for each output of each adapted layer; a full fine-tune counts tied weights once."""
    wide, narrow, inner, rank = 32, 16, 48, RECIPE.rank
    once = replace(RECIPE, epochs=1, step_examples=100)
    per_layer = [
        (wide, wide),
        (wide, narrow),
        (wide, narrow),
        (wide, wide),
        (wide, inner),
        (wide, inner),
        (inner, wide),
    ]
    lora = 2 * sum(rank * (into + out) for into, out in per_layer)
    assert tune(tmp_path / "lora", once).trainable_parameters == lora
    dora = tune(tmp_path / "dora", replace(once, method="dora"))
    assert dora.trainable_parameters == lora + 2 * sum(out for _, out in per_layer)
    full = tune(tmp_path / "full", replace(once, method="full"))
    assert full.trainable_parameters == 400 * wide + 2 * sum(i * o for i, o in per_layer) + 5 * wide


def test_doras_magnitudes_are_fp32() -> None:
    """Trap 12, and the recipe: magnitudes stay fp32."""
    sizes = [p for name, p in trainable(adapted(tiny_module(), DORA, seed=0)) if "magnitude" in name]
    assert len(sizes) == 14
    assert {size.dtype for size in sizes} == {torch.float32}


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_a_full_fine_tune_comes_back_from_its_folder_with_its_ties(tmp_path: Path, kind: str) -> None:
    """Trap 14: tied embeddings stay tied, and untied ones untied."""
    base = LocalModel(tiny_module(kind), tiny_tokenizer(), name="tiny", fingerprint="tiny")
    module = moved(base.module, FULL)
    write_weights(tmp_path, trained_weights(module, "full"), base)
    loaded = base.with_weights(tmp_path)
    head, table = loaded.module.get_output_embeddings().weight, loaded.module.get_input_embeddings().weight
    assert (head is table) == (kind != "qwen2")
    expected = module.state_dict()
    assert loaded.module.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in loaded.module.state_dict().items())
    assert base.fingerprint != loaded.fingerprint == base.with_weights(tmp_path).fingerprint
    assert LocalModel.load(tmp_path, name="alone").complete([Request(prompt("the dog"), choices=LABELS)])[0].texts


@OTHERS
def test_what_is_served_scores_as_it_did_in_training(tmp_path: Path, recipe: Recipe) -> None:
    """Traps 14 and 16: merged, or loaded whole, it gives the best check's likelihood."""
    model = LocalModel(tiny_module(), tiny_tokenizer(), name="tiny", fingerprint="tiny")
    tuned = tune(tmp_path, recipe, module=model.module)
    if recipe.method == "full":
        write_weights(tmp_path / "weights", tuned.weights, model)
        served = model.with_weights(tmp_path / "weights")
    else:
        write_adapter(tmp_path / "adapter", tuned.weights, recipe, "tiny")
        served = model.with_adapter(tmp_path / "adapter")
    replies = served.complete([Request(prompt(text), choices=LABELS) for text, _ in TEXTS[18:]])
    rights = [LABELS.index(label) for _, label in TEXTS[18:]]
    nats = -sum(reply.choice_logprobs[at] for reply, at in zip(replies, rights, strict=True) if reply.choice_logprobs)
    tokens = sum(item.rows[item.right[0]].labelled for item in data()[1])
    assert nats / tokens == pytest.approx(tuned.best.dev_nll, rel=1e-4)
    assert tuned.best.dev_nll < dev_scores(model.module, data()[1], 96, shared=False)[1]
    assert served.module.get_output_embeddings().weight is served.module.get_input_embeddings().weight


# ---------------------------------------------------------------- gradients against an oracle


@pytest.mark.parametrize("method", ["dora", "full"])
def test_loss_and_gradients_are_those_of_rows_run_alone(method: Method) -> None:
    rows, recipe = some_rows(), replace(RECIPE, method=method)
    module = moved(tiny_module(), recipe)
    with quiet():
        plain: Any = tiny_module()
        if method == "dora":
            config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", use_dora=True)
            plain = get_peft_model(plain, config).base_model.model
    weights = {name: parameter.data for name, parameter in trainable(module)}
    for name, parameter in plain.named_parameters():
        if name in weights:
            parameter.data.copy_(weights[name])
    total = 0.0
    for row in rows:
        labels = [-100] * row.labels_from + list(row.input_ids[row.labels_from :])
        loss = plain(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([labels])).loss * row.labelled
        loss.backward()
        total += loss.item()
    expected = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    module.config._attn_implementation = "luthier-tree"
    assert_same(loss_and_gradients(module, [rows], shared=True), (total, expected))


# ---------------------------------------------------------------- resuming and starting


@OTHERS
def test_an_interrupted_training_ends_in_the_same_bits(tmp_path: Path, recipe: Recipe) -> None:
    """Trap 15."""
    whole = tune(tmp_path / "whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "parts", recipe, working=stop_at(7, interrupt))
    resumed = tune(tmp_path / "parts", recipe)
    assert same_bits(resumed, whole)
    assert resumed.checks == whole.checks


@pytest.mark.parametrize("recipe", [RECIPE, DORA, FULL], ids=["lora", "dora", "full"])
def test_a_training_can_start_from_an_earlier_one_and_never_ends_worse(tmp_path: Path, recipe: Recipe) -> None:
    first = tune(tmp_path / "first", recipe)
    more = tune(tmp_path / "more", recipe, start=first.weights)
    assert (more.checks[0].step, more.checks[0].train_loss) == (0, None)
    found = more.checks[0].dev_accuracy, more.checks[0].dev_nll
    assert found == pytest.approx((first.best.dev_accuracy, first.best.dev_nll), rel=1e-5)
    spoilt = tune(tmp_path / "spoilt", replace(recipe, learning_rate=1.0), start=first.weights)
    assert spoilt.best.step == 0
    assert same_bits(spoilt, first)


def test_weights_of_another_method_are_no_start() -> None:
    module = adapted(tiny_module(), RECIPE, seed=0)
    with pytest.raises(ModelError, match="not those of this recipe"):
        put_weights(module, trained_weights(adapted(tiny_module(), DORA, seed=0), "dora"), "lora")


# ---------------------------------------------------------------- QLoRA


@pytest.mark.skipif(torch.cuda.is_available(), reason="it refuses where there is no GPU")
def test_qlora_refuses_on_a_cpu_with_one_clear_line(tmp_path: Path) -> None:
    spec, train, dev = TestDora().make_task()
    with pytest.raises(ModelError, match=r"^qlora: it needs a GPU\n  fix: use lora"):
        QLora().fit(spec, train, dev, FitContext({"student": tiny_model()}, 0, tmp_path))


def test_qloras_weights_are_normal_floats_of_four_bits() -> None:
    told = nf4().to_dict()
    assert (told["load_in_4bit"], told["bnb_4bit_quant_type"], told["bnb_4bit_use_double_quant"]) == (True, "nf4", True)
