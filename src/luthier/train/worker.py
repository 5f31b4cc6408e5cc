"""The worker: one of several processes that share a fine-tune, and how they are started.

    accelerate launch --num_processes 4 ... -m luthier.train.worker JOB.json

The job file says all there is to know, paths included; nothing else is read. What happens comes as JSON lines on
stdout, the result as files beside the job.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from luthier import errors
from luthier.errors import LuthierError, MissingExtra, ModelError
from luthier.models.quiet import quiet
from luthier.train.check import Check
from luthier.train.job import Job, Working
from luthier.train.loop import Tuned
from luthier.train.preference import Pair
from luthier.train.recipe import Recipe
from luthier.train.rows import DevRow, TrainRow

try:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM
except ImportError as error:
    raise MissingExtra("train", "fine-tuning") from error

JOB, BASE, START, RESULT, WEIGHTS, LOG = "job.json", "base", "start", "result.json", "weights", "worker.log"
SECONDS_TO_END = 20


def shared(
    module: Any,
    learned: Sequence[TrainRow] | Sequence[Pair],
    job: Job,
    *,
    processes: int,
    beta: float | None = None,
) -> Tuned:
    """`trl.fine_tune`, or with `beta`, on pairs, `trl_preference.prefer`, in `processes` processes of this machine.

    Each is on a GPU of its own where there are any. Errors: those of the two, as the workers raise them; ModelError
    where they die of something else (what they said is in `worker.log` in the workdir).
    """
    if job.recipe.method == "qlora":
        raise ModelError(
            "QLoRA runs in one process", where="[training] processes", fix="remove `processes`, or use lora"
        )
    workdir = job.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    job.working("handing the model to the workers", 0, 0)
    with quiet():
        module.save_pretrained(workdir / BASE)
    if job.start is not None:
        save_file(dict(job.start), workdir / START)
    content = {
        "model": str(workdir / BASE),
        "learned": [asdict(item) for item in learned],
        "beta": beta,
        "dev": [asdict(row) for row in job.dev],
        "recipe": asdict(job.recipe),
        "seed": job.seed,
        "workdir": str(workdir),
        "base": job.base,
        "start": None if job.start is None else str(workdir / START),
        "cpu": module.device.type == "cpu",
    }
    (workdir / JOB).write_text(json.dumps(content), encoding="utf-8")
    (workdir / RESULT).unlink(missing_ok=True)
    _run(workdir / JOB, processes, job.working)
    return _result(workdir)


def _run(job: Path, processes: int, working: Working) -> None:
    """Until all workers have ended; they are stopped, each of them, where this is interrupted."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
    launch += ["--multi_gpu"] if processes > 1 else []  # which means torchrun, on CPUs too
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, torch.get_num_threads() // processes))
    with (job.parent / LOG).open("w", encoding="utf-8") as log:
        ran = subprocess.Popen(
            [*launch, "-m", "luthier.train.worker", str(job)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"},
            start_new_session=True,
        )
        try:
            assert ran.stdout is not None
            for line in ran.stdout:
                if line.startswith('{"working"'):
                    working(*json.loads(line)["working"])
            ran.wait()
        finally:
            _end(ran)


def _end(ran: subprocess.Popen[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if ran.poll() is None:
            os.killpg(ran.pid, number)
            try:
                ran.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                continue
    if ran.stdout is not None:
        ran.stdout.close()


def _result(workdir: Path) -> Tuned:
    path = workdir / RESULT
    if not path.is_file():
        said = (workdir / LOG).read_text("utf-8", errors="replace").strip().splitlines()
        raise ModelError(
            f"a worker ended without a result: {said[-1] if said else 'it said nothing'}",
            where=str(workdir / LOG),
            fix='see the log, or set backend = "loop"',
        )
    content = json.loads(path.read_text("utf-8"))
    if "error" in content:
        kind, what, where, fix = content["error"]
        raise getattr(errors, kind)(what, where=where, fix=fix)
    checks = tuple(Check(**check) for check in content.pop("checks"))
    best, losses = Check(**content.pop("best")), tuple(content.pop("losses"))
    return Tuned(weights=load_file(workdir / WEIGHTS), checks=checks, best=best, losses=losses, **content)


def main(path: Path) -> None:
    """What one worker does with a job file."""
    first = os.environ.get("RANK", "0") == "0"
    content = json.loads(path.read_text("utf-8"))
    workdir = Path(content["workdir"])

    def working(*event: Any) -> None:
        if first:
            print(json.dumps({"working": event}), flush=True)  # noqa: T201  # the parent reads it

    try:
        tuned = _tuned(content, workdir, working)
    except LuthierError as error:
        if first:
            told = {"error": (type(error).__name__, error.what, error.where, error.fix)}
            (workdir / RESULT).write_text(json.dumps(told), encoding="utf-8")
        raise SystemExit(1) from error
    if first:
        save_file(tuned.weights, workdir / WEIGHTS)
        told = asdict(replace(tuned, weights={}))
        del told["weights"]
        (workdir / RESULT).write_text(json.dumps(told), encoding="utf-8")


def _tuned(content: Mapping[str, Any], workdir: Path, working: Working) -> Tuned:
    from luthier.train import trl, trl_preference  # an optional extra, which the parent may not even load

    job = Job(
        Recipe(**content["recipe"]),
        [DevRow(tuple(_row(row) for row in item["rows"]), tuple(item["right"])) for item in content["dev"]],
        content["seed"],
        workdir,
        content["base"],
        start=None if content["start"] is None else load_file(content["start"]),
        working=working,
    )
    if content["beta"] is None:
        return trl.fine_tune(_load(content), [_row(row) for row in content["learned"]], job)
    pairs = [Pair(_row(pair["chosen"]), _row(pair["rejected"])) for pair in content["learned"]]
    return trl_preference.prefer(_load(content), pairs, job, beta=content["beta"])


def _load(content: Mapping[str, Any]) -> Any:
    device = "cpu" if content["cpu"] else f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    with quiet():
        module = AutoModelForCausalLM.from_pretrained(content["model"], dtype=torch.float32, local_files_only=True)
    return module.to(device).eval()


def _row(content: Mapping[str, Any]) -> TrainRow:
    return TrainRow(tuple(content["input_ids"]), content["labels_from"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
