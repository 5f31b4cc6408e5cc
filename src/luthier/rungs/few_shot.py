"""Few-shot: solved examples in the prompt, of every label where there are labels, the set chosen on dev.

One example, from input to score: the prompt shows one solved question of each type, then asks "What is the tallest
mountain ?". LOC comes out best; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import EVERY_KIND, Writing, instruction, prediction, role_model, text_of
from luthier.rungs.prompted import Chosen, PromptPredictor, right
from luthier.types import Example, FitContext, Reply, Scorer, TaskSpec

PER_LABEL = (1, 4)  # solved examples of each label
SETS = 3  # seeded draws of each size
MOST_SHOTS = 32
FIRST_DEV = 32  # dev examples in the first round; each further round has twice as many
LAST_DEV = 128
WRITTEN_SHOTS = (2, 6)  # solved examples in a set where answers are written
WRITTEN_FIRST_DEV, WRITTEN_LAST_DEV = 8, 64  # a written answer costs many times a chosen one


@dataclass(frozen=True)
class _Contender:
    """A shot set on trial, and what it said to the dev examples so far."""

    prompt: PromptPredictor
    scorer: Scorer | None  # of written answers
    replies: tuple[Reply, ...] = ()

    def judged(self, examples: Sequence[Example]) -> tuple[float, PromptPredictor]:
        """How many it gets right, as it is or calibrated by its own replies (their labels unseen), and which way.

        Of written answers the sum of their scores, failed ones at 0: a prompt that fails is no better than a wrong one.
        """
        seen = examples[: len(self.replies)]
        if self.scorer is not None:
            scores = self.scorer.score(seen, [prediction(reply) for reply in self.replies])
            return sum(score.value or 0.0 for score in scores), self.prompt
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
    kinds = EVERY_KIND
    guarded = False
    version = "2"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        model = role_model(context.models, "prompted", self.name)
        system = instruction(task)
        writing = Writing.of(task)
        sets = shot_sets(train, task.label_names, context.seed) if writing is None else any_shots(train, context.seed)
        scorer = None if writing is None else dev_scorer(task)
        contenders = [
            _Contender(PromptPredictor(model, system, shots, task.label_names, writing=writing), scorer)
            for shots in sets
        ]
        order = np.random.default_rng(context.seed).permutation(len(dev))
        first, last = (FIRST_DEV, LAST_DEV) if writing is None else (WRITTEN_FIRST_DEV, WRITTEN_LAST_DEV)
        examples = [dev[at] for at in order[:last]]
        seen, until = 0, min(first, len(examples))
        while True:
            for at, contender in enumerate(contenders):
                context.working(f"choosing among {len(sets)} sets of examples on dev", at, len(contenders))
                replies = contender.prompt.ask([example.input for example in examples[seen:until]])
                contenders[at] = replace(contender, replies=(*contender.replies, *replies))
            contenders.sort(key=lambda contender: -contender.judged(examples)[0])  # stable: ties keep the smaller set
            seen, until = until, min(2 * until, len(examples))
            if seen == until or len(contenders) == 1:
                break
            contenders = contenders[: max(1, len(contenders) // 2)]
        count, winner = contenders[0].judged(examples)
        told = {"right on dev": f"{count} of {seen}"}
        if writing is not None:
            told = {"mean score on dev": f"{count / max(1, seen):.3f} of {seen} examples"}
        return Chosen(winner, {"sets tried": len(sets), **told})


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


def any_shots(train: Sequence[Example], seed: int) -> list[tuple[tuple[str, str], ...]]:
    """Random sets of (text, answer), the smaller first: what can be drawn where answers are no labels."""
    rng = np.random.default_rng(seed)
    sets = []
    for size in WRITTEN_SHOTS:
        for _ in range(SETS):
            chosen = [train[at] for at in rng.permutation(len(train))[:size]]
            sets.append(tuple((text_of(example.input), example.reference) for example in chosen))
    return list(dict.fromkeys(sets))
