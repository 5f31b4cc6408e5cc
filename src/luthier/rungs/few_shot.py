"""Few-shot: solved examples of every label in the prompt, the set chosen on dev.

One example, from input to score: the prompt shows one solved question of each type, then asks "What is the tallest
mountain ?". LOC comes out best; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luthier.rungs.base import instruction, role_model, text_of
from luthier.rungs.prompted import Chosen, PromptPredictor, right
from luthier.types import Example, FitContext, Reply, TaskSpec

PER_LABEL = (1, 4)  # solved examples of each label
SETS = 3  # seeded draws of each size
MOST_SHOTS = 32
FIRST_DEV = 32  # dev examples in the first round; each further round has twice as many
LAST_DEV = 128


@dataclass(frozen=True)
class _Contender:
    """A shot set on trial, and what it said to the dev examples so far."""

    prompt: PromptPredictor
    replies: tuple[Reply, ...] = ()

    def judged(self, examples: Sequence[Example]) -> tuple[int, PromptPredictor]:
        """How many it gets right, as it is or calibrated by its own replies (their labels unseen), and which way."""
        seen = examples[: len(self.replies)]
        ways = (self.prompt, self.prompt.with_prior(self.replies))
        counts = [right(way, seen, self.replies) for way in ways]
        best = int(counts[1] > counts[0])
        return counts[best], ways[best]


@dataclass(frozen=True)
class FewShot:
    """Balanced shot sets of several sizes and draws, successively halved on shared dev examples (Jamieson 2016)."""

    name = "few-shot"
    rank = 50
    roles = ("prompted",)
    guarded = False
    version = "2"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        model = role_model(context.models, "prompted", self.name)
        system = instruction(task)
        sets = shot_sets(train, task.label_names, context.seed)
        contenders = [_Contender(PromptPredictor(model, system, shots, task.label_names)) for shots in sets]
        order = np.random.default_rng(context.seed).permutation(len(dev))
        examples = [dev[at] for at in order[:LAST_DEV]]
        seen, until = 0, min(FIRST_DEV, len(examples))
        while True:
            for at, contender in enumerate(contenders):
                context.working(f"choosing among {len(sets)} sets of examples on dev", at, len(contenders))
                replies = contender.prompt.ask([example.input for example in examples[seen:until]])
                contenders[at] = _Contender(contender.prompt, (*contender.replies, *replies))
            contenders.sort(key=lambda contender: -contender.judged(examples)[0])  # stable: ties keep the smaller set
            seen, until = until, min(2 * until, len(examples))
            if seen == until or len(contenders) == 1:
                break
            contenders = contenders[: max(1, len(contenders) // 2)]
        count, winner = contenders[0].judged(examples)
        return Chosen(winner, {"sets tried": len(sets), "right on dev": f"{count} of {seen}"})


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
