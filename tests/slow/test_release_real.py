"""Exports of the real model: llama.cpp answers as measured with F16, and otherwise with Q8_0: the gate sees both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from real_questions import LABELS, questions

from luthier.evaluate.scorers import ExactMatch
from luthier.models import catalog
from luthier.release import gguf_file, portable, runtimes
from luthier.release.asking import as_asked
from luthier.release.base import base_of
from luthier.release.parity import Bar, Parity, judge
from luthier.rungs.lora import Lora
from luthier.train.recipe import Recipe
from luthier.types import Constraints, Example, FitContext, Label, Prediction, Target, TaskSpec, silent

pytestmark = pytest.mark.slow

# long enough to write labels, too short to be good: the gate asks for the same answers, not for right ones
SHORT = Recipe(epochs=3, step_examples=8)
# 32 examples can prove a margin of 0.1
FEW = Bar(examples=32, margin=0.1)


@dataclass(frozen=True)
class Fitted:
    predictor: Any
    examples: Sequence[Example]
    measured: Sequence[Prediction]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    pytest.importorskip("xllamacpp")
    model: Any = catalog.open_model("smollm2-135m")
    examples = questions(32)
    spec = TaskSpec(
        name="questions",
        kind="classification",
        instruction="Say what a question asks for.",
        labels=tuple(Label(name) for name in LABELS),
        target=Target("accuracy", 0.85),
        constraints=Constraints(),
        rungs=("lora",),
        models={"student": "smollm2-135m"},
    )
    context = FitContext({"student": model}, 0, tmp_path_factory.mktemp("work"))
    predictor = Lora(SHORT).fit(spec, examples, examples[:4], context)
    return Fitted(predictor, examples, predictor.predict([example.input for example in examples]))


def gate(fitted: Fitted, folder: Path, quantization: gguf_file.Quantization) -> Parity:
    """The tuned model as a GGUF of this kind, asked by llama.cpp."""
    base = base_of("smollm2-135m", silent, scratch=folder)
    student, model = fitted.predictor.base, fitted.predictor.model
    shape = gguf_file.Shape.of(model.module.config)
    assert base.gguf is not None
    tokens = student.tokenizer.convert_ids_to_tokens(range(49_152))
    gguf_file.check_base(base.gguf, gguf_file.weights_of(student.module), shape, tokens)
    file = folder / "model.gguf"
    gguf_file.write(
        file,
        base.gguf,
        gguf_file.weights_of(model.module),
        shape,
        name="questions",
        template=model.chat.template,
        stop_ids=portable.stop_ids(model),
        quantization=quantization,
    )
    answers = runtimes.ask_gguf(file, 512, as_asked(fitted.predictor, fitted.examples), lambda _done, _total: None)
    return judge(fitted.examples, fitted.measured, answers, ExactMatch(), FEW, labels=True)


def test_llama_cpp_answers_as_measured_with_f16(fitted: Fitted, tmp_path: Path) -> None:
    found = gate(fitted, tmp_path, "f16")
    assert found.other_prompts == 0
    assert found.agreement is not None
    assert found.agreement.mean >= 0.95, found
    assert found.result == "PASSED", found


def test_q8_0_does_not_pass_the_bar_that_f16_passes(fitted: Fitted, tmp_path: Path) -> None:
    """Trap 17: quantized weights re-pass the task's gate. Answers change: as many examples prove less."""
    found = gate(fitted, tmp_path, "q8_0")
    assert found.other_prompts == 0, "it is the weights, not the prompt"
    assert found.result != "PASSED", found
    assert found.apart
