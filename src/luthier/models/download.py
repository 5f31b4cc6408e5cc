"""Fetch a wheel from the package index that the user's pip is configured for: checked, resumed, cached.

No index is named here. `pip download -vv` prints the link it found and is then stopped, so that the file itself can be
streamed with a progress bar and resumed after a cut; whatever only pip can do (logins, client certificates, links to
folders) is left to a plain `pip download`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

import filelock
import platformdirs

from luthier.errors import ChecksumError, ModelError, OfflineError
from luthier.types import Event, Listener, silent

_CHUNK = 1 << 18
_STALL_S = 60.0  # a connection that is silent for so long is dead; what came is kept
_PATIENCE = 4  # failures in a row, each without progress
_PROGRESS = 1 << 20
_REPORT_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Wheel:
    """One file on a package index, and what it must be."""

    package: str
    version: str
    file: str
    sha256: str
    size: int

    @property
    def pin(self) -> str:
        return f"{self.package}=={self.version}"


class _Refused(Exception):
    """This way of fetching does not work here, and another may."""


class _Cut(Exception):
    """The connection broke after a beginning; the same command resumes."""


def cache_folder() -> Path:
    """Where downloads and prepared models are kept: LUTHIER_CACHE, or the user's cache folder."""
    named = os.environ.get("LUTHIER_CACHE", "").strip()
    return (
        Path(named).expanduser().absolute() if named else Path(platformdirs.user_cache_dir("luthier", appauthor=False))
    )


def fetch(wheel: Wheel, listen: Listener = silent, *, python: str = sys.executable) -> Path:
    """The verified wheel in the cache, downloaded if it is not there; `python` is the one whose pip is asked.

    Raises OfflineError (not reachable and not cached), ChecksumError (not the file that was promised; it is removed),
    ModelError (no pip, no space, a folder that cannot be written).
    """
    folder = cache_folder() / "downloads"
    target = folder / wheel.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(target, listen):
            if not target.exists() or not _verified(target, wheel, listen):
                _download(wheel, target, listen, python)
    except OSError as error:
        raise unwritable(error, folder, wheel.size) from error
    return target


@contextmanager
def locked(path: Path, listen: Listener) -> Iterator[None]:
    """One process at a time makes `path`; the others wait, and say so."""
    lock = filelock.FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        listen(Event("note", text=f"another process is making {path.name}: waiting for it"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def unwritable(error: OSError, folder: Path, size: int) -> ModelError:
    return ModelError(
        f"the cache folder cannot be used: {error.strerror or error}",
        where=str(error.filename or folder),
        fix=f"make room ({size // 10**6} MB) or name a folder that can be written: LUTHIER_CACHE=/path luthier ...",
    )


def _verified(target: Path, wheel: Wheel, listen: Listener) -> bool:
    if _sha256(target) == wheel.sha256:
        return True
    target.unlink()
    listen(Event("note", text=f"{target} was damaged: it is fetched again"))
    return False


def _download(wheel: Wheel, target: Path, listen: Listener, python: str) -> None:
    part = target.with_name(target.name + ".part")
    kept = _size(part)
    free = shutil.disk_usage(target.parent).free
    if free < wheel.size - kept:
        raise OSError(f"{free // 10**6} MB are free and {(wheel.size - kept) // 10**6} MB are needed")
    listen(Event("note", text=f"fetching {wheel.pin} ({wheel.size / 1e6:.0f} MB), once, with the index of pip"))
    link = _pip_download(wheel, part, python, stop_at_link=True)
    try:
        if link is not None:
            _stream(link, part, wheel, listen)
            if kept and _sha256(part) != wheel.sha256:  # what was kept may have been the beginning of another file
                part.unlink()
                _stream(link, part, wheel, listen)
    except _Refused:
        listen(Event("note", text=f"pip itself downloads {wheel.file}"))
        _pip_download(wheel, part, python, stop_at_link=False)
    actual = _sha256(part)
    if actual != wheel.sha256:
        part.unlink()
        raise ChecksumError(
            f"what came for {wheel.pin} is not what the catalog promises (sha256 {actual[:12]}…, not "
            f"{wheel.sha256[:12]}…); it was removed",
            where=str(part),
            fix="run the same command again; if it repeats, the index or a proxy changes the file: " + _by_hand(wheel),
        )
    os.replace(part, target)


# ---------------------------------------------------------------- ask pip


def _pip_download(wheel: Wheel, part: Path, python: str, *, stop_at_link: bool) -> str | None:
    """The link to the file, where `stop_at_link` and one can be streamed; otherwise None, and pip made `part`."""
    mark = f"{part.name}.pip-"
    for left in part.parent.glob(f"{mark}*"):  # of a process that was killed: nobody else holds the lock
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=mark, dir=part.parent, ignore_cleanup_errors=True) as scratch:
        command = [
            python,
            "-P",
            "-m",
            "pip",
            "download",
            "-vv",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--retries",
            "2",
        ]
        command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "-d", scratch, wheel.pin]
        # a quiet pip would not print the link; its temporary files go where they are cleaned up when it is stopped
        environment = {k: v for k, v in os.environ.items() if k not in ("PIP_QUIET", "PIP_VERBOSE", "PIP_LOG")}
        environment |= {
            "TMPDIR": scratch,
            "PYTHONIOENCODING": "utf-8",
            "PYTHONUNBUFFERED": "1",
            "PIP_REQUIRE_VIRTUALENV": "0",
        }
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
            errors="replace",
        ) as process:  # fmt: skip
            log: list[str] = []
            try:
                for line in process.stdout or ():
                    log.append(line)
                    if stop_at_link and (link := _link(line, wheel)):
                        return link
                process.wait()
            finally:
                process.terminate()  # at once, where the link is enough; nothing where pip has ended
        file = Path(scratch) / wheel.file
        if process.returncode != 0 or not file.is_file():
            raise _pip_error(wheel, log, python)
        os.replace(file, part)
    return None


def _link(line: str, wheel: Wheel) -> str | None:
    """The address that a line of pip's log tells, if it is this wheel's and can be had without a login.

    >>> wheel = Wheel("a", "1", "a-1-py3-none-any.whl", "", 0)
    >>> _link("  Found link https://host/f/a-1-py3-none-any.whl#sha256=0 (from https://host/a/), version: 1", wheel)
    'https://host/f/a-1-py3-none-any.whl'
    >>> _link("  Found link https://me:****@host/f/a-1-py3-none-any.whl (from x), version: 1", wheel) is None
    True
    """
    found = re.match(r"\s*Found link (https?://[^/@\s]+/(?:[^\s#]*/)?" + re.escape(wheel.file) + r")[#\s,]", line)
    return found[1] if found else None


def _pip_error(wheel: Wheel, log: list[str], python: str) -> ModelError:
    if any("No module named pip" in line for line in log):
        return ModelError(
            f"this Python has no pip, which fetches {wheel.pin}",
            where=python,
            fix="python -m ensurepip (in a uv environment: uv pip install pip); or " + _by_hand(wheel),
        )
    failed = [line.split("Could not fetch URL", 1)[1].strip() for line in log if "Could not fetch URL" in line]
    unreachable = any("connection broken" in line for line in log) or any("Client Error" not in why for why in failed)
    why = (
        "the package index cannot be reached" if unreachable else "the package index that pip is set up for has it not"
    )
    said = failed or [line.split("ERROR:", 1)[1].strip() for line in log if "ERROR:" in line]
    detail = f" (pip: {said[-1][:300]})" if said else ""
    return OfflineError(
        f"{wheel.pin} is not in the cache, and {why}{detail}",
        where=str(cache_folder()),
        fix="connect, and run the same command again; or " + _by_hand(wheel),
    )


def _by_hand(wheel: Wheel) -> str:
    return (
        f"on a machine with a network run: pip download --no-deps {wheel.pin}, and copy {wheel.file} into "
        f"{cache_folder() / 'downloads'} (LUTHIER_CACHE names another cache folder)"
    )


# ---------------------------------------------------------------- stream


def _stream(link: str, part: Path, wheel: Wheel, listen: Listener) -> None:
    """All of `link` into `part`, going on where `part` ends; _Refused if nothing can be had this way."""
    opener, started, failures, why = _opener(), _size(part), 0, ""
    while failures < _PATIENCE:
        before = _size(part)
        if before >= wheel.size:
            return
        try:
            _stream_once(opener, link, part, wheel, listen)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 416 and error.code < 500:
                raise _Refused from error
            if error.code == 416:  # what is kept does not fit this file
                part.unlink(missing_ok=True)
            why = str(error)
        except _Cut as error:
            why = str(error)
        failures = 0 if _size(part) - before > _PROGRESS else failures + 1
        if failures < _PATIENCE:
            time.sleep(0.25 * failures)
    if _size(part) == started:
        raise _Refused(why)
    raise OfflineError(
        f"the connection broke at {_size(part) / 1e6:.1f} of {wheel.size / 1e6:.1f} MB of {wheel.pin} ({why}); "
        "what came is kept",
        where=str(part),
        fix="run the same command again: it goes on from there; or " + _by_hand(wheel),
    )


def _stream_once(opener: urllib.request.OpenerDirector, link: str, part: Path, wheel: Wheel, listen: Listener) -> None:
    start = _size(part)
    headers = {"User-Agent": f"luthier/{importlib.metadata.version('luthier')}", "Accept-Encoding": "identity"}
    request = urllib.request.Request(link, headers=headers | ({"Range": f"bytes={start}-"} if start else {}))
    with _cuts():
        response = opener.open(request, timeout=_STALL_S)
    with response:
        resumes = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        start = start if resumes else 0  # an index that cannot resume sends all of it
        with part.open("ab" if start else "wb") as file:
            _copy(response, file, start, wheel, listen)


def _copy(response: Any, file: IO[bytes], done: int, wheel: Wheel, listen: Listener) -> None:
    reported = 0.0
    while done <= wheel.size:  # more than was promised: the checksum will say so
        with _cuts():
            chunk = response.read1(_CHUNK)
        if not chunk:
            break
        file.write(chunk)
        done += len(chunk)
        if done >= wheel.size or time.monotonic() - reported > _REPORT_EVERY_S:
            listen(Event("working", text=f"fetching {wheel.pin}", done=done, total=max(wheel.size, done)))
            reported = time.monotonic()
    if done < wheel.size:
        raise _Cut("it ended early")


@contextmanager
def _cuts() -> Iterator[None]:
    """What the network does is a cut; what the disk does is not, and both are an OSError."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, HTTPException) as error:
        raise _Cut(str(error) or type(error).__name__) from error


def _opener() -> urllib.request.OpenerDirector:
    """Proxies from the environment, as always, or pip's; certificates where pip and requests look for them."""
    names = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    bundle = next((Path(path) for name in names if (path := os.environ.get(name)) and Path(path).exists()), None)
    context = ssl.create_default_context(
        cafile=str(bundle) if bundle and bundle.is_file() else None,
        capath=str(bundle) if bundle and bundle.is_dir() else None,
    )  # without a bundle: the system's, or SSL_CERT_FILE
    proxy = os.environ.get("PIP_PROXY")
    proxies = urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else None)
    return urllib.request.build_opener(proxies, urllib.request.HTTPSHandler(context=context))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
