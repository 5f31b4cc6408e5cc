"""TRL's trainer: the same rows by the same recipe, for GPUs and for several processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luthier.errors import MissingExtra
from luthier.models.quiet import quiet
from luthier.train.job import Job
from luthier.train.loop import Tuned
from luthier.train.plan import Plan, processes
from luthier.train.recipe import Recipe
from luthier.train.rows import TrainRow
from luthier.train.trainer import (
    Ours,
    arguments,
    folder_of,
    kept_apart,
    model_to_train,
    on_one_device,
    padder,
    trained,
)
from luthier.train.watch import Watch

try:
    with quiet():
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
except ImportError as error:
    raise MissingExtra("trl", 'training with backend = "trl"') from error

IGNORED = -100
BLANK = [0, 0]  # a row of which no token has a label


def fine_tune(module: Any, rows: Sequence[TrainRow], job: Job) -> Tuned:
    """Train what the recipe trains of `module` by TRL's SFTTrainer; contract and errors as in `loop.fine_tune`.

    Each step has the loop's examples, so that the weights differ from the loop's by rounding alone. In a process that
    `accelerate launch` started, the processes divide each step; all of them return the same. It goes on from the last
    dev check, and after Ctrl-C, where it is one process, from the last whole step. Does not cover: models that one
    device cannot hold (FSDP).
    """
    job.check(rows)
    folder, on_cpu = folder_of(job, learned=rows), module.device.type == "cpu"
    lengths = [*(len(row.input_ids) for row in rows), len(BLANK)]
    plan = Plan.of(lengths, job.recipe, seed=job.seed, processes=processes(), on_cpu=on_cpu)
    with kept_apart(folder):
        model = model_to_train(module, job)
        watch = Watch(model, rows, job, plan, folder, plan.total(lengths), checked_first=job.start is not None)
        trainer = _Trainer(
            recipe=job.recipe,
            model=model,
            args=on_one_device(
                SFTConfig(
                    **arguments(plan, job, folder, on_cpu=on_cpu),
                    packing=False,
                    dataset_kwargs={"skip_prepare_dataset": True},
                )
            ),
            train_dataset=_dataset(rows).select(plan.laid),
            processing_class=padder(),
        )
        return trained(trainer, watch)


class _Trainer(Ours, SFTTrainer):  # type: ignore[misc]  # trl is untyped here
    def __init__(self, *, recipe: Recipe, **given: Any) -> None:
        self.recipe = recipe
        super().__init__(**given)


def _dataset(rows: Sequence[TrainRow]) -> Any:
    """The rows as ids and labels, and the blank behind them."""
    labels = [[IGNORED] * row.labels_from + list(row.input_ids[row.labels_from :]) for row in rows]
    ids = [list(row.input_ids) for row in rows]
    return Dataset.from_dict({"input_ids": [*ids, BLANK], "labels": [*labels, [IGNORED] * len(BLANK)]})
