"""The peer's side of benchmarks/engine.py, where luthier is not installed: python engine_peer.py JOB.json ANSWER.json.

lm-evaluation-harness gets the token ids that luthier scores, through the method that its `loglikelihood` calls once it
has tokenized: the same ids on both sides, and its tokenizing is not counted.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import torch
from lm_eval.models.huggingface import HFLM


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    torch.set_num_threads(job["threads"])
    model = HFLM(pretrained=job["model"], dtype="float32", device="cpu", batch_size=job["batch"])
    asked = [
        (("", f"item {at}"), list(prompt), list(answer))
        for at, prompt in enumerate(job["prompts"])
        for answer in job["answers"]
    ]
    model._loglikelihood_tokens([(("", "warm"), [1, 2, 3], [4])], disable_tqdm=True)
    began = time.perf_counter()
    found = model._loglikelihood_tokens(asked, disable_tqdm=True)
    seconds = time.perf_counter() - began
    values = [value for value, _ in found]
    width = len(job["answers"])
    answer = {
        "seconds": seconds,
        "logprobs": [values[at : at + width] for at in range(0, len(values), width)],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
