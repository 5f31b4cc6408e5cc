"""Do the sequences cover, how often does peeking at a normal interval err, and how many examples does a race use?

    python benchmarks/coverage.py [--races 2000] [--sizes 50,300,2000] [--seed 1]

Coverage and peeking are simulated (seeded), the expected effort is computed exactly. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
from machine import describe
from numpy.typing import NDArray
from scipy.stats import norm

from luthier import stats
from luthier.stats.sequences import bernoulli_intervals

ALPHA = 0.05
RATES = (0.05, 0.5, 0.84, 0.85, 0.86, 0.99)
TARGET = 0.85
EFFORT_ALPHA, EFFORT_EXAMPLES = 0.05 / 7, 600
EFFORT_RATES = (0.92, 0.90, 0.81, 0.65, 0.37)
GROUPS_OF = (2, 5)
MOST_GROUPS = 500  # the evidence from group means costs most of the time; further looks add little
FIRST_LOOK = 30  # a normal interval is not even meant for fewer examples

Miss = Callable[[np.random.Generator], bool]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--races", type=int, default=2000, help="simulated races a cell")
    parser.add_argument("--sizes", default="50,300,2000", help="numbers of examples, with commas")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    about = describe("numpy", "scipy")
    allowed = ALPHA + 3 * float(np.sqrt(ALPHA * (1 - ALPHA) / options.races))
    figures = {
        **about,
        "alpha": ALPHA,
        "races": options.races,
        "seed": options.seed,
        "allowed": round(allowed, 5),
        "miscoverage": coverage(sizes, options.races, options.seed, allowed),
        "peeking": peeking(max(sizes), options.races, options.seed),
        "ignored_groups": ignored_groups(max(sizes), options.races, options.seed),
        "effort": effort(),
    }
    print(json.dumps(figures))


# ---------------------------------------------------------------- coverage


def coverage(sizes: list[int], races: int, seed: int, allowed: float) -> list[dict[str, object]]:
    """How often a sequence ever excludes the truth, looked at after each example."""
    print(f"Miscoverage at alpha = {ALPHA}, a look after each example ({races} races a cell; allowed {allowed:.4f})")
    print(f"{'sequence':12}{'N':>6}" + "".join(f"{rate:>9}" for rate in RATES))
    cells: list[dict[str, object]] = []
    for name, make in (("bernoulli", _bernoulli), ("finite", _finite), ("groups", _groups), ("betting-split", _split)):
        for n in sizes:
            found = []
            for place, rate in enumerate(RATES):
                rng = np.random.default_rng([seed, n, place])
                miss = make(rate, n)
                found.append(sum(miss(rng) for _ in range(races)) / races)
                cells.append({"sequence": name, "n": n, "p": rate, "miscoverage": found[-1]})
            print(f"{name:12}{n:>6}" + "".join(f"{share:>9.4f}" for share in found))
    print()
    return cells


def _bernoulli(rate: float, n: int) -> Miss:
    def miss(rng: np.random.Generator) -> bool:
        return bool(stats.bernoulli_excludes(np.cumsum(rng.random(n) < rate), rate, ALPHA)[-1])

    return miss


def _finite(rate: float, n: int) -> Miss:
    """A split with a fixed number of successes, read in a random order to its end."""
    right = round(rate * n)
    split = np.arange(n) < right

    def miss(rng: np.random.Generator) -> bool:
        return bool(stats.finite_excludes(np.cumsum(rng.permutation(split)), n, right, ALPHA)[-1])

    return miss


def _groups(rate: float, n: int) -> Miss:
    """Group means, each of examples that share their difficulty: the mean over groups is `rate`."""

    def miss(rng: np.random.Generator) -> bool:
        return bool(stats.betting_excludes(_group_means(rate, n, rng), rate, ALPHA)[-1])

    return miss


def _split(rate: float, n: int) -> Miss:
    """Group means again, now about a split of n groups, read in a random order to its end."""
    split = _group_means(rate, n, np.random.default_rng(n))
    mean = float(split.mean())

    def miss(rng: np.random.Generator) -> bool:
        return bool(stats.betting_excludes(rng.permutation(split), mean, ALPHA, population=n)[-1])

    return miss


def _group_means(rate: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The means of n groups of 1 to 5 examples; what a group's examples have in common is its own success rate."""
    size = rng.integers(1, 6, n)
    return rng.binomial(size, rng.beta(2 * rate, 2 * (1 - rate), n)) / size


# ---------------------------------------------------------------- peeking


def peeking(n: int, races: int, seed: int) -> dict[str, float]:
    """The true value exactly at the target: how often does each rule ever decide, that is, err?"""
    rng = np.random.default_rng([seed, 7])
    z = float(norm.isf(ALPHA / 2))
    t = np.arange(1, n + 1)
    normal = above = below = sequence = 0
    for _ in range(races):
        counts = np.cumsum(rng.random(n) < TARGET)
        mean = counts / t
        apart = np.abs(mean - TARGET) > z * np.sqrt(mean * (1 - mean) / t)
        normal += bool(apart[FIRST_LOOK - 1 :].any())
        log_above, log_below = stats.target_evidence(counts, TARGET)
        above += bool(log_above.max() >= -np.log(ALPHA))
        below += bool(log_below.max() >= -np.log(ALPHA))
        sequence += bool(stats.bernoulli_excludes(counts, TARGET, ALPHA)[-1])
    betting = _betting_errors(min(n, MOST_GROUPS), races, rng)
    boundary = stats.decision_boundary(TARGET, ALPHA, n)
    meets, fails = stats.decision_probabilities(TARGET, boundary)
    found = {
        "n": n,
        "normal_interval": normal / races,
        "sequence": sequence / races,
        "false_meets": above / races,
        "false_does_not_meet": below / races,
        "betting_false_meets": betting[0],
        "betting_false_does_not_meet": betting[1],
        "exact_ends_in_meets": round(float(meets), 5),
        "exact_ends_in_does_not_meet": round(float(fails), 5),
    }
    print(
        f"Peeking: p exactly at the target {TARGET}, {n} examples, alpha {ALPHA}: wrong in this share of {races} races"
    )
    print(f"  95 % normal interval, a look after each example from {FIRST_LOOK} on   {found['normal_interval']:.4f}")
    print(f"  bernoulli_sequence excludes the target                       {found['sequence']:.4f}")
    print(f"  target_evidence ever says MEETS / ever says DOES NOT MEET    {above / races:.4f} / {below / races:.4f}")
    print(
        f"  betting_evidence on {min(n, MOST_GROUPS):>4} group means: the same two           "
        + "{:.4f} / {:.4f}".format(*betting)
    )
    print(f"  the race ends in MEETS / in DOES NOT MEET (exact)            {float(meets):.4f} / {float(fails):.4f}\n")
    return found


def _betting_errors(n: int, races: int, rng: np.random.Generator) -> tuple[float, float]:
    above = below = 0
    for _ in range(races):
        log_above, log_below = stats.betting_evidence(_group_means(TARGET, n, rng), TARGET)
        above += bool(log_above.max() >= -np.log(ALPHA))
        below += bool(log_below.max() >= -np.log(ALPHA))
    return above / races, below / races


def ignored_groups(n: int, races: int, seed: int) -> dict[str, float]:
    """What taking near-copies for new observations does to the coverage: groups of identical examples."""
    rng = np.random.default_rng([seed, 11])
    found = {}
    for size in GROUPS_OF:
        misses = 0
        for _ in range(races):
            outcomes = np.repeat(rng.random(-(-n // size)) < TARGET, size)[:n]
            misses += bool(stats.bernoulli_excludes(np.cumsum(outcomes), TARGET, ALPHA)[-1])
        found[str(size)] = misses / races
        print(f"Groups of {size} identical examples taken for {size} observations: miscoverage {misses / races:.3f}")
    print()
    return found


# ---------------------------------------------------------------- effort


def effort() -> list[dict[str, float]]:
    """What a race decides, and after how many examples, exactly; the evidence against the two-sided sequence."""
    evidence = stats.decision_boundary(TARGET, EFFORT_ALPHA, EFFORT_EXAMPLES)
    sequence = _sequence_boundary(TARGET, EFFORT_ALPHA, EFFORT_EXAMPLES)
    print(f"Effort: target {TARGET}, alpha .05/7, {EFFORT_EXAMPLES} examples (exact; right: by the two-sided sequence)")
    print(f"{'true':>6}{'MEETS':>9}{'DOES NOT':>10}{'examples':>10}   |{'MEETS':>9}{'DOES NOT':>10}{'examples':>10}")
    rows = []
    for rate in EFFORT_RATES:
        row = {"p": rate}
        for name, boundary in (("evidence", evidence), ("sequence", sequence)):
            meets, fails = stats.decision_probabilities(rate, boundary)
            row |= {
                f"{name}_meets": round(float(meets), 4),
                f"{name}_does_not_meet": round(float(fails), 4),
                f"{name}_examples": round(float(stats.expected_examples(rate, boundary)), 1),
            }
        rows.append(row)
        cells = [
            f"{row[f'{n}_meets']:>9.3f}{row[f'{n}_does_not_meet']:>10.3f}{row[f'{n}_examples']:>10.1f}"
            for n in ("evidence", "sequence")
        ]
        print(f"{rate:>6}" + "   |".join(cells))
    print()
    return rows


def _sequence_boundary(target: float, alpha: float, n: int) -> stats.Boundary:
    """Where the two-sided sequence would decide: the interval of a count lies on one side of the target."""
    meets_at, fails_at = np.arange(n + 1) + 1, np.full(n + 1, -1)
    for t in range(1, n + 1):
        low, high = bernoulli_intervals(np.arange(t + 1), np.full(t + 1, t), alpha)
        meets_at[t] = int(np.sum(low < target))
        fails_at[t] = int(np.sum(high < target)) - 1
    return stats.Boundary(target, alpha, meets_at, fails_at)


if __name__ == "__main__":
    main()
