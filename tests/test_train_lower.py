"""Upper layers only: those below are run once for each row, and the training is as if they always were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_methods import FULL
from test_preference import QUICK, preferred
from test_taught import TestPretrained as PretrainedContract
from test_train_loop import RECIPE, data, interrupt, same_bits, same_course, stop_at, tune
from tiny_models import tiny_model, tiny_module

from luthier.errors import SpecError
from luthier.rungs.dpo import Dpo
from luthier.rungs.full import Full
from luthier.rungs.lora import Lora
from luthier.rungs.pretrained import Pretrained
from luthier.train import lower
from luthier.train.adapter import decoder_layers
from luthier.train.distil import distil, soft_labels
from luthier.train.job import Job
from luthier.train.loop import Tuned
from luthier.train.rows import TrainRow
from luthier.types import FitContext, Training

UPPER = replace(RECIPE, upper_layers=1)


def counted(module: Any) -> list[int]:
    """How many passes each decoder layer of the copy that is trained makes."""
    passes = [0] * len(decoder_layers(module))
    for at, (_, layer) in enumerate(decoder_layers(module)):
        block = next(child for name, child in layer.named_children() if "norm" in name or "ln" in name)

        def count(_module: Any, _inputs: Any, at: int = at) -> None:
            passes[at] += 1

        block.register_forward_pre_hook(count)
    return passes


def near(one: Tuned, other: Tuned) -> bool:
    assert one.weights.keys() == other.weights.keys()
    return all(torch.allclose(weight, other.weights[name], atol=1e-4) for name, weight in one.weights.items())


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3", "gpt2"])
def test_a_training_is_the_same_whether_the_lower_layers_run_once_or_always(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tiny_module(kind)
    passes = counted(module)
    kept = tune(tmp_path / "kept", UPPER, module=module)
    below, above = passes
    assert all(".1." in name for name in kept.weights), "the upper one of two layers"
    monkeypatch.setattr(lower, "KEPT_BYTES", 0)
    passes[:] = [0, 0]
    always = tune(tmp_path / "always", UPPER, module=module)
    assert near(kept, always)
    assert kept.losses == pytest.approx(always.losses, abs=1e-4)
    assert passes[0] == passes[1]
    assert below < above - kept.steps / 2, "steps did not run it again"
    assert kept.note is None
    assert "run in every step: what they give" in (always.note or "")


def test_interrupted_it_ends_in_the_same_bits(tmp_path: Path) -> None:
    """Trap 15."""
    whole = tune(tmp_path / "whole", UPPER)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "parts", UPPER, working=stop_at(7, interrupt))
    resumed = tune(tmp_path / "parts", UPPER)
    assert same_bits(resumed, whole)
    assert same_course(resumed, whole)


def reads_below(missing: float | None) -> Any:
    """A llama whose upper layer reads what the lower one left in this very pass; `missing`: what it takes instead."""
    module = tiny_module()
    first, second = (layer for _, layer in decoder_layers(module))
    left: dict[str, Any] = {}

    def read(_module: Any, _inputs: Any, output: Any) -> Any:
        return output + (left["each token"] if missing is None else left.get("each token", missing))

    def leave(_module: Any, _inputs: Any, output: Any) -> None:
        left["each token"] = output

    module.model.register_forward_pre_hook(lambda _module, _inputs: left.clear())
    first.mlp.register_forward_hook(leave)
    second.register_forward_hook(read)
    return module


@pytest.mark.parametrize("missing", [None, 0.5], ids=["an error", "other logits"])
def test_where_upper_layers_need_more_than_what_was_kept_all_layers_run(
    missing: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tune(tmp_path / "1", UPPER, module=reads_below(missing))
    assert "need more than what the layer below gives them" in (kept.note or "")
    monkeypatch.setattr(lower, "KEPT_BYTES", 0)
    assert same_bits(kept, tune(tmp_path / "2", UPPER, module=reads_below(missing)))


def test_what_is_run_once_is_not_kept_nor_what_is_done(tmp_path: Path) -> None:
    module = tiny_module()
    passes = counted(module)
    tune(tmp_path, replace(UPPER, epochs=1), module=module)
    assert passes[0] == passes[1], "one epoch runs each row once"
    said: list[str] = []
    tune(tmp_path / "two", UPPER, working=lambda text, _done, _total: said.append(text))
    assert any("stay as they are" in text for text in said)
    said.clear()
    tune(tmp_path / "two", UPPER, working=lambda text, _done, _total: said.append(text))
    assert not any("stay as they are" in text for text in said), "it was finished"


def test_soft_labels_and_what_is_learned_beside_run_from_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, dev = data()
    module = tiny_module()
    beside = [TrainRow(row.input_ids[:9], 1) for row in rows[:3]]

    class Kept:
        def __init__(self) -> None:
            self.soft = dict(zip(beside, soft_labels(module, beside), strict=True))

        def of_step(self, step: int, count: int, *, seed: int) -> list[TrainRow]:
            return beside[step % 3 : step % 3 + count]

    def learnt(folder: str) -> Tuned:
        job = Job(replace(UPPER, replay=1), dev, 0, tmp_path / folder, "tiny")
        soft = dict(zip(rows[:5], soft_labels(module, rows[:5]), strict=True))
        return distil(module, rows, job, soft=soft, beside=Kept())

    passes = counted(module)
    kept = learnt("kept")
    assert passes[0] < passes[1] - kept.steps / 2
    monkeypatch.setattr(lower, "KEPT_BYTES", 0)
    assert near(kept, learnt("always"))


def test_preferences_are_tuned_from_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(QUICK, upper_layers=1)
    kept = preferred(tmp_path / "kept", recipe)
    monkeypatch.setattr(lower, "KEPT_BYTES", 0)
    always = preferred(tmp_path / "always", recipe)
    assert near(kept, always)
    assert kept.losses == pytest.approx(always.losses, abs=1e-4)


@pytest.mark.parametrize(
    ("rung", "adapted"),
    [(Lora(RECIPE), True), (Pretrained(RECIPE, RECIPE), True), (Dpo(QUICK), True), (Full(FULL), False)],
)
def test_the_task_says_on_which_layers_a_rung_puts_its_adapter(rung: Any, adapted: bool, tmp_path: Path) -> None:
    spec, train, dev = PretrainedContract().make_task()
    task = replace(spec, training=Training(upper_layers=1, replay=0))
    fitted = {}
    if rung.name == "dpo":
        fitted["lora"] = Lora(RECIPE).fit(task, train, dev, FitContext({"student": tiny_model()}, 0, tmp_path / "lora"))
    context = FitContext({"student": tiny_model()}, 0, tmp_path / "fit", extra=PretrainedContract.extra, fitted=fitted)
    told = rung.fit(task, train, dev, context).describe()
    assert told.get("upper layers adapted") == (1 if adapted else None)
    if adapted:
        config = json.loads((tmp_path / "fit" / "adapter" / "adapter_config.json").read_text("utf-8"))
        assert config["target_modules"]
        assert all("layers.1." in name for name in config["target_modules"])
        assert told["trainable parameters"] < 1000 * RECIPE.rank


def test_a_rungs_own_layers_are_those_it_goes_on_with(tmp_path: Path) -> None:
    spec, train, dev = PretrainedContract().make_task()
    task = replace(spec, training=Training(replay=0))
    models = {"student": tiny_model()}
    lora = Lora(UPPER).fit(task, train, dev, FitContext(models, 0, tmp_path / "lora"))
    for rung in (Dpo(QUICK), Pretrained(UPPER, RECIPE)):
        fitted = {"lora": lora} if rung.name == "dpo" else {}
        context = FitContext(models, 0, tmp_path / rung.name, extra=PretrainedContract.extra, fitted=fitted)
        assert rung.fit(task, train, dev, context).describe()["upper layers adapted"] == 1


@pytest.mark.parametrize("count", [0, -1])
def test_no_layers_are_not_all_layers(count: int, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="ask for 1 to 2"):
        tune(tmp_path, replace(RECIPE, upper_layers=count))


def test_more_layers_than_the_model_has_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"upper_layers.*2 decoder layers to choose from, and 3(.|\n)*1 to 2"):
        tune(tmp_path, replace(RECIPE, upper_layers=3))
    assert len(tune(tmp_path, replace(RECIPE, upper_layers=2)).weights) == len(tune(tmp_path, RECIPE).weights)
