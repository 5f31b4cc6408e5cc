"""Full: every weight of a copy of the small model is trained.

One example, from input to score: as for `lora`; but there is no adapter: what is saved is a whole model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from luthier.rungs.tuned import FineTune
from luthier.train.recipe import USUAL, Recipe


@dataclass(frozen=True)
class Full(FineTune):
    """Trains all weights, at a tenth of LoRA's rate; tied embeddings stay tied.

    It needs six times the memory of the weights in fp32 (base, copy, gradients, two moments, best so far).
    """

    recipe: Recipe = field(default_factory=lambda: replace(USUAL, method="full", learning_rate=1e-4))

    name = "full"
    rank = 74
