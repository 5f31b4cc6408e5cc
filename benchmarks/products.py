"""What oneDNN's matrix products are worth on this machine, beside those that torch chooses for fp32.

    python benchmarks/products.py [--turns 7] [--save benchmarks/results/products.json]

Products of the model's own layers at several numbers of tokens; then answers of the model (labels of short prompts and
of prompts with 8 solved examples, short texts) and steps of its fine-tune on the demo's questions, each way in turns in
one process with the same inputs. A ratio above 1: oneDNN takes less time. It is measured on every processor that has
it; `used_here` tells whether luthier uses it on this one. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as functional
from machine import describe

from luthier import demo, load_task
from luthier.models import catalog, linear
from luthier.models.linear import Linear, faster, product, with_products
from luthier.rungs.tuned import Lesson, Student
from luthier.train import adapter
from luthier.train.loop import Training
from luthier.train.recipe import Recipe
from luthier.types import FitContext, Message, Request, Task

MODEL = "smollm2-135m"
TOKENS = (1, 2, 16, 64, 256, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures: dict[str, Any] = describe("torch", "transformers", "luthier")
    figures |= {"threads": options.threads, "load": round(os.getloadavg()[0], 2), "used_here": faster()}
    if not linear.available():
        print("skipped: this build of torch has no oneDNN products")
        return
    model = catalog.open_model(MODEL)
    with mock.patch.object(linear, "faster", return_value=True), tempfile.TemporaryDirectory() as scratch:
        task = load_task(demo.prepare("question-routing", Path(scratch), lambda event: None))
        figures["layers"] = layers(model.module, options.turns)
        figures |= {name: told(name, *taken) for name, taken in answers(model, task, options.turns)}
        figures["training step"] = told("training step", *steps(model, task, options.turns, Path(scratch)))
    print(json.dumps(figures))
    if options.save is not None:
        options.save.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def told(name: str, plain: list[float], fast: list[float]) -> dict[str, float]:
    ratios = [one / other for one, other in zip(plain, fast, strict=True)]
    found = {
        "seconds": round(statistics.median(plain), 4),
        "seconds_by_onednn": round(statistics.median(fast), 4),
        "ratio": round(statistics.median(ratios), 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
    }
    print(f"{name:28}" + "  ".join(f"{key} {value}" for key, value in found.items()), flush=True)
    return found


def layers(module: Any, turns: int) -> dict[str, Any]:
    """All products of one pass over so many tokens, by the weights themselves; "head": on the vocabulary."""
    inner = [layer.weight for layer in module.model.modules() if isinstance(layer, torch.nn.Linear)]
    print(f"products of {len(inner)} layers: {dict(Counter(tuple(weight.shape) for weight in inner))}")
    found = {}
    for tokens in TOKENS:
        for name, weights in (("layers", inner), ("head", [module.get_output_embeddings().weight])):
            inputs = {width: torch.randn(tokens, width) for width in {weight.shape[1] for weight in weights}}
            taken: dict[Any, list[float]] = {functional.linear: [], product: []}
            with torch.inference_mode():
                for turn in range(turns + 1):
                    for multiply, seconds in taken.items():
                        began = time.perf_counter()
                        for weight in weights:
                            multiply(inputs[weight.shape[1]], weight)
                        if turn:
                            seconds.append(time.perf_counter() - began)
            found[f"{tokens} tokens, {name}"] = told(f"{tokens} tokens, {name}", *taken.values())
    return found


def answers(model: Any, task: Task, turns: int) -> Iterator[tuple[str, tuple[list[float], list[float]]]]:
    texts = [str(example.input) for example in task.dev]
    labels = task.spec.label_names

    def choosing(count: int, shots: int) -> Callable[[int], list[Request]]:
        def requests(turn: int) -> list[Request]:
            found = []
            for at in range(turn * count, (turn + 1) * count):
                some = task.train[at * shots : (at + 1) * shots]
                solved = "".join(f"{example.input}\n{example.reference}\n\n" for example in some)
                messages = (Message("system", task.spec.instruction), Message("user", solved + texts[at % len(texts)]))
                found.append(Request(messages, choices=labels))
            return found

        return requests

    def writing(turn: int) -> list[Request]:
        some = [Message("user", texts[at % len(texts)]) for at in range(turn * 16, (turn + 1) * 16)]
        return [Request((message,), max_tokens=24, temperature=1.0, seed=turn) for message in some]

    kinds = {"labels": choosing(32, 0), "labels, 8 shots": choosing(8, 8), "texts": writing}
    for name, requests in kinds.items():
        plain, fast = [], []
        for turn in range(turns + 1):
            asked = requests(turn)
            with plainly(model.module):
                before = seconds(lambda asked=asked: model.complete(asked))
            after = seconds(lambda asked=asked: model.complete(asked))
            if turn:
                plain.append(before)
                fast.append(after)
        yield name, (plain, fast)


def steps(model: Any, task: Task, turns: int, scratch: Path) -> tuple[list[float], list[float]]:
    """Steps of 16 examples: the same examples each way, one behind the other, by two trainings of the same seed."""
    context = FitContext({"student": model}, task.spec.seed, scratch)
    student = Student.of(task.spec, context.models, "lora")
    lesson = Lesson.of(student, Recipe(), task.train, task.dev, context)
    job = replace(student.job(lesson.recipe, lesson.dev, context), workdir=scratch / "steps")
    with plainly(model.module):
        plain = Training(model.module, lesson.rows, job, "plain")
    fast = Training(model.module, lesson.rows, job, "fast")
    taken: tuple[list[float], list[float]] = ([], [])
    for step in range(turns + 1):
        with mock.patch.object(adapter, "product", functional.linear), plainly(plain.module):
            before = seconds(lambda step=step: plain._step(step))
        after = seconds(lambda step=step: fast._step(step))
        if step:
            taken[0].append(before)
            taken[1].append(after)
    return taken


def seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextmanager
def plainly(module: Any) -> Iterator[None]:
    """Inside, the layers multiply as torch chooses."""
    ours = [layer for layer in module.modules() if type(layer) is Linear]
    for layer in ours:
        layer.__class__ = torch.nn.Linear
    try:
        yield
    finally:
        for layer in ours:
            with_products(layer)


if __name__ == "__main__":
    main()
