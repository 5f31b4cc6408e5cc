"""What the engine's reuse of prefixes is worth to the demo: seconds an answer of each rung, with it and without.

    python benchmarks/rungs.py [question-routing] [--inputs 8]

Fits the rungs of the demo that ask a local model (with the engine: without it the search alone takes an hour), then has
each answer the same test inputs twice in one process: by the engine, and by the plain way that the engine falls back to
for a model that cannot share (each answer of each prompt a row of its own, in batches, nothing kept between them). The
fine-tune is fitted on a few examples: its seconds do not depend on what it learned. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import describe

from luthier import demo, load_task
from luthier.models import catalog
from luthier.rungs import ladder
from luthier.rungs.lora import Lora
from luthier.train.recipe import Recipe
from luthier.types import FitContext, Prediction, Predictor

ASKING = ("zero-shot", "calibrated", "few-shot", "retrieved-shots", "lora")
FEW = 64  # examples of the fine-tune
TURNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="question-routing", choices=list(demo.demos()))
    parser.add_argument("--inputs", type=int, default=8)
    options = parser.parse_args()
    about = {**describe("torch", "transformers", "peft"), "load": round(os.getloadavg()[0], 2)}
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(Path(folder), options.name, options.inputs)
    print(json.dumps({**about, "demo": options.name, "inputs": options.inputs, "rungs": figures}))


def measured(folder: Path, name: str, count: int) -> dict[str, Any]:
    task = load_task(demo.prepare(name, folder, lambda event: None))
    model = catalog.open_model(task.spec.models["prompted"], lambda event: None)
    models = {"prompted": model, "student": model}
    models["embedder"] = catalog.open_embedder(task.spec.models["embedder"], lambda event: None)
    inputs = [example.input for example in task.test.order[:count]]
    figures = {}
    for rung in ladder(ASKING, task.spec.kind):
        if rung.name == "lora":
            rung = Lora(Recipe(epochs=1))
        train = task.train[:FEW] if rung.name == "lora" else task.train
        workdir = folder / rung.name
        workdir.mkdir()
        predictor = rung.fit(task.spec, train, task.dev, FitContext(models, task.spec.seed, workdir))
        asked = getattr(predictor, "model", model)
        ours, with_engine = answered(predictor, inputs, asked, plainly=False, turns=TURNS)
        theirs, without = answered(predictor, inputs, asked, plainly=True, turns=1)
        same = sum(one.output == other.output for one, other in zip(ours, theirs, strict=True))
        figures[rung.name] = {
            "seconds_an_answer": round(with_engine / count, 4),
            "plain_seconds_an_answer": round(without / count, 4),
            "times": round(without / with_engine, 2),
            "same_answers": same,
        }
        print(
            f"  {rung.name:16} {without / count:7.3f} s an answer before, {with_engine / count:7.3f} s after: "
            f"{without / with_engine:5.1f} times; same answer {same} of {count}",
            flush=True,
        )
    return figures


def answered(
    predictor: Predictor, inputs: Sequence[Any], model: Any, *, plainly: bool, turns: int
) -> tuple[list[Prediction], float]:
    """Answers and the median seconds; what the model keeps between batches is the search's last prefix, not ours."""
    model.__dict__["note"] = "measured without reuse" if plainly else None
    seconds = []
    for _ in range(turns):
        model._prefix.clear()
        began = time.perf_counter()
        answers = predictor.predict(inputs)
        seconds.append(time.perf_counter() - began)
    model.__dict__["note"] = None
    return answers, statistics.median(seconds)


if __name__ == "__main__":
    main()
