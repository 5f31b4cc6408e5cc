"""Rates: the learning rate chosen on dev by successive halving (Jamieson and Talwalkar 2016), within a budget.

All rates train on the same few examples; the better half by dev likelihood trains on twice as many, and so on. It
carries no certificate: it only chooses, and the race certifies.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import ModelError
from luthier.train.job import Working
from luthier.train.loop import Tuned
from luthier.train.recipe import Method, Recipe
from luthier.train.rows import DevRow, TrainRow

# adapters of small models need far higher rates than all weights do
RATES: Mapping[Method, tuple[float, ...]] = {
    "lora": (1e-4, 3e-4, 1e-3, 3e-3),
    "dora": (1e-4, 3e-4, 1e-3, 3e-3),
    "qlora": (1e-4, 3e-4, 1e-3, 3e-3),
    "full": (1e-5, 3e-5, 1e-4, 3e-4),
}
DONE = "rates.json"

Train = Callable[[Sequence[TrainRow], Sequence[DevRow], Recipe, Path], Tuned]


@dataclass(frozen=True)
class RateTrial:
    """How a rate did after its own short schedule over some examples; `dev_nll` is None where training diverged."""

    rate: float
    examples: int
    tokens: int
    dev_nll: float | None


@dataclass(frozen=True)
class RateChoice:
    """The rate that did best, and every trial; `cut_short`: the seconds ended before one rate was left."""

    rate: float
    trials: tuple[RateTrial, ...]
    cut_short: bool = False

    def describe(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "trials": [_told(trial) for trial in self.trials],
            "tokens": sum(trial.tokens for trial in self.trials),
        }
        if self.cut_short:
            told["ended early"] = "the next round would have gone over [training] search_seconds"
        return told


def choose_rate(
    rates: Sequence[float],
    rows: Sequence[TrainRow],
    dev: Sequence[DevRow],
    recipe: Recipe,
    train: Train,
    *,
    seed: int,
    workdir: Path,
    tokens: int,
    seconds: float | None = None,
    working: Working = lambda _text, _done, _total: None,
) -> RateChoice:
    """The rate with the best likelihood of the dev references after the last round; ties go to the lower rate.

    `tokens` of training rows are spent in all, the same in each round, and decide how many examples the first one has
    (two steps of them at least). With `seconds` a round is not begun that would go over them by the pace so far; then
    the choice depends on the machine. A rate that diverges is out. `train` trains in the folder it is given; what is
    finished is not trained again after an interruption. Raises ModelError where every rate diverges.
    """
    rounds = max(1, math.ceil(math.log2(len(rates))))
    order = [int(at) for at in np.random.default_rng([seed, 1]).permutation(len(rows))]
    length = sum(len(row.input_ids) for row in rows) / len(rows)
    count = max(2 * recipe.step_examples, int(tokens / rounds / len(rates) / length))
    references = [DevRow((item.rows[item.right[0]],), (0,)) for item in dev]
    notes = _Notes(workdir / DONE)
    standing, trials = sorted(rates), list[RateTrial]()
    started, cut_short = time.perf_counter(), False
    for turn in range(rounds):
        some = [rows[at] for at in order[: count * 2**turn]]
        if turn and seconds is not None:
            passed = time.perf_counter() - started
            if passed + passed / turn > seconds:  # every round trains as many tokens
                cut_short = True
                break
        found = []
        for at, rate in enumerate(standing):
            working(f"trying the learning rate {rate:g} on {len(some)} examples", at, len(standing))
            found.append(_tried(rate, some, references, recipe, train, notes, workdir))
        trials += found
        alive = sorted((trial for trial in found if trial.dev_nll is not None), key=_likeliest)
        if not alive:
            raise ModelError(
                f"training diverged at every rate: {', '.join(f'{rate:g}' for rate in standing)}",
                where="[training] learning_rate",
                fix="give a lower learning_rate",
            )
        standing = sorted(trial.rate for trial in alive[: max(1, len(found) // 2)])
    return RateChoice(min(alive, key=_likeliest).rate, tuple(trials), cut_short)


def _likeliest(trial: RateTrial) -> tuple[float, float]:
    return (math.inf if trial.dev_nll is None else trial.dev_nll, trial.rate)


def _tried(
    rate: float,
    rows: Sequence[TrainRow],
    dev: Sequence[DevRow],
    recipe: Recipe,
    train: Train,
    notes: _Notes,
    workdir: Path,
) -> RateTrial:
    known = notes.trial(rate, len(rows))
    if known is not None:
        return known
    folder = workdir / f"rate-{rate:g}-{len(rows)}"
    short = replace(recipe, learning_rate=rate, epochs=1, dev_checks_per_epoch=1)
    tokens = sum(len(row.input_ids) for row in rows)
    try:
        nll = train(rows, dev, short, folder).checks[-1].dev_nll
    except ModelError as error:
        if "diverged" not in error.what:
            raise
        nll = math.nan
    trial = RateTrial(rate, len(rows), tokens, nll if math.isfinite(nll) else None)
    notes.keep(trial)
    shutil.rmtree(folder, ignore_errors=True)  # its checkpoint may be as large as the model
    return trial


class _Notes:
    """The finished trials of one search, on disk: a search that was killed goes on at the trial it was in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[RateTrial] = []
        try:
            self.found = [RateTrial(**row) for row in json.loads(path.read_text("utf-8"))]
        except (OSError, ValueError, TypeError):
            self.found = []

    def trial(self, rate: float, examples: int) -> RateTrial | None:
        return next((trial for trial in self.found if (trial.rate, trial.examples) == (rate, examples)), None)

    def keep(self, trial: RateTrial) -> None:
        self.found.append(trial)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps([asdict(each) for each in self.found]), encoding="utf-8")


def _told(trial: RateTrial) -> str:
    how = "diverged" if trial.dev_nll is None else f"{trial.dev_nll:.3f} nats a token on dev"
    return f"{trial.rate:g} on {trial.examples} examples: {how}"
