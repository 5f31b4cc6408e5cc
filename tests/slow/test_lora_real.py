"""LoRA on the real model: the counts, the end of turn, the base left alone, the memory."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from real_questions import LABELS, questions

from luthier.models import catalog
from luthier.rungs.base import conversation
from luthier.rungs.lora import Lora
from luthier.rungs.tuned import SYSTEM, TunedPredictor
from luthier.train.recipe import Recipe
from luthier.train.rows import train_row
from luthier.train.tree import why_not_shared
from luthier.types import Constraints, Example, FitContext, Label, Request, Target, TaskSpec, Training, digest

pytestmark = pytest.mark.slow

PROMPT = (1, 9690, 198, 8530, 1282, 30, 2, 198, 1, 4093, 198, 10576, 436, 27406, 9148, 2, 198, 1, 520, 9531, 198)
# 20 steps over the same 16 examples: enough to know them by heart
OVERFIT = Recipe(epochs=2, dev_checks_per_epoch=1)
TRAIN_AND_SAY = """
import resource, sys
from pathlib import Path

from real_questions import questions
from test_lora_real import task_of

from luthier.models import catalog
from luthier.rungs.lora import Lora
from luthier.train.recipe import Recipe
from luthier.types import FitContext, Training

folder = Path(sys.argv[1])
model = catalog.open_model("smollm2-135m")
examples = questions(16)
context = FitContext({"student": model}, 0, folder / "work")
short = Lora(Recipe(epochs=1, dev_checks_per_epoch=1))
short.fit(task_of(Training()), examples, examples[:6], context).save(folder / "saved")
status = Path("/proc/self/status")
if status.exists():  # Linux counts for a process what its parent held when it was started, too
    print(next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on a Mac
"""


@dataclass(frozen=True)
class Overfitted:
    model: Any
    predictor: TunedPredictor
    examples: list[Example]
    before: str


def task_of(training: Training) -> TaskSpec:
    return TaskSpec(
        name="questions",
        kind="classification",
        instruction="Say what a question asks for.",
        labels=tuple(Label(name) for name in LABELS),
        target=Target("accuracy", 0.85),
        constraints=Constraints(),
        rungs=("lora",),
        models={"student": "smollm2-135m"},
        training=training,
    )


def weights_of(model: Any) -> str:
    return digest([weight.detach().numpy().tobytes() for weight in model.module.parameters()])


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> Overfitted:
    model: Any = catalog.open_model("smollm2-135m")
    before = weights_of(model)
    examples = questions(16)
    # without replay: the few examples are to be known by heart, and nothing else
    spec = task_of(Training(replay=0))
    context = FitContext({"student": model}, 0, tmp_path_factory.mktemp("work"))
    return Overfitted(model, Lora(OVERFIT).fit(spec, examples * 10, examples[:6], context), examples, before)


def test_the_trainable_count_is_that_of_rank_16_on_all_linear_layers(overfitted: Overfitted) -> None:
    assert overfitted.predictor.describe()["trainable parameters"] == 4_884_480
    assert "note" not in overfitted.predictor.describe()


def test_an_overfitted_model_answers_with_the_label_and_stops(overfitted: Overfitted) -> None:
    asked = [Request(conversation(SYSTEM, (), example.input), max_tokens=12) for example in overfitted.examples]
    replies = overfitted.predictor.model.complete(asked)
    stopped = [reply.finish_reason == "stop" for reply in replies]
    assert sum(stopped) >= 0.95 * len(stopped)
    right = [reply.texts == (example.reference,) for reply, example in zip(replies, overfitted.examples, strict=True)]
    assert sum(right) >= 0.95 * len(right)


def test_scored_labels_agree(overfitted: Overfitted) -> None:
    found = overfitted.predictor.predict([example.input for example in overfitted.examples])
    right = [
        prediction.output == example.reference for prediction, example in zip(found, overfitted.examples, strict=True)
    ]
    assert sum(right) >= 0.95 * len(right)


def test_the_base_has_not_moved(overfitted: Overfitted) -> None:
    assert weights_of(overfitted.model) == overfitted.before
    assert weights_of(overfitted.predictor.model) != overfitted.before


def test_tied_embeddings_stay_tied_and_unchanged_through_the_merge(overfitted: Overfitted) -> None:
    merged, base = overfitted.predictor.model.module, overfitted.model.module
    assert merged.get_output_embeddings().weight is merged.get_input_embeddings().weight
    assert torch.equal(merged.get_input_embeddings().weight, base.get_input_embeddings().weight)


def test_the_row_is_this_one(overfitted: Overfitted) -> None:
    """Golden ids: the template puts in no system prompt of its own, nothing is doubled, one end of turn is learned."""
    model = overfitted.model
    row = train_row(
        model.chat, conversation(SYSTEM, (), "Who was Galileo ?"), "HUM", context_tokens=8192, example_id="golden"
    )
    assert model.tokenizer.decode(row.input_ids) == (
        "<|im_start|>system\nClassify.<|im_end|>\n<|im_start|>user\nWho was Galileo ?<|im_end|>\n"
        "<|im_start|>assistant\nHUM<|im_end|>"
    )
    assert row.input_ids == (*PROMPT, 56, 8292, 2)
    assert row.labels_from == len(PROMPT)


def test_the_real_model_takes_a_tree(overfitted: Overfitted) -> None:
    model = overfitted.model
    rows = [
        train_row(
            model.chat, conversation(SYSTEM, (), example.input), example.reference, context_tokens=8192, example_id="e"
        )
        for example in overfitted.examples[:2]
    ]
    assert why_not_shared(model.module, rows) is None


def test_memory_stays_below_three_gigabytes(tmp_path: Path) -> None:
    """In a process of its own, with replay, as a user's run trains: other tests' memory is not counted."""
    script = tmp_path / "train.py"
    script.write_text(TRAIN_AND_SAY, encoding="utf-8")
    told = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert told.returncode == 0, told.stderr
    assert 1e9 < int(told.stdout.split()[-1]) < 3e9
    assert sum(path.stat().st_size for path in (tmp_path / "saved").rglob("*")) < 25e6
