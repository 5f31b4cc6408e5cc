"""DPO: the fine-tuned student learns to prefer right answers to its own wrong ones (arXiv 2305.18290).

One example, from input to score: to "Who was Galileo ?" the tuned student gives HUM 0.6 and DESC 0.3: the pair is HUM
before DESC, its likeliest mistake. After training HUM has 0.7; the reference is "HUM"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from luthier.errors import DataError
from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import EVERY_KIND
from luthier.rungs.tuned import Student, TunedPredictor, on_upper_layers
from luthier.train.recipe import Recipe
from luthier.types import Example, FitContext, Model, Prediction, Preference, Request, TaskSpec

BETA = 0.1
MOST_PAIRS = 512
DRAWN = 4  # answers drawn for each example where answers are written


@dataclass(frozen=True)
class Dpo:
    """Preference tuning of `lora`'s student, or of the student itself where lora is not on the ladder.

    The pairs are those of [data] preferences; left out, each training example's right answer before the student's own
    likeliest wrong one (or, where answers are written, the worst of four it draws). Where training does no better on
    dev than what it started from, that comes back.
    """

    recipe: Recipe = field(default_factory=lambda: Recipe(learning_rate=1e-5, epochs=1))

    name = "dpo"
    rank = 80
    roles = ("student",)
    builds_on = ("lora",)
    learns_from = ("preferences",)
    kinds = EVERY_KIND
    guarded = True
    version = "2"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> TunedPredictor:
        """Errors: DataError where there are no pairs; those of `train.backend.prefer`."""
        from luthier.train.adapter import read_adapter
        from luthier.train.backend import prefer
        from luthier.train.preference import Pair

        student = Student.of(task, context.models, self.name)
        below = context.fitted.get("lora")
        recipe, start, model = on_upper_layers(self.recipe, task.training), None, student.base
        if isinstance(below, TunedPredictor) and not below.whole:
            start, rank, alpha = read_adapter(below.adapter)
            upper = below.history.get("upper layers adapted")
            recipe, model = replace(recipe, rank=rank, alpha=alpha, upper_layers=upper), below.model
        pairs = list(context.extra.preferences)
        source = "the task's own"
        if not pairs:
            context.working("looking for what the student gets wrong")
            pairs = own_mistakes(model, student, task, train, context)
            source = "right answers before the student's likeliest wrong ones"
        if not pairs:
            raise DataError(
                "the student gets nothing wrong on the training examples, so that there are no pairs to learn from",
                where=self.name,
                fix='name some: [data] preferences = "pairs.jsonl", or leave the rung out',
            )
        context.working("preparing the pairs")
        rows = [
            Pair(*student.answers(Example(pair.id, pair.input, ()), (pair.chosen, pair.rejected))) for pair in pairs
        ]
        dev_rows = student.checked(recipe, dev, context)
        job = student.job(recipe, dev_rows, context, start=start)
        tuned = prefer(student.base.module, rows, job, task.training, beta=BETA)
        more: Mapping[str, Any] = {
            "starts from": "lora" if start is not None else "the student as it is",
            "pairs": len(rows),
            "pairs are": source,
            "beta": BETA,
            "first loss": round(tuned.losses[0], 4),
        }
        return student.fitted(tuned, recipe, context, checked=len(dev_rows), more=more)


def own_mistakes(
    model: Model, student: Student, task: TaskSpec, train: Sequence[Example], context: FitContext
) -> list[Preference]:
    """Right answers before the model's own wrong ones, at most `MOST_PAIRS`: those it is least sure of first."""
    order = np.random.default_rng([context.seed, 2]).permutation(len(train))
    some = [train[at] for at in order[: 2 * MOST_PAIRS]]
    found = _mistaken_labels(model, student, some) if student.labels else _mistaken_texts(model, student, task, some)
    return [pair for _, pair in sorted(found, key=lambda each: each[0])[:MOST_PAIRS]]


def _mistaken_labels(model: Model, student: Student, some: Sequence[Example]) -> list[tuple[float, Preference]]:
    """By how many nats the right label is ahead (below 0: it is not), and the pair."""
    found = []
    asked = [Request(student.prompt(example.input), choices=student.labels) for example in some]
    for example, reply in zip(some, model.complete(asked), strict=True):
        if reply.error is not None or reply.choice_logprobs is None:
            continue
        of = {
            label: score
            for label, score in zip(student.labels, reply.choice_logprobs, strict=True)
            if score is not None
        }
        wrong = [label for label in of if label not in example.references]
        if example.reference in of and wrong:
            worst = max(wrong, key=of.__getitem__)
            ahead = of[example.reference] - of[worst]
            found.append((ahead, Preference(example.id, example.input, example.reference, worst)))
    return found


def _mistaken_texts(
    model: Model, student: Student, task: TaskSpec, some: Sequence[Example]
) -> list[tuple[float, Preference]]:
    """The score of the worst answer drawn, and the pair; an example whose answers are all right gives none."""
    assert student.writing is not None
    scorer, found = dev_scorer(task), []
    asked = [
        Request(
            student.prompt(example.input),
            schema=student.writing.schema,
            max_tokens=student.writing.max_tokens,
            temperature=1.0,
            seed=at,
            n=DRAWN,
        )
        for at, example in enumerate(some)
    ]
    for example, reply in zip(some, model.complete(asked), strict=True):
        texts = sorted({text.strip() for text in reply.texts} - {"", *example.references})
        scores = scorer.score([example] * len(texts), [Prediction(text) for text in texts])
        rated = sorted((score.value or 0.0, text) for score, text in zip(scores, texts, strict=True))
        if rated and rated[0][0] < 1.0:
            value, text = rated[0]
            found.append((value, Preference(example.id, example.input, example.reference, text)))
    return found
