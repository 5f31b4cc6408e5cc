"""Examination: who is examined, and what each probe showed: the answers, their scores, and the effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from luthier.diagnose.effect import Effect, Resampling, best_of
from luthier.diagnose.learned import Learned
from luthier.diagnose.sample import Bools, Floats, Sample
from luthier.rungs.prompted import PromptPredictor
from luthier.types import Scorer, Task, Usage


@dataclass(frozen=True)
class Subject:
    """What is examined, and with what: `models` by role are opened when a probe needs them.

    `prompt` is the candidate's predictor. `model(role)` gives a model, or None where the task names none.
    """

    task: Task
    candidate: str
    prompt: PromptPredictor
    scorer: Scorer
    model: Callable[[str], Any]
    workdir: Path
    failures: int = 64
    most: int = 512


@dataclass(frozen=True)
class Probed:
    """One probe and what it showed: who is right under it and its control, and what was said, in the sample's order."""

    name: str
    title: str
    family: str
    effect: Effect
    right: Floats
    scores: Floats
    control: Floats
    texts: tuple[str, ...]
    asked: Bools
    failures: int
    passing: int
    answers: bool = True  # whether it changes answers, so that a change of the score follows

    @property
    def plain(self) -> dict[str, Any]:
        return {
            "probe": self.name,
            "title": self.title,
            "cause": self.family,
            "failures": self.failures,
            "passing": self.passing,
            **self.effect.plain,
        }


@dataclass
class Examination:
    """What the probes of one sample showed."""

    sample: Sample
    resampling: Resampling
    probed: list[Probed] = field(default_factory=list)
    not_probed: list[str] = field(default_factory=list)
    failed: int = 0  # probes that were asked and failed: they may succeed another time
    learned: Learned | None = None
    usage: Usage = field(default_factory=Usage)
    noop: Floats = field(default_factory=lambda: np.zeros(0))

    def of(self, family: str) -> list[Probed]:
        return [probed for probed in self.probed if probed.family == family]

    def named(self, name: str) -> Probed | None:
        return next((probed for probed in self.probed if probed.name == name), None)

    def best(self, family: str) -> Probed | None:
        """The best probe of a family, chosen and read on different halves; None where none was asked."""
        found = self.of(family)
        if len(found) < 2:
            return found[0] if found else None
        chosen = best_of(self.resampling, [each.right for each in found], [each.asked for each in found])

        def picked(rows: Sequence[Any]) -> Any:
            return np.stack(rows)[chosen, np.arange(len(chosen))]

        right, control = picked([each.right for each in found]), picked([each.control for each in found])
        asked = picked([each.asked for each in found])
        often = found[int(np.bincount(chosen).argmax())]
        return replace(
            often,
            right=right,
            scores=picked([each.scores for each in found]),
            control=control,
            texts=tuple(found[which].texts[place] for place, which in enumerate(chosen)),
            asked=asked,
            failures=int((asked & self.sample.failing).sum()),
            passing=int((asked & ~self.sample.failing).sum()),
            effect=self.resampling.effect(right, control, asked),
        )
