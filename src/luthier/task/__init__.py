"""What is wanted: luthier.toml, the data, and the sealed split.

spec.py says what luthier.toml may hold, parse.py reads it; data.py reads a table, records.py checks its rows;
duplicates.py merges copies and measures near-copies; split.py parts what is left; load.py does all this in order.
guess.py proposes a luthier.toml for a file, and reference.py renders docs/configuration.md.
"""

from __future__ import annotations

from luthier.task.load import load_task

__all__ = ["load_task"]
