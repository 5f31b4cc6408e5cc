"""Calibrated: zero-shot, with what the prompt says about nothing at all taken away (Zhao et al. 2021).

One example, from input to score: asked about "N/A", the prompt prefers DESC with a probability of 0.9, so DESC must be
that much likelier than usual to win. "Who was Galileo ?" raises HUM most; the reference is "HUM"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.rungs.prompted import PromptPredictor
from luthier.rungs.zero_shot import ZeroShot
from luthier.types import Example, FitContext, TaskSpec


@dataclass(frozen=True)
class Calibrated:
    """The zero-shot prompt with contextual calibration; no labelled example is used."""

    name = "calibrated"
    rank = 45
    roles = ("prompted",)
    guarded = False
    version = "1"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> PromptPredictor:
        context.working("asking about nothing")
        return ZeroShot().fit(task, train, dev, context).with_prior()
