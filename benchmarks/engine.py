"""The engine against lm-evaluation-harness: 77 labels for each message, exactly scored, at several numbers of shots.

    python benchmarks/engine.py [DATA] [--shots 0 5 20 77] [--items 32] [--save FILE]      DATA has banking77/*.csv

One example: "My card has not arrived." behind n solved messages; each of the 77 labels is scored as the whole answer,
and the likeliest is the answer. Both sides get the same token ids and leave out the end-of-turn token, as the peer
does. Each side runs in a process of its own (two threads, fp32) on the SmolLM2-135M that luthier keeps; seconds begin
when the model is loaded and warm. The peer's seconds a label do not depend on how many items there are, so it gets a
few of the items; it runs one item at each batch size first, and the rest at the best. Then the prefill: tokens a second
on real messages, as a share of what the matrix products of the model's own layers reach. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe
from platformdirs import user_cache_path

HERE = Path(__file__).parent
PEER = ("lm-eval==0.4.13", "torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0")
INSTRUCTION = "Name the intent of the customer's message. Answer with the name and nothing else."
BATCHES = (1, 8, 16)
ITEMS_OF_THE_PEER = {0: 4, 5: 4, 20: 2}  # it needs minutes an item from 20 shots on; one from there up
VOCABULARY = 49_152


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, default=os.environ.get("LUTHIER_DATA", "data"))
    parser.add_argument("--shots", nargs="+", type=int, default=[0, 5, 20, 77])
    parser.add_argument("--items", type=int, default=32, help="messages that the engine scores")
    parser.add_argument(
        "--peer-items", type=int, help="at most so many for the peer (by default 4, 2 or 1); 0: no peer"
    )
    parser.add_argument("--peer-shots", type=int, default=77, help="the peer runs up to so many shots")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=96, help="messages of the prefill measurement; 0: none")
    parser.add_argument("--peer-env", type=Path, default=user_cache_path("luthier") / "benchmarks" / "lm-eval-0.4.13")
    parser.add_argument("--save", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if not (options.data / "banking77").is_dir():
        print(f"skipped: there is no banking77 in {options.data}; give the folder, or set LUTHIER_DATA")
        return
    figures: dict[str, Any] = {**describe("torch", "transformers", "luthier"), "peer": ", ".join(PEER)}
    figures |= {"threads": options.threads, "load_before": round(os.getloadavg()[0], 2)}
    print(f"peer     {figures['peer']}\nload     {figures['load_before']}, {options.threads} threads\n")
    python = None if options.peer_items == 0 else peer_python(options.peer_env)
    labels, shots, messages = banking(options.data / "banking77", max(options.shots), options.items, options.prefill)
    figures["shots"] = {}
    with tempfile.TemporaryDirectory() as scratch:
        runner = Runner(Path(scratch), options.threads, python)
        best = None
        for count in sorted(options.shots):
            job = {"labels": labels, "prompts": [prompt(shots[:count], text) for text in messages[: options.items]]}
            items = min(options.peer_items or 99, ITEMS_OF_THE_PEER.get(count, 1), options.items)
            peer_items = items if python is not None and count <= options.peer_shots else 0
            row, best = compared(runner, job, peer_items, best if count > 20 else None)
            figures["shots"][str(count)] = row
            print(line(count, row), flush=True)
            keep(options.save, figures)
        if options.prefill:
            texts = messages[-options.prefill :]
            figures["prefill"] = runner.ours({"prefill": [[{"role": "user", "content": text}] for text in texts]})
            del figures["prefill"]["folder"]  # where the model lies is nobody's business
            print(prefill_line(figures["prefill"]))
    figures["load_after"] = round(os.getloadavg()[0], 2)
    print(f"load     {figures['load_after']} at the end")
    keep(options.save, figures)
    print(json.dumps(figures))


def keep(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Write what is measured so far: the whole run takes most of an hour."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def banking(folder: Path, shots: int, items: int, prefill: int) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """Labels as words, one solved message of each label in a seeded order, and test messages."""
    rng = np.random.default_rng(0)
    train, test = (rows(folder / name) for name in ("train.csv", "test.csv"))
    labels = sorted({label for _, label in train})
    solved = [next(row for row in train if row[1] == labels[at]) for at in rng.permutation(len(labels))]
    solved = (solved * -(-shots // len(solved)))[:shots] if shots else []
    return labels, solved, [test[at][0] for at in rng.permutation(len(test))[: items + prefill]]


def rows(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"].strip(), row["category"].replace("_", " ")) for row in csv.DictReader(file)]


def prompt(shots: Sequence[tuple[str, str]], text: str) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": INSTRUCTION}]
    for message, label in shots:
        turns += [{"role": "user", "content": message}, {"role": "assistant", "content": label}]
    return [*turns, {"role": "user", "content": text}]


class Runner:
    """Runs each side in a fresh process: what is measured includes its peak memory, and nothing leaks over."""

    def __init__(self, scratch: Path, threads: int, peer: Path | None) -> None:
        self._scratch, self._threads, self._peer = scratch, threads, peer

    def ours(self, job: Mapping[str, Any]) -> dict[str, Any]:
        return self._run(Path(sys.executable), "engine_ours.py", job)

    def peers(self, job: Mapping[str, Any]) -> dict[str, Any]:
        assert self._peer is not None
        return self._run(self._peer, "engine_peer.py", job)

    def _run(self, python: Path, script: str, job: Mapping[str, Any]) -> dict[str, Any]:
        asked, answered = self._scratch / "job.json", self._scratch / "answer.json"
        asked.write_text(json.dumps({**job, "threads": self._threads}), encoding="utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._threads), "HF_HUB_OFFLINE": "1"}
        call = [str(python), str(HERE / script), str(asked), str(answered)]
        done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{script} failed ({done.returncode}):\n{done.stderr[-4000:]}")
        found: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
        return found


def compared(
    runner: Runner, job: Mapping[str, Any], peer_items: int, batch: int | None
) -> tuple[dict[str, Any], int | None]:
    """One number of shots on both sides, and the peer's best batch size; `batch`: no trials, they cost too much."""
    ours = runner.ours(job)
    told = (
        "items",
        "prompt_tokens",
        "seconds",
        "answer_tokens",
        "best_seconds",
        "best_answer_tokens",
        "best_same_answer",
    )
    row = {key: ours[key] for key in told}
    row["items_per_second"] = ours["items"] / ours["seconds"]
    row["best_items_per_second"] = ours["items"] / ours["best_seconds"]
    row["peak_gb"] = round(ours["peak_gb"], 2)
    if not peer_items:
        return row, batch
    share = {"model": ours["folder"], "answers": ours["answers"]}
    trials: dict[int, dict[str, Any]] = {}
    longest = max(map(len, ours["prompts"])) + max(map(len, ours["answers"]))
    for size in [size for size in BATCHES if fits(size, longest)] if batch is None else [batch]:
        trials[size] = runner.peers({**share, "prompts": ours["prompts"][:1], "batch": size})
    best = min(trials, key=lambda size: trials[size]["seconds"])
    rest = ours["prompts"][1:peer_items]
    parts = [trials[best], *([runner.peers({**share, "prompts": rest, "batch": best})] if rest else [])]
    theirs = np.array([scores for part in parts for scores in part["logprobs"]])
    mine = np.array(ours["logprobs"][: len(theirs)])
    seconds = sum(part["seconds"] for part in parts)
    row["peer"] = {
        "items": len(theirs),
        "batch": best,
        "seconds": seconds,
        "items_per_second": len(theirs) / seconds,
        "peak_gb": round(max(part["peak_gb"] for part in parts), 2),
        "seconds_of_one_item_by_batch": {size: trial["seconds"] for size, trial in trials.items()},
    }
    row["times"] = row["items_per_second"] / row["peer"]["items_per_second"]
    row["times_best_only"] = row["best_items_per_second"] / row["peer"]["items_per_second"]
    row["same_argmax"] = int((mine.argmax(1) == theirs.argmax(1)).sum())
    row["largest_difference"] = float(np.abs(mine - theirs).max())
    return row, best


def fits(batch: int, tokens: int) -> bool:
    """The peer keeps the logits of all positions, and their log-softmax beside them."""
    needed = 2.2 * batch * tokens * VOCABULARY * 4 + 2 * 2**30
    return needed < 0.6 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def peer_python(folder: Path) -> Path:
    """The Python of the peer's own environment, which is made on first use."""
    python, made = folder / "bin" / "python", folder / "made"
    if not made.is_file():
        print(f"installing {', '.join(PEER)} ...", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        # torch by itself first: the build that the index gives for it, as for luthier
        for packages in (["torch==2.13.0"], list(PEER)):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, stdout=sys.stderr)
        made.write_text("\n".join(PEER), encoding="utf-8")
    return python


def line(count: int, row: Mapping[str, Any]) -> str:
    said = (
        f"{count:3} shots ({row['prompt_tokens']:.0f} tokens): {row['items_per_second']:.2f} items/s, "
        f"best label only {row['best_items_per_second']:.2f}, {row['peak_gb']:.2f} GB"
    )
    if "peer" not in row:
        return said
    peer = row["peer"]
    return (
        f"{said}; peer {peer['items_per_second']:.4f} (batch {peer['batch']}), {peer['peak_gb']:.2f} GB: "
        f"{row['times']:.0f} times, best only {row['times_best_only']:.0f} times; "
        f"same answer {row['same_argmax']} of {peer['items']}, largest difference {row['largest_difference']:.1e}"
    )


def prefill_line(found: Mapping[str, Any]) -> str:
    return (
        f"prefill: {found['tokens_per_second']:.0f} tokens/s on messages of {found['mean_tokens']:.0f} tokens, ceiling "
        f"{found['ceiling']:.0f}: {found['share']:.0%} (rounds {', '.join(f'{s:.0%}' for s in found['shares'])})"
    )


if __name__ == "__main__":
    main()
