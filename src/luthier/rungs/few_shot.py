"""Few-shot: solved examples of every label in the prompt, the set chosen on dev.

One example, from input to score: the prompt shows one solved question of each type, then asks "What is the tallest
mountain ?". LOC comes out best; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from luthier.rungs.base import instruction, role_model, text_of
from luthier.rungs.prompted import PromptPredictor
from luthier.types import Example, FitContext, Input, Prediction, TaskSpec

PER_LABEL = (1, 4)  # solved examples of each label
SETS = 3  # seeded draws of each size
MOST_SHOTS = 32
FIRST_DEV = 32  # dev examples in the first round; each further round has twice as many
LAST_DEV = 128


@dataclass(frozen=True)
class _Contender:
    """A shot set on trial, with and without calibration, and how many of the dev examples so far each got right."""

    plain: PromptPredictor
    calibrated: PromptPredictor
    right: tuple[int, int] = (0, 0)

    @property
    def best(self) -> PromptPredictor:
        return self.calibrated if self.right[1] > self.right[0] else self.plain


@dataclass(frozen=True)
class FewShotPredictor:
    """The chosen prompt, and how it was chosen."""

    prompt: PromptPredictor
    choice: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        return self.prompt.predict(inputs)

    def save(self, folder: Path) -> None:
        self.prompt.save(folder)

    def describe(self) -> Mapping[str, Any]:
        return {**self.prompt.describe(), **self.choice}


@dataclass(frozen=True)
class FewShot:
    """Balanced shot sets of several sizes and draws, successively halved on shared dev examples (Jamieson 2016)."""

    name = "few-shot"
    rank = 50
    roles = ("prompted",)
    guarded = False
    version = "1"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> FewShotPredictor:
        model = role_model(context.models, "prompted", self.name)
        system = instruction(task)
        contenders = []
        for shots in shot_sets(train, task.label_names, context.seed):
            plain = PromptPredictor(model, system, shots, task.label_names)
            contenders.append(_Contender(plain, plain.with_prior()))
        tried = len(contenders)
        order = np.random.default_rng(context.seed).permutation(len(dev))
        examples = [dev[at] for at in order[:LAST_DEV]]
        seen, until = 0, min(FIRST_DEV, len(examples))
        while True:
            total = len(contenders)
            for at, contender in enumerate(contenders):
                context.working(f"choosing among {tried} sets of examples on dev", at, total)
                contenders[at] = _tried(contender, examples[seen:until])
            contenders.sort(key=lambda contender: -max(contender.right))  # stable: ties keep the smaller, earlier set
            seen, until = until, min(2 * until, len(examples))
            if seen == until or len(contenders) == 1:
                break
            contenders = contenders[: max(1, len(contenders) // 2)]
        winner = contenders[0]
        choice = {"sets tried": tried, "right on dev": f"{max(winner.right)} of {seen}"}
        return FewShotPredictor(winner.best, choice)


def _tried(contender: _Contender, examples: Sequence[Example]) -> _Contender:
    """One pass over the examples scores both: calibration only shifts the label scores."""
    replies = contender.plain.ask([example.input for example in examples])
    right = list(contender.right)
    for example, reply in zip(examples, replies, strict=True):
        for at, predictor in enumerate((contender.plain, contender.calibrated)):
            answer = predictor.answer(reply)
            right[at] += answer.output in example.references
    return replace(contender, right=(right[0], right[1]))


def shot_sets(train: Sequence[Example], labels: Sequence[str], seed: int) -> list[tuple[tuple[str, str], ...]]:
    """Balanced, shuffled sets of (text, label), the smaller first; with more labels than fit, one a label of some."""
    rng = np.random.default_rng(seed)
    by_label = {label: [example for example in train if example.reference == label] for label in labels}
    present = [label for label in labels if by_label[label]]
    sizes = [size for size in PER_LABEL if size * len(present) <= MOST_SHOTS] or [PER_LABEL[0]]
    sets = []
    for size in sizes:
        for _ in range(SETS):
            chosen = present
            if len(present) > MOST_SHOTS:
                chosen = [present[at] for at in rng.permutation(len(present))[:MOST_SHOTS]]
            shots = []
            for label in chosen:
                pool = by_label[label]
                shots += [pool[at] for at in rng.permutation(len(pool))[:size]]
            sets.append(tuple((text_of(shots[at].input), shots[at].reference) for at in rng.permutation(len(shots))))
    return list(dict.fromkeys(sets))
