"""Distilled: the student learns from a stronger model's answers to inputs that nobody has labelled.

One example, from input to score: nobody labelled "Who wrote Emma ?"; the teacher, asked with instruction and solved
examples, says HUM; the student learns that, beside the examples whose right answers are known, and without any prompt.
Asked "Who was Galileo ?" it scores HUM best; the reference is "HUM"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from luthier.errors import DataError, ModelError
from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import EVERY_KIND, Writing, instruction, text_of
from luthier.rungs.prompted import PromptPredictor, PromptTrial
from luthier.rungs.search import AnswerTrial, halve
from luthier.rungs.shots import FixedShots, Shot
from luthier.rungs.tuned import Lesson, Student, TunedPredictor
from luthier.train.recipe import USUAL, Recipe
from luthier.types import Example, FitContext, Predictor, TaskSpec

if TYPE_CHECKING:
    from luthier.train.distil import Soft
    from luthier.train.rows import TrainRow

PROMPT_RUNGS = (
    *("zero-shot", "calibrated", "instructed", "few-shot", "many-shot", "retrieved-shots", "reasoned", "combined"),
)
MOST_SHOTS = 8
BATCH = 64  # inputs asked about at once: what a person who waits sees move
UNCHECKED = "nobody has said whether its maker's terms allow training on its outputs: check them before you use this"


@dataclass(frozen=True)
class Distilled:
    """Fine-tunes the student on gold examples and on the teacher's answers to [data] unlabelled.

    The teacher is the model that [models] names so, or without one the best of the prompt rungs fitted before, both
    chosen on dev. Where a right answer is known it is kept: the teacher is asked about inputs without one only. Of a
    teacher on this machine whose vocabulary is the student's, token for token, its probabilities are learned (soft
    labels); of any other its answers.
    """

    recipe: Recipe = USUAL

    name = "distilled"
    rank = 78
    roles = ("student",)
    optional_roles = ("teacher",)
    builds_on = PROMPT_RUNGS
    learns_from = ("unlabelled",)
    kinds = EVERY_KIND
    guarded = True
    replays = True
    version = "5"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> TunedPredictor:
        """Errors: DataError without inputs to label; ModelError without a teacher, or where it answers none of them."""
        if not context.extra.unlabelled:
            raise DataError(
                "there are no inputs without a right answer",
                where=self.name,
                fix='name a file of them: [data] unlabelled = "more.csv"; lora learns from the examples alone',
            )
        student = Student.of(task, context.models, self.name)
        teacher, told = _teacher(task, train, dev, context)
        labelled = _labelled(teacher, task, context)
        if not labelled:
            raise ModelError("the teacher answered none of the inputs", where=self.name, fix="ask another teacher")
        lesson = Lesson.of(student, self.recipe, [*train, *labelled], dev, context)
        soft, labels = _soft(teacher, student, labelled, lesson.rows[len(train) :], context)
        lesson = replace(lesson, soft=soft)
        asked = len(context.extra.unlabelled)
        more = {
            **told,
            "answers from data": len(train),
            "answers from the teacher": len(labelled),
            "inputs without an answer": asked - len(labelled),
            "labels of the teacher": labels,
        }
        return lesson.learnt(task, context, more=more)


def _teacher(
    task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
) -> tuple[Predictor, Mapping[str, Any]]:
    """What labels the inputs, and what is to be told about it: chosen on dev, with the terms that it stands under."""
    model = context.models.get("teacher")
    trials: list[Any]
    if model is not None:
        plain = PromptPredictor(
            model, instruction(task), FixedShots(), task.label_names, role="teacher", writing=Writing.of(task)
        )
        shown = PromptPredictor(
            model, plain.system, FixedShots(_some(task, train)), plain.labels, role="teacher", writing=plain.writing
        )
        trials = [
            PromptTrial("instruction alone", plain, dev_scorer(task)),
            PromptTrial("instruction and solved examples", shown, dev_scorer(task)),
        ]
    else:
        trials = [
            AnswerTrial(name, context.fitted[name], dev_scorer(task)) for name in PROMPT_RUNGS if name in context.fitted
        ]
    if not trials:
        raise ModelError(
            "there is nobody to learn from",
            where=Distilled.name,
            fix='add teacher = "..." under [models], or put a prompt rung on the ladder',
        )
    found = halve(trials, dev, task, context, what="ways to ask the teacher")
    name = model.name if model is not None else found.winner.name
    told = {"teacher": name, "terms": _terms(model, context)}
    if model is not None:
        told["the teacher's prompt"] = found.winner.name
    return found.reading.predictor, {**told, "the teacher on dev": found.reading.told}


def _soft(
    teacher: Predictor, student: Student, labelled: Sequence[Example], rows: Sequence[TrainRow], context: FitContext
) -> tuple[Mapping[TrainRow, Soft], str]:
    """The teacher's probabilities of each row's answer, and how its labels are told; none where they mean nothing."""
    from luthier.train.distil import same_vocabulary, soft_labels
    from luthier.train.rows import answer_rows

    if not isinstance(teacher, PromptPredictor):
        return {}, "hard: the teacher is no single prompt"
    if teacher.prior is not None:
        return {}, "hard: the teacher's answers are calibrated, and its probabilities are not"
    model: Any = getattr(teacher.model, "model", teacher.model)  # what a response cache stands before
    if not all(hasattr(model, part) for part in ("module", "tokenizer", "chat")):
        return {}, "hard: the teacher tells no probabilities of tokens"
    if not same_vocabulary(model.tokenizer, student.base.tokenizer):
        return {}, "hard: the teacher has another vocabulary than the student"
    context.working("reading the teacher's probabilities")
    prompts = teacher.prompts([example.input for example in labelled])
    own = [
        answer_rows(model.chat, prompt, example.references, context_tokens=model.context_tokens, example_id=example.id)[
            0
        ]
        for prompt, example in zip(prompts, labelled, strict=True)
    ]
    alike = [
        (asked, row)
        for asked, row in zip(own, rows, strict=True)
        if asked.input_ids[asked.labels_from :] == row.input_ids[row.labels_from :]
    ]
    if not alike:
        return {}, "hard: the teacher's chat template writes answers in other tokens"
    found = soft_labels(model.module, [own for own, _ in alike])
    return {row: soft for (_, row), soft in zip(alike, found, strict=True)}, f"soft for {len(alike)} inputs"


def _terms(model: Any, context: FitContext) -> str:
    """What the task says about the right to train on these outputs, or that it says nothing."""
    said = context.terms.get("teacher")
    if said is not None:
        return said
    if getattr(model, "remote", False):
        return UNCHECKED
    return "answers of a model on this machine: its licence decides"


def _some(task: TaskSpec, train: Sequence[Example]) -> tuple[Shot, ...]:
    """A few training examples, the first of each label in turn."""
    of: dict[str, list[Example]] = {}
    for example in train:
        of.setdefault(example.reference if task.labels else "", []).append(example)
    turns = [some[at] for at in range(MOST_SHOTS) for some in of.values() if at < len(some)]
    return tuple((text_of(example.input), example.reference) for example in turns[:MOST_SHOTS])


def _labelled(teacher: Predictor, task: TaskSpec, context: FitContext) -> list[Example]:
    """The inputs with the teacher's answers; those that failed, and those that are none of the labels, are left out."""
    inputs = context.extra.unlabelled
    found = []
    for begin in range(0, len(inputs), BATCH):
        context.working("asking the teacher", begin, len(inputs))
        some = inputs[begin : begin + BATCH]
        for at, (value, answer) in enumerate(zip(some, teacher.predict(some), strict=True), start=begin + 1):
            said = (answer.output or "").strip()
            if answer.error is None and said and (not task.labels or said in task.label_names):
                found.append(Example(f"unlabelled {at}", value, (said,)))
    return found
