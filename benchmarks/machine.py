"""What every benchmark prints first: machine, versions, command."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path


def describe(*packages: str) -> dict[str, str]:
    """Print, and return, the machine, the versions of Python and of `packages`, and the command."""
    about = {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": ", ".join([f"python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)]),
        "command": shlex.join(["python", _short(sys.argv[0]), *sys.argv[1:]]),
    }
    for key, value in about.items():
        print(f"{key:9}{value}")
    print()
    return about


def _short(script: str) -> str:
    """The script as seen from the project's folder, whatever folder that is."""
    path = Path(script).resolve()
    return f"{path.parent.name}/{path.name}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
