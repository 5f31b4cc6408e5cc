"""Own tasks: the team's other tasks as suites of the forgetting guard, asked of any model with a prompt.

One example: to the spam task's prompt with eight solved messages and "WINNER!! Claim your prize" the model says "spam"
before a fine-tune on question types: score 1. After it the model says "ham": score 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import Writing, instruction, text_of
from luthier.rungs.prompted import PromptPredictor
from luthier.rungs.shots import FixedShots, Shot
from luthier.train.suites import Reading, Working
from luthier.types import Example, GuardRules, Task, digest

VERSION = 1  # changes with the prompt or the choice of examples
SHOTS = 8
BLOCK = 32


@dataclass(frozen=True)
class OwnTask:
    """Another task: examples of its dev split, a prompt with solved examples of its train split, its own scorer.

    The same prompt for every model, since what is asked is what a model can still do, not how well it could be asked.
    """

    task: Task
    rules: GuardRules

    @property
    def name(self) -> str:
        return f"task {self.task.spec.name}"

    @property
    def examples(self) -> list[Example]:
        dev, most = self.task.dev, self.rules.task_examples
        if len(dev) <= most:
            return list(dev)
        chosen = np.random.default_rng(VERSION).choice(len(dev), most, replace=False)
        return [dev[int(at)] for at in sorted(chosen)]

    @property
    def shots(self) -> tuple[Shot, ...]:
        """Solved examples of different answers in turn, so that no label is in sight more often than another."""
        of_answer: dict[str, list[Example]] = {}
        for example in sorted(self.task.train, key=lambda example: digest(example.input)):
            of_answer.setdefault(example.reference, []).append(example)
        turns = max(map(len, of_answer.values()), default=0)
        mixed = [some[turn] for turn in range(min(turns, SHOTS)) for some in of_answer.values() if turn < len(some)]
        return tuple((text_of(example.input), example.reference) for example in mixed[:SHOTS])

    @property
    def fingerprint(self) -> str:
        spec = self.task.spec
        asked = [(example.input, example.references, example.group) for example in self.examples]
        said = (spec.kind, spec.instruction, spec.labels, spec.max_tokens, spec.schema, dev_scorer(spec).fingerprint)
        return digest(VERSION, "own task", said, asked, self.shots, self.rules.task_margin)

    def read(self, model: Any, working: Working) -> list[Reading]:
        spec, examples = self.task.spec, self.examples
        predictor = PromptPredictor(
            model, instruction(spec), FixedShots(self.shots), spec.label_names, writing=Writing.of(spec)
        )
        predictions = []
        for start in range(0, len(examples), BLOCK):
            predictions += predictor.predict([example.input for example in examples[start : start + BLOCK]])
            working(len(predictions), len(examples))
        scores = dev_scorer(spec).score(examples, predictions)
        # what cannot be scored is worth nothing to the team: that is a loss where it could be scored before
        values = tuple(0.0 if score.value is None else score.value for score in scores)
        return [
            Reading(
                self.name,
                values,
                self.rules.task_margin,
                "mean score",
                floor=self._floor(examples),
                clusters=_clusters(examples),
            )
        ]

    def _floor(self, examples: Sequence[Example]) -> float:
        """What the most frequent label scores; nothing for texts."""
        if not self.task.spec.labels:
            return 0.0
        return max(Counter(example.reference for example in examples).values(), default=0) / max(1, len(examples))


def _clusters(examples: Sequence[Example]) -> tuple[int, ...] | None:
    """The groups as numbers; None where each example is its own."""
    names = [example.group or example.id for example in examples]
    number = {name: at for at, name in enumerate(dict.fromkeys(names))}
    return None if len(number) == len(names) else tuple(number[name] for name in names)
