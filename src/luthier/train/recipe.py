"""The recipe: how a model is fine-tuned, in one object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from luthier.types import Example

FEWEST_CHECKED = 32
MOST_CHECKED = 6  # epochs
Method = Literal["lora", "dora", "qlora", "full"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is trained (by default LoRA on all linear layers but the output head), by AdamW and one cosine with warm-up.

    Dropout is always 0. Small models need far higher rates than the usual 2e-5.
    """

    method: Method = "lora"
    """"lora", "dora" (LoRA with a trained magnitude for each output), "qlora" (LoRA around weights of 4 bits, on a
    GPU), or "full" (all weights of a copy; `rank` and `alpha` say nothing then)."""
    rank: int = 16
    alpha: int = 32
    """The adapter is scaled by alpha / rank."""
    upper_layers: int | None = None
    """On how many of the uppermost decoder layers the adapter is put; None: on all. "full" trains all weights anyway.
    What lies below stays as it is, so that it is run once for each row and never again (`train.lower`)."""
    learning_rate: float = 1e-3
    """The peak, reached at the end of the warm-up."""
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    """The largest norm of a step's gradient; a longer one is scaled down to it."""
    warmup_share: float = 0.1
    """The share of all steps in which the rate rises linearly."""
    epochs: int = 2
    fewest_steps: int = 0
    """Where the epochs make fewer steps than that, there are more epochs (`long_enough`): few examples want as many
    steps as many do (Mosbach et al. 2021, arXiv 2006.04884)."""
    most_epochs: int = 16
    """As many are made of few examples at most."""
    step_examples: int = 16
    """Examples a step; the last step of an epoch takes what is left."""
    dev_checks_per_epoch: int = 1
    """Evenly spaced, the last one at the epoch's end. Each leaves a checkpoint, the best of which is returned. Of many
    epochs not all are checked: `MOST_CHECKED`, evenly spaced, and the last."""
    dev_examples: int = 200
    """Dev examples that a check scores at most: a seeded choice, the same for all checks."""
    dev_answers: int = 4096
    """Answers that a check scores at most, over all those examples, but for 32 examples any number: where there are
    many labels, a model that is still unsure is asked about nearly all of them."""
    replay: int = 0
    """Rows a step, beside the examples, of what the model said before it was fine-tuned (`train.replay`)."""
    pass_tokens: int = 512
    """Distinct tokens run at once at most (a longer example runs alone): bounds the memory, changes no gradient."""

    def dev_sample(self, dev: Sequence[Example], *, answers: int, seed: int) -> list[Example]:
        """The dev examples that are checked, in their order, where each has `answers` to choose from."""
        count = min(self.dev_examples, max(FEWEST_CHECKED, self.dev_answers // max(1, answers)))
        if len(dev) <= count:
            return list(dev)
        chosen = np.random.default_rng(seed).choice(len(dev), count, replace=False)
        return [dev[index] for index in sorted(chosen)]

    def long_enough(self, examples: int) -> Recipe:
        """The same with as many epochs as it takes to make the fewest steps, within the most.

        >>> [Recipe(fewest_steps=96).long_enough(examples).epochs for examples in (50, 100, 200, 500, 1000, 10_000)]
        [16, 14, 8, 3, 2, 2]
        """
        wanted = -(-self.fewest_steps // self.steps_per_epoch(examples))
        return replace(self, epochs=max(self.epochs, min(wanted, self.most_epochs)))

    def steps(self, examples: int) -> int:
        return self.epochs * self.steps_per_epoch(examples)

    def steps_per_epoch(self, examples: int) -> int:
        return -(-examples // self.step_examples)

    def rate_at(self, step: int, total: int) -> float:
        """The learning rate of step `step` (from 0) of `total`: a linear rise, then half a cosine down to 0.

        >>> [round(Recipe(learning_rate=1.0).rate_at(step, 20), 3) for step in (0, 1, 2, 11, 19)]
        [0.5, 1.0, 1.0, 0.5, 0.008]
        """
        warmup = math.ceil(self.warmup_share * total)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        done = (step - warmup) / max(1, total - warmup)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))

    def check_steps(self, examples: int) -> tuple[int, ...]:
        """After how many steps dev is checked.

        >>> Recipe().check_steps(1000), Recipe(epochs=14).check_steps(100)
        ((63, 126), (14, 35, 56, 77, 98))
        """
        size, checks = self.steps_per_epoch(examples), self.dev_checks_per_epoch
        parts = [-(-size * part // checks) for part in range(1, checks + 1)]
        every = -(-self.epochs // MOST_CHECKED)
        checked = [epoch for epoch in range(self.epochs) if (self.epochs - 1 - epoch) % every == 0]
        return tuple(sorted({epoch * size + part for epoch in checked for part in parts}))


# what a rung trains by that nobody told otherwise
USUAL = Recipe(fewest_steps=96)
