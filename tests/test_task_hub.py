"""Data sets of a hub, against a local stand-in that answers as the hub's documented addresses do.

What this does not show: that the public hub still answers like that. No hub was reachable when this was written.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from test_task_data import texts

from luthier.errors import DataError
from luthier.task.hub import HubPath, hub_table

REVISION = "a" * 40


def shard(first: int, last: int) -> bytes:
    rows = [{"question": texts(60)[i], "answer": [f"answer {i}", "or so"]} for i in range(first, last)]
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


FILES = {
    "main/train/0000.parquet": shard(0, 30),
    "main/train/0001.parquet": shard(30, 60),
    "main/test/0000.parquet": shard(0, 20),
    "other/test/0000.parquet": shard(20, 40),
}


class StandIn(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        if path == "/api/datasets/ada/sums/revision/refs%2Fconvert%2Fparquet":
            siblings = [{"rfilename": name} for name in [*FILES, ".gitattributes"]]
            info = {"_id": "1", "id": "ada/sums", "sha": REVISION, "siblings": siblings}
            return self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body=body)
        if path == "/api/datasets/ada/raw/revision/refs%2Fconvert%2Fparquet":
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body=body)
        if path.startswith("/api/"):
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body=body)
        name = path.removeprefix(f"/datasets/ada/sums/resolve/{REVISION}/")
        content = FILES[name]
        etag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": REVISION}
        return self._send(200, content, etag, body=body)

    def _send(self, code: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_path_names_owner_data_set_configuration_and_split() -> None:
    assert HubPath.read("hf://ada/sums") == HubPath("ada/sums", None, "train")
    assert HubPath.read("hf://ada/sums/test") == HubPath("ada/sums", None, "test")
    assert HubPath.read("hf://ada/sums/main/test") == HubPath("ada/sums", "main", "test")
    for bad in ("hf://sums", "hf://ada/sums/", "hf://a/b/c/d/e"):
        with pytest.raises(DataError, match="names no data set"):
            HubPath.read(bad)


def test_what_is_not_there_is_told_with_what_is(endpoint: str) -> None:
    for path, what in (
        ("hf://ada/none/train", "no such data set"),
        ("hf://ada/raw/train", "has not converted"),
        ("hf://ada/sums/validation", "no split 'validation'"),
        ("hf://ada/sums/test", "several configurations"),
    ):
        with pytest.raises(DataError, match=what) as caught:
            hub_table(path, endpoint=endpoint)
        assert caught.value.where == path
    assert "hf://ada/sums/other/test" in caught.value.fix


def test_offline_is_an_error_with_the_way_out() -> None:
    with pytest.raises(DataError, match="the hub cannot be reached") as caught:
        hub_table("hf://ada/sums", endpoint="http://127.0.0.1:9")
    assert "download the data set's Parquet files elsewhere" in caught.value.fix


def test_a_task_reads_all_shards_of_a_split(endpoint: str, tmp_path: Path) -> None:
    toml = '[task]\nname = "t"\nkind = "generation"\n[data]\npath = "hf://ada/sums/main/train"\ninput = "question"\n'
    (tmp_path / "luthier.toml").write_text(toml + 'reference = "answer"\n[target]\nat_least = 0.5\n', encoding="utf-8")
    load = "import luthier; t = luthier.load_task('luthier.toml')"
    show = f"{load}; print(t.findings['rows_read'], t.train[0].references[1])"
    source = str(Path(__file__).parent.parent / "src")
    # the address is read when the library is imported: a process of its own
    found = subprocess.run(
        [sys.executable, "-c", show],
        cwd=tmp_path,
        env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub"), "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.split("\n")[0] == "60 or so", found.stderr
