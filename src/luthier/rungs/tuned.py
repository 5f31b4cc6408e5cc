"""Tuned: what all fine-tuning rungs share: the student and how a task is put to it, and the tuned model as a predictor.

Labels are scored without any instruction: a model that was tuned to choose them needs none.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from luthier.errors import ModelError
from luthier.rungs.base import (
    EVERY_KIND,
    Writing,
    ask,
    conversation,
    drawn_twice,
    prediction,
    read_predictor,
    rewordings,
    role_model,
    same_model,
    write_predictor,
    written,
)
from luthier.train.recipe import USUAL, Recipe
from luthier.types import Example, FitContext, Input, Message, Prediction, Reply, TaskSpec, Training

if TYPE_CHECKING:
    from luthier.train.distil import Soft
    from luthier.train.job import Job
    from luthier.train.loop import Tuned
    from luthier.train.replay import Replay
    from luthier.train.rows import DevRow, TrainRow

# A model that was tuned to choose labels needs no instruction; without a system message a template may put in a longer
# one of its own.
SYSTEM = "Classify."
REWORDED = ("Classify the text.", "Name the class.", "Which label fits?")
ADAPTER, WEIGHTS = "adapter", "weights"


@dataclass(frozen=True)
class Student:
    """The model that is fine-tuned, and how the task is put to it: alike in training, checking and answering."""

    base: Any
    system: str | None
    labels: tuple[str, ...]
    writing: Writing | None

    @classmethod
    def of(cls, task: TaskSpec, models: Mapping[str, Any], needed_by: str) -> Student:
        """Errors: ModelError where there is no student, one whose weights are not here, or one of unknown licence."""
        base = role_model(models, "student", needed_by)
        if not all(hasattr(base, part) for part in ("module", "chat", "with_adapter")):
            raise ModelError(
                "its weights cannot be trained here", where=base.name, fix="choose a local model as the student"
            )
        _check_licence(base, allowed=task.constraints.allow_unknown_licence)
        writing = Writing.of(task)
        system = _system(base.chat, SYSTEM if writing is None else task.instruction.strip())
        return cls(base, system, task.label_names, writing)

    def prompt(self, value: Input) -> tuple[Message, ...]:
        return _prompt(self.system, value, self.writing)

    def row(self, example: Example) -> TrainRow:
        """Errors: DataError where the example is longer than the student's context."""
        return self.answers(example, (example.reference,))[0]

    def answers(self, example: Example, answers: Sequence[str]) -> tuple[TrainRow, ...]:
        """A row for each answer to the example's input; the same errors."""
        from luthier.train.rows import answer_rows

        return answer_rows(
            self.base.chat,
            self.prompt(example.input),
            answers,
            context_tokens=self.base.context_tokens,
            example_id=example.id,
        )

    def dev_row(self, example: Example) -> DevRow:
        """All labels to choose from; where answers are written, the reference alone."""
        from luthier.train.rows import DevRow

        right = example.references if self.labels else example.references[:1]
        answers = self.labels or right
        return DevRow(self.answers(example, answers), tuple(answers.index(reference) for reference in right))

    def checked(self, recipe: Recipe, dev: Sequence[Example], context: FitContext) -> tuple[DevRow, ...]:
        """The dev rows that a training chooses its weights by."""
        some = recipe.dev_sample(dev, answers=len(self.labels), seed=context.seed)
        return tuple(self.dev_row(example) for example in some)

    def job(
        self, recipe: Recipe, dev: Sequence[DevRow], context: FitContext, start: Mapping[str, Any] | None = None
    ) -> Job:
        """A training of the student, in the fit's workdir."""
        from luthier.train.job import Job

        return Job(recipe, dev, context.seed, context.workdir, self.base.fingerprint, start, context.working)

    def fitted(
        self, tuned: Tuned, recipe: Recipe, context: FitContext, *, checked: int, more: Mapping[str, Any] | None = None
    ) -> TunedPredictor:
        """The tuned student as a predictor, its weights in the fit's workdir; `more` goes into what it tells."""
        from luthier.train.adapter import write_adapter, write_weights

        whole = recipe.method == "full"
        folder = context.workdir / (WEIGHTS if whole else ADAPTER)
        if whole:
            write_weights(folder, tuned.weights, self.base)
        else:
            write_adapter(folder, tuned.weights, recipe, self.base.name)
        history: dict[str, Any] = {
            "learning rate": recipe.learning_rate,
            **({} if whole else {"rank": recipe.rank, "alpha": recipe.alpha}),
            "epochs": recipe.epochs,
            "steps": tuned.steps,
            "best step": tuned.best.step,
            "dev checks": [_told(check, self.writing) for check in tuned.checks],
            "dev examples checked": checked,
            "loss by step": [round(loss, 4) for loss in tuned.losses],
            "training tokens": tuned.tokens,
            "tokens run": tuned.tokens_run,
            "trainable parameters": tuned.trainable_parameters,
            "prompt": self.system or "",
            **(more or {}),
        }
        if recipe.upper_layers is not None and not whole:
            history["upper layers adapted"] = recipe.upper_layers
        if getattr(self.base, "folder", None) is not None:
            history["licence of the student"] = self.base.licence or "unknown, and allowed by the task"
        if tuned.note is not None:
            history["note"] = tuned.note
        return TunedPredictor(
            self.base, folder, self.system, self.labels, history, tuned.seconds, self.writing, whole=whole
        )


@dataclass(frozen=True)
class Lesson:
    """What a student is taught by: rows to learn, dev rows to choose by, and the recipe."""

    student: Student
    recipe: Recipe
    rows: tuple[TrainRow, ...]
    dev: tuple[DevRow, ...]
    soft: Mapping[TrainRow, Soft] = field(default_factory=dict)
    """What a teacher gives the tokens of some rows, learned instead of the tokens."""

    @classmethod
    def of(
        cls, student: Student, recipe: Recipe, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> Lesson:
        """Errors: DataError for an example longer than the student's context."""
        context.working("preparing the examples")
        return cls(
            student,
            recipe,
            tuple(student.row(example) for example in train),
            student.checked(recipe, dev, context),
        )

    def learnt(
        self,
        task: TaskSpec,
        context: FitContext,
        *,
        module: Callable[[], Any] | None = None,
        start: Mapping[str, Any] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> TunedPredictor:
        """The student after the lesson, from `start` on; rate, epochs and alpha as the task's [training] says.

        `module` gives what is trained, anew for each training; left out, it is the student's own, which stays as it is.
        """
        from luthier.train.adapter import lora_config
        from luthier.train.search import choose, contenders

        wanted, told = task.training, dict(more or {})
        recipe = on_upper_layers(replace(self.recipe, replay=self._replay(wanted)), wanted).long_enough(len(self.rows))
        if recipe.upper_layers is not None:
            lora_config(recipe, self.student.base.module)  # before minutes are spent, whether there are so many
        recipes = contenders(recipe, wanted)
        beside = self._beside(max(recipes, key=lambda one: one.epochs), context)
        if beside is not None:
            told["replayed"] = f"{recipe.replay} a step of {len(beside.soft)} rows of what the model said by itself"

        def train(rows: Sequence[TrainRow], job: Job) -> Tuned:
            trained = self.student.base.module if module is None else module()
            return self._trained(trained, rows, job, wanted, beside)

        job = self.student.job(recipe, self.dev, context, start=start)
        if len(recipes) > 1:
            choice = choose(recipes, self.rows, job, train, wanted)
            recipes = [choice.recipe]
            told["chosen on dev"] = choice.describe()
        (recipe,) = recipes
        tuned = train(self.rows, replace(job, recipe=recipe))
        return self.student.fitted(tuned, recipe, context, checked=len(self.dev), more=told)

    def _trained(
        self, module: Any, rows: Sequence[TrainRow], job: Job, wanted: Training, beside: Replay | None
    ) -> Tuned:
        """By soft labels where there are any, which only luthier's own loop knows; else by the backend of the task."""
        from luthier.train.backend import check_rows, fine_tune
        from luthier.train.distil import distil

        if self.soft or beside is not None:
            check_rows(rows, job.dev, job.recipe)
            return distil(module, rows, job, soft=self.soft, beside=beside)
        # TRL would load 4-bit weights in a way of its own
        return fine_tune(module, rows, job, Training("loop") if job.recipe.method == "qlora" else wanted)

    def _beside(self, recipe: Recipe, context: FitContext) -> Replay | None:
        """What the student says by itself, to be learned beside the rows."""
        from luthier.train.replay import replay_of

        if not recipe.replay:
            return None
        draws = recipe.replay * recipe.steps(len(self.rows))
        return replay_of(
            self.student.base, draws=draws, seed=context.seed, folder=context.workdir, working=context.working
        )

    def _replay(self, wanted: Training) -> int:
        """Rows a step: the recipe's, or what the task says; else some, where the training loop is luthier's own."""
        from luthier.train.backend import chosen
        from luthier.train.replay import REPLAY

        if self.recipe.replay or wanted.replay is not None:
            return self.recipe.replay or wanted.replay or 0
        return REPLAY if chosen(wanted, self.student.base.module.device.type) == "loop" else 0


@dataclass(frozen=True)
class FineTune:
    """A rung that fine-tunes the student by its recipe and keeps the weights that did best on dev."""

    recipe: Recipe = USUAL

    name: ClassVar[str]
    rank: ClassVar[int]
    roles = ("student",)
    kinds = EVERY_KIND
    guarded = True
    replays = True
    version = "6"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> TunedPredictor:
        """Errors: DataError for an example longer than the student's context; those of `train.backend.fine_tune`."""
        student = Student.of(task, context.models, self.name)
        lesson = Lesson.of(student, self.recipe, train, dev, context)
        return lesson.learnt(task, context, module=lambda: self.module(student.base))

    def module(self, base: Any) -> Any:
        """What is trained of the student."""
        return base.module


def on_upper_layers(recipe: Recipe, wanted: Training) -> Recipe:
    """The recipe with its adapter on the layers that the task says; `full` has none."""
    return (
        recipe if recipe.method == "full" else replace(recipe, upper_layers=wanted.upper_layers or recipe.upper_layers)
    )


def _told(check: Any, writing: Writing | None) -> dict[str, Any]:
    """A check as plain values. Where answers are written only the reference is scored: no share of right ones then."""
    told = asdict(check)
    if writing is not None:
        del told["dev_accuracy"]
    return told


@dataclass(frozen=True)
class TunedPredictor:
    """The tuned student: scores every label, or writes with `writing`.

    `adapter` is the folder of what was trained, read at the first prediction (after fitting, one in the fit's workdir):
    an adapter, which is merged into a copy of the student, or, with `whole`, all of a model's weights. `seconds` are
    those of training, which a predictor loaded from a folder no longer knows.
    """

    base: Any
    adapter: Path
    system: str | None
    labels: tuple[str, ...]
    history: Mapping[str, Any]
    seconds: float | None = None
    writing: Writing | None = None
    whole: bool = False

    kind = "tuned"

    @cached_property
    def model(self) -> Any:
        return self.base.with_weights(self.adapter) if self.whole else self.base.with_adapter(self.adapter)

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        replies = ask(self.model, self.prompts(inputs), self.labels, self.writing, scores="best")
        return [self.answer(reply) for reply in replies]

    def ask(self, inputs: Sequence[Input]) -> list[Reply]:
        """All labels scored for each input, or answers written."""
        return ask(self.model, self.prompts(inputs), self.labels, self.writing)

    def draw(self, inputs: Sequence[Input]) -> list[Reply]:
        """Two answers to each input at temperature 1."""
        return drawn_twice(self.model, self.prompts(inputs), self.labels, self.writing)

    def prompts(self, inputs: Sequence[Input]) -> list[tuple[Message, ...]]:
        """The chats that the model is asked about these inputs."""
        return [_prompt(self.system, value, self.writing) for value in inputs]

    def scaled(self, scale: float, folder: Path) -> TunedPredictor:
        """The same fine-tune at a part of its strength, written into `folder`. Errors: ModelError where it has none."""
        from luthier.train.scale import scale_adapter, scale_weights

        if self.whole:
            scale_weights(self.adapter, folder, self.base.module, scale)
        else:
            scale_adapter(self.adapter, folder, scale)
        return replace(self, adapter=folder, history={**self.history, "strength": scale})

    def answer(self, reply: Reply) -> Prediction:
        return prediction(reply)

    def reworded(self) -> Sequence[TunedPredictor]:
        """The same weights under other system messages that mean the same; none for a template that takes none."""
        if self.system is None:
            return []
        others = [replace(self, system=system) for system in (REWORDED if self.labels else rewordings(self.system))]
        for other in others:
            other.__dict__["model"] = self.model  # merging the adapter again would copy the weights once more
        return others

    def save(self, folder: Path) -> None:
        content = {
            "model": self.base.fingerprint,
            "system": self.system,
            "labels": self.labels,
            "history": self.history,
            "whole": self.whole,
            **written(self.writing),
        }
        write_predictor(folder, self.kind, content)
        shutil.copytree(self.adapter, folder / self._place(self.whole), dirs_exist_ok=True)

    @classmethod
    def load(cls, folder: Path, models: Mapping[str, Any]) -> TunedPredictor:
        content = read_predictor(folder)
        return cls(
            base=same_model(models, "student", content["model"], folder),
            adapter=folder / cls._place(content["whole"]),
            system=content["system"],
            labels=tuple(content["labels"]),
            history=content["history"],
            writing=Writing.saved(content),
            whole=content["whole"],
        )

    @staticmethod
    def _place(whole: bool) -> str:
        return WEIGHTS if whole else ADAPTER

    def describe(self) -> Mapping[str, Any]:
        """How it was trained; with "seconds" right after fitting only, since a clock must not change what is saved."""
        return dict(self.history) if self.seconds is None else {**self.history, "seconds": round(self.seconds, 1)}


def _check_licence(base: Any, *, allowed: bool) -> None:
    """A model that somebody made in memory is their own; a folder has to name its licence, or the task allows any."""
    if getattr(base, "folder", None) is not None and base.licence is None and not allowed:
        raise ModelError(
            "nobody knows the licence of this model: its README.md, config.json and LICENSE name none",
            where=str(base.folder),
            fix="read it where you have the model from; then write `license: ...` into the head of its README.md, or "
            "set [constraints] allow_unknown_licence = true",
        )


def _system(chat: Any, wanted: str) -> str | None:
    """The system message; None for a template that takes none."""
    try:
        chat.prompt_ids(_prompt(wanted, "?", None))
    except ModelError:
        return None
    return wanted


def _prompt(system: str | None, value: Input, writing: Writing | None) -> tuple[Message, ...]:
    if system is None:
        return conversation("", (), value, writing)[1:]
    return conversation(system, (), value, writing)
