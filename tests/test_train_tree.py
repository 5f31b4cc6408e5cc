"""The tree of a pass: the same loss and gradients as rows run alone, for fewer tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tiny_models import tiny_module
from transformers import BloomConfig, BloomForCausalLM

from luthier.errors import ModelError
from luthier.models.quiet import quiet
from luthier.train.adapter import adapted, trainable
from luthier.train.recipe import Recipe
from luthier.train.rows import TrainRow
from luthier.train.tree import ATTENTION, fill, grow, label_logits, why_not_shared

RECIPE = Recipe(rank=4, alpha=8)
SHARING = pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma", "gemma3", "gpt2"])

ids = st.lists(st.integers(0, 3), min_size=2, max_size=9)
many_rows = st.lists(ids.flatmap(lambda row: st.builds(TrainRow, st.just(tuple(row)), st.integers(1, len(row) - 1))))


def some_rows(count: int = 9, *, longest: int = 40, shared: int = 6) -> list[TrainRow]:
    """Rows of different lengths with a common beginning, some of which go on alike for a while."""
    rng = np.random.default_rng(3)
    start = [int(token) for token in rng.integers(5, 400, size=shared)]
    rows = []
    for at in range(count):
        rest = [int(token) for token in rng.integers(5, 400, size=int(rng.integers(6, longest - shared)))]
        rest[0] = at % 3 + 5
        rows.append(TrainRow((*start, *rest), shared + len(rest) - int(rng.integers(1, 5))))
    return rows


def module_with_moved_adapter(base: Any, recipe: Recipe = RECIPE) -> Any:
    """B is 0 at first, which would hide a wrong gradient of A."""
    module = adapted(base, recipe, seed=1)
    generator = torch.Generator().manual_seed(2)
    for _, parameter in trainable(module):
        parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return module


def loss_and_gradients(
    module: Any, passes: Sequence[Sequence[TrainRow]], *, shared: bool
) -> tuple[float, dict[str, Any]]:
    total = 0.0
    for rows in passes:
        tree = grow(rows)
        loss = torch.nn.functional.cross_entropy(
            label_logits(module, tree, shared=shared), tree.targets, reduction="sum"
        )
        loss.backward()
        total += loss.item()
    gradients = {name: parameter.grad.clone() for name, parameter in trainable(module)}
    module.zero_grad()
    return total, gradients


def by_peft(kind: str, module: Any, rows: Sequence[TrainRow]) -> tuple[float, dict[str, Any]]:
    """The oracle: PEFT's own layers, one row at a time with labels, as any trainer does it."""
    with quiet():
        model = get_peft_model(tiny_module(kind), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    weights = {name: parameter.data for name, parameter in trainable(module)}
    for name, parameter in model.base_model.model.named_parameters():
        if name in weights:
            parameter.data.copy_(weights[name])
    total = 0.0
    for row in rows:
        labels = [-100] * row.labels_from + list(row.input_ids[row.labels_from :])
        loss = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([labels])).loss * row.labelled
        loss.backward()
        total += loss.item()
    named = model.base_model.model.named_parameters()
    return total, {name: parameter.grad for name, parameter in named if parameter.requires_grad}


def assert_same(one: tuple[float, dict[str, Any]], other: tuple[float, dict[str, Any]]) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert one[1].keys() == other[1].keys()
    scale = max(float(gradient.abs().max()) for gradient in other[1].values())
    for name, gradient in one[1].items():
        assert float((gradient - other[1][name]).abs().max()) <= 1e-5 * scale, name


@SHARING
def test_loss_and_gradients_equal_those_of_pefts_rows_run_alone(kind: str) -> None:
    """Traps 8 and 11."""
    rows = some_rows()
    module = module_with_moved_adapter(tiny_module(kind))
    expected = by_peft(kind, module, rows)
    assert why_not_shared(module, rows) is None
    assert_same(loss_and_gradients(module, [rows], shared=False), expected)
    module.config._attn_implementation = ATTENTION
    assert_same(loss_and_gradients(module, [rows], shared=True), expected)


def test_a_step_cut_into_passes_has_the_same_gradients() -> None:
    """Trap 10."""
    rows = some_rows()
    module = module_with_moved_adapter(tiny_module())
    module.config._attn_implementation = ATTENTION
    whole = loss_and_gradients(module, [rows], shared=True)
    for limit in (1, 60, 100):
        passes = [[rows[at] for at in part] for part in fill(rows, limit)]
        assert len(passes) > 1
        assert_same(loss_and_gradients(module, passes, shared=True), whole)


@SHARING
def test_a_long_example_has_the_same_gradients_for_a_fraction_of_the_memory(kind: str) -> None:
    rows = some_rows(1, longest=60)
    kept = []
    found = []
    for limit in (1000, len(rows[0].input_ids) // 2):
        module = module_with_moved_adapter(tiny_module(kind), replace(RECIPE, pass_tokens=limit))
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            found.append(loss_and_gradients(module, [rows], shared=False))
        kept.append(sum(sizes))
    assert_same(found[1], found[0])
    assert kept[1] < kept[0] / 3


def test_what_a_row_gets_does_not_depend_on_the_rows_beside_it() -> None:
    """Traps 8 and 9."""
    rows = some_rows()
    module = module_with_moved_adapter(tiny_module())
    module.config._attn_implementation = ATTENTION
    with torch.no_grad():
        tree = grow(rows)
        together = label_logits(module, tree, shared=True)
        for at, row in enumerate(rows):
            alone = label_logits(module, grow([row]), shared=True)
            assert torch.allclose(together[tree.row_of == at], alone, atol=1e-4)


def test_the_same_gradients_have_the_same_bits() -> None:
    """Trap 23."""
    rows = some_rows(12)
    module = module_with_moved_adapter(tiny_module())
    module.config._attn_implementation = ATTENTION
    one, other = (loss_and_gradients(module, [rows], shared=True) for _ in range(2))
    assert one[0] == other[0]
    assert all(torch.equal(gradient, other[1][name]) for name, gradient in one[1].items())


def test_a_model_with_attention_of_its_own_runs_row_by_row() -> None:
    rows = some_rows()
    torch.manual_seed(0)
    own = BloomForCausalLM(BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4)).eval()
    module = module_with_moved_adapter(own)
    before = module.config._attn_implementation
    assert why_not_shared(module, rows) is not None
    assert module.config._attn_implementation == before
    alone = [loss_and_gradients(module, [[row]], shared=False) for row in rows]
    together = loss_and_gradients(module, [rows], shared=False)
    total = {name: sum(gradients[name] for _, gradients in alone) for name in together[1]}
    assert_same(together, (sum(loss for loss, _ in alone), total))


def test_a_model_that_takes_no_lora_layers_is_a_clear_error() -> None:
    with pytest.raises(ModelError, match="no LoRA layers can be added.*\n.*another student"):
        adapted(tiny_module("mamba"), RECIPE, seed=1)


@settings(max_examples=40, deadline=None)
@given(many_rows.filter(bool))
def test_a_tree_holds_each_distinct_beginning_once_and_predicts_each_label_once(rows: list[TrainRow]) -> None:
    tree = grow(rows)
    beginnings = {row.input_ids[:end] for row in rows for end in range(1, len(row.input_ids))}
    assert tree.tokens == len(beginnings)
    found = []
    for at, row in enumerate(rows):
        path = list(tree.paths[at])
        assert tree.ids[path].tolist() == list(row.input_ids[:-1])
        assert tree.positions[path].tolist() == list(range(len(path)))
        found += [
            (at, int(path[place - 1]), row.input_ids[place]) for place in range(row.labels_from, len(row.input_ids))
        ]
    assert list(zip(tree.row_of.tolist(), tree.predicting.tolist(), tree.targets.tolist(), strict=True)) == found


@settings(max_examples=40, deadline=None)
@given(many_rows, st.integers(1, 30))
def test_every_row_runs_in_one_pass_and_no_pass_is_above_the_limit(rows: list[TrainRow], limit: int) -> None:
    passes = fill(rows, limit)
    assert sorted(at for part in passes for at in part) == list(range(len(rows)))
    for part in passes:
        assert len(part) == 1 or grow([rows[at] for at in part]).tokens <= limit


def test_rows_that_begin_alike_cost_less() -> None:
    rows = some_rows(16, longest=24, shared=12)
    assert grow(rows).tokens <= sum(len(row.input_ids) - 1 for row in rows) - 15 * 12
