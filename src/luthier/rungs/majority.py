"""Majority: always the commonest answer of train. What a rung must beat to have learned anything.

One example, from input to score: in question routing the commonest label is "ENTY". "Who was Galileo ?" is answered
"ENTY"; its reference is "HUM"; the score is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.rungs.base import EVERY_KIND, read_predictor, write_predictor
from luthier.types import Example, FitContext, Input, Prediction, TaskSpec


@dataclass(frozen=True)
class MajorityPredictor:
    label: str
    share: float  # of train

    kind = "majority"

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        return [Prediction(self.label) for _ in inputs]

    def save(self, folder: Path) -> None:
        write_predictor(folder, self.kind, {"label": self.label, "share": self.share})

    @classmethod
    def load(cls, folder: Path, models: Mapping[str, Any]) -> MajorityPredictor:
        content = read_predictor(folder)
        return cls(content["label"], content["share"])

    def describe(self) -> Mapping[str, Any]:
        return {"always answers": self.label, "share of train": round(self.share, 4)}


@dataclass(frozen=True)
class Majority:
    """The commonest answer of train; ties go to the label that comes first in the task, or to the first text."""

    name = "majority"
    rank = 10
    roles = ()
    kinds = EVERY_KIND
    guarded = False
    version = "1"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> MajorityPredictor:
        counts = Counter(example.reference for example in train)
        label = max(task.label_names or sorted(counts), key=lambda name: counts[name])
        return MajorityPredictor(label, counts[label] / len(train))
