"""Exports of the real model: llama.cpp answers as measured with F16, and weights that were broken are caught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from real_questions import LABELS, questions

from luthier.evaluate.scorers import ExactMatch
from luthier.models import catalog
from luthier.release import gguf_file, portable, runtimes
from luthier.release.asking import as_asked
from luthier.release.base import base_of
from luthier.release.parity import Bar, Parity, judge
from luthier.rungs.lora import Lora
from luthier.train.recipe import Recipe
from luthier.types import Constraints, Example, FitContext, Label, Prediction, Target, TaskSpec, Training, silent

pytestmark = pytest.mark.slow

Weights = dict[str, NDArray[np.float32]]

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
        training=Training(replay=0),  # the few examples are to be known by heart, and nothing else
    )
    context = FitContext({"student": model}, 0, tmp_path_factory.mktemp("work"))
    predictor = Lora(SHORT).fit(spec, examples, examples[:4], context)
    return Fitted(predictor, examples, predictor.predict([example.input for example in examples]))


def as_it_is(weights: Weights) -> Weights:
    return weights


def gate(fitted: Fitted, folder: Path, change: Callable[[Weights], Weights] = as_it_is) -> Parity:
    """The tuned model as a GGUF in half precision, its weights changed before, asked by llama.cpp."""
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
        change(gguf_file.weights_of(model.module)),
        shape,
        name="questions",
        template=model.chat.template,
        stop_ids=portable.stop_ids(model),
        quantization="f16",
    )
    answers = runtimes.ask_gguf(file, 512, as_asked(fitted.predictor, fitted.examples), lambda _done, _total: None)
    return judge(fitted.examples, fitted.measured, answers, ExactMatch(), FEW, labels=True)


def test_llama_cpp_answers_as_measured_with_f16(fitted: Fitted, tmp_path: Path) -> None:
    found = gate(fitted, tmp_path)
    assert found.other_prompts == 0
    assert found.agreement is not None
    assert found.agreement.mean >= 0.95, found
    assert found.result == "PASSED", found


def test_a_quantization_that_breaks_the_model_is_caught(fitted: Fitted, tmp_path: Path) -> None:
    """Trap 17: quantized weights re-pass the task's gate. One bit a weight is too few, and perplexity is not asked."""
    found = gate(fitted, tmp_path, one_bit)
    assert found.other_prompts == 0, "it is the weights, not the prompt"
    assert found.result == "FAILED", found
    assert found.apart


def one_bit(weights: Weights) -> Weights:
    """Each matrix as signs with a scale a row."""
    return {
        name: weight if weight.ndim < 2 else np.sign(weight) * np.abs(weight).mean(axis=1, keepdims=True)
        for name, weight in weights.items()
    }
