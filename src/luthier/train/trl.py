"""TRL's trainer: the same rows by the same recipe, for GPUs and for several processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luthier.errors import DataError, MissingExtra
from luthier.models.quiet import quiet
from luthier.train.loop import Tuned, Working
from luthier.train.plan import Plan, processes
from luthier.train.recipe import Recipe
from luthier.train.rows import DevRow, TrainRow
from luthier.train.trainer import (
    TRAINER,
    Ours,
    arguments,
    kept_apart,
    model_to_train,
    on_one_device,
    padder,
    trained,
)
from luthier.train.watch import Watch
from luthier.types import digest

try:
    with quiet():
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
except ImportError as error:
    raise MissingExtra("trl", 'training with backend = "trl"') from error

IGNORED = -100
BLANK = [0, 0]  # a row of which no token has a label


def fine_tune(
    module: Any,
    rows: Sequence[TrainRow],
    dev: Sequence[DevRow],
    recipe: Recipe,
    *,
    seed: int,
    workdir: Path,
    base_fingerprint: str,
    start: Mapping[str, Any] | None = None,
    working: Working = lambda _text, _done, _total: None,
) -> Tuned:
    """Train what the recipe trains of `module` by TRL's SFTTrainer; contract and errors as in `loop.fine_tune`.

    Each step has the loop's examples, so that the weights differ from the loop's by rounding alone. In a process that
    `accelerate launch` started, the processes divide each step; all of them return the same. It goes on from the last
    dev check, and after Ctrl-C, where it is one process, from the last whole step. Does not cover: models that one
    device cannot hold (FSDP).
    """
    if not rows or not dev:
        raise DataError(f"there are no {'dev' if rows else 'training'} examples", fix="a fine-tune needs both")
    data = [[asdict(row) for row in some] for some in (rows, dev)]
    begun = {name: weight.numpy().tobytes() for name, weight in (start or {}).items()}
    key = digest(TRAINER, processes(), asdict(recipe), data, seed, base_fingerprint, begun)
    folder, on_cpu = workdir / f"trl-{key[:12]}", module.device.type == "cpu"
    lengths = [*(len(row.input_ids) for row in rows), len(BLANK)]
    plan = Plan.of(lengths, recipe, seed=seed, processes=processes(), on_cpu=on_cpu)
    with kept_apart(folder):
        model = model_to_train(module, recipe, seed=seed, start=start)
        watch = Watch(
            model,
            rows,
            dev,
            recipe,
            plan,
            folder,
            working,
            tokens=plan.total(lengths),
            checked_first=start is not None,
        )
        trainer = _Trainer(
            recipe=recipe,
            model=model,
            args=on_one_device(
                SFTConfig(
                    **arguments(plan, recipe, folder, seed, on_cpu=on_cpu),
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
