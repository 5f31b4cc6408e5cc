"""The forecast by hindsight: fit on up to half of the data, predict the score at the whole, and look.

    python benchmarks/forecast.py FOLDER [--draws 3] [--keep FOLDER] [--output FILE]
    python benchmarks/forecast.py FOLDER --rungs lora --draws 1      # fine-tunes: some minutes a case

FOLDER holds `banking77/` (train.csv and test.csv with text and category); question routing and spam come from the
catalog. A case is a task, a rung (TF-IDF, embeddings with logistic regression, or LoRA), a size N and a random draw of
dev and 2N examples: the rung is fitted on N/8, N/4, N/2 and N of the first N, and on all 2N to see what became of it.
One case: TF-IDF on question types, N = 1,000; dev scores .59 .67 .73 .78; the forecast for 2,000 was .82 [.79, .85]
and the fit on 2,000 scored .82.

Two questions are asked. "on dev": what will a fit on 2N score on the same 400 dev examples? "to come": what will it
score on examples that nobody has seen (1,000 or more)? Three answers with 90 % intervals are compared by the interval
score of Gneiting & Raftery 2007 (width plus 20 times what the truth lies outside; lower is better): the rectified law;
a straight line in log n with its prediction interval; no change, with the binomial (Wilson) interval of the dev score
at N. The prior's spread over beta (stats/curves.py) was set on draws 0 to 2 of TF-IDF on question routing and spam;
nothing was tuned on the draws from 3 on, which are the ones that are judged. With --keep what was measured is kept
there, and an interrupted run goes on. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe
from scipy.stats import t as student

from luthier import demo, stats
from luthier.evaluate.scorers import scorer_of
from luthier.models import catalog
from luthier.models.embed import CachedEmbedder
from luthier.rungs import ladder
from luthier.store import Store
from luthier.task import load_task
from luthier.train.forecast import Fitting, Point, forecast_of, measure, nested
from luthier.types import Constraints, Example, FitContext, Label, Target, TaskSpec, digest

LEVEL = 0.9
DEV = 400
MOST_FRESH = 3000
SIZES = {  # of the first half; the embeddings of the other tasks would take longer than all the rest
    ("question-routing", "tfidf"): (250, 500, 1000),
    ("spam", "tfidf"): (125, 250, 500, 1000),
    ("banking77", "tfidf"): (250, 500),
    ("question-routing", "embedding"): (250, 500, 1000),
    ("question-routing", "lora"): (125,),
    ("spam", "lora"): (125,),
}
RUNGS = ("tfidf", "embedding")  # by default; a case of a fine-tune takes minutes
FRESH_FOR_TUNED = 1000
METHODS = ("law", "line", "no change")


@dataclass(frozen=True)
class Case:
    """What one case measured: the points up to N, and the score of the fit on 2N on dev and on fresh examples."""

    task: str
    rung: str
    size: int
    draw: int
    points: list[Point]
    spec: TaskSpec
    on_dev: float
    fresh: float
    fresh_examples: int


def pools(data: Path, home: Path) -> dict[str, list[Example]]:
    """All distinct examples of each task, one of each set of near-copies. Finding those takes a while: it is kept."""
    kept = home / "pools.json"
    if not kept.is_file():
        kept.write_text(json.dumps(distinct(data, home)), encoding="utf-8")
    rows = json.loads(kept.read_text(encoding="utf-8"))
    return {name: [Example(at, text, (label,)) for at, text, label in rows[name]] for name in rows}


def distinct(data: Path, home: Path) -> dict[str, list[tuple[str, str, str]]]:
    """(id, text, label) of each example, by task."""
    found = {}
    for name in ("question-routing", "spam"):
        path = demo.prepare(name, home / name)
        # the demo trains on a part only of what its file holds: the rest is as good for this
        whole = path.with_name("whole.toml")
        whole.write_text(re.sub(r"(?m)^train = .*$", "", path.read_text(encoding="utf-8")), encoding="utf-8")
        task = load_task(whole)
        one = {example.group or example.id: example for example in (*task.train, *task.dev, *task.test.order)}
        found[name] = sorted(one.values(), key=lambda example: example.id)
    texts: dict[str, str] = {}
    for file in ("train.csv", "test.csv"):
        with (data / "banking77" / file).open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                texts.setdefault(" ".join(row["text"].split()), row["category"])
    found["banking77"] = [Example(f"b{at}", text, (label,)) for at, (text, label) in enumerate(texts.items())]
    return {name: [(each.id, str(each.input), each.reference) for each in pool] for name, pool in found.items()}


def spec_of(name: str, pool: list[Example]) -> TaskSpec:
    labels = tuple(Label(label) for label in sorted({example.reference for example in pool}))
    return TaskSpec(
        name=name,
        kind="classification",
        instruction="",
        labels=labels,
        target=Target("accuracy", 0.9),
        constraints=Constraints(),
        rungs=RUNGS,
        models={},
    )


def hindsight(name: str, pool: list[Example], rung_name: str, size: int, draw: int, models: Any, store: Store) -> Case:
    """One case, measured or read from the store."""
    rng = np.random.default_rng([draw, size, *name.encode()])
    mixed = [replace(pool[int(at)], group=None) for at in rng.permutation(len(pool))]
    dev, rest = tuple(mixed[:DEV]), mixed[DEV:]
    order = [members[0] for members in nested(rest[: 2 * size], draw)]
    half = tuple(rest[at] for at in order[:size])
    whole = tuple(rest[: 2 * size])
    most = FRESH_FOR_TUNED if rung_name == "lora" else MOST_FRESH
    fresh = tuple(rest[2 * size : 2 * size + most])
    spec = replace(spec_of(name, pool), seed=draw)
    (rung,) = ladder([rung_name])
    needed = {role: models[role] for role in rung.roles}
    scorer = scorer_of(spec)
    points = measure(Fitting(rung, rung_name, spec, half, dev, needed, scorer, store, lambda event: None))
    key = digest("hindsight", 1, name, rung_name, rung.version, size, draw, [each.input for each in whole])
    seen = store.measurement(key)
    if seen is None:
        seen = {}
        with tempfile.TemporaryDirectory() as workdir:  # where a fine-tune's weights are read from
            predictor = rung.fit(spec, whole, dev, FitContext(needed, draw, Path(workdir)))
            for split, rows in (("dev", dev), ("fresh", fresh)):
                scores = scorer.score(rows, predictor.predict([example.input for example in rows]))
                seen[split] = float(np.mean([score.value for score in scores]))
        store.keep_measurement(key, seen)
    return Case(name, rung_name, size, draw, points, spec, seen["dev"], seen["fresh"], len(fresh))


# ---------------------------------------------------------------- the three answers


def answers(case: Case) -> dict[str, dict[str, tuple[float, float, float]]]:
    """For each question and method: (middle, low, high) of the score at 2N."""
    found = forecast_of(case.points, case.spec, case.rung, case.size)
    goal = 2 * case.size
    on_dev = 1.0 - found.curve.measured(goal, same_dev=True)
    fresh = 1.0 - found.curve.measured(goal, examples=case.fresh_examples)
    sizes = np.log([point.size for point in case.points])
    line = straight(sizes, np.array(found.scores), float(np.log(goal)))
    at_n = [score for point, score in zip(case.points, found.scores, strict=True) if point.size == case.size]
    now = float(np.mean(at_n))
    same = (now, *stats.wilson(round(now * DEV), DEV, LEVEL))
    return {
        "on dev": {"law": band(on_dev), "line": line, "no change": same},
        "to come": {"law": band(fresh), "line": line, "no change": same},
    }


def band(draws: Any) -> tuple[float, float, float]:
    low, middle, high = np.quantile(draws, ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2))
    return float(middle), float(low), float(high)


def straight(x: Any, y: Any, at: float) -> tuple[float, float, float]:
    """Least squares with the prediction interval of one further observation, cut at 0 and 1."""
    slope, start = np.polyfit(x, y, 1)
    rest = y - (start + slope * x)
    free = len(x) - 2
    spread = np.sqrt((rest @ rest) / free * (1 + 1 / len(x) + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()))
    middle, reach = start + slope * at, student.ppf((1 + LEVEL) / 2, free) * spread
    return tuple(float(np.clip(value, 0, 1)) for value in (middle, middle - reach, middle + reach))


def interval_score(low: float, high: float, truth: float) -> float:
    """Gneiting & Raftery 2007, eq. 43, for a central interval at LEVEL."""
    return (high - low) + 2 / (1 - LEVEL) * (max(low - truth, 0.0) + max(truth - high, 0.0))


# ---------------------------------------------------------------- the comparison


def compared(cases: list[Case]) -> dict[str, Any]:
    """Of each question and method: interval score, coverage, width and bias in points, over all cases and by task."""
    rows = []
    for case in cases:
        for question, methods in answers(case).items():
            truth = case.on_dev if question == "on dev" else case.fresh
            for method, (middle, low, high) in methods.items():
                rows.append(
                    {
                        "task": case.task,
                        "question": question,
                        "method": method,
                        "score": interval_score(low, high, truth),
                        "covered": low <= truth <= high,
                        "width": high - low,
                        "off": middle - truth,
                    }
                )
    found: dict[str, Any] = {}
    for question in ("on dev", "to come"):
        mine = [row for row in rows if row["question"] == question]
        found[question] = {
            method: {
                **figures([row for row in mine if row["method"] == method]),
                "by_task": {
                    task: figures([row for row in mine if row["method"] == method and row["task"] == task])
                    for task in sorted({row["task"] for row in mine})
                },
            }
            for method in METHODS
        }
    return found


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {
        "interval_score": round(100 * float(np.mean([row["score"] for row in rows])), 3),
        "coverage": round(float(np.mean([row["covered"] for row in rows])), 4),
        "width": round(100 * float(np.mean([row["width"] for row in rows])), 3),
        "bias": round(100 * float(np.mean([row["off"] for row in rows])), 3),
        "error": round(100 * float(np.mean([abs(row["off"]) for row in rows])), 3),
    }


def show(found: dict[str, Any], cases: int) -> None:
    for question, methods in found.items():
        print(f"\n{question}, {cases} cases at {LEVEL:.0%} (interval score, width, bias, error in points)")
        for method, row in methods.items():
            by_task = ", ".join(f"{task} {part['interval_score']:.2f}" for task, part in row["by_task"].items())
            print(
                f"  {method:10} interval score {row['interval_score']:6.2f}   covers {row['coverage']:6.1%}   "
                f"width {row['width']:5.2f}   bias {row['bias']:+5.2f}   error {row['error']:4.2f}   ({by_task})"
            )


def tell(cases: list[Case]) -> None:
    """The mean dev score of each size, and what became of it."""
    scores = defaultdict(list)
    for case in cases:
        for point in case.points:
            scores[point.size].append(np.mean([row.score.value for row in point.rows]))
    told = " ".join(f"{size}:{np.mean(values):.3f}" for size, values in scores.items())
    dev, fresh = np.mean([case.on_dev for case in cases]), np.mean([case.fresh for case in cases])
    print(f"  N {cases[0].size:5}  {told}  {2 * cases[0].size}:{dev:.3f} (fresh {fresh:.3f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder that holds banking77/")
    parser.add_argument("--draws", type=int, default=3, help="random draws of each task, rung and size")
    parser.add_argument("--first", type=int, default=3, help="the first draw; 0 to 2 were tuned on")
    parser.add_argument("--tasks", default="question-routing,spam,banking77", help="some of the tasks")
    parser.add_argument("--sizes", help="some of the sizes, for all tasks that have them")
    parser.add_argument("--rungs", default=",".join(RUNGS), help="some of the rungs")
    parser.add_argument("--keep", type=Path, help="where to keep what was measured (a temporary folder by default)")
    parser.add_argument("--output", type=Path, help="where to write the JSON object")
    options = parser.parse_args()
    about = describe("numpy", "scipy", "scikit-learn")
    home = options.keep or Path(tempfile.mkdtemp())
    store = Store(home / "store")
    started = time.perf_counter()
    models = {}
    if "embedding" in options.rungs:
        models["embedder"] = CachedEmbedder(catalog.open_embedder("all-minilm-l6-v2"), home)
    if "lora" in options.rungs:
        models["student"] = catalog.open_model("smollm2-135m")
    cases = []
    pool_of = pools(options.data, home)
    for (name, rung), sizes in SIZES.items():
        if name not in options.tasks.split(",") or rung not in options.rungs.split(","):
            continue
        print(f"{name}, {rung}: {len(pool_of[name]):,} distinct examples", flush=True)
        for size in sizes:
            if options.sizes and str(size) not in options.sizes.split(","):
                continue
            draws = range(options.first, options.first + options.draws)
            these = [hindsight(name, pool_of[name], rung, size, draw, models, store) for draw in draws]
            tell(these)
            cases += these
    found = compared(cases)
    show(found, len(cases))
    result = {
        **about,
        "cases": len(cases),
        "level": LEVEL,
        "dev_examples": DEV,
        "fresh_examples": [min(case.fresh_examples for case in cases), max(case.fresh_examples for case in cases)],
        "seconds": round(time.perf_counter() - started),
        "questions": found,
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
