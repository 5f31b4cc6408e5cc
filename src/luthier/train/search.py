"""Search: learning rate, epochs and scale chosen on dev by successive halving (Jamieson and Talwalkar 2016).

All contenders train on the same few examples; the better half by dev likelihood trains on as many more as the budget
has room for, and so on. It carries no certificate: it only chooses, and the race certifies.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import ModelError
from luthier.train.job import Job
from luthier.train.loop import Tuned
from luthier.train.recipe import Method, Recipe
from luthier.train.rows import DevRow, TrainRow
from luthier.types import Training

# adapters of small models need far higher rates than all weights do
RATES: Mapping[Method, tuple[float, ...]] = {
    "lora": (1e-4, 3e-4, 1e-3, 3e-3),
    "dora": (1e-4, 3e-4, 1e-3, 3e-3),
    "qlora": (1e-4, 3e-4, 1e-3, 3e-3),
    "full": (1e-5, 3e-5, 1e-4, 3e-4),
}
ALPHAS = (16, 32, 64)
FEWEST_TRIED = 4  # contenders of the first round, which is always made: one choice alone has no more
DONE = "search.json"

Train = Callable[[Sequence[TrainRow], Job], Tuned]


@dataclass(frozen=True)
class Trial:
    """How a recipe did after its whole schedule over some examples; `dev_nll` is None where training diverged."""

    learning_rate: float
    epochs: int
    alpha: int
    examples: int
    tokens: int
    dev_nll: float | None
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Choice:
    """The recipe that did best, and every trial; `cut_short`: the seconds ended before one recipe was left.

    `over`: what was searched, of "learning rate", "epochs" and "alpha".
    """

    recipe: Recipe
    trials: tuple[Trial, ...]
    over: tuple[str, ...]
    cut_short: bool = False

    def describe(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "trials": [
                f"{_named(trial, self.over)} on {trial.examples} examples: {_did(trial)}" for trial in self.trials
            ],
            "tokens": sum(trial.tokens for trial in self.trials),
        }
        if self.cut_short:
            told["ended early"] = "the next round would have gone over [training] search_seconds"
        return told


def contenders(recipe: Recipe, wanted: Training) -> list[Recipe]:
    """The recipes to choose from: one, or all combinations of what the task has searched for.

    >>> len(contenders(Recipe(), Training(learning_rate="search"))), len(contenders(Recipe(), Training(epochs=3)))
    (4, 1)
    """
    rates = _values(wanted.learning_rate, RATES[recipe.method], recipe.learning_rate)
    around = tuple(sorted({max(1, recipe.epochs // 2), recipe.epochs, 2 * recipe.epochs}))
    epochs = _values(wanted.epochs, around, recipe.epochs)
    # all weights have no scale of their own
    alphas = (recipe.alpha,) if recipe.method == "full" else _values(wanted.alpha, ALPHAS, recipe.alpha)
    return [
        replace(recipe, learning_rate=rate, epochs=count, alpha=alpha)
        for rate, count, alpha in itertools.product(rates, epochs, alphas)
    ]


def _values(wanted: Any, searched: tuple[Any, ...], usual: Any) -> tuple[Any, ...]:
    return searched if wanted == "search" else (usual if wanted is None else wanted,)


def choose(recipes: Sequence[Recipe], rows: Sequence[TrainRow], job: Job, train: Train, wanted: Training) -> Choice:
    """The recipe with the best likelihood of the dev references after the last round.

    Ties go to fewer epochs, then to the lower rate, then to the lower alpha. `job` has the dev rows, the seed and the
    folder; its own recipe says how many examples a step has. `wanted.search_tokens` of training rows are spent in all,
    the same in each round, and decide how many examples a round has (two steps of them at least). Where there are more
    recipes than two steps of each would leave room for, some are tried, at least four of them, whatever they cost.
    Where epochs are not searched, a trial takes one. With `wanted.search_seconds` a round is not begun that would go
    over them by the pace so far; then the choice depends on the machine. A recipe that diverges is out. `train` trains
    by the job it is given; what is finished is not trained again after an interruption. Raises ModelError where every
    recipe diverges.
    """
    order = [int(at) for at in np.random.default_rng([job.seed, 1]).permutation(len(rows))]
    length = sum(len(row.input_ids) for row in rows) / len(rows)
    fewest = 2 * job.recipe.step_examples
    trying = _Trying(rows, order, job, train, _over(recipes))
    costs = {recipe: fewest * length * trying.epochs(recipe) for recipe in recipes}
    standing = sorted(_some(costs, job.recipe, job.seed, wanted.search_tokens), key=_thrift)
    rounds = max(1, math.ceil(math.log2(len(standing))))
    trials = list[Trial]()
    cut_short, count = False, 0
    for turn in range(rounds):
        each = length * sum(trying.epochs(recipe) for recipe in standing)
        more = min(len(rows), max(fewest, count, int(wanted.search_tokens / rounds / each)))
        if more == count:  # there are no more examples, or tokens for them: it would say the same again
            break
        if turn and wanted.search_seconds is not None:
            passed = sum(trial.seconds for trial in trials)  # before an interruption, too
            if passed + passed / turn > wanted.search_seconds:  # every round trains as many tokens
                cut_short = True
                break
        count = more
        found = [trying.tried(recipe, count, at, len(standing)) for at, recipe in enumerate(standing)]
        trials += found
        alive = [pair for pair in zip(found, standing, strict=True) if pair[0].dev_nll is not None]
        if not alive:
            rates = ", ".join(f"{rate:g}" for rate in sorted({trial.learning_rate for trial in found}))
            raise ModelError(
                f"training diverged at every rate: {rates}",
                where="[training] learning_rate",
                fix="give a lower learning_rate",
            )
        alive.sort(key=lambda pair: (pair[0].dev_nll, _thrift(pair[1])))
        standing = sorted((recipe for _, recipe in alive[: max(1, len(found) // 2)]), key=_thrift)
    return Choice(alive[0][1], tuple(trials), trying.over, cut_short)


def _some(costs: Mapping[Recipe, float], usual: Recipe, seed: int, tokens: int) -> list[Recipe]:
    """As many of the recipes as `tokens` have room for by what a trial of each costs at least, from every rate in turn.

    The one most like the usual comes first of its rate, all others in a seeded order.
    """
    recipes = list(costs)
    mixed = [recipes[int(at)] for at in np.random.default_rng([seed, 2]).permutation(len(recipes))]
    same = ("learning_rate", "epochs", "alpha")
    nearest = max(mixed, key=lambda one: sum(getattr(one, name) == getattr(usual, name) for name in same))
    mixed.sort(key=lambda one: one != nearest)
    by_rate = [
        [one for one in mixed if one.learning_rate == rate] for rate in sorted({each.learning_rate for each in mixed})
    ]
    spread = [one for turn in itertools.zip_longest(*by_rate) for one in turn if one is not None]
    for count in range(len(spread), FEWEST_TRIED, -1):
        if math.ceil(math.log2(count)) * sum(costs[one] for one in spread[:count]) <= tokens:
            return spread[:count]
    return spread[:FEWEST_TRIED]


def _over(recipes: Sequence[Recipe]) -> tuple[str, ...]:
    return tuple(
        name
        for name, values in (
            ("learning rate", {recipe.learning_rate for recipe in recipes}),
            ("epochs", {recipe.epochs for recipe in recipes}),
            ("alpha", {recipe.alpha for recipe in recipes}),
        )
        if len(values) > 1
    )


def _thrift(recipe: Recipe) -> tuple[int, float, int]:
    return recipe.epochs, recipe.learning_rate, recipe.alpha


def _named(trial: Trial | Recipe, over: Sequence[str]) -> str:
    """
    >>> _named(Recipe(), ("learning rate", "epochs")), _named(Recipe(), ("alpha",))
    ('learning rate 0.001, epochs 2', 'alpha 32')
    """
    values = {"learning rate": f"{trial.learning_rate:g}", "epochs": trial.epochs, "alpha": trial.alpha}
    return ", ".join(f"{name} {values[name]}" for name in over)


def _did(trial: Trial) -> str:
    return "diverged" if trial.dev_nll is None else f"{trial.dev_nll:.3f} nats a token on dev"


@dataclass(frozen=True)
class _Trying:
    """What all trials of one search have in common."""

    rows: Sequence[TrainRow]
    order: Sequence[int]
    job: Job
    train: Train
    over: tuple[str, ...]

    def epochs(self, recipe: Recipe) -> int:
        """One, where their number is not searched: other examples tell more than the same ones again."""
        return recipe.epochs if "epochs" in self.over else 1

    def tried(self, recipe: Recipe, count: int, at: int, of: int) -> Trial:
        """The recipe after a whole schedule over the first `count` examples in the search's order."""
        rows = [self.rows[index] for index in self.order[:count]]
        self.job.working(f"trying {_named(recipe, self.over)} on {len(rows)} examples", at, of)
        kept = self.job.workdir / DONE
        done = _read(kept)
        recipe = replace(recipe, epochs=self.epochs(recipe), dev_checks_per_epoch=1)
        key = (recipe.learning_rate, recipe.epochs, recipe.alpha, len(rows))
        known = [trial for trial in done if (trial.learning_rate, trial.epochs, trial.alpha, trial.examples) == key]
        if known:
            return known[0]
        folder = self.job.workdir / "trial-{:g}-{}-{}-{}".format(*key)
        references = [DevRow((item.rows[item.right[0]],), (0,)) for item in self.job.dev]
        job = replace(self.job, recipe=recipe, dev=references, workdir=folder)
        began = time.perf_counter()
        try:
            nll = self.train(rows, job).checks[-1].dev_nll
        except ModelError as error:
            if "diverged" not in error.what:
                raise
            nll = math.nan
        tokens = recipe.epochs * sum(len(row.input_ids) for row in rows)
        trial = Trial(*key, tokens, nll if math.isfinite(nll) else None, time.perf_counter() - began)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps([asdict(each) for each in (*done, trial)]), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # its checkpoint may be as large as the model
        return trial


def _read(path: Path) -> list[Trial]:
    """The finished trials of a search that was killed: it goes on at the one it was in."""
    try:
        return [Trial(**row) for row in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError):
        return []
