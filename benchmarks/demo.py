"""The demo, raced and exhaustive: what stopping early saves, whether it contradicts, and how stable the choice is.

    python benchmarks/demo.py [question-routing|spam|...] [--folder F] [--orders 200]

Climbs the demo as `luthier demo` does (cold store, warm models), then again with every rung and the whole test split.
Both share one store, so the second climb scores only what the first left out. Then the races are replayed from the
stored predictions in random test orders, at the shares of alpha they had. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from machine import describe

import luthier
from luthier import demo
from luthier.climb import Options
from luthier.evaluate.race import race
from luthier.evaluate.runner import BLOCK
from luthier.report.summary import steady_sentences
from luthier.report.verdict import Verdict, decide
from luthier.screen import answers, print_table
from luthier.types import EvalRun, Outcome, Row


@dataclass
class Replay:
    """Gives stored rows in another order, as a runner does."""

    order: list[Row]
    seconds: float = 0.0

    @property
    def blocks(self) -> int:
        return -(-len(self.order) // BLOCK)

    def rows(self, block: int) -> list[Row]:
        return self.order[block * BLOCK : (block + 1) * BLOCK]


def replayed(verdict: Verdict, order: np.ndarray) -> str | None:
    """The candidate that a climb in this test order chooses."""
    task, runs = verdict.task, []
    for run in verdict.runs:
        empty = replace(run, rows=(), exhaustive=False)
        runner = Replay([run.rows[at] for at in order])
        raced = race(runner, empty, task.target, task.label_names, lambda *_: None, exhaustive=False)  # type: ignore[arg-type]
        runs.append(raced)
        found = decide([raced], {}, task.target, task.constraints, task=task)
        if found.chosen:
            return found.chosen
    return None


def steady(run: EvalRun) -> list[str]:
    return [f"{run.candidate.name}: {sentence}" for sentence in steady_sentences(run.consistency)]


def scored(runs: tuple[EvalRun, ...]) -> int:
    return sum(len(run.rows) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="question-routing", choices=list(demo.demos()))
    parser.add_argument("--folder", type=Path, help="where to put the task (a temporary folder by default)")
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--short", action="store_true", help="climb once, with what `luthier demo` prints, and end")
    options = parser.parse_args()
    about = describe("numpy", "scipy", "torch", "transformers", "peft")
    home = options.folder or Path(tempfile.mkdtemp())
    path = demo.prepare(options.name, home, lambda event: None)
    shutil.rmtree(home / ".luthier", ignore_errors=True)

    started = time.perf_counter()
    short = luthier.run(path)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{options.name}: {short.sentence}")
    print(f"{seconds:.0f} s, peak memory {peak:.2f} GB", flush=True)
    if options.short:
        print_table(answers(), short.candidates, short.task.target, short.chosen)
        for line in (short.sentence, *short.flips, *(line for run in short.runs for line in steady(run))):
            print(line)
        rungs = {run.candidate.name: round(run.fit_seconds + run.race_seconds, 1) for run in short.runs if run.rows}
        parts = {
            "fit_s": {run.candidate.name: round(run.fit_seconds, 1) for run in short.runs if run.rows},
            "guard_s": {run.candidate.name: run.guard["seconds"] for run in short.runs if run.guard},
            "diagnosis_s": short.diagnosis.get("seconds"),
        }
        figures = {**about, "demo": options.name, "chosen": short.chosen, "seconds": round(seconds, 1)}
        print(json.dumps({**figures, "peak_gb": round(peak, 2), "rungs": rungs, **parts, "spend": short.spend}))
        return

    whole = luthier.run(path, options=Options(all_rungs=True, exhaustive=True))
    raced = [run for run in short.runs if run.rows]
    spent, all_of_it = scored(tuple(raced)), sum(len(run.rows) for run in whole.runs[: len(raced)])
    contradictions = []
    for before, after in zip(short.candidates, whole.candidates, strict=True):
        figure = f"{after.estimate.mean:.3f} on {after.estimate.n:,}" if after.estimate else "-"
        print(f"  {before.candidate.name:32} {before.outcome:15} exhaustive {after.outcome:15} {figure}")
        sure = before.outcome in (Outcome.MEETS, Outcome.DOES_NOT_MEET)
        side = after.estimate is not None and after.estimate.mean >= short.task.target.at_least
        if sure and side != (before.outcome is Outcome.MEETS):
            contradictions.append(before.candidate.name)
    print(f"evaluations of the raced candidates: {spent:,} of {all_of_it:,} ({spent / all_of_it:.1%})")

    rng = np.random.default_rng(0)
    choices = Counter(str(replayed(whole, rng.permutation(len(whole.runs[0].rows)))) for _ in range(options.orders))
    same = choices[str(short.chosen)] / options.orders
    print(f"chosen in {options.orders} test orders: {dict(choices)}")
    figures = {
        **about,
        "demo": options.name,
        "chosen": short.chosen,
        "seconds": round(seconds, 1),
        "peak_gb": round(peak, 2),
        "evaluations": spent,
        "evaluations_exhaustive": all_of_it,
        "share": round(spent / all_of_it, 4),
        "contradictions": contradictions,
        "exhaustive": {
            result.candidate.name: {"mean": round(result.estimate.mean, 4), "outcome": str(result.outcome)}
            for result in whole.candidates
            if result.estimate
        },
        "orders": options.orders,
        "choices": dict(choices),
        "same_choice": same,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
