"""Self-distillation: targets in the student's own words, where it can use what it is shown; else it says so."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from test_train_loop import RECIPE
from tiny_models import tiny_model

from luthier.errors import ModelError
from luthier.rungs.base import Writing, conversation, instruction
from luthier.rungs.self_distilled import MOST_SHOTS, SelfDistilled, _asked
from luthier.testing import RungContract
from luthier.train.adapter import write_adapter
from luthier.train.job import Job
from luthier.train.loop import fine_tune
from luthier.train.rows import DevRow, train_row
from luthier.types import Example, FitContext, Kind, Rung, Target, TaskSpec

QUICK = replace(RECIPE, rank=8, alpha=16, epochs=1, dev_checks_per_epoch=1)


@cache
def able() -> Any:
    """A tiny model that was taught to answer right where it is shown solved examples, and to rewrite an answer."""
    spec, train, dev = TestSelfDistilled().make_task()
    model = tiny_model()
    shots = [(str(example.input), example.reference) for example in train[:MOST_SHOTS]]
    system, writing = instruction(spec), Writing.of(spec)

    def row(messages: Any, answer: str) -> Any:
        return train_row(model.chat, messages, answer, context_tokens=512, example_id="e")

    rows = []
    for example in (*train, *dev):
        rows.append(row(conversation(system, shots, example.input, writing), example.reference))
        rows.append(row(conversation(system, (), example.input, writing), "house"))
        rows.append(row(_asked(spec, example), example.reference.replace("about the", "the")))
    recipe = replace(RECIPE, rank=16, alpha=32, epochs=8, step_examples=8, dev_checks_per_epoch=1, pass_tokens=512)
    kept = [DevRow((one,), (0,)) for one in rows[:24]]
    with tempfile.TemporaryDirectory() as folder:
        tuned = fine_tune(model.module, rows, Job(recipe, kept, 0, Path(folder), "tiny"))
        write_adapter(Path(folder) / "adapter", tuned.weights, recipe, "tiny")
        return model.with_adapter(Path(folder) / "adapter")


class TestSelfDistilled(RungContract):
    kind: Kind = "generation"

    def make_rung(self) -> Rung:
        return SelfDistilled(QUICK)

    def make_models(self) -> Mapping[str, Any]:
        return {"student": able()}

    def make_task(self) -> tuple[TaskSpec, list[Example], list[Example]]:
        spec, train, dev = super().make_task()
        one = [replace(example, references=example.references[:1]) for example in (*train, *dev)]
        return replace(spec, target=Target("rouge_l", 0.9), max_tokens=12), one[:16], one[16:]


def test_targets_are_rewritten_where_they_still_say_it(tmp_path: Path) -> None:
    told = TestSelfDistilled().fitted(tmp_path, {"student": able()}).describe()
    assert told["targets in the student's words"] + told["targets as in the data"] == 16
    assert told["targets in the student's words"] >= 8
    assert told["what solved examples add to the student"].startswith("+")


def test_what_it_learns_are_its_own_words(tmp_path: Path) -> None:
    spec, train, dev = TestSelfDistilled().make_task()
    context = FitContext({"student": able()}, 0, tmp_path)
    predictor = SelfDistilled(replace(QUICK, epochs=8)).fit(spec, train, dev, context)
    found = [prediction.output for prediction in predictor.predict([example.input for example in train])]
    own = sum(text in ("the animal", "the number") for text in found)
    assert own >= 8, found


def test_a_student_that_cannot_use_what_it_is_shown_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"solved examples do not help the student \([+-]0.0 points"):
        TestSelfDistilled().fitted(tmp_path, {"student": tiny_model()})
