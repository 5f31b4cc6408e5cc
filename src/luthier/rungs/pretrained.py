"""Pretrained: the student first reads documents of the domain, every token of them, and then learns the task.

One example, from input to score: the student has read the service manuals that [data] documents names; then it is tuned
as by `lora`, and to "the pump shows E42" it scores "pressure" best; the reference is "pressure"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.errors import DataError
from luthier.rungs.base import EVERY_KIND
from luthier.rungs.tuned import Lesson, Student, TunedPredictor, on_upper_layers
from luthier.train.recipe import USUAL, Recipe
from luthier.types import Example, FitContext, TaskSpec

if TYPE_CHECKING:
    from luthier.train.rows import TrainRow

BLOCK = 512  # tokens read at once
DEV_SHARE = 0.1
READING = Recipe(learning_rate=3e-4, epochs=1, step_examples=4, dev_checks_per_epoch=2)  # 2,048 tokens a step


@dataclass(frozen=True)
class Pretrained:
    """Continued pre-training by a LoRA adapter on [data] documents, then the same adapter tuned on the examples.

    For domains that are truly new to the student. A tenth of the text is held back: what reading it did is told.
    """

    recipe: Recipe = USUAL
    reading: Recipe = READING

    name = "pretrained"
    rank = 84
    roles = ("student",)
    learns_from = ("documents",)
    kinds = EVERY_KIND
    guarded = True
    replays = True
    version = "5"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> TunedPredictor:
        """Errors: DataError without documents, or with too little text for a step and a block to hold back."""
        from luthier.train.backend import fine_tune
        from luthier.train.check import dev_scores
        from luthier.train.rows import DevRow

        if not context.extra.documents:
            raise DataError(
                "there are no documents to read",
                where=self.name,
                fix='name a folder of texts: [data] documents = "manuals"',
            )
        student = Student.of(task, context.models, self.name)
        lesson = Lesson.of(student, self.recipe, train, dev, context)
        blocks = blocks_of([text for _, text in context.extra.documents], student.base, seed=context.seed)
        fewest = self.reading.step_examples + 1
        if len(blocks) < fewest:
            raise DataError(
                "there is too little text to hold some of it back",
                where=self.name,
                fix=f"give at least {fewest * BLOCK:,} tokens of documents",
            )
        held = min(max(1, int(DEV_SHARE * len(blocks))), len(blocks) - self.reading.step_examples)
        kept = [DevRow((row,), (0,)) for row in blocks[:held]]
        context.working("reading the documents")
        before = dev_scores(student.base.module, kept, self.reading.pass_tokens, shared=False)[1]
        upper = on_upper_layers(self.recipe, task.training).upper_layers
        reading = replace(self.reading, rank=self.recipe.rank, alpha=self.recipe.alpha, upper_layers=upper)
        job = student.job(reading, kept, replace(context, workdir=context.workdir / "reading"))
        read = fine_tune(student.base.module, blocks[held:], job, task.training)
        more: dict[str, Any] = {
            "documents": len(context.extra.documents),
            "tokens read": read.tokens,
            "tokens held back": sum(len(row.input_ids) for row in blocks[:held]),
            "nats a token of held-back text, before and after reading": [round(before, 4), round(read.best.dev_nll, 4)],
        }
        # reading that made the text no likelier is no start
        start = read.weights if read.best.dev_nll < before else None
        if start is None:
            more["reading was of no use"] = "held-back text is no likelier after it: the task was learned without it"
        # what reading left means something at the alpha that it was read with only
        return lesson.learnt(
            replace(task, training=replace(task.training, alpha=None)), context, start=start, more=more
        )


def blocks_of(texts: Sequence[str], base: Any, *, seed: int) -> list[TrainRow]:
    """The texts in blocks of at most 512 tokens, in seeded order; all tokens but a block's first are learned.

    A text ends with the tokenizer's end-of-text token, where it has one. Blocks never hold parts of two texts, so that
    nothing leaks from one into the next.
    """
    from luthier.train.rows import TrainRow

    size = min(BLOCK, base.context_tokens)
    end = [] if base.tokenizer.eos_token_id is None else [int(base.tokenizer.eos_token_id)]
    found = []
    for text in texts:
        # control tokens that stand in a document are text like any other
        ids = [*base.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"], *end]
        found += [TrainRow(tuple(ids[at : at + size]), 1) for at in range(0, len(ids) - 1, size)]
    order = np.random.default_rng([seed, 3]).permutation(len(found))
    return [found[int(at)] for at in order]
