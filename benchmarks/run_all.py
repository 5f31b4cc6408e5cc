"""Every benchmark in turn: python benchmarks/run_all.py [FOLDER with outcomes/]. Figures go to stdout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("data")
    calls = [
        ["coverage.py"],
        ["replay_outcomes.py", str(data / "outcomes")],
        ["forecast.py", str(data)],
        ["audit.py", str(data)],
        ["audit.py", str(data), "--scale"],
        ["products.py"],
        ["writing.py"],
        ["engine.py", str(data)],
        ["rungs.py"],
        ["claims.py"],
        ["slices.py"],
        ["prompts.py", str(data), "banking77"],
        ["prompts.py", str(data), "restaurant8k"],
        ["rag.py", str(data)],
        ["diagnose.py", str(data)],
        ["train.py"],
        ["demo.py", "spam"],
        ["demo.py", "question-routing"],
    ]
    for call in calls:
        print(f"\n=== {' '.join(call)}", flush=True)
        subprocess.run([sys.executable, str(HERE / call[0]), *call[1:]], check=True)


if __name__ == "__main__":
    main()
