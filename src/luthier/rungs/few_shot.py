"""Few-shot: solved examples in the prompt, of every label where there are labels, the set chosen on dev.

One example, from input to score: the prompt shows one solved question of each type, then asks "What is the tallest
mountain ?". LOC comes out best; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import EVERY_KIND, Writing, instruction, role_model, text_of
from luthier.rungs.prompted import Chosen, PromptPredictor, PromptTrial
from luthier.rungs.search import halve
from luthier.rungs.shots import FixedShots, Shot
from luthier.types import Example, FitContext, TaskSpec

PER_LABEL = (1, 4)  # solved examples of each label
SETS = 3  # seeded draws of each size
MOST_SHOTS = 32
WRITTEN_SHOTS = (2, 6)  # solved examples in a set where answers are written


@dataclass(frozen=True)
class FewShot:
    """Balanced shot sets of several sizes and draws, successively halved on shared dev examples."""

    name = "few-shot"
    rank = 50
    roles = ("prompted",)
    kinds = EVERY_KIND
    guarded = False
    version = "3"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        model = role_model(context.models, "prompted", self.name)
        sets = shot_sets(train, task.label_names, context.seed) if task.labels else any_shots(train, context.seed)
        plain = PromptPredictor(model, instruction(task), FixedShots(), task.label_names, writing=Writing.of(task))
        trials = [
            PromptTrial(
                f"set {at + 1}, {len(shots)} examples", replace(plain, shots=FixedShots(shots)), dev_scorer(task)
            )
            for at, shots in enumerate(sets)
        ]
        found = halve(trials, dev, task, context, what=f"{len(sets)} sets of examples")
        return Chosen(found.reading.predictor, found.describe())


def shot_sets(train: Sequence[Example], labels: Sequence[str], seed: int) -> list[tuple[Shot, ...]]:
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


def any_shots(train: Sequence[Example], seed: int) -> list[tuple[Shot, ...]]:
    """Random sets of (text, answer), the smaller first: what can be drawn where answers are no labels."""
    rng = np.random.default_rng(seed)
    sets = []
    for size in WRITTEN_SHOTS:
        for _ in range(SETS):
            chosen = [train[at] for at in rng.permutation(len(train))[:size]]
            sets.append(tuple((text_of(example.input), example.reference) for example in chosen))
    return list(dict.fromkeys(sets))
