"""Fine-tuning on a CPU: luthier's loop against TRL's SFTTrainer, step by step on the same rows.

    python benchmarks/train.py [--steps 10] [--rounds 1] [--save benchmarks/results/train.json]
    python benchmarks/train.py --seeds 0 1 2 [--replay 0 1] [--layers 20 30]
    python benchmarks/train.py --few 125 250                      # seen twice, and as often as is usual
    python benchmarks/train.py --curve DATA --minutes 30          # a folder that has banking77/*.csv

One example: "Who was Galileo ?" under the system message "Classify.", answered "HUM": 24 tokens, three of which are
learned. The peer runs as TRL's documentation has it on a CPU, at its best: length grouping, no checkpointing, LoRA on
all linear layers. It chooses its batches; luthier then takes the very same batches, from the same adapter, at the same
rates, so that both must end at the same dev loss. Each side is a process of its own (two threads, fp32) and does one
step more, which is not counted. The ceiling is what the matrix products of the model's own layers (forward, backward,
and those of the adapter) would allow if nothing else took time. `--seeds`, `--few` and `--curve` score what comes
out: the first the demo's fine-tune on all sealed test questions and by what it forgot (with and without replay, on the
upper layers or on all), the second the same on so many of its examples only, the third banking77 by the number of
examples. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe

from luthier import demo
from luthier.models import catalog, prepare
from luthier.rungs.lora import Lora
from luthier.rungs.tuned import Student, TunedPredictor
from luthier.stats import wilson
from luthier.task import load_task
from luthier.train.guard import Guard, Memory, certify
from luthier.train.recipe import Recipe
from luthier.train.suites import GENERAL_TEXT
from luthier.types import Constraints, Example, FitContext, Label, Target, Task, TaskSpec

HERE = Path(__file__).parent
MODEL = "smollm2-135m"
DEV = 100
SIZES = (154, 385, 770, 1540, 3080, 6160, 100_000)
TESTED = 770
SHARE_FOR_SCORING = 1.15  # the curve's sizes are predicted from the last one; a machine is not always as fast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10, help="measured steps of 16 examples")
    parser.add_argument("--rounds", type=int, default=1, help="how often both sides run, in turns")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", nargs="+", type=int, help="score the demo's fine-tune for each seed instead")
    parser.add_argument("--replay", nargs="+", type=int, default=[1], help="with --seeds: rows a step of replay, each")
    parser.add_argument("--layers", nargs="+", type=int, help="with --seeds: upper layers that are adapted, each")
    parser.add_argument("--few", nargs="+", type=int, help="score the demo's fine-tune on so many examples instead")
    parser.add_argument("--curve", type=Path, help="score banking77 by the number of examples instead: its folder")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the curve may take")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="its numbers of examples")
    parser.add_argument("--save", type=Path, help="also write the figures to this file, beside what is there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures: dict[str, Any] = describe("torch", "transformers", "peft", "trl", "luthier")
    figures |= {"threads": options.threads, "load_before": round(os.getloadavg()[0], 2)}
    with tempfile.TemporaryDirectory() as scratch:
        if options.seeds:
            name, found = "seeds", seeds(options.seeds, options.replay, options.layers, Path(scratch))
        elif options.few:
            name, found = "few", few(options.few, Path(scratch))
        elif options.curve:
            name, found = "curve", curve(options.curve, options.sizes, options.minutes, Path(scratch))
        else:
            name, found = "speed", speed(options, Path(scratch))
    figures |= found | {"load_after": round(os.getloadavg()[0], 2)}
    if options.save is not None:
        kept = json.loads(options.save.read_text("utf-8")) if options.save.is_file() else {}
        if name == "curve":  # a curve may be measured by and by
            measured = {point["examples"] for point in figures["points"]}
            earlier = [point for point in kept.get(name, {}).get("points", []) if point["examples"] not in measured]
            figures["points"] = sorted([*earlier, *figures["points"]], key=lambda point: point["examples"])
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(json.dumps({**kept, name: figures}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: figures}))


# ---------------------------------------------------------------- against the peer


def speed(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    recipe = replace(Recipe(), epochs=1, dev_checks_per_epoch=1)
    task = routing(scratch)
    model = catalog.open_model(MODEL)
    student = Student.of(task.spec, {"student": model}, "lora")
    count = (options.steps + 1) * recipe.step_examples
    rows = [asdict(student.row(example)) for example in task.train[:count]]
    assert len(rows) == count, f"the demo has {len(task.train)} training examples"
    dev = [asdict(student.row(example)) for example in task.dev[:DEV]]
    del model, student
    job = {"rows": rows, "dev": dev, "recipe": asdict(recipe), "seed": 0, "threads": options.threads}
    job["model"] = str(prepare.prepare(catalog.get(MODEL), lambda event: None))
    peers, ours = [], []
    for at in range(options.rounds):
        peers.append(side("train_peer.py", {**job, "seed": at}, scratch))
        print(told("TRL", peers[-1]), flush=True)
        ours.append(side("train_ours.py", {**job, "seed": at, "batches": peers[-1]["batches"]}, scratch))
        print(told("luthier", ours[-1]), flush=True)
    times = [one["examples_per_second"] / other["examples_per_second"] for one, other in zip(ours, peers, strict=True)]
    apart = max(abs(one["dev_loss"] - other["dev_loss"]) for one, other in zip(ours, peers, strict=True))
    shares = [one["distinct_tokens_per_second"] / one["ceiling"] for one in ours]
    print(
        f"times    {statistics.median(times):.2f} the examples a second; dev losses {apart:.4f} apart; "
        f"{statistics.median(shares):.0%} of the ceiling"
    )
    for found in (*peers, *ours):
        found.pop("batches", None)
    return {
        "steps": options.steps,
        "step_examples": recipe.step_examples,
        "times": statistics.median(times),
        "dev_losses_apart": apart,
        "share_of_ceiling": statistics.median(shares),
        "ours": ours,
        "peer": peers,
    }


def side(script: str, job: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """One side in a fresh process: its peak memory is its own, and nothing leaks over."""
    asked, answered = scratch / "job.json", scratch / "answer.json"
    asked.write_text(json.dumps({**job, "scratch": str(scratch / script)}), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": str(job["threads"]), "HF_HUB_OFFLINE": "1"}
    call = [sys.executable, str(HERE / script), str(asked), str(answered)]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
    return found


def told(name: str, found: Mapping[str, Any]) -> str:
    said = (
        f"{name:9}{found['examples_per_second']:.2f} examples/s, {found['tokens_per_second']:.0f} tokens/s, "
        f"dev loss {found['dev_loss']:.4f}, {found['peak_gb']:.2f} GB"
    )
    if "ceiling" not in found:
        return said
    return f"{said}; {found['distinct_tokens_per_second']:.0f} distinct tokens/s of a ceiling of {found['ceiling']:.0f}"


# ---------------------------------------------------------------- what comes out


def seeds(chosen: Sequence[int], replays: Sequence[int], layers: Sequence[int] | None, scratch: Path) -> dict[str, Any]:
    """The demo's fine-tune for each seed, on all sealed test questions and by the guard: nothing is chosen by them.

    `layers`: None for as many as the demo adapts.
    """
    task = routing(scratch)
    student = catalog.open_model(MODEL)
    guard, kept = Guard.of(task.spec.guard), Memory()
    found: dict[str, Any] = {}
    for replay, upper in itertools.product(replays, layers or [task.spec.training.upper_layers]):
        spec = replace(task.spec, training=replace(task.spec.training, replay=replay, upper_layers=upper))
        name = f"replay {replay}, {upper or 'all'} layers"
        rows = []
        for seed in chosen:
            folder = scratch / f"{replay}-{upper}-{seed}"
            predictor, row = fitted(spec, task.train, task.dev, list(task.test.order), student, seed, folder)
            forgot = certify(guard, predictor, kept=kept)
            suites = {one.suite: (one.status, asdict(one.difference)) for one in forgot.suites if one.difference}
            rows.append(
                {"seed": seed, **row, "guard": forgot.answer, "suites": suites, "guard_seconds": forgot.seconds}
            )
            print(json.dumps(rows[-1]), flush=True)  # a later seed may be interrupted
            text = suites[GENERAL_TEXT][1]
            print(
                f"{name}, seed {seed}: accuracy {row['accuracy']:.3f}, fitted in {row['fit_seconds']:.0f} s; "
                f"guard {forgot.answer} in {forgot.seconds:.0f} s, general text {text['mean']:+.3f} "
                f"[{text['low']:+.3f}, {text['high']:+.3f}]",
                flush=True,
            )
        accuracies = [row["accuracy"] for row in rows]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else None
        said = (
            "" if spread is None else f", standard deviation {spread:.4f}, from {min(accuracies)} to {max(accuracies)}"
        )
        print(f"{name}: mean {statistics.fmean(accuracies):.4f}{said}", flush=True)
        found[name] = {"mean": statistics.fmean(accuracies), "deviation": spread, "runs": rows}
    return found


def few(sizes: Sequence[int], scratch: Path) -> dict[str, Any]:
    """The demo's fine-tune on the first so many examples, seen twice and as often as is usual; one seed."""
    task = routing(scratch)
    student = catalog.open_model(MODEL)
    rows = []
    for size, epochs in itertools.product(sizes, (2, None)):
        spec = replace(task.spec, training=replace(task.spec.training, epochs=epochs))
        folder = scratch / f"{size}-{epochs}"
        predictor, row = fitted(spec, task.train[:size], task.dev, list(task.test.order), student, 0, folder)
        told = predictor.describe()
        rows.append({"examples": size, "epochs": told["epochs"], "steps": told["steps"], **row})
        print(json.dumps(rows[-1]), flush=True)
        print(
            f"{size:6,} examples, {told['epochs']} epochs ({told['steps']} steps): accuracy {row['accuracy']:.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}] on {row['tested']}, fitted in {row['fit_seconds']:.0f} s",
            flush=True,
        )
    return {"layers": task.spec.training.upper_layers, "runs": rows}


def curve(folder: Path, sizes: Sequence[int], minutes: float, scratch: Path) -> dict[str, Any]:
    """Accuracy on banking77 by the number of examples, as far as the minutes go; one seed."""
    began = time.perf_counter()
    spec, train, dev, test = banking(folder / "banking77")
    student = catalog.open_model(MODEL)
    points: list[dict[str, Any]] = []
    for size in sorted({min(size, len(train)) for size in sizes}):
        left = 60 * minutes - (time.perf_counter() - began)
        if points:
            last = points[-1]
            needed = last["fit_seconds"] * size / last["examples"] + last["test_seconds"]
            if SHARE_FOR_SCORING * needed > left:
                # the largest size that still fits: the end of the curve is what one wants to know
                size = int(size * (left / SHARE_FOR_SCORING - last["test_seconds"]) / (needed - last["test_seconds"]))
                if size < 1.2 * last["examples"]:
                    break
        _, row = fitted(spec, train[:size], dev, test, student, 0, scratch / str(size))
        points.append({"examples": size, "threads": torch.get_num_threads(), **row})
        print(json.dumps(points[-1]), flush=True)
        print(
            f"{size:6,} examples: accuracy {row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}] on {len(test)}, "
            f"fitted in {row['fit_seconds']:.0f} s",
            flush=True,
        )
        if points[-1]["examples"] not in sizes and size < len(train):
            break
    minutes_used = (time.perf_counter() - began) / 60
    return {"labels": len(spec.labels), "train": len(train), "minutes": round(minutes_used, 1), "points": points}


def fitted(
    spec: TaskSpec,
    train: Sequence[Example],
    dev: Sequence[Example],
    test: Sequence[Example],
    student: Any,
    seed: int,
    workdir: Path,
) -> tuple[TunedPredictor, dict[str, Any]]:
    began = time.perf_counter()
    predictor = Lora().fit(spec, train, dev, FitContext({"student": student}, seed, workdir))
    fit_seconds = time.perf_counter() - began
    began = time.perf_counter()
    predictions = predictor.predict([example.input for example in test])
    right = sum(prediction.output in example.references for prediction, example in zip(predictions, test, strict=True))
    low, high = wilson(right, len(test), 0.95)
    return predictor, {
        "accuracy": round(right / len(test), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "tested": len(test),
        "fit_seconds": round(fit_seconds, 1),
        "test_seconds": round(time.perf_counter() - began, 1),
        "dev checks": predictor.describe()["dev checks"],
    }


# ---------------------------------------------------------------- data


def routing(scratch: Path) -> Task:
    return load_task(demo.prepare("question-routing", scratch / "routing", lambda event: None))


def banking(folder: Path) -> tuple[TaskSpec, list[Example], list[Example], list[Example]]:
    """All training messages in a seeded order (an eighth of them is dev), and ten test messages of each intent."""
    rng = np.random.default_rng(0)
    train, test = (read(folder / name) for name in ("train.csv", "test.csv"))
    train = [train[at] for at in rng.permutation(len(train))]
    labels = sorted({example.reference for example in train})
    taken: dict[str, int] = dict.fromkeys(labels, 0)
    tested = []
    for at in rng.permutation(len(test)):
        if taken[test[at].reference] < TESTED // len(labels):
            taken[test[at].reference] += 1
            tested.append(test[at])
    spec = TaskSpec(
        name="banking77",
        kind="classification",
        instruction="Name the intent of the customer's message.",
        labels=tuple(Label(name) for name in labels),
        target=Target("accuracy", 0.9),
        constraints=Constraints(),
        rungs=("lora",),
        models={"student": MODEL},
    )
    held = len(train) // 8
    return spec, train[held:], train[:held], tested


def read(path: Path) -> list[Example]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["text"].strip(), row["category"].replace("_", " ")) for row in csv.DictReader(file)]
    return [Example(f"{path.stem}-{at}", text, (label,)) for at, (text, label) in enumerate(rows)]


if __name__ == "__main__":
    main()
