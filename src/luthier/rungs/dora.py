"""DoRA: LoRA, with the size of each output's weights trained apart from their direction (arXiv 2402.09353).

One example, from input to score: as for `lora`; the adapter also scales each output of each layer by a trained number.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from luthier.rungs.tuned import FineTune
from luthier.train.recipe import USUAL, Recipe


@dataclass(frozen=True)
class Dora(FineTune):
    """`lora` with PEFT's DoRA layers, magnitudes in fp32. Slower than LoRA: each pass also measures every weight."""

    recipe: Recipe = field(default_factory=lambda: replace(USUAL, method="dora"))

    name = "dora"
    rank = 72
