"""The job: one fine-tune as it is ordered, but for the model and what it learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.errors import DataError
from luthier.train.recipe import Recipe
from luthier.train.rows import DevRow
from luthier.types import digest

Working = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Job:
    """By which recipe, checked on which dev examples, in which folder; every way to train takes one."""

    recipe: Recipe
    dev: Sequence[DevRow]
    seed: int
    workdir: Path
    """Where checkpoints stand."""
    base: str
    """The fingerprint of the model that is trained."""
    start: Mapping[str, Any] | None = None
    """The weights of an earlier fine-tune by the same method to begin with."""
    working: Working = lambda _text, _done, _total: None

    def address(self, *parts: Any, learned: Sequence[Any]) -> str:
        """Of a checkpoint: another one whenever this job could give other weights; `parts` say by what it is done."""
        begun = {name: weight.numpy().tobytes() for name, weight in (self.start or {}).items()}
        return digest(*parts, self.recipe, [learned, self.dev], self.seed, self.base, begun)

    def check(self, learned: Sequence[Any], what: str = "training examples") -> None:
        """DataError where there is nothing to learn or nothing to check it on."""
        if not learned or not self.dev:
            raise DataError(f"there are no {'dev examples' if learned else what}", fix="a fine-tune needs both")
