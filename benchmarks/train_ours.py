"""luthier's side of benchmarks/train.py, in a process of its own: python train_ours.py JOB.json ANSWER.json."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from transformers import AutoModelForCausalLM

from luthier.models.linear import product, with_products
from luthier.train.check import dev_scores
from luthier.train.job import Job
from luthier.train.loop import Training
from luthier.train.recipe import Recipe
from luthier.train.rows import DevRow, TrainRow


class Given(Training):
    """The loop with batches that another chose."""

    batches: list[list[int]]

    def _order(self, step: int) -> list[int]:
        return self.batches[step]


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    torch.set_num_threads(given["threads"])
    loaded = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32, local_files_only=True)
    module = with_products(loaded.eval())
    rows = [TrainRow(tuple(row["input_ids"]), row["labels_from"]) for row in given["rows"]]
    dev = [DevRow((TrainRow(tuple(row["input_ids"]), row["labels_from"]),), (0,)) for row in given["dev"]]
    recipe = Recipe(**given["recipe"])
    ceilings = [ceiling(module, rows, recipe)]
    ticks: list[tuple[float, int, int]] = []

    def tick(text: str, _done: int, _total: int) -> None:
        if "loss" in text:
            ticks.append((time.perf_counter(), training.state.tokens, training.state.tokens_run))

    ordered = Job(recipe, dev, given["seed"], Path(given["scratch"]), "benchmark", working=tick)
    training = Given(module, rows, ordered, "benchmark")
    training.batches = given["batches"]
    training.run()
    (began, tokens, distinct), (ended, all_tokens, all_distinct) = ticks[0], ticks[-1]
    ceilings.append(ceiling(module, rows, recipe))
    accuracy, dev_loss = dev_scores(training.module, dev, recipe.pass_tokens, shared=training.note is None)
    assert accuracy == 1, "there is one answer each"
    seconds = ended - began
    answer = {
        "seconds": seconds,
        "examples_per_second": (len(ticks) - 1) * recipe.step_examples / seconds,
        "tokens_per_second": (all_tokens - tokens) / seconds,
        "distinct_tokens_per_second": (all_distinct - distinct) / seconds,
        "ceiling": max(ceilings),
        "dev_loss": dev_loss,
        "losses": training.state.losses,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


def ceiling(module: Any, rows: Sequence[TrainRow], recipe: Recipe) -> float:
    """Distinct tokens a second if a step were its matrix products alone, at the best of several numbers of rows.

    Of the two ways to multiply that torch has here the faster one counts.

    For each linear layer: x W and, backward, grad W; of the adapter's A and B the product and both of its slopes. For
    the head: labelled positions alone, as this loop projects them, forward and backward. The weights are the model's
    own and not one that stays in the processor's cache.
    """
    layers = [part.weight.data for part in module.model.modules() if isinstance(part, torch.nn.Linear)]
    head = module.get_output_embeddings().weight.data
    labelled = sum(row.labelled for row in rows) / sum(len(row.input_ids) for row in rows)
    best = 0.0
    with torch.inference_mode():
        for multiply in (functional.linear, product):
            for tokens in (256, 384, 512):
                taken = _products(multiply, layers, recipe.rank, tokens)
                taken += _head(multiply, head, max(1, round(tokens * labelled)))
                best = max(best, tokens / taken)
    return best


def _products(multiply: Any, layers: Sequence[Any], rank: int, tokens: int) -> float:
    """Seconds of a step's products in all of these layers."""
    seconds = 0.0
    for shape, count in Counter(tuple(weight.shape) for weight in layers).items():
        some = [weight for weight in layers if tuple(weight.shape) == shape][:8]
        a, b = torch.randn(rank, shape[1]), torch.randn(shape[0], rank)
        x, slope = torch.randn(tokens, shape[1]), torch.randn(tokens, shape[0])
        low = torch.randn(tokens, rank)
        began = time.perf_counter()
        for weight in some:
            multiply(x, weight)
            multiply(slope, weight.t())
            x @ a.t()
            low @ b.t()
            slope @ b
            low @ a
            slope.t() @ low
            low.t() @ x
        seconds += (time.perf_counter() - began) / len(some) * count
    return seconds


def _head(multiply: Any, head: Any, places: int) -> float:
    hidden, slope = torch.randn(places, head.shape[1]), torch.randn(places, head.shape[0])
    began = time.perf_counter()
    multiply(hidden, head)
    multiply(slope, head.t())
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
