"""The guard on the real model: a wrecked fine-tune trips it, a healthy one does not (trap 22)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from real_questions import LABELS, questions

from luthier.models import catalog
from luthier.rungs.lora import Lora
from luthier.rungs.tuned import TunedPredictor
from luthier.train.guard import Guard, GuardResult, Memory, certify
from luthier.train.recipe import Recipe
from luthier.types import Constraints, FitContext, GuardRules, Label, Target, TaskSpec

pytestmark = pytest.mark.slow

RULES = GuardRules(documents=40, document_tokens=48, items=500, prompts=16, accuracy_margin=0.06)
HEALTHY = Recipe(epochs=1, learning_rate=3e-4, dev_checks_per_epoch=1)
WRECKED = replace(HEALTHY, learning_rate=30 * 1e-3, epochs=2)
BASE = Memory()


def tuned(recipe: Recipe, folder: Path) -> TunedPredictor:
    model: Any = catalog.open_model("smollm2-135m")
    examples = questions(96)
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
    return Lora(recipe).fit(spec, examples, examples[:6], FitContext({"student": model}, 0, folder))


def judged(recipe: Recipe, folder: Path) -> GuardResult:
    return certify(Guard.of(RULES), tuned(recipe, folder), kept=BASE)


def test_a_healthy_fine_tune_passes(tmp_path: Path) -> None:
    found = judged(HEALTHY, tmp_path)
    assert found.answer == "passed", found.describe()


def test_a_fine_tune_at_thirty_times_the_rate_trips_the_guard(tmp_path: Path) -> None:
    """Trap 22: a deliberately wrecked model (rate x 30) trips it."""
    found = judged(WRECKED, tmp_path)
    assert found.answer == "failed"
    assert next(suite for suite in found.suites if suite.suite == "general text").status == "failed"
