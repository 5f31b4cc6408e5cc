"""The search for learning rate, epochs and alpha: halved on dev, within its budget, told, and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_train_loop import RECIPE, data
from tiny_models import tiny_model, tiny_module

from luthier.errors import ModelError, SpecError
from luthier.rungs.lora import Lora
from luthier.rungs.tuned import TunedPredictor
from luthier.task.parse import parse
from luthier.testing import RungContract
from luthier.train.job import Job
from luthier.train.loop import Tuned, fine_tune
from luthier.train.recipe import Recipe
from luthier.train.rows import TrainRow
from luthier.train.search import ALPHAS, RATES, Choice, Trial, choose, contenders
from luthier.types import FitContext, Rung, Training

QUICK = replace(RECIPE, step_examples=2, epochs=2)
FOUR = (1e-4, 1e-3, 1e-2, 1e-1)
HEAD = '[task]\nname = "t"\n[data]\npath = "d.csv"\ninput = "text"\nreference = "label"\n[target]\nat_least = 0.9\n'


class Trainer:
    """Trains a tiny model, and remembers what it was asked for."""

    def __init__(self, *, stop_at: int = 10**9) -> None:
        self.asked: list[tuple[Recipe, int]] = []
        self.stop_at = stop_at

    def __call__(self, rows: Sequence[TrainRow], job: Job) -> Tuned:
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append((job.recipe, len(rows)))
        return fine_tune(tiny_module(), rows, job)

    @property
    def rates(self) -> list[tuple[float, int]]:
        return [(recipe.learning_rate, count) for recipe, count in self.asked]


def budget(examples: int, epochs: int = 1) -> int:
    """The tokens that so many examples have, so often, on average."""
    rows, _ = data()
    return epochs * examples * sum(len(row.input_ids) for row in rows) // len(rows) + 8


def search(
    workdir: Path, trainer: Trainer, rates: Sequence[float] = FOUR, seconds: float | None = None, **more: Any
) -> Choice:
    """Among rates, for five examples of each in the first round, unless more says otherwise."""
    rows, dev = data()
    recipes = more.pop("recipes", [replace(QUICK, learning_rate=rate) for rate in rates])
    wanted = Training(search_tokens=more.pop("tokens", budget(2 * 4 * 5)), search_seconds=seconds)
    return choose(recipes, rows, Job(QUICK, dev, 0, workdir, "tiny"), trainer, wanted)


def nll(trial: Trial) -> float:
    return 99.0 if trial.dev_nll is None else trial.dev_nll


def test_the_better_half_trains_on_twice_as_many_examples_for_as_many_tokens(tmp_path: Path) -> None:
    trainer = Trainer()
    choice = search(tmp_path, trainer)
    assert trainer.rates[:4] == [(rate, 5) for rate in FOUR]
    first = {trial.learning_rate: nll(trial) for trial in choice.trials[:4]}
    kept = sorted(sorted(FOUR, key=first.__getitem__)[:2])
    assert trainer.rates[4:] == [(rate, 10) for rate in kept]
    second = {trial.learning_rate: nll(trial) for trial in choice.trials[4:]}
    assert choice.recipe == replace(QUICK, learning_rate=min(second, key=second.__getitem__))
    assert len(set(first.values())) == 4, "the test shows nothing"
    assert {recipe.epochs for recipe, _ in trainer.asked} == {1}, "the same examples again tell less than others"
    told = choice.describe()
    assert len(told["trials"]) == 6
    assert told["trials"][0].startswith("learning rate 0.0001 on 5 examples: ")
    assert told["tokens"] == sum(trial.tokens for trial in choice.trials)
    assert not list(tmp_path.glob("trial-*")), "checkpoints as large as the model were left behind"


def test_epochs_and_alpha_are_chosen_by_whole_schedules_and_pay_for_each_epoch(tmp_path: Path) -> None:
    trainer = Trainer()
    few, many = replace(QUICK, epochs=1), replace(QUICK, epochs=4)
    choice = search(tmp_path, trainer, recipes=[many, few], tokens=budget(5, epochs=5))
    assert [(recipe.epochs, count) for recipe, count in trainer.asked] == [(1, 5), (4, 5)]
    once, often = choice.trials
    assert often.tokens == 4 * once.tokens
    assert nll(once) != nll(often), "the test shows nothing"
    assert choice.recipe == min([(nll(once), 1, few), (nll(often), 4, many)])[2]
    assert choice.describe()["trials"][1].startswith("epochs 4 on 5 examples: ")
    alphas = [replace(QUICK, alpha=alpha) for alpha in (1, 256)]
    found = search(tmp_path / "alphas", Trainer(), recipes=alphas)
    assert len({nll(trial) for trial in found.trials}) == 2, "alpha changed nothing"
    assert found.recipe.alpha == min(found.trials, key=nll).alpha


def test_of_more_combinations_than_the_budget_has_room_for_some_are_tried_with_every_rate_among_them(
    tmp_path: Path,
) -> None:
    usual = replace(QUICK, learning_rate=1e-2, epochs=2, alpha=32)
    every = Training(learning_rate="search", epochs="search", alpha="search")
    recipes = contenders(usual, every)
    assert len(recipes) == len(RATES["lora"]) * len(ALPHAS) * 3
    assert contenders(replace(usual, method="full"), every)[0].alpha == 32, "all weights have no alpha"
    recipes = [replace(recipe, learning_rate=100 * recipe.learning_rate) for recipe in recipes]
    rows, dev = data()
    for tokens, most in ((1, 4), (budget(4 * 16 * 3, epochs=3), 16), (10**9, len(recipes))):
        trainer = Trainer()
        wanted = Training(search_tokens=tokens)
        choice = choose(recipes, rows[:4], Job(usual, dev, 0, tmp_path / str(tokens), "tiny"), trainer, wanted)
        first = [recipe for recipe, _ in trainer.asked[:most]]
        assert 4 <= len(set(first)) <= most
        assert {recipe.learning_rate for recipe in first} == {recipe.learning_rate for recipe in recipes}
        assert replace(usual, dev_checks_per_epoch=1) in first, "the usual recipe is always tried"
        assert tokens > 1 or len(set(first)) == 4
        assert len({(recipe.epochs, recipe.alpha) for recipe in first}) > 1, "what is searched is tried, however few"
        assert choice.recipe in recipes
    assert len({recipe for recipe, _ in trainer.asked}) == len(recipes), "there was room for all of them"


def test_an_interrupted_search_trains_nothing_twice_and_chooses_the_same(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", Trainer())
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "parts", Trainer(stop_at=3))
    rest = Trainer()
    assert search(tmp_path / "parts", rest) == whole
    assert len(rest.asked) == 3


def test_a_rate_that_diverges_is_out_and_is_told(tmp_path: Path) -> None:
    choice = search(tmp_path, Trainer(), (1e-2, 1e30))
    assert choice.recipe.learning_rate == 1e-2
    assert choice.trials[1].dev_nll is None
    assert choice.describe()["trials"][1].endswith("diverged")


def test_where_every_rate_diverges_that_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="diverged at every rate(.|\n)*lower learning_rate"):
        search(tmp_path, Trainer(), (1e29, 1e30))


def test_another_error_is_not_taken_for_divergence(tmp_path: Path) -> None:
    def broken(_rows: Any, _job: Any) -> Tuned:
        raise ModelError("no LoRA layers can be added")

    rows, dev = data()
    with pytest.raises(ModelError, match="no LoRA layers"):
        choose(contenders(QUICK, Training(alpha="search")), rows, Job(QUICK, dev, 0, tmp_path, ""), broken, Training())


def test_no_round_is_begun_that_would_go_over_the_seconds(tmp_path: Path) -> None:
    trainer = Trainer()
    choice = search(tmp_path, trainer, seconds=1e-6)
    assert len(trainer.asked) == 4, "the first round is always made"
    assert choice.cut_short
    assert "search_seconds" in choice.describe()["ended early"]
    assert choice.recipe.learning_rate == min(choice.trials, key=nll).learning_rate
    assert not search(tmp_path / "more", Trainer(), seconds=600.0).cut_short


def test_a_round_that_could_only_say_the_same_again_is_not_made(tmp_path: Path) -> None:
    for tokens in (1, 10**9):
        trainer = Trainer()
        choice = search(tmp_path / str(tokens), trainer, tokens=tokens, seconds=1e-6)
        assert len(choice.trials) == len(trainer.asked) == 4
        assert not choice.cut_short, "there was nothing more to train"
        assert choice.recipe.learning_rate == min(choice.trials, key=nll).learning_rate


def test_the_seconds_before_an_interruption_count(tmp_path: Path) -> None:
    search(tmp_path, Trainer(), seconds=1e-6)  # the first round, kept
    assert search(tmp_path, Trainer(), seconds=1e-6).cut_short


def test_a_small_budget_still_has_two_steps_and_no_trial_more_examples_than_there_are(tmp_path: Path) -> None:
    few, many = Trainer(), Trainer()
    search(tmp_path / "few", few, tokens=1)
    assert few.rates[0] == (FOUR[0], 2 * QUICK.step_examples)
    search(tmp_path / "many", many, tokens=10**9)
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
    assert "chosen on dev" not in pinned
    given = fit(tmp_path / "2", Training(learning_rate=5e-3, epochs=1, alpha=8)).describe()
    assert (given["learning rate"], given["epochs"], given["alpha"], given["steps"]) == (5e-3, 1, 8, 8)
    searched = fit(tmp_path / "3", Training(learning_rate="search", search_tokens=1000)).describe()
    assert searched["learning rate"] in RATES["lora"]
    assert len(searched["chosen on dev"]["trials"]) == 6
    both = fit(tmp_path / "4", Training(epochs="search", alpha="search", search_tokens=1000)).describe()
    assert both["learning rate"] == QUICK.learning_rate
    assert both["epochs"] in (1, 2, 4), "half and twice as many as would be usual"
    assert both["alpha"] in ALPHAS
    assert " alpha " in both["chosen on dev"]["trials"][0]


def test_few_examples_are_learned_in_as_many_steps_as_it_takes_unless_the_task_says_how_often(tmp_path: Path) -> None:
    spec, train, dev = _Contract().make_task()
    usual = Lora(replace(QUICK, fewest_steps=40))

    def steps(training: Training, place: str) -> tuple[int, int]:
        context = FitContext({"student": tiny_model()}, 0, tmp_path / place)
        told = usual.fit(replace(spec, training=training), train, dev, context).describe()
        return told["epochs"], told["steps"]

    each = QUICK.steps_per_epoch(len(train))
    assert each == 8
    assert steps(Training(), "usual") == (5, 40)
    assert steps(Training(epochs=1), "told") == (1, 8)
    assert Lora().recipe.fewest_steps == 96, "rungs that nobody told otherwise have enough"


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
    assert parse(HEAD + toml).training == Training(learning_rate=wanted)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("epochs = 0", "0 is neither a whole number from 1 to 100"),
        ("epochs = 2.5", "2.5 is neither a whole number"),
        ('alpha = "serach"', "'serach' is neither a whole number from 1 to 1024"),
        ("alpha = true", "True is neither a whole number"),
    ],
)
def test_what_is_neither_a_number_nor_search_is_told(line: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse(HEAD + "[training]\n" + line)


def test_epochs_and_alpha_may_be_searched() -> None:
    found = parse(HEAD + '[training]\nepochs = "search"\nalpha = "search"').training
    assert (found.epochs, found.alpha, found.learning_rate) == ("search", "search", None)
