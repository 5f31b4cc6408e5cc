"""All weights of the real model: the count, the ties, what it learns, and the folder that comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from luthier.models import catalog
from luthier.rungs.full import Full
from luthier.rungs.tuned import WEIGHTS
from luthier.train.recipe import Recipe
from luthier.types import Constraints, Example, FitContext, Label, Target, TaskSpec, Training, digest

pytestmark = pytest.mark.slow

QUESTIONS = {
    "HUM": (
        "Who was Galileo ?",
        "Who wrote Emma ?",
        "What president was shot in Dallas ?",
        "Who sells the most shoes ?",
    ),
    "LOC": (
        "Where is Oslo ?",
        "What city is called the big apple ?",
        "Where do pandas live ?",
        "What river runs by Rome ?",
    ),
    "NUM": ("How far is the moon ?", "When did Nixon die ?", "How many dogs pull a sled ?", "What year did it snow ?"),
}


def test_all_weights_of_the_real_model_learn_and_stay_one_model(tmp_path: Path) -> None:
    """Traps 13 and 14 on the real model."""
    model: Any = catalog.open_model("smollm2-135m")
    before = digest([weight.detach().numpy().tobytes() for weight in model.module.parameters()])
    examples = [Example(text, text, (label,)) for label, texts in QUESTIONS.items() for text in texts]
    spec = TaskSpec(
        name="questions",
        kind="classification",
        instruction="Say what a question asks for.",
        labels=tuple(Label(name) for name in QUESTIONS),
        target=Target("accuracy", 0.85),
        constraints=Constraints(),
        rungs=("full",),
        models={"student": "smollm2-135m"},
        training=Training(replay=0),  # the few examples are to be known by heart, and nothing else
    )
    recipe = Recipe(method="full", learning_rate=1e-4, epochs=1, step_examples=12)
    context = FitContext({"student": model}, 0, tmp_path)
    predictor = Full(recipe).fit(spec, examples * 4, examples, context)
    told = predictor.describe()
    assert told["trainable parameters"] == 134_515_008
    assert told["loss by step"][-1] < 0.7 * told["loss by step"][0]
    found = predictor.predict([example.input for example in examples])
    # four steps: 8 of 12 where 4 would be chance
    assert sum(one.output == example.reference for one, example in zip(found, examples, strict=True)) >= 7
    assert digest([weight.detach().numpy().tobytes() for weight in model.module.parameters()]) == before
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / WEIGHTS, dtype=torch.float32)
    assert alone.get_output_embeddings().weight is alone.get_input_embeddings().weight
    assert torch.equal(alone.get_input_embeddings().weight, predictor.model.module.get_input_embeddings().weight)
