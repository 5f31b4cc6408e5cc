"""Few-shot: solved examples of every label in the prompt, the set chosen on dev.

One example, from input to score: the prompt shows one solved question of each type, then asks "What is the tallest
mountain ?". LOC comes out best; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luthier.rungs.base import instruction, role_model, text_of
from luthier.rungs.prompted import Chosen, PromptPredictor, PromptTrial
from luthier.rungs.search import halve
from luthier.rungs.shots import Fixed, Shot
from luthier.types import Example, FitContext, TaskSpec

PER_LABEL = (1, 4)  # solved examples of each label
SETS = 3  # seeded draws of each size
MOST_SHOTS = 32


@dataclass(frozen=True)
class FewShot:
    """Balanced shot sets of several sizes and draws, successively halved on shared dev examples."""

    name = "few-shot"
    rank = 50
    roles = ("prompted",)
    guarded = False
    version = "3"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        model = role_model(context.models, "prompted", self.name)
        sets = shot_sets(train, task.label_names, context.seed)
        trials = [
            PromptTrial(
                f"set {at + 1}, {len(shots)} examples",
                PromptPredictor(model, instruction(task), Fixed(shots), task.label_names),
            )
            for at, shots in enumerate(sets)
        ]
        found = halve(trials, dev, context, budget_tokens=task.search_tokens, what=f"{len(sets)} sets of examples")
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
