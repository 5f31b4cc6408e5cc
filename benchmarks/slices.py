"""How often is a slice named worse by chance, or a slice's target called wrongly, when races stop early?

    python benchmarks/slices.py [--races 500] [--seed 1]

One simulated task: 600 test examples, six classes, lengths, a channel of four values and a region of four: 18 slices.
Races stop as luthier's do, when the target is settled. Seeded. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace

import numpy as np
from machine import describe
from numpy.typing import NDArray

from luthier import stats
from luthier.evaluate.runner import BLOCK
from luthier.evaluate.slices import compared, judged
from luthier.task.slices import settled
from luthier.types import (
    Candidate,
    Constraints,
    EvalRun,
    Example,
    Label,
    Outcome,
    Prediction,
    Row,
    Score,
    Slice,
    SliceRules,
    SliceTarget,
    Target,
    TaskSpec,
)

LABELS = tuple(Label(name) for name in "abcdef")
TARGET = Target("accuracy", 0.85)
EXAMPLES, ALPHA = 600, 0.05 / 8
CHANNELS, CHANNEL_SHARES = ("web", "e-mail", "phone", "letter"), (0.5, 0.25, 0.15, 0.1)
PHONE = Slice("column", "channel", ("phone",))
RATES = (0.6, 0.8, 0.85, 0.9, 0.97)
GAPS = (0.0, 0.1, 0.2, 0.3)
BAR, SLICE_RATES = 0.8, (0.5, 0.6, 0.7, 0.8, 0.9, 0.97)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--races", type=int, default=500, help="simulated races a cell")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    about = describe("numpy", "scipy")
    rng = np.random.default_rng(options.seed)
    test = examples(rng)
    figures = {
        **about,
        "races": options.races,
        "seed": options.seed,
        "slices": len(task(test).slices.slices),
        "alike": [alike(test, rate, options.races, rng) for rate in RATES],
        "apart": [
            apart(test, gap, options.races, rng, stop=stop) for gap in GAPS for stop in (True, False)
        ],
        "targets": [targets(test, rate, options.races, rng) for rate in SLICE_RATES],
    }  # fmt: skip
    print(json.dumps(figures))


def examples(rng: np.random.Generator) -> list[Example]:
    channels = rng.choice(CHANNELS, size=EXAMPLES, p=CHANNEL_SHARES)
    regions = rng.choice(["north", "east", "south", "west"], size=EXAMPLES)
    labels = rng.choice([label.name for label in LABELS], size=EXAMPLES)
    return [
        Example(f"e{at}", "x" * int(rng.integers(10, 200)), (str(label),), columns=columns(channel, region))
        for at, (channel, region, label) in enumerate(zip(channels, regions, labels, strict=True))
    ]


def columns(channel: str, region: str) -> tuple[tuple[str, str], ...]:
    return (("channel", str(channel)), ("region", str(region)))


def task(test: list[Example], *slice_targets: SliceTarget) -> TaskSpec:
    rules = SliceRules(columns=("channel", "region"), targets=slice_targets)
    rules = settled(rules, test, (), LABELS, TARGET, where="")
    return TaskSpec("t", "classification", "", LABELS, TARGET, Constraints(), ("tfidf",), {}, slices=rules)


def race(test: list[Example], right: NDArray[np.bool_], *, stop: bool) -> EvalRun:
    """The rows of a race, to the end of the block in which its target is settled."""
    evidence = np.maximum(*stats.target_evidence(np.cumsum(right), TARGET.at_least))
    at = np.flatnonzero(evidence >= math.log(1 / ALPHA))
    end = BLOCK * (int(at[0]) // BLOCK + 1) if stop and len(at) else len(test)
    rows = tuple(
        Row(example, Prediction(example.reference if good else "?"), Score(float(good), ""))
        for example, good in zip(test[:end], right, strict=False)
    )
    return EvalRun(Candidate("tfidf", None, 20), "test", rows, "f", ALPHA, EXAMPLES, EXAMPLES)


def by_phone(test: list[Example]) -> NDArray[np.bool_]:
    return np.array([dict(example.columns)["channel"] == "phone" for example in test])


def shuffled(test: list[Example], rng: np.random.Generator) -> list[Example]:
    return [test[at] for at in rng.permutation(len(test))]


def alike(test: list[Example], rate: float, races: int, rng: np.random.Generator) -> dict[str, float]:
    """All slices have the same rate: in how many races is any called worse, and is any p-value by itself small?"""
    spec = task(test)
    named = naive = scored = 0
    for _ in range(races):
        found = race(shuffled(test, rng), rng.random(EXAMPLES) < rate, stop=True)
        told = compared(found, spec)
        named += any(each.worse for each in told)
        naive += any(each.found is not None and each.found.p <= 0.05 for each in told)
        scored += len(found.rows)
    return show({"rate": rate, "named": named / races, "any_p_below_5": naive / races, "scored": scored / races})


def apart(test: list[Example], gap: float, races: int, rng: np.random.Generator, *, stop: bool) -> dict[str, float]:
    """One slice of 15 % is worse by `gap`: how often is it named, and does its interval hold the truth?"""
    spec, rate = task(test), 0.93
    told_apart = held = named = 0
    for _ in range(races):
        order = shuffled(test, rng)
        right = rng.random(EXAMPLES) < np.where(by_phone(order), rate - gap, rate)
        told = compared(race(order, right, stop=stop), spec)
        phone = next(each for each in told if each.slice.values == ("phone",))
        if phone.found is not None:
            told_apart += 1
            held += phone.found.low <= -gap <= phone.found.high
            named += phone.worse
    return show(
        {"gap": gap, "stopped": stop, "compared": told_apart / races, "interval_holds": held / max(told_apart, 1)}
        | {"named": named / races}
    )


def targets(test: list[Example], rate: float, races: int, rng: np.random.Generator) -> dict[str, float]:
    """A target of 80 % for that slice, all of whose rows were raced: how is it called, each row being a look?"""
    spec = task(test, SliceTarget(PHONE, BAR))
    called = dict.fromkeys(Outcome, 0)
    for _ in range(races):
        order = shuffled(test, rng)
        right = rng.random(EXAMPLES) < np.where(by_phone(order), rate, 0.97)
        # at a candidate's whole share, so that there is something to see
        called[judged(replace(race(order, right, stop=False), alpha=TARGET.alpha), spec)[0].outcome] += 1
    return show(
        {
            "rate": rate,
            "met": called[Outcome.MEETS] / races,
            "missed": called[Outcome.DOES_NOT_MEET] / races,
            "not_shown": called[Outcome.INCONCLUSIVE] / races,
        }
    )


def show(figures: dict[str, float]) -> dict[str, float]:
    rounded = {key: value if isinstance(value, bool) else round(value, 4) for key, value in figures.items()}
    print("  ".join(f"{key} {value}" for key, value in rounded.items()), flush=True)
    return rounded


if __name__ == "__main__":
    main()
