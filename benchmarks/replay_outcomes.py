"""Replay races on real outcomes: how much of the evaluations do they use, and is any outcome wrong?

    python benchmarks/replay_outcomes.py FOLDER [--orders 200] [--seed 1]

FOLDER holds gsm8k_four_models.csv: 1,319 problems, a column of 0/1 for each of four models (published with the GSM8K
paper, MIT). Each target is raced by all four models in random orders, shared by the models, at alpha .05/4. An
outcome is held against the full data's side of the target; the race promises to be wrong about inputs to come with a
probability of at most alpha a candidate, so that a few in thousands of races may be. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
from machine import describe
from numpy.typing import NDArray

from luthier import stats

NAME = "gsm8k_four_models.csv"
TARGETS = (0.30, 0.45, 0.50, 0.53)
ALPHA = 0.05 / 4
OUTCOMES = ("MEETS", "DOES NOT MEET", "INCONCLUSIVE")
PAIR = ("6b_verification", "175b_finetuning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="the folder that holds the outcomes")
    parser.add_argument("--orders", type=int, default=200, help="random orders of the problems")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    about = describe("numpy", "scipy")
    path = (options.folder or Path("outcomes")) / NAME
    if not path.is_file():
        print(f"skipped: there is no {NAME} in the folder given; pass the folder that holds it")
        print(json.dumps({**about, "skipped": f"no {NAME}"}))
        return
    models, outcomes = read(path)
    rng = np.random.default_rng(options.seed)
    orders = np.stack([rng.permutation(len(outcomes)) for _ in range(options.orders)])
    accuracies = {model: round(float(outcomes[:, place].mean()), 4) for place, model in enumerate(models)}
    print(f"{len(outcomes)} problems, accuracies " + ", ".join(f"{m} {a:.4f}" for m, a in accuracies.items()))
    races = [replay(models, outcomes, orders, target) for target in TARGETS]
    used = [race["used"] for race in races]
    figures = {
        **about,
        "alpha": ALPHA,
        "orders": options.orders,
        "seed": options.seed,
        "problems": len(outcomes),
        "evaluations": outcomes.size,
        "accuracies": accuracies,
        "targets": races,
        "share_used": [min(used), max(used)],
        "races": outcomes.shape[1] * options.orders * len(TARGETS),
        "contradictions": sum(race["contradictions"] for race in races),
        "worst_contradicted_share": max(race["worst_contradicted_share"] for race in races),
        "farthest_inconclusive": max(race["farthest_inconclusive"] for race in races),
        "paired": paired(models, outcomes),
    }
    print(f"\nused {min(used):.1%} to {max(used):.1%} of the {outcomes.size} evaluations")
    print(
        f"outcomes against the full data's side: {figures['contradictions']} of {figures['races']} races, "
        f"at most {figures['worst_contradicted_share']:.2%} of one candidate's at one target (promised: {ALPHA:.2%})"
    )
    print(f"INCONCLUSIVE at most {figures['farthest_inconclusive']:.4f} away from the target")
    print(json.dumps(figures))


def read(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    """The models' names, and their outcomes: shape (problems, models), 0 or 1."""
    with path.open(encoding="utf-8") as lines:
        models = next(lines).strip().split(",")[1:]
        return models, np.loadtxt(lines, delimiter=",", dtype=np.int64)[:, 1:]


def replay(models: list[str], outcomes: NDArray[np.int64], orders: NDArray[np.int64], target: float) -> dict:
    """All models against one target in each order: what came out, and after how many evaluations on average."""
    bar = -np.log(ALPHA)
    spent, wrong, farthest = 0, [], 0.0
    shown = []
    for place, model in enumerate(models):
        accuracy = float(outcomes[:, place].mean())
        found: Counter[str] = Counter()
        examples = 0
        for order in orders:
            above, below = stats.target_evidence(np.cumsum(outcomes[order, place]), target)
            outcome, used = decide(above >= bar, below >= bar)
            found[outcome] += 1
            examples += used
        wrong.append(found["DOES NOT MEET"] if accuracy >= target else found["MEETS"])
        if found["INCONCLUSIVE"]:
            farthest = max(farthest, abs(accuracy - target))
        spent += examples
        shown.append({"model": model, **found, "examples": round(examples / len(orders), 1)})
    used = round(spent / (outcomes.size * len(orders)), 4)
    print(f"\ntarget {target:.2f}: {used:.1%} of the evaluations used")
    for row in shown:
        counts = ", ".join(f"{outcome} {row[outcome]}" for outcome in OUTCOMES if outcome in row)
        print(f"  {row['model']:20} {row['examples']:>7.1f} examples on average; {counts}")
    return {
        "target": target,
        "used": used,
        "contradictions": sum(wrong),
        "worst_contradicted_share": max(wrong) / len(orders),
        "farthest_inconclusive": round(farthest, 4),
        "models": shown,
    }


def decide(meets: NDArray[np.bool_], fails: NDArray[np.bool_]) -> tuple[str, int]:
    """The outcome of one race, and the evaluations it used: the first evidence to cross decides."""
    n = meets.size
    first_meets = int(meets.argmax()) if meets.any() else n
    first_fails = int(fails.argmax()) if fails.any() else n
    if first_meets == first_fails == n:
        return "INCONCLUSIVE", n
    return ("MEETS", first_meets + 1) if first_meets < first_fails else ("DOES NOT MEET", first_fails + 1)


def paired(models: list[str], outcomes: NDArray[np.int64]) -> dict[str, float | int | None]:
    """Two of the models on the same problems: the paired standard error against the unpaired one."""
    a, b = (outcomes[:, models.index(name)] for name in PAIR)
    found = stats.paired_difference(a, b)
    unpaired = float(np.hypot(stats.mean_se(a)[1], stats.mean_se(b)[1]))
    print(
        f"\n{PAIR[0]} - {PAIR[1]}: {found.mean:.4f}, standard error {found.se:.4f} paired, {unpaired:.4f} unpaired; "
        f"only one right: {found.only_a} / {found.only_b}, McNemar p = {found.mcnemar_p:.4f}"
    )
    return {
        "difference": round(found.mean, 4),
        "se_paired": round(found.se, 4),
        "se_unpaired": round(unpaired, 4),
        "only_a": found.only_a,
        "only_b": found.only_b,
        "mcnemar_p": round(found.mcnemar_p or 0.0, 4),
    }


if __name__ == "__main__":
    main()
