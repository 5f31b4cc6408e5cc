"""LoRA: a small model fine-tuned on the training examples by low-rank layers beside its weights (arXiv 2106.09685).

One example, from input to score: the system message "Classify." and the user message "Who was Galileo ?"; the tuned
model scores each label, end of turn included, as the assistant's whole answer; HUM comes out best; the reference is
"HUM"; the score is 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from luthier.rungs.tuned import FineTune


@dataclass(frozen=True)
class Lora(FineTune):
    """Fine-tunes the student by the recipe and keeps the adapter that did best on dev."""

    name = "lora"
    rank = 70
