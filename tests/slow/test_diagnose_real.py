"""The diagnosis on the real model: what eight solved examples bring out of it, and what its answers look like."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_questions import LABELS, questions

from luthier.climb import diagnose
from luthier.report.diagnosing import diagnosis_sentence
from luthier.types import Constraints, Diagnosing, Label, SealedSplit, Target, Task, TaskSpec

pytestmark = pytest.mark.slow


def test_the_real_model_can_sort_questions_once_it_is_shown_how(tmp_path: Path) -> None:
    """The demo's task: zero-shot is near chance, the nearest solved examples are not (measured: 0.15 and 0.67)."""
    some = questions(156)
    spec = TaskSpec(
        name="questions",
        kind="classification",
        instruction="Say what a question asks for.",
        labels=tuple(Label(name) for name in LABELS),
        target=Target("accuracy", 0.85),
        constraints=Constraints(),
        rungs=("zero-shot", "calibrated", "few-shot", "retrieved-shots", "lora"),
        models={"prompted": "smollm2-135m", "student": "smollm2-135m", "embedder": "all-minilm-l6-v2"},
    )
    rules = Diagnosing(examples=32)
    sealed = SealedSplit((), "none")
    task = Task(spec, tmp_path, tuple(some[:96]), tuple(some[96:]), sealed, {}, "f", diagnosing=rules)
    found = diagnose(task)
    first = found["causes"][0]
    assert (first["cause"], first["supported"]) == ("elicitation", True)
    assert first["low"] > 0.1
    assert first["gain"]["mean"] > 0.2
    assert first["rungs"] == ["few-shot", "retrieved-shots", "lora"]
    assert "lora" not in found["skips"]
    assert "retrieved-shots" not in found["skips"]
    by_name = {probe["probe"]: probe for probe in found["probes"]}
    assert by_name["rewording-1"]["repaired"] < 0.3 < by_name["shots-nearest"]["repaired"]
    assert "solved examples" in diagnosis_sentence(found).lower()
    assert diagnose(task) == found
