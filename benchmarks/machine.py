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
        "command": shlex.join(
            [
                "python",
                f"benchmarks/{Path(sys.argv[0]).name}",
                *(_short(word) if Path(word).is_absolute() else word for word in sys.argv[1:]),
            ]
        ),
    }
    for key, value in about.items():
        print(f"{key:9}{value}")
    print()
    return about


def _short(path: str) -> str:
    """The end of a path: where it lies on this machine is nobody's business."""
    return f".../{Path(path).name}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
