"""LoRA: a small model fine-tuned on the training examples; labels are scored without any instruction.

One example, from input to score: the system message "Classify." and the user message "Who was Galileo ?"; the tuned
model scores each label, end of turn included, as the assistant's whole answer; HUM comes out best; the reference is
"HUM"; the score is 1.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from luthier.errors import ModelError
from luthier.rungs.base import (
    EVERY_KIND,
    Writing,
    ask,
    conversation,
    prediction,
    read_predictor,
    rewordings,
    role_model,
    same_model,
    write_predictor,
    written,
)
from luthier.train.recipe import Recipe
from luthier.types import Example, FitContext, Input, Message, Prediction, Reply, TaskSpec

# A model that was tuned to choose labels needs no instruction; without a system message a template may put in a longer
# one of its own.
SYSTEM = "Classify."
REWORDED = ("Classify the text.", "Name the class.", "Which label fits?")
ADAPTER = "adapter"


@dataclass(frozen=True)
class Lora:
    """Fine-tunes the student by the recipe and keeps the adapter that did best on dev."""

    recipe: Recipe = field(default_factory=Recipe)

    name = "lora"
    rank = 70
    roles = ("student",)
    kinds = EVERY_KIND
    guarded = True
    version = "1"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> LoraPredictor:
        """Errors: DataError for an example longer than the student's context; those of `train.loop.fine_tune`."""
        from luthier.train.adapter import write_adapter
        from luthier.train.loop import fine_tune
        from luthier.train.rows import DevRow, answer_rows, train_row

        base = role_model(context.models, "student", self.name)
        if not all(hasattr(base, part) for part in ("module", "chat", "with_adapter")):
            raise ModelError(
                "its weights cannot be trained here", where=base.name, fix="choose a local model as the student"
            )
        context.working("preparing the examples")
        writing = Writing.of(task)
        system = _system(base.chat, SYSTEM if writing is None else task.instruction.strip())
        labels = task.label_names

        def prompt(example: Example) -> tuple[Message, ...]:
            return _prompt(system, example.input, writing)

        def dev_row(example: Example) -> DevRow:
            answers, right = (
                (labels, example.references) if labels else (example.references[:1], example.references[:1])
            )
            rows = answer_rows(
                base.chat, prompt(example), answers, context_tokens=base.context_tokens, example_id=example.id
            )
            return DevRow(rows, tuple(answers.index(reference) for reference in right))

        rows = [
            train_row(
                base.chat,
                prompt(example),
                example.reference,
                context_tokens=base.context_tokens,
                example_id=example.id,
            )
            for example in train
        ]
        dev_rows = [dev_row(example) for example in self.recipe.dev_sample(dev, seed=context.seed)]
        tuned = fine_tune(
            base.module,
            rows,
            dev_rows,
            self.recipe,
            seed=context.seed,
            workdir=context.workdir,
            base_fingerprint=base.fingerprint,
            working=context.working,
        )
        adapter = context.workdir / ADAPTER
        write_adapter(adapter, tuned.weights, self.recipe, base.name)
        history: dict[str, Any] = {
            "learning rate": self.recipe.learning_rate,
            "epochs": self.recipe.epochs,
            "steps": tuned.steps,
            "best step": tuned.best.step,
            "dev checks": [_told(check, writing) for check in tuned.checks],
            "dev examples checked": len(dev_rows),
            "training tokens": tuned.tokens,
            "tokens run": tuned.tokens_run,
            "trainable parameters": tuned.trainable_parameters,
            "prompt": system or "",
        }
        if tuned.note is not None:
            history["note"] = f"rows were run one by one: {tuned.note}"
        return LoraPredictor(base, adapter, system, labels, history, seconds=tuned.seconds, writing=writing)


def _told(check: Any, writing: Writing | None) -> dict[str, Any]:
    """A check as plain values. Where answers are written only the reference is scored: no share of right ones then."""
    told = asdict(check)
    if writing is not None:
        del told["dev_accuracy"]
    return told


@dataclass(frozen=True)
class LoraPredictor:
    """The student with an adapter merged into a copy of it: scores every label, or writes with `writing`.

    `adapter` is the folder it is read from at the first prediction: after fitting, one in the fit's workdir. `seconds`
    are those of training, which a predictor loaded from a folder no longer knows.
    """

    base: Any
    adapter: Path
    system: str | None
    labels: tuple[str, ...]
    history: Mapping[str, Any]
    seconds: float | None = None
    writing: Writing | None = None

    kind = "lora"

    @cached_property
    def model(self) -> Any:
        return self.base.with_adapter(self.adapter)

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        replies = ask(self.model, self.prompts(inputs), self.labels, self.writing, scores="best")
        return [self.answer(reply) for reply in replies]

    def ask(self, inputs: Sequence[Input]) -> list[Reply]:
        """All labels scored for each input, or answers written."""
        return ask(self.model, self.prompts(inputs), self.labels, self.writing)

    def prompts(self, inputs: Sequence[Input]) -> list[tuple[Message, ...]]:
        """The whole conversation for each input, up to where the model answers."""
        return [_prompt(self.system, value, self.writing) for value in inputs]

    def answer(self, reply: Reply) -> Prediction:
        return prediction(reply)

    def reworded(self) -> Sequence[LoraPredictor]:
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
            **written(self.writing),
        }
        write_predictor(folder, self.kind, content)
        shutil.copytree(self.adapter, folder / ADAPTER, dirs_exist_ok=True)

    @classmethod
    def load(cls, folder: Path, models: Mapping[str, Any]) -> LoraPredictor:
        content = read_predictor(folder)
        return cls(
            base=same_model(models, "student", content["model"], folder),
            adapter=folder / ADAPTER,
            system=content["system"],
            labels=tuple(content["labels"]),
            history=content["history"],
            writing=Writing.saved(content),
        )

    def describe(self) -> Mapping[str, Any]:
        """How it was trained; with "seconds" right after fitting only, since a clock must not change what is saved."""
        return dict(self.history) if self.seconds is None else {**self.history, "seconds": round(self.seconds, 1)}


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
