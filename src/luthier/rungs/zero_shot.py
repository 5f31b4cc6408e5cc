"""Zero-shot: the instruction and the labels' descriptions, no examples.

One example, from input to score: the system message says what the six question types mean, the user says "Who was
Galileo ?", and each label is scored as the assistant's whole answer. DESC comes out best; the reference is "HUM"; the
score is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.rungs.base import EVERY_KIND, Writing, instruction, role_model
from luthier.rungs.prompted import PromptPredictor
from luthier.rungs.shots import FixedShots
from luthier.types import Example, FitContext, TaskSpec


@dataclass(frozen=True)
class ZeroShot:
    """The prompt that the task's words make; nothing is fitted."""

    name = "zero-shot"
    rank = 40
    roles = ("prompted",)
    kinds = EVERY_KIND
    guarded = False
    version = "1"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> PromptPredictor:
        model = role_model(context.models, "prompted", self.name)
        return PromptPredictor(model, instruction(task), FixedShots(), task.label_names, writing=Writing.of(task))
