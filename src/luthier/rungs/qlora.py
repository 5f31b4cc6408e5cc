"""QLoRA: LoRA around weights of 4 bits (NF4), so that a GPU holds a model four times as large (arXiv 2305.14314).

One example, from input to score: as for `lora`; the adapter is merged into the weights in full precision, and that
model is what is raced.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from luthier.rungs.tuned import FineTune
from luthier.train.recipe import USUAL, Recipe


@dataclass(frozen=True)
class QLora(FineTune):
    """`lora` on a GPU around a copy of the student that is loaded anew in 4 bits; refuses where there is no GPU."""

    recipe: Recipe = field(default_factory=lambda: replace(USUAL, method="qlora"))

    name = "qlora"
    rank = 76

    def module(self, base: Any) -> Any:
        """Errors: ModelError without a GPU, without bitsandbytes, or for a student that is not from a folder."""
        from luthier.train.quantized import load_4bit

        return load_4bit(base.folder)
