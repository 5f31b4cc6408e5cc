"""RAG with a fine-tuned reader: LoRA on examples with passages as they are looked up, some of them beside the point.

One example, from input to score: it learns to say "30 days" after "[1] Pay day is the 25th. [2] Everyone has 30 days
off." and "How many days off do I have?". Then it reads the passages of "When is pay day?" and says "the 25th"; that
is the reference; the score is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from luthier.documents.library import DEPTH, Library
from luthier.evaluate.retrieval import first_right, is_no_answer
from luthier.rungs.base import EVERY_KIND, Writing, read_predictor, role_model, text_of
from luthier.rungs.rag import ways
from luthier.rungs.reading import Look, ReadingPredictor
from luthier.rungs.tuned import Lesson, Student, TunedPredictor
from luthier.train.recipe import USUAL, Recipe
from luthier.types import Example, FitContext, Input, Message, TaskSpec

COUNT = 3  # passages before an input, where no `rag` was fitted before
# Zhang et al. 2024 (RAFT, arXiv 2403.10131), section 4: some rows without the right passage make a better reader
WITHOUT = 0.2


@dataclass(frozen=True)
class TunedReadingPredictor(ReadingPredictor):
    """A tuned model that sees passages before its input."""

    kind = "reading-tuned"

    @property
    def base(self) -> Any:
        return self.reader.base

    def scaled(self, scale: float, folder: Path) -> TunedReadingPredictor:
        """The same fine-tune at a part of its strength, written into `folder`."""
        return replace(self, reader=self.reader.scaled(scale, folder))

    @classmethod
    def load(cls, folder: Path, models: Mapping[str, Any]) -> TunedReadingPredictor:
        look = Look.loaded(read_predictor(folder)["look"], folder, models)
        return cls(TunedPredictor.load(folder / "reader", models), look)


@dataclass(frozen=True)
class RagLora:
    """`lora` on rows with passages: the right one, where it is known, among others; in a fifth of the rows left out.

    A row without the right passage keeps its answer, or, where the data have examples without an answer, learns to say
    that there is none. Passages are looked up as `rag` chose, where that was fitted.
    """

    recipe: Recipe = USUAL

    name = "rag-lora"
    rank = 71
    roles = ("student", "documents")
    kinds = EVERY_KIND
    builds_on = ("rag",)
    guarded = True
    version = "4"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> TunedReadingPredictor:
        """Errors: DataError for an example that is longer than the student's context even without passages."""
        student = Student.of(task, context.models, self.name)
        library: Library = role_model(context.models, "documents", self.name)
        if isinstance(below := context.fitted.get("rag"), ReadingPredictor):
            look, told = below.look, dict[str, Any]()
        else:
            found = ways(library, task, dev, context)
            look, told = replace(found.standing[0], count=COUNT), dict(found.told)
        asked = ReadingPredictor(_Untuned(student), look)
        context.working("looking up training examples in the documents", 0, len(train))
        taught, without = lessons(asked, train, seed=context.seed)
        shown_dev = [
            replace(example, input=shown)
            for example, shown in zip(dev, asked.shown_inputs([example.input for example in dev]), strict=True)
        ]
        lesson = Lesson.of(student, self.recipe, taught, shown_dev, context)
        told |= {"rows with the right passage left out": without}
        return TunedReadingPredictor(lesson.learnt(task, context, more=told), look)


@dataclass(frozen=True)
class _Untuned:
    """The student before its lesson, as a reader: so that passages are cut to its context as they will be later."""

    student: Student

    @property
    def model(self) -> Any:
        return self.student.base

    @property
    def labels(self) -> tuple[str, ...]:
        return self.student.labels

    @property
    def writing(self) -> Writing | None:
        return self.student.writing

    def prompts(self, inputs: Sequence[Input]) -> list[tuple[Message, ...]]:
        return [self.student.prompt(value) for value in inputs]


def lessons(asked: ReadingPredictor, train: Sequence[Example], *, seed: int) -> tuple[list[Example], int]:
    """The examples with their passages, and in how many of them the right one was left out on purpose."""
    rng, look, library = np.random.default_rng([seed, 8]), asked.look, asked.look.library
    absent = any(is_no_answer(each.reference, library.no_answer) for each in train)
    found = library.search([text_of(each.input) for each in train], DEPTH, by=look.by, size=look.size)
    taught, without = list[Example](), 0
    for example, hits in zip(train, found, strict=True):
        chosen = list(hits[: look.count])
        place = first_right(library, example, hits, by_answer=asked.open_ended)
        answers = example.references
        if place is not None and len(hits) > 1:
            right = hits[place - 1]
            others = [hit for hit in hits if first_right(library, example, [hit], by_answer=asked.open_ended) is None][
                : look.count
            ]
            if rng.random() < WITHOUT and others:
                chosen, without = others, without + 1
                answers = (library.no_answer,) if absent else answers
            else:
                chosen = [right, *others[: look.count - 1]]
        (kept,) = asked.fitting([example.input], [tuple(chosen)])
        shuffled = [kept[int(at)] for at in rng.permutation(len(kept))]
        taught.append(replace(example, input=asked.shown(example.input, shuffled), references=answers))
    return taught, without
