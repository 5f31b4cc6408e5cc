"""Every prompt rung on two real tasks with the embedded model: do they end in a verdict, in what time and memory?

    python benchmarks/prompts.py FOLDER [banking77|restaurant8k] [--kill]

FOLDER holds `banking77/` (77 intents) and `restaurant8k/` (slots as JSON), as PolyAI's task-specific-datasets has
them. One example of each: "I am still waiting on my card?" is `card_arrival`; "There will be 5 adults and 1 child."
with the slot people asked for is {"people": "5 adults and 1 child"}. The climb runs in a process of its own, so that
its peak memory is its own; with --kill it is first started, killed with SIGKILL in the middle, and resumed. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe

RUNGS = [
    *("majority", "zero-shot", "calibrated", "instructed", "few-shot", "many-shot", "retrieved-shots"),
    *("reasoned", "combined"),
]
LABELLED = ("calibrated", "reasoned")  # rungs that choose among labels
SLOTS = ("people", "date", "time", "first_name", "last_name")
TOML = """
[task]
name = "{name}"
kind = "{kind}"
instruction = "{instruction}"
{more}
[data]
path = "examples.jsonl"
input = "text"
reference = "answer"
[split]
train = {train}
dev = 200
test = 300
[target]
metric = "{metric}"
at_least = {at_least}
[ladder]
rungs = {rungs}
"""


def banking(data: Path, folder: Path) -> None:
    with (data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [{"text": row["text"], "answer": row["category"]} for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    write(folder, rows[:2500])
    toml(folder, name="banking77", kind="classification", instruction="What does the bank customer want?", more="",
         train=1500, metric="accuracy", at_least=0.85, rungs=RUNGS)  # fmt: skip


def restaurant(data: Path, folder: Path) -> None:
    rows = []
    for item in json.loads((data / "restaurant8k" / "train_3.json").read_text(encoding="utf-8")):
        text, slots = item["userInput"]["text"], {}
        for label in item.get("labels", []):
            span = label["valueSpan"]
            slots[label["slot"]] = text[span.get("startIndex", 0) : span["endIndex"]]
        asked = ", ".join(item.get("context", {}).get("requestedSlots", []))
        rows.append({"text": f"{text}\n(asked for: {asked or 'nothing'})", "answer": json.dumps(slots)})
    write(folder, rows)
    schema = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in SLOTS},
        "additionalProperties": False,
    }
    (folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    toml(folder, name="restaurant8k", kind="extraction", more='schema = "schema.json"\nmax_tokens = 48', train=400,
         instruction="Copy the booking details that the message states, word by word; leave out what it does not say.",
         metric="record_exact", at_least=0.8, rungs=[name for name in RUNGS if name not in LABELLED])  # fmt: skip


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "examples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def toml(folder: Path, **said: Any) -> None:
    said["rungs"] = json.dumps(said["rungs"])
    (folder / "luthier.toml").write_text(TOML.format(**said), encoding="utf-8")


MAKERS = {"banking77": banking, "restaurant8k": restaurant}


def climb(folder: Path, *, kill_after_s: float | None = None) -> dict[str, Any] | None:
    """The verdict's JSON of a `luthier run` in a process of its own; None where it was killed."""
    command = [sys.executable, "-c", "from luthier.cli import main; main()", "run", str(folder), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return None
    out, _ = process.communicate()
    if process.returncode not in (0, 1):
        sys.exit(f"luthier ended with {process.returncode}")
    found: dict[str, Any] = json.loads(out)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("name", nargs="?", default="banking77", choices=list(MAKERS))
    parser.add_argument("--folder", type=Path, help="where to put the task (a temporary folder by default)")
    parser.add_argument("--kill", type=float, metavar="SECONDS", help="kill the first climb after so long, and resume")
    options = parser.parse_args()
    about = describe("numpy", "torch", "transformers")
    home = options.folder or Path(tempfile.mkdtemp())
    MAKERS[options.name](options.data, home)
    started = time.perf_counter()
    if options.kill:
        climb(home, kill_after_s=options.kill)
        print(f"killed after {options.kill:.0f} s", flush=True)
    verdict = climb(home)
    assert verdict is not None
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    for each in verdict["candidates"]:
        estimate = each["estimate"]
        figure = (
            f"{estimate['mean']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}] on {estimate['n']}"
            if estimate
            else "-"
        )
        print(f"  {each['name']:32} {each['outcome']:15} {figure:32} {each['fit_seconds'] + each['seconds']:7.1f} s")
    print(f"{options.name}: {verdict['sentence']}")
    print(f"{seconds:.0f} s, peak memory {peak:.2f} GB")
    figures = {
        **about,
        "task": options.name,
        "outcome": verdict["outcome"],
        "seconds": round(seconds, 1),
        "peak_gb": round(peak, 2),
        "killed_after_s": options.kill,
        "candidates": {
            each["name"]: {
                "outcome": each["outcome"],
                "estimate": each["estimate"],
                "seconds": each["fit_seconds"] + each["seconds"],
            }
            for each in verdict["candidates"]
        },
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
