"""The LoRA rung: keeps the contract of rungs, on a tiny model with random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_model

from luthier.errors import DataError, ModelError
from luthier.rungs import load_predictor
from luthier.rungs.lora import Lora
from luthier.rungs.tuned import TunedPredictor
from luthier.testing import RungContract
from luthier.train.recipe import Recipe
from luthier.types import Event, Example, FitContext, Rung

QUICK = Lora(Recipe(rank=8, alpha=16, learning_rate=1e-2, epochs=6, step_examples=4))


class TestLora(RungContract):
    def make_rung(self) -> Rung:
        return QUICK

    def make_models(self) -> Mapping[str, Any]:
        return {"student": tiny_model()}


def fit(workdir: Path, *, models: Mapping[str, Any] | None = None, rung: Lora = QUICK, **more: Any) -> TunedPredictor:
    spec, train, dev = TestLora().make_task()
    context = FitContext(models or {"student": tiny_model()}, 0, workdir, "lora@tiny", **more)
    return rung.fit(spec, train, dev, context)


def test_it_learns_what_the_examples_show(tmp_path: Path) -> None:
    _spec, train, dev = TestLora().make_task()
    predictor = fit(tmp_path)
    found = [prediction.output for prediction in predictor.predict([example.input for example in (*train, *dev)])]
    right = [output == example.reference for output, example in zip(found, (*train, *dev), strict=True)]
    assert sum(right) >= 0.9 * len(right)


def test_what_it_tells_says_how_it_was_trained(tmp_path: Path) -> None:
    told = fit(tmp_path).describe()
    assert told["steps"] == 24
    assert len(told["dev checks"]) == 6
    best = max(told["dev checks"], key=lambda check: (check["dev_accuracy"], -check["dev_nll"]))
    assert told["best step"] == best["step"]
    assert told["trainable parameters"] == 2 * 8 * ((32 + 32) * 2 + (32 + 16) * 2 + 3 * (32 + 48))
    assert told["tokens run"] < told["training tokens"]
    assert told["seconds"] > 0
    assert "note" not in told


def test_no_more_dev_examples_are_checked_than_the_recipe_says(tmp_path: Path) -> None:
    few = fit(tmp_path, rung=Lora(replace(QUICK.recipe, dev_examples=3))).describe()
    assert few["dev examples checked"] == 3
    assert {check["dev_accuracy"] * 3 % 1 for check in few["dev checks"]} == {0.0}


def test_how_long_it_took_is_not_part_of_what_is_saved(tmp_path: Path) -> None:
    models = {"student": tiny_model()}
    fitted = fit(tmp_path / "work", models=models)
    fitted.save(tmp_path / "saved")
    assert "seconds" not in json.loads((tmp_path / "saved" / "predictor.json").read_text())["history"]
    loaded = load_predictor(tmp_path / "saved", models)
    assert {**loaded.describe(), "seconds": fitted.describe()["seconds"]} == fitted.describe()


def test_one_who_waits_sees_the_loss_and_the_steps(tmp_path: Path) -> None:
    events: list[Event] = []
    fit(tmp_path, listen=events.append)
    steps = [event for event in events if event.text.startswith("training, loss ")]
    assert [(event.done, event.total) for event in steps] == [(step, 24) for step in range(1, 25)]
    assert {event.candidate for event in events} == {"lora@tiny"}


def test_a_training_or_dev_example_above_the_context_is_an_error_that_names_it(tmp_path: Path) -> None:
    spec, train, dev = TestLora().make_task()
    models = {"student": tiny_model(context=64)}
    long = Example("the-long-one", "dog " * 80, ("animal",))
    for some_train, some_dev in (([*train, long], dev), (train, [*dev, long])):
        with pytest.raises(DataError, match="example 'the-long-one'"):
            QUICK.fit(spec, some_train, some_dev, FitContext(models, 0, tmp_path))


def test_an_input_above_the_context_is_a_prediction_with_an_error(tmp_path: Path) -> None:
    predictor = fit(tmp_path, models={"student": tiny_model(context=64)})
    good, bad, also_good = predictor.predict(["the dog", "dog " * 80, "seven"])
    assert bad.output is None
    assert bad.error is not None
    assert "64" in bad.error
    assert good.output is not None
    assert also_good.output is not None


def test_a_template_that_takes_no_system_message_gets_none(tmp_path: Path) -> None:
    models = {"student": tiny_model(template="turns")}
    predictor = fit(tmp_path / "work", models=models)
    assert predictor.describe()["prompt"] == ""
    predictor.save(tmp_path / "saved")
    loaded = load_predictor(tmp_path / "saved", models)
    assert loaded.predict(["the dog"])[0].output == predictor.predict(["the dog"])[0].output is not None


def test_a_predictor_needs_the_student_it_was_fitted_with(tmp_path: Path) -> None:
    fit(tmp_path / "work").save(tmp_path / "saved")
    with pytest.raises(ModelError, match="fitted with another student"):
        load_predictor(tmp_path / "saved", {"student": tiny_model(seed=1)})


def test_a_model_without_weights_here_cannot_be_a_student(tmp_path: Path) -> None:
    class Remote:
        name = "far-away"

    with pytest.raises(ModelError, match="far-away: its weights cannot be trained here"):
        fit(tmp_path, models={"student": Remote()})


def test_another_recipe_is_another_predictor(tmp_path: Path) -> None:
    other = Lora(replace(QUICK.recipe, learning_rate=5e-3))
    fit(tmp_path / "a").save(tmp_path / "one")
    fit(tmp_path / "b", rung=other).save(tmp_path / "two")
    name = "adapter/adapter_model.safetensors"
    assert (tmp_path / "one" / name).read_bytes() != (tmp_path / "two" / name).read_bytes()
