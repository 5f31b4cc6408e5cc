"""The plan: which example stands where, laid out step by step for a trainer that takes them as they come."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.train.loop import step_examples
from luthier.train.recipe import Recipe

GPU_PASSES = 8


@dataclass(frozen=True)
class Plan:
    """Which example stands where: `slots` a step, one step behind the other.

    Each process takes `passes` times `at_once` of a step. Behind the last example stands the blank, which has nothing
    to learn: it adds nothing to a step, and fills it up for all passes and processes to have equally many.
    """

    laid: tuple[int, ...]
    examples: int
    """How many there are; the same number is the blank's place."""
    steps: int
    slots: int
    at_once: int
    passes: int
    longest: int
    """The tokens that the longest example takes."""
    tokens_run: int
    """Of all steps, padding included."""

    @classmethod
    def of(cls, lengths: Sequence[int], recipe: Recipe, *, seed: int, processes: int, on_cpu: bool) -> Plan:
        """`lengths`: the tokens that each example takes by itself, and behind them those of the blank.

        Of each step the longest examples come first: what is padded together is about as long.
        """
        blank = len(lengths) - 1
        each = -(-min(recipe.step_examples, blank) // processes)
        slots = each * processes
        steps = recipe.steps(blank)
        longest = max(lengths)
        room = max(recipe.pass_tokens * (1 if on_cpu else GPU_PASSES), longest)
        at_once = max(size for size in range(1, each + 1) if each % size == 0 and size * longest <= room)
        laid: list[int] = []
        for step in range(steps):
            chosen = sorted(step_examples(recipe, blank, step, seed=seed), key=lambda at: -lengths[at])
            laid += chosen + [blank] * (slots - len(chosen))
        tokens_run = sum(lengths[first] for first in laid[::at_once]) * at_once
        return cls(tuple(laid), blank, steps, slots, at_once, each // at_once, longest, tokens_run)

    def filled(self, step: int) -> int:
        """How many examples a step (from 0) has, blanks not counted."""
        return sum(at != self.examples for at in self.laid[step * self.slots : (step + 1) * self.slots])

    def total(self, lengths: Sequence[int]) -> int:
        """The sum of the examples' lengths, each as often as it is laid out."""
        return sum(lengths[at] for at in self.laid if at != self.examples)


def processes() -> int:
    """How many share this training: those that `accelerate launch` started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))
