"""luthier's side of benchmarks/engine.py, in a process of its own: python engine_ours.py JOB.json ANSWER.json."""

from __future__ import annotations

import itertools
import json
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional

from luthier.models import catalog, prepare
from luthier.models.linear import product
from luthier.models.local import LocalModel
from luthier.types import Message, Reply, Request

MODEL = "smollm2-135m"
ROUNDS = 9


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    folder = prepare.prepare(catalog.get(MODEL), lambda event: None)
    model = LocalModel.load(folder, name=MODEL, threads=job["threads"], end="none")
    answered(model, [Request((Message("user", "Hello."),), choices=("a b", "c"))])  # the first pass of all is slow
    found = prefill(model, job["prefill"]) if "prefill" in job else scored(model, job)
    found |= {"folder": str(folder), "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


def scored(model: LocalModel, job: Mapping[str, Any]) -> dict[str, Any]:
    """All labels of each prompt, as one batch, nothing cached before; then again with only the best asked for."""
    prompts, labels = [messages(turns) for turns in job["prompts"]], tuple(job["labels"])
    requests = [Request(prompt, choices=labels) for prompt in prompts]
    replies, seconds = answered(model, requests)
    forget(model)
    best, best_seconds = answered(model, [replace(request, scores="best") for request in requests])
    return {
        "items": len(prompts),
        "seconds": seconds,
        "best_seconds": best_seconds,
        "best_same_answer": sum(one.texts == other.texts for one, other in zip(best, replies, strict=True)),
        "best_answer_tokens": statistics.fmean(reply.usage.output_tokens for reply in best),
        "logprobs": [reply.choice_logprobs for reply in replies],
        "prompt_tokens": statistics.fmean(reply.usage.fresh_tokens + reply.usage.cached_tokens for reply in replies),
        "answer_tokens": replies[0].usage.output_tokens,
        "prompts": [model.chat.prompt_ids(prompt) for prompt in prompts],
        "answers": [model.chat.answer_ids(prompts[0], label)[:-1] for label in labels],
    }


def prefill(model: LocalModel, conversations: Sequence[Any]) -> dict[str, Any]:
    """Tokens a second where each prompt is short and of its own, beside the ceiling, in turns: the load is the same.

    All tokens that are run count: those of the prompts, and those of the two answers behind each.
    """
    requests = [Request(messages(turns), choices=("yes", "no")) for turns in conversations]
    speeds, ceilings = [], []
    for _ in range(ROUNDS):
        ceilings.append(ceiling(model.module))
        forget(model)
        replies, seconds = answered(model, requests)
        tokens = sum(reply.usage.fresh_tokens + reply.usage.output_tokens for reply in replies)
        speeds.append(tokens / seconds)
    shares = [speed / top for speed, top in zip(speeds, ceilings, strict=True)]
    return {
        "tokens_per_second": statistics.median(speeds),
        "ceiling": statistics.median(ceilings),
        "share": statistics.median(shares),
        "shares": shares,
        "mean_tokens": tokens / len(requests),
    }


def ceiling(module: Any) -> float:
    """Tokens a second if the layers were their matrix products alone, at the best of several numbers of rows.

    Of the two ways to multiply that torch has here the faster one counts. The weights are the model's own and not one
    that stays in the processor's cache.
    """
    layers = [part.weight for name, part in module.model.named_modules() if isinstance(part, torch.nn.Linear)]
    shapes = Counter(tuple(weight.shape) for weight in layers)
    best = 0.0
    with torch.inference_mode():
        for multiply, rows in itertools.product((functional.linear, product), (256, 384, 512)):
            seconds = 0.0
            for shape, count in shapes.items():
                some = [weight for weight in layers if tuple(weight.shape) == shape][:8]
                inputs = torch.randn(rows, shape[1])
                began = time.perf_counter()
                for weight in some:
                    multiply(inputs, weight)
                seconds += (time.perf_counter() - began) / len(some) * count
            best = max(best, rows / seconds)
    return best


def forget(model: LocalModel) -> None:
    """Let the cache hold another prefix."""
    answered(model, [Request((Message("system", "x"), Message("user", "y")), choices=("a", "b"))])


def answered(model: LocalModel, requests: Sequence[Request]) -> tuple[list[Reply], float]:
    began = time.perf_counter()
    replies = model.complete(requests)
    seconds = time.perf_counter() - began
    for reply in replies:
        assert reply.error is None, reply.error
    return replies, seconds


def messages(turns: Sequence[Mapping[str, str]]) -> tuple[Message, ...]:
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


if __name__ == "__main__":
    main()
