"""What it is worth to write texts side by side instead of behind each other in one row, on this machine.

    python benchmarks/writing.py [--turns 5] [--counts 1 4 16 48] [--prefixes 0 128 256 512] [--save FILE]

General prompts (those of the forgetting guard), each behind a system message of about so many tokens that they share,
are answered with 32 tokens each, greedily, both ways in turns in one process. A ratio above 1: side by side takes less
time. `models.generation` chooses by the length of the prefix; here the choice is made by hand. Greedy answers are the
same both ways but for sums in another order; how many are is told. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from machine import describe

from luthier.models import catalog, generation
from luthier.train.general import documentation, general
from luthier.types import Message, Reply, Request

MODEL = "smollm2-135m"
TOKENS = 32
WAYS = {"one row": -1, "side by side": 10**9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 4, 16, 48])
    parser.add_argument("--prefixes", type=int, nargs="+", default=[0, 128, 256, 512])
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures: dict[str, Any] = describe("torch", "transformers", "luthier")
    figures |= {"threads": options.threads, "load": round(os.getloadavg()[0], 2), "tokens_each": TOKENS}
    figures["repeated_up_to"] = generation.REPEATED_TOKENS
    model = catalog.open_model(MODEL)
    asked = general("certificate", documents=64, prompts=max(options.counts)).prompts
    for prefix in options.prefixes:
        for count in options.counts:
            requests = [Request((*system(model, prefix), *turns), max_tokens=TOKENS) for turns in asked[:count]]
            figures[f"{count} texts, prefix {prefix}"] = compared(model, requests, options.turns)
            print(f"{count:3} texts, prefix {prefix:4}  {figures[f'{count} texts, prefix {prefix}']}", flush=True)
    print(json.dumps(figures))
    if options.save is not None:
        options.save.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def system(model: Any, tokens: int) -> tuple[Message, ...]:
    """A system message of about so many tokens, whole sentences of documentation; none for 0."""
    text = ""
    for document in documentation():
        if len(model.tokenizer(text)["input_ids"]) >= tokens:
            break
        text = f"{text} {document.text}".strip()
    ids = model.tokenizer(text)["input_ids"][:tokens]
    return (Message("system", model.tokenizer.decode(ids)),) if tokens else ()


def compared(model: Any, requests: Sequence[Request], turns: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    replies: dict[str, list[Reply]] = {}
    for turn in range(turns + 1):
        for way, repeated in WAYS.items():
            with mock.patch.object(generation, "REPEATED_TOKENS", repeated):
                began = time.perf_counter()
                replies[way] = model.complete(requests)
                if turn:  # the first one runs the prefix, too
                    seconds[way].append(time.perf_counter() - began)
    row, apart = seconds.values()
    ratios = [one / other for one, other in zip(row, apart, strict=True)]
    return {
        "one_row_s": round(statistics.median(row), 3),
        "side_by_side_s": round(statistics.median(apart), 3),
        "ratio": round(statistics.median(ratios), 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
        "same_texts": sum(one.texts == other.texts for one, other in zip(*replies.values(), strict=True)),
    }


if __name__ == "__main__":
    main()
