"""The rungs where answers are written: the public contract for both kinds, and what is their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from builders import spec
from tiny_models import tiny_model

from luthier.errors import SpecError
from luthier.models.embed import HashEmbedder
from luthier.models.scripted import ScriptedModel
from luthier.rungs import ladder, load_predictor
from luthier.rungs.base import Writing, conversation, instruction
from luthier.rungs.combined import Combined
from luthier.rungs.few_shot import FewShot
from luthier.rungs.instructed import Instructed
from luthier.rungs.lora import Lora
from luthier.rungs.majority import Majority
from luthier.rungs.many_shot import ManyShot
from luthier.rungs.nearest import Nearest
from luthier.rungs.retrieved_shots import RetrievedShots
from luthier.rungs.zero_shot import ZeroShot
from luthier.testing import RungContract
from luthier.train.recipe import Recipe
from luthier.types import Example, FitContext, Input, Message, Predictor, Rung, Target, TaskSpec

QUICK = Lora(Recipe(rank=8, alpha=16, learning_rate=1e-2, epochs=10, step_examples=4))


def says(messages: tuple[Message, ...]) -> str:
    return f"about {messages[-1].content.split()[1] if ' ' in messages[-1].content else 'it'}"


class _Written(RungContract):
    kind = "generation"
    rung: Rung

    def make_rung(self) -> Rung:
        return self.rung

    def make_models(self) -> Mapping[str, Any]:
        return {"prompted": ScriptedModel(says), "embedder": HashEmbedder(), "student": tiny_model()}


class TestMajority(_Written):
    rung = Majority()


class TestNearest(_Written):
    rung = Nearest()


class TestNearestOnRecords(TestNearest):
    kind = "extraction"


class TestZeroShot(_Written):
    rung = ZeroShot()


class TestZeroShotOnRecords(TestZeroShot):
    kind = "extraction"


class TestFewShot(_Written):
    rung = FewShot()


class TestFewShotOnRecords(TestFewShot):
    kind = "extraction"


class TestRetrievedShots(_Written):
    rung = RetrievedShots()


class TestRetrievedShotsOnRecords(TestRetrievedShots):
    kind = "extraction"


class TestInstructed(_Written):
    rung = Instructed()


class TestInstructedOnRecords(TestInstructed):
    kind = "extraction"


class TestManyShot(_Written):
    rung = ManyShot()


class TestManyShotOnRecords(TestManyShot):
    kind = "extraction"


class TestCombined(_Written):
    rung = Combined()

    def fitted(self, workdir: Path, models: Mapping[str, Any], seed: int = 0) -> Predictor:
        spec, train, dev = self.make_task()
        parts = (Instructed(), FewShot(), RetrievedShots())
        below = {rung.name: rung.fit(spec, train, dev, FitContext(models, seed, workdir)) for rung in parts}
        found = {name: getattr(predictor, "prompt", predictor) for name, predictor in below.items()}
        return self.rung.fit(spec, train, dev, FitContext(models, seed, workdir, fitted=found))


class TestCombinedOnRecords(TestCombined):
    kind = "extraction"


class TestLora(_Written):
    rung = QUICK


class TestLoraOnRecords(TestLora):
    kind = "extraction"


del _Written  # an abstract suite: pytest would collect it


def task_of(kind: str, **more: Any) -> TaskSpec:
    base = spec(Target("rouge_l" if kind == "generation" else "record_exact", 0.5)).__dict__
    return TaskSpec(**{**base, "kind": kind, "labels": (), "instruction": "Answer.", "max_tokens": 9, **more})


def fitted(rung: Rung, task: TaskSpec, train: list[Example], dev: list[Example], folder: Path, **models: Any) -> Any:
    return rung.fit(task, train, dev, FitContext(models, 0, folder))


def examples(*pairs: tuple[Input, str]) -> list[Example]:
    return [Example(f"e{at}", given, (answer,)) for at, (given, answer) in enumerate(pairs)]


def test_rungs_that_choose_labels_are_refused_where_there_are_none() -> None:
    for name in ("tfidf", "embedding", "calibrated"):
        with pytest.raises(SpecError, match=f"'{name}' does not serve a generation task"):
            ladder(["majority", name], "generation")
    with pytest.raises(SpecError, match="'nearest' does not serve a classification task"):
        ladder(["nearest"], "classification")


def test_majority_gives_the_commonest_answer(tmp_path: Path) -> None:
    train = examples(("x", "b"), ("y", "c"), ("z", "c"), ("w", "b"), ("v", "c"))
    predictor = fitted(Majority(), task_of("generation"), train, [], tmp_path)
    assert [p.output for p in predictor.predict(["anything"])] == ["c"]


def test_nearest_copies_the_answer_of_the_most_similar_example(tmp_path: Path) -> None:
    train = examples(("how do I reset my pin", "press reset"), ("where is my card", "in the mail"), ("x", "y"))
    predictor = fitted(Nearest(), task_of("generation"), train, [], tmp_path)
    found = predictor.predict(["reset the PIN please", (Message("user", "where may my card be"),)])
    assert [p.output for p in found] == ["press reset", "in the mail"]


def test_the_schema_stands_in_the_prompt_and_in_the_request(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    model = ScriptedModel(lambda messages: '{"a": "b"}')
    task = task_of("extraction", schema=schema)
    predictor = fitted(ZeroShot(), task, [], [], tmp_path, prompted=model)
    predictor.save(tmp_path / "p")
    for one in (predictor, load_predictor(tmp_path / "p", {"prompted": model})):
        assert one.predict(["text"])[0].output == '{"a": "b"}'
    for request in model.requests:
        assert (request.schema, request.choices, request.max_tokens) == (schema, None, 9)
        assert json.dumps(schema) in request.messages[0].content
    assert instruction(task_of("generation")) == "Answer."


def test_a_chat_keeps_its_turns_where_it_is_gone_on_with() -> None:
    chat = (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Bye"))
    live = conversation("Answer.", [("q", "a")], chat, Writing(5))
    assert [(turn.role, turn.content) for turn in live] == [
        ("system", "Answer.\n\nBe kind."),
        ("user", "q"),
        ("assistant", "a"),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Bye"),
    ]
    for document in (conversation("Take.", [], chat, Writing(5, {})), conversation("Choose.", [], chat)):
        assert [turn.role for turn in document] == ["system", "user"]
        assert document[1].content == "system: Be kind.\n\nuser: Hi\n\nassistant: Hello\n\nuser: Bye"


def test_few_shot_keeps_the_set_that_scores_best_on_dev(tmp_path: Path) -> None:
    """The scripted model knows the answer only when it has seen one certain example."""

    def needs_the_key(messages: tuple[Message, ...]) -> str:
        seen = any("key" in message.content for message in messages[1:-1])
        return f"the answer to {messages[-1].content}" if seen else "no idea"

    train = examples(*[(f"key {at}" if at == 7 else f"question {at}", f"answer {at}") for at in range(12)])
    dev = examples(*[(f"ask {at}", f"the answer to ask {at}") for at in range(20)])
    sets = {shots for seed in range(3) for shots in [_chosen(train, dev, tmp_path, needs_the_key, seed)]}
    assert any(any("key" in text for text, _ in shots) for shots in sets)


def _chosen(train: list[Example], dev: list[Example], folder: Path, script: Any, seed: int) -> Any:
    context = FitContext({"prompted": ScriptedModel(script)}, seed, folder)
    found = FewShot().fit(task_of("generation"), train, dev, context)
    drawn_key = not found.describe()["on dev"].startswith("0 of")
    assert drawn_key == any("key" in text for text, _ in found.prompt.shots.shots)
    return found.prompt.shots.shots


def test_a_fine_tuned_model_writes_what_it_was_shown(tmp_path: Path) -> None:
    """Free texts train properly: the tiny model learns two answers by heart, ends of turn included."""
    pairs = [
        (f"the {word} {at}", "a dog here" if word == "dog" else "two cows")
        for at in range(8)
        for word in ("dog", "cow")
    ]
    train = examples(*pairs)
    predictor = fitted(QUICK, task_of("generation"), train, train[:4], tmp_path, student=tiny_model())
    found = predictor.predict([example.input for example in train])
    right = sum(p.output.strip() == example.reference for p, example in zip(found, train, strict=True))
    assert right >= 0.9 * len(train)
    told = predictor.describe()
    assert told["prompt"] == "Answer."
    assert all("dev_accuracy" not in check and check["dev_nll"] > 0 for check in told["dev checks"])
