"""Many-shot: as many solved examples as the context holds, in a prefix that is run once and kept.

One example, from input to score: 600 solved questions stand before "What is the tallest mountain ?"; the model reads
them once, and then only the question. LOC comes out best; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from luthier.errors import ModelError
from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import EVERY_KIND, Writing, instruction, role_model, text_of
from luthier.rungs.prompted import Chosen, PromptPredictor, PromptTrial
from luthier.rungs.search import Search, halve
from luthier.rungs.shots import FixedShots, Shot
from luthier.types import Example, FitContext, Input, TaskSpec, Usage

SHARES = (0.25, 1.0)  # of the examples that fit
SPARE = 0.9  # of the context: the longest input to come may be longer than any seen


@dataclass(frozen=True)
class ManyShot:
    """Balanced examples up to the model's context (Agarwal et al., arXiv 2404.11018); how many, dev says."""

    name = "many-shot"
    rank = 55
    roles = ("prompted",)
    kinds = EVERY_KIND
    guarded = False
    version = "1"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        model = role_model(context.models, "prompted", self.name)
        context.working("counting how many examples the context holds")
        shots = balanced(train, task.label_names, context.seed)
        plain = PromptPredictor(model, instruction(task), FixedShots(), task.label_names, writing=Writing.of(task))
        most = _fitting(plain, shots, [example.input for example in (*train, *dev)])
        sizes = sorted({max(1, round(share * most)) for share in SHARES})
        # the best examples of a smaller set are the last ones: they stand nearest to the question
        trials = [
            PromptTrial(f"{size} examples", replace(plain, shots=FixedShots(shots[-size:])), dev_scorer(task))
            for size in sizes
        ]
        found = halve(trials, dev, task, context, what="numbers of examples")
        told = {"examples that fit the context": most, **price(found), **found.describe()}
        return Chosen(found.reading.predictor, told)


def balanced(train: Sequence[Example], labels: Sequence[str], seed: int) -> tuple[Shot, ...]:
    """All training examples as shots, drawn so that every tail of the sequence has the labels as evenly as it can.

    Without labels: in random order.
    """
    rng = np.random.default_rng(seed)
    if not labels:
        return tuple((text_of(train[at].input), train[at].reference) for at in rng.permutation(len(train)))
    queues = {}
    for label in labels:
        own = [example for example in train if example.reference == label]
        queues[label] = [own[at] for at in rng.permutation(len(own))]
    drawn = []
    while any(queues.values()):
        for at in rng.permutation(len(labels)):
            if queue := queues[labels[at]]:
                drawn.append(queue.pop())
    return tuple((text_of(example.input), example.reference) for example in reversed(drawn))


def _fitting(plain: PromptPredictor, shots: Sequence[Shot], inputs: Sequence[Input]) -> int:
    """How many of the last shots fit beside the longest input, by bisection over what the model itself counts."""
    model = plain.model
    room, count = getattr(model, "context_tokens", None), getattr(model, "prompt_tokens", None)
    if room is None or count is None:
        raise ModelError(
            "it does not say how many tokens its context holds",
            where=model.name,
            fix="set its context_tokens, or leave many-shot out of [ladder] rungs",
        )
    longest = max(inputs, key=lambda value: len(text_of(value)))
    # a label has no more tokens than bytes
    answer = plain.writing.max_tokens if plain.writing else max(len(label.encode()) for label in plain.labels)
    limit = SPARE * room - answer

    def fits(size: int) -> bool:
        prompt = replace(plain, shots=FixedShots(tuple(shots[len(shots) - size :])))
        return bool(count(prompt.prompts([longest])[0]) <= limit)

    low, high = 0, len(shots)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    if low == 0:
        raise ModelError(
            f"not one solved example fits its context of {room:,} tokens beside the longest input",
            where=model.name,
            fix="leave many-shot out of [ladder] rungs, or use a model with a longer context",
        )
    return low


def price(found: Search) -> dict[str, Any]:
    """Prompt tokens a request costs on average, with the prefix cached and without any cache, as measured on dev."""
    usage: Usage = found.winner.usage
    requests = max(1, len(found.winner.replies))
    read = usage.fresh_tokens + usage.cached_tokens + usage.cache_write_tokens
    return {
        "prompt tokens a request, without caching": round(read / requests),
        "of these read anew, with caching": round((usage.fresh_tokens + usage.cache_write_tokens) / requests),
    }
