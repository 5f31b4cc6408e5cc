"""The search for the learning rate: halved on dev, within its budget, told, and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_train_loop import RECIPE, data
from tiny_models import tiny_model, tiny_module

from luthier.errors import ModelError
from luthier.rungs.lora import Lora
from luthier.rungs.tuned import TunedPredictor
from luthier.task.parse import parse
from luthier.testing import RungContract
from luthier.train.job import Job
from luthier.train.loop import Tuned, fine_tune
from luthier.train.rates import RATES, RateChoice, choose_rate
from luthier.train.recipe import Recipe
from luthier.train.rows import DevRow, TrainRow
from luthier.types import FitContext, Rung, Training

QUICK = replace(RECIPE, step_examples=2, epochs=2)
FOUR = (1e-4, 1e-3, 1e-2, 1e-1)


class Trainer:
    """Trains a tiny model, and remembers what it was asked for."""

    def __init__(self, *, stop_at: int = 10**9) -> None:
        self.asked: list[tuple[float, int]] = []
        self.stop_at = stop_at

    def __call__(self, rows: Sequence[TrainRow], dev: Sequence[DevRow], recipe: Recipe, workdir: Path) -> Tuned:
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append((recipe.learning_rate, len(rows)))
        return fine_tune(tiny_module(), rows, Job(recipe, dev, 0, workdir, "tiny"))


def choose(workdir: Path, trainer: Trainer, rates: Sequence[float] = FOUR, **more: Any) -> RateChoice:
    rows, dev = data()
    tokens = more.pop("tokens", 2 * 4 * 5 * sum(len(row.input_ids) for row in rows) // len(rows) + 8)
    return choose_rate(rates, rows, dev, QUICK, trainer, seed=0, workdir=workdir, tokens=tokens, **more)


def test_the_better_half_trains_on_twice_as_many_examples_for_as_many_tokens(tmp_path: Path) -> None:
    trainer = Trainer()
    choice = choose(tmp_path, trainer)
    assert [asked for asked in trainer.asked if asked[1] == 5] == [(rate, 5) for rate in FOUR]
    first = {trial.rate: trial.dev_nll or 99.0 for trial in choice.trials[:4]}
    kept = sorted(sorted(FOUR, key=first.__getitem__)[:2])
    assert trainer.asked[4:] == [(rate, 10) for rate in kept]
    second = {trial.rate: trial.dev_nll or 99.0 for trial in choice.trials[4:]}
    assert choice.rate == min(second, key=second.__getitem__)
    assert len(set(first.values())) == 4, "the test shows nothing"
    told = choice.describe()
    assert len(told["trials"]) == 6
    assert told["tokens"] == sum(trial.tokens for trial in choice.trials)
    assert not list(tmp_path.glob("rate-*")), "checkpoints as large as the model were left behind"


def test_an_interrupted_search_trains_nothing_twice_and_chooses_the_same(tmp_path: Path) -> None:
    whole = choose(tmp_path / "whole", Trainer())
    with pytest.raises(KeyboardInterrupt):
        choose(tmp_path / "parts", Trainer(stop_at=3))
    rest = Trainer()
    assert choose(tmp_path / "parts", rest) == whole
    assert len(rest.asked) == 3


def test_a_rate_that_diverges_is_out_and_is_told(tmp_path: Path) -> None:
    choice = choose(tmp_path, Trainer(), (1e-2, 1e30))
    assert choice.rate == 1e-2
    assert choice.trials[1].dev_nll is None
    assert choice.describe()["trials"][1].endswith("diverged")


def test_where_every_rate_diverges_that_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="diverged at every rate(.|\n)*lower learning_rate"):
        choose(tmp_path, Trainer(), (1e29, 1e30))


def test_another_error_is_not_taken_for_divergence(tmp_path: Path) -> None:
    def broken(_rows: Any, _dev: Any, _recipe: Any, _workdir: Any) -> Tuned:
        raise ModelError("no LoRA layers can be added")

    rows, dev = data()
    with pytest.raises(ModelError, match="no LoRA layers"):
        choose_rate(FOUR, rows, dev, QUICK, broken, seed=0, workdir=tmp_path, tokens=100)


def test_no_round_is_begun_that_would_go_over_the_seconds(tmp_path: Path) -> None:
    trainer = Trainer()
    choice = choose(tmp_path, trainer, seconds=1e-6)
    assert len(trainer.asked) == 4, "the first round is always made"
    assert choice.cut_short
    assert "search_seconds" in choice.describe()["ended early"]
    best = min(choice.trials, key=lambda trial: trial.dev_nll or 99.0)
    assert choice.rate == best.rate
    assert not choose(tmp_path / "more", Trainer(), seconds=600.0).cut_short


def test_a_small_budget_still_has_two_steps_and_no_trial_more_examples_than_there_are(tmp_path: Path) -> None:
    few, many = Trainer(), Trainer()
    choose(tmp_path / "few", few, tokens=1)
    assert few.asked[0] == (FOUR[0], 2 * QUICK.step_examples)
    choose(tmp_path / "many", many, tokens=10**9)
    assert {count for _, count in many.asked} == {len(data()[0])}


def test_every_method_has_rates_and_all_weights_have_the_lower_ones() -> None:
    assert RATES.keys() == {"lora", "dora", "qlora", "full"}
    assert max(RATES["full"]) < max(RATES["lora"]) / 5


# ---------------------------------------------------------------- what luthier.toml says


class _Contract(RungContract):
    def make_rung(self) -> Rung:
        return Lora(QUICK)

    def make_models(self) -> dict[str, Any]:
        return {"student": tiny_model()}


def fit(workdir: Path, training: Training) -> TunedPredictor:
    spec, train, dev = _Contract().make_task()
    context = FitContext({"student": tiny_model()}, 0, workdir)
    return Lora(QUICK).fit(replace(spec, training=training), train, dev, context)


def test_a_rung_trains_as_the_task_says(tmp_path: Path) -> None:
    pinned = fit(tmp_path / "1", Training()).describe()
    assert (pinned["learning rate"], pinned["epochs"]) == (QUICK.learning_rate, QUICK.epochs)
    assert "learning rate chosen on dev" not in pinned
    given = fit(tmp_path / "2", Training(learning_rate=5e-3, epochs=1)).describe()
    assert (given["learning rate"], given["epochs"], given["steps"]) == (5e-3, 1, 8)
    searched = fit(tmp_path / "3", Training(learning_rate="search", search_tokens=1000)).describe()
    assert searched["learning rate"] in RATES["lora"]
    assert len(searched["learning rate chosen on dev"]["trials"]) == 6


@pytest.mark.parametrize(
    ("toml", "wanted"),
    [
        ("", None),
        ('[models]\nstudent = "./mine"', "search"),
        ('[models]\nstudent = "./mine"\n[training]\nlearning_rate = 0.002', 0.002),
        ('[training]\nlearning_rate = "search"', "search"),
    ],
)
def test_a_student_that_nobody_knows_has_its_rate_searched(toml: str, wanted: Any) -> None:
    head = '[task]\nname = "t"\n[data]\npath = "d.csv"\ninput = "text"\nreference = "label"\n[target]\nat_least = 0.9\n'
    assert parse(head + toml).training == Training(learning_rate=wanted)
