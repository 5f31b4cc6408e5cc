"""The backend: where a fine-tune runs, luthier's own loop or TRL's trainers; rows, recipe and result are the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from luthier.errors import DataError
from luthier.train import loop, preference
from luthier.train.job import Job
from luthier.train.loop import Tuned
from luthier.train.preference import Pair
from luthier.train.recipe import Recipe
from luthier.train.rows import DevRow, TrainRow
from luthier.types import Training


def fine_tune(module: Any, rows: Sequence[TrainRow], job: Job, training: Training) -> Tuned:
    """Fine-tune where `training` says; what goes in, what comes out and what is raised is as in `loop.fine_tune`.

    Also raises DataError where the examples cannot teach anything, MissingExtra where TRL is needed and not installed,
    and what `worker.shared` raises.
    """
    check_rows(rows, job.dev, job.recipe)
    if chosen(training, module.device.type) == "loop":
        return loop.fine_tune(module, rows, job)
    from luthier.train import trl, worker  # an optional extra

    if training.processes > 1:
        return worker.shared(module, rows, job, processes=training.processes)
    return trl.fine_tune(module, rows, job)


def prefer(module: Any, pairs: Sequence[Pair], job: Job, training: Training, *, beta: float) -> Tuned:
    """Tune preferences where `training` says; what goes in, what comes out and what is raised: `preference.prefer`.

    Also raises MissingExtra where TRL is needed and not installed, and what `worker.shared` raises.
    """
    if chosen(training, module.device.type) == "loop":
        return preference.prefer(module, pairs, job, beta=beta)
    from luthier.train import trl_preference, worker  # an optional extra

    if training.processes > 1:
        return worker.shared(module, pairs, job, processes=training.processes, beta=beta)
    return trl_preference.prefer(module, pairs, job, beta=beta)


def check_rows(rows: Sequence[TrainRow], dev: Sequence[DevRow], recipe: Recipe) -> None:
    """DataError where the rows cannot teach anything; no rows at all are left to the backends."""
    if 0 < len(rows) < recipe.step_examples:
        raise DataError(
            f"{len(rows)} training examples are fewer than the {recipe.step_examples} of a single step",
            fix="label more, or climb the rungs that need only a few: few-shot, retrieved-shots",
        )
    choosing = any(len(item.rows) > 1 for item in dev)
    if choosing and len({row.input_ids[row.labels_from :] for row in rows}) == 1:
        raise DataError(
            "all training examples have the same answer: there is nothing to learn from them",
            fix="add examples of the other labels to train",
        )


def chosen(training: Training, device: str) -> Literal["loop", "trl"]:
    """The backend on a device of this type.

    >>> [chosen(Training(), "cpu"), chosen(Training(), "cuda"), chosen(Training(processes=2), "cpu")]
    ['loop', 'trl', 'trl']
    """
    if training.backend != "auto":
        return training.backend
    return "trl" if device != "cpu" or training.needs_trl else "loop"
