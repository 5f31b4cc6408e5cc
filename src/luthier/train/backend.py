"""The backend: where a fine-tune runs, luthier's own loop or TRL's trainer; rows, recipe and result are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from luthier.train import loop
from luthier.train.loop import Tuned, Working
from luthier.train.recipe import Recipe
from luthier.train.rows import DevRow, TrainRow
from luthier.types import Training


def fine_tune(
    module: Any,
    rows: Sequence[TrainRow],
    dev: Sequence[DevRow],
    recipe: Recipe,
    *,
    seed: int,
    workdir: Path,
    base_fingerprint: str,
    training: Training,
    start: Mapping[str, Any] | None = None,
    working: Working = lambda _text, _done, _total: None,
) -> Tuned:
    """Fine-tune where `training` says; what goes in, what comes out and what is raised is as in `loop.fine_tune`.

    Also raises MissingExtra where TRL is needed and not installed, and what `worker.shared` raises.
    """
    given: dict[str, Any] = {
        "seed": seed,
        "workdir": workdir,
        "base_fingerprint": base_fingerprint,
        "start": start,
        "working": working,
    }
    if chosen(training, module.device.type) == "loop":
        return loop.fine_tune(module, rows, dev, recipe, **given)
    from luthier.train import trl, worker  # an optional extra

    if training.processes > 1:
        return worker.shared(module, rows, dev, recipe, processes=training.processes, **given)
    return trl.fine_tune(module, rows, dev, recipe, **given)


def chosen(training: Training, device: str) -> Literal["loop", "trl"]:
    """The backend on a device of this type.

    >>> [chosen(Training(), "cpu"), chosen(Training(), "cuda"), chosen(Training(processes=2), "cpu")]
    ['loop', 'trl', 'trl']
    """
    if training.backend != "auto":
        return training.backend
    return "trl" if device != "cpu" or training.processes > 1 else "loop"
