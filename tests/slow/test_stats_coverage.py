"""The promise in full, through the scripts that print it: coverage, peeking, effort and the replay on real outcomes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import eval_run, spec
from scipy.stats import binom

from luthier.report.verdict import decide
from luthier.types import Constraints, Target

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OUTCOMES = "LUTHIER_OUTCOMES"  # names the folder of real outcomes, where there is one


def figures(script: str, *arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments], capture_output=True, text=True, check=False, timeout=580
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def coverage() -> dict:
    return figures("coverage.py")


def test_every_sequence_covers_at_every_rate_and_size(coverage: dict) -> None:
    cells = coverage["miscoverage"]
    assert coverage["races"] == 2000
    assert {cell["sequence"] for cell in cells} == {"bernoulli", "finite", "groups", "betting-split"}
    assert {cell["p"] for cell in cells} == {0.05, 0.5, 0.84, 0.85, 0.86, 0.99}
    assert {cell["n"] for cell in cells} == {50, 300, 2000}
    assert [cell for cell in cells if cell["miscoverage"] > coverage["allowed"]] == []
    # not idle either: with time each of them uses a good part of what it may
    for sequence in ("bernoulli", "finite", "groups", "betting-split"):
        assert max(cell["miscoverage"] for cell in cells if cell["sequence"] == sequence) > 0.02


def test_peeking_breaks_the_normal_interval_and_not_the_race(coverage: dict) -> None:
    peeking = coverage["peeking"]
    assert peeking["normal_interval"] > 0.3
    for ours in (
        "sequence",
        "false_meets",
        "false_does_not_meet",
        "betting_false_meets",
        "betting_false_does_not_meet",
    ):
        assert peeking[ours] <= coverage["allowed"]
    assert 0.02 < peeking["exact_ends_in_meets"] <= 0.05
    assert 0.02 < peeking["exact_ends_in_does_not_meet"] <= 0.05


def test_copies_taken_for_new_observations_would_break_it(coverage: dict) -> None:
    assert 0.15 < coverage["ignored_groups"]["2"] < coverage["ignored_groups"]["5"]


def test_a_race_takes_as_many_examples_as_the_pilots(coverage: dict) -> None:
    rows = {row["p"]: row for row in coverage["effort"]}
    assert rows[0.92]["evidence_meets"] == pytest.approx(0.96, abs=0.02)
    assert rows[0.92]["evidence_examples"] == pytest.approx(268, rel=0.05)
    assert rows[0.92]["sequence_meets"] == pytest.approx(0.92, abs=0.02)
    assert rows[0.92]["sequence_examples"] == pytest.approx(329, rel=0.05)
    assert rows[0.90]["evidence_meets"] == pytest.approx(0.59, abs=0.02)
    assert rows[0.90]["sequence_meets"] == pytest.approx(0.43, abs=0.02)


def test_the_replay_says_when_there_is_nothing_to_replay(tmp_path: Path) -> None:
    assert "gsm8k_four_models.csv" in figures("replay_outcomes.py", str(tmp_path))["skipped"]


def test_races_replayed_on_real_outcomes() -> None:
    folder = Path(os.environ.get(OUTCOMES, ""))
    if not (folder / "gsm8k_four_models.csv").is_file():
        pytest.skip(f"no real outcomes here: {OUTCOMES} does not name a folder that holds gsm8k_four_models.csv")
    replay = figures("replay_outcomes.py", str(folder))
    assert replay["orders"] >= 200
    assert list(replay["accuracies"].values()) == [0.2168, 0.3904, 0.3472, 0.5625]
    assert 0.15 < replay["share_used"][0] < replay["share_used"][1] < 0.4
    assert replay["farthest_inconclusive"] <= 0.05
    # the promise is a probability: of each candidate's races at most alpha may end on the wrong side
    assert replay["worst_contradicted_share"] <= replay["alpha"]
    assert replay["contradictions"] / replay["races"] < 0.004
    paired = replay["paired"]
    assert [paired[key] for key in ("difference", "se_paired", "se_unpaired")] == [0.0432, 0.0144, 0.0188]
    assert [paired["only_a"], paired["only_b"]] == [209, 152]


def test_where_all_rungs_are_equally_good_a_fine_tune_wins_no_more_often_than_promised() -> None:
    """Trap 21: three candidates on the target itself, which none of them provably meets, looked at after each example.

    A fixed interval at the same looks would let one win in about a third of the races: see the peeking above.
    """
    target = Target("accuracy", 0.85)
    rng, ladders, alpha = np.random.default_rng(21), 400, target.alpha / 3
    wins = {"few-shot": 0, "retrieved-shots": 0, "lora": 0}
    for _ in range(ladders):
        runs = [
            eval_run(
                [float(hit) for hit in rng.random(300) < target.at_least],
                name=name,
                rank=rank,
                alpha=alpha,
                guarded=name == "lora",
            )
            for name, rank in (("few-shot", 50), ("retrieved-shots", 60), ("lora", 70))
        ]
        chosen = decide(runs, {}, target, Constraints(), task=spec(target)).chosen
        if chosen is not None:
            wins[chosen] += 1
    assert wins["lora"] <= binom.ppf(0.999, ladders, alpha), wins
    assert sum(wins.values()) <= binom.ppf(0.999, ladders, target.alpha), wins
    assert sum(wins.values()) > 0, "a simulation in which nothing can win shows nothing"
