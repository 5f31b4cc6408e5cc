"""Each rung against the public contract, with a scripted model and a hashing embedder, and what is its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from builders import LABELS, spec

from luthier.errors import ModelError, SpecError, StoreError
from luthier.models.embed import HashEmbedder
from luthier.models.scripted import ScriptedModel
from luthier.rungs import LADDER, ladder, load_predictor
from luthier.rungs.base import instruction
from luthier.rungs.calibrated import Calibrated
from luthier.rungs.embedding import Embedding
from luthier.rungs.few_shot import MOST_SHOTS, FewShot, shot_sets
from luthier.rungs.majority import Majority
from luthier.rungs.prompted import PromptPredictor
from luthier.rungs.retrieved_shots import RetrievedShots
from luthier.rungs.tfidf import Tfidf
from luthier.rungs.zero_shot import ZeroShot
from luthier.testing import RungContract
from luthier.types import Example, FitContext, Label, Message, Rung, Target, TaskSpec

NUMBERS = ("two", "seven", "ninety", "many")


def knows_numbers(messages: tuple[Message, ...]) -> str:
    return "number" if any(word in messages[-1].content for word in NUMBERS) else "animal"


class WithModels(RungContract):
    rung: Rung

    def make_rung(self) -> Rung:
        return self.rung

    def make_models(self) -> Mapping[str, Any]:
        return {"prompted": ScriptedModel(knows_numbers), "embedder": HashEmbedder()}


class TestMajority(WithModels):
    rung = Majority()


class TestTfidf(WithModels):
    rung = Tfidf()


class TestEmbedding(WithModels):
    rung = Embedding()


class TestZeroShot(WithModels):
    rung = ZeroShot()


class TestCalibrated(WithModels):
    rung = Calibrated()


class TestFewShot(WithModels):
    rung = FewShot()


class TestRetrievedShots(WithModels):
    rung = RetrievedShots()


del WithModels  # an abstract suite: pytest would collect it


def context(models: Mapping[str, Any], tmp_path: Path, seed: int = 0) -> FitContext:
    return FitContext(models, seed, tmp_path)


def examples(*pairs: tuple[str, str]) -> list[Example]:
    return [Example(f"e{at}", text, (label,)) for at, (text, label) in enumerate(pairs)]


SPEC = spec(Target("accuracy", 0.9))


def test_the_ladder_stands_simplest_first() -> None:
    assert [rung.rank for rung in LADDER] == sorted({rung.rank for rung in LADDER})
    assert [rung.name for rung in ladder(["lora", "majority", "few-shot"])] == ["majority", "few-shot", "lora"]
    with pytest.raises(SpecError, match="use some of: majority, tfidf"):
        ladder(["zero-shots"])


def test_majority_answers_the_commonest_label_of_train_whatever_dev_says(tmp_path: Path) -> None:
    train = examples(("x", "b"), ("y", "b"), ("z", "a"))
    predictor = Majority().fit(SPEC, train, examples(*[("v", "a")] * 9), context({}, tmp_path))
    assert [p.output for p in predictor.predict(["anything"])] == ["b"]


@pytest.mark.parametrize("rung", [Tfidf(), Embedding()])
def test_classic_rungs_learn_from_train(rung: Rung, tmp_path: Path) -> None:
    train = examples(
        *[(f"red sun number {at}", "a") for at in range(20)], *[(f"blue moon {at}", "b") for at in range(20)]
    )
    predictor = rung.fit(SPEC, train, train[::4], context({"embedder": HashEmbedder()}, tmp_path))
    assert [p.output for p in predictor.predict(["the blue moon", "a red sun"])] == ["b", "a"]


def test_a_single_class_in_train_is_no_crash(tmp_path: Path) -> None:
    predictor = Tfidf().fit(SPEC, examples(("x", "a"), ("y", "a")), examples(("z", "b")), context({}, tmp_path))
    assert [p.output for p in predictor.predict(["w"])] == ["a"]


def test_the_prompt_tells_every_label_with_its_description() -> None:
    labels = (Label("LOC", "a place"), Label("NUM"))
    task = TaskSpec(**{**SPEC.__dict__, "labels": labels})
    assert instruction(task).splitlines() == [
        "Say a or b.",
        "",
        "LOC: a place",
        "NUM",
        "",
        "Answer with one label and nothing else.",
    ]


def biased(messages: tuple[Message, ...]) -> dict[str, float]:
    if messages[-1].content in ("N/A", "", "[MASK]"):
        return {"a": math.log(0.9), "b": math.log(0.1)}
    return {"a": math.log(0.7), "b": math.log(0.3)} if "b" in messages[-1].content else {"a": -0.01, "b": -9.0}


def test_calibration_takes_the_prompts_own_bias_away(tmp_path: Path) -> None:
    models = {"prompted": ScriptedModel(biased)}
    dev = examples(("it is b", "b"), ("it is not", "a"))
    plain = ZeroShot().fit(SPEC, [], [], context(models, tmp_path))
    calibrated = Calibrated().fit(SPEC, examples(("no", "a")), dev, context(models, tmp_path))
    inputs = ["it is b", "it is not"]
    assert [p.output for p in plain.predict(inputs)] == ["a", "a"]
    assert [p.output for p in calibrated.predict(inputs)] == ["b", "a"]
    assert calibrated.choice["prior from"] == "content-free inputs"
    assert calibrated.prompt.prior == pytest.approx((math.log(0.9), math.log(0.1)))


def test_calibration_takes_the_prior_that_dev_prefers(tmp_path: Path) -> None:
    """Content-free inputs say nothing here, the answers to real inputs show the bias."""

    def leaning(messages: tuple[Message, ...]) -> dict[str, float]:
        if messages[-1].content in ("N/A", "", "[MASK]"):
            return {"a": math.log(0.5), "b": math.log(0.5)}
        share = 0.6 if "b" in messages[-1].content else 0.9
        return {"a": math.log(share), "b": math.log(1 - share)}

    train = examples(*[("b", "a"), ("c", "a")] * 20)
    dev = examples(("it is b", "b"), ("it is not", "a"))
    found = Calibrated().fit(SPEC, train, dev, context({"prompted": ScriptedModel(leaning)}, tmp_path))
    assert found.choice["prior from"] == "training inputs"
    assert found.prompt.prior == pytest.approx((math.log(0.75), math.log(0.25)))
    assert [p.output for p in found.predict(["it is b", "it is not"])] == ["b", "a"]


def test_shot_sets_are_balanced_and_come_from_train_only() -> None:
    train = examples(*[(f"a{at}", "a") for at in range(50)], *[(f"b{at}", "b") for at in range(7)])
    for shots in shot_sets(train, LABELS, seed=3):
        counts = [sum(label == name for _, label in shots) for name in LABELS]
        assert counts[0] == counts[1]
        assert {text for text, _ in shots} <= {example.input for example in train}
        assert len({text for text, _ in shots}) == len(shots)


def test_many_labels_do_not_overflow_the_prompt() -> None:
    labels = [f"label {at}" for at in range(77)]
    train = examples(*[(f"{label} text {at}", label) for label in labels for at in range(3)])
    assert all(len(shots) <= MOST_SHOTS for shots in shot_sets(train, labels, seed=0))


def test_few_shot_keeps_the_set_that_is_best_on_dev(tmp_path: Path) -> None:
    """The scripted model is right only when it has seen one certain example."""

    def needs_the_key(messages: tuple[Message, ...]) -> str:
        seen = any("key" in message.content for message in messages[:-1] if message.role == "user")
        return (messages[-1].content or "a")[0].replace("N", "a").replace("[", "a") if seen else "a"

    train = examples(*[(f"a key {at}" if at == 4 else f"a {at}", "a") for at in range(6)], *[("b", "b")] * 6)
    dev = examples(*[("b text", "b")] * 20, *[("a text", "a")] * 5)
    predictor = FewShot().fit(SPEC, train, dev, context({"prompted": ScriptedModel(needs_the_key)}, tmp_path, seed=1))
    assert [p.output for p in predictor.predict(["b", "a"])] == ["b", "a"]
    assert any("key" in text for text, _ in predictor.prompt.shots)


def test_retrieved_shots_shows_the_nearest_examples_the_nearest_last(tmp_path: Path) -> None:
    train = examples(*[(f"something else {at}" * 3, "a") for at in range(20)], ("where is the red boat", "b"))
    model = ScriptedModel(lambda messages: messages[-2].content)
    predictor = RetrievedShots().fit(
        SPEC, train, [], context({"prompted": model, "embedder": HashEmbedder()}, tmp_path)
    )
    assert [p.output for p in predictor.predict(["where is the red boat now"])] == ["b"]
    assert len([m for m in model.requests[0].messages if m.role == "user"]) == 9


def test_a_failed_request_is_a_prediction_with_an_error(tmp_path: Path) -> None:
    model = ScriptedModel(lambda messages: "a", failing=(1,))
    predictor = ZeroShot().fit(SPEC, [], [], context({"prompted": model}, tmp_path))
    found = predictor.predict(["one", "two", "three"])
    assert [p.output for p in found] == ["a", None, "a"]
    assert "scripted failure" in (found[1].error or "")


def test_a_predictor_refuses_another_model_than_its_own(tmp_path: Path) -> None:
    PromptPredictor(ScriptedModel({}), "system", (), LABELS).save(tmp_path)
    with pytest.raises(ModelError, match="fitted with another prompted"):
        load_predictor(tmp_path, {"prompted": ScriptedModel({}, version="2")})
    with pytest.raises(ModelError, match="no model has the role 'prompted'"):
        load_predictor(tmp_path, {})


def test_a_folder_that_holds_no_predictor_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a predictor"):
        load_predictor(tmp_path, {})
    (tmp_path / "predictor.json").write_text('{"format": 1, "kind": "oracle"}')
    with pytest.raises(StoreError, match="no predictor is of the kind 'oracle'"):
        load_predictor(tmp_path, {})
