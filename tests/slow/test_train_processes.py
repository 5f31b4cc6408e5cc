"""A fine-tune that several processes share, started as a user's would be."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from test_preference import QUICK
from test_train_loop import RECIPE
from test_train_trl import assert_same_course, tune
from test_trl_preference import preferred

from luthier.errors import ModelError
from luthier.train import backend, loop, preference
from luthier.types import Training

pytestmark = pytest.mark.slow


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """Trap 10, over processes: five examples a step of 18, so that both the halves and the last step are ragged."""
    recipe = replace(RECIPE, step_examples=5, epochs=1)
    seen: list[tuple[str, int]] = []
    two = tune(
        backend,
        tmp_path / "two",
        recipe,
        training=Training(processes=2),
        working=lambda text, done, _total: seen.append((text.split(",")[0], done)),
    )
    assert_same_course(two, tune(loop, tmp_path / "one", recipe))
    assert [done for text, done in seen if text == "training"][-1] == two.steps


def test_what_a_worker_raises_is_raised_here(tmp_path: Path) -> None:
    broken = replace(RECIPE, learning_rate=1e30)
    with pytest.raises(ModelError, match="diverged.*\n.*lower the learning rate"):
        tune(backend, tmp_path, broken, training=Training("trl", processes=2))


@pytest.mark.parametrize("tuned_before", [False, True])
def test_two_processes_tune_preferences_as_one(tmp_path: Path, tuned_before: bool) -> None:
    """Traps 10 and 18, over processes: five pairs a step of 18, read and learned by halves."""
    start = tune(loop, tmp_path / "before").weights if tuned_before else None
    recipe = replace(QUICK, step_examples=5, epochs=1)
    two = preferred(backend, tmp_path / "two", recipe, training=Training(processes=2), start=start)
    assert two.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert_same_course(two, preferred(preference, tmp_path / "one", recipe, start=start))
