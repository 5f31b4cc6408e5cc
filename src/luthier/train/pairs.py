"""Pairs: a probe file of items with two choices, such as PIQA, read without any model.

One example: {"goal": "dresser", "sol1": "replace drawer with bobby pin", "sol2": "finish, woodgrain with  bobby pin",
"label": 1}; or the same without its label, which then stands on the item's line of `NAME-labels.lst` beside the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from luthier.errors import DataError


def read_pairs(path: Path) -> list[tuple[str, str, str, int]]:
    """The items of a probe file. Errors: DataError, with the line."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        beside = path.with_name(f"{path.stem}-labels.lst")
        labels: list[Any] = beside.read_text(encoding="utf-8").split() if beside.is_file() else []
    except (OSError, ValueError) as error:
        raise DataError(
            f"it cannot be read: {error}", where=str(path), fix="[guard] probe names a JSONL file"
        ) from error
    found = []
    for at, row in enumerate(rows):
        label = row.get("label", labels[at] if at < len(labels) else None) if isinstance(row, dict) else None
        if str(label) not in ("0", "1") or not all(isinstance(row.get(key), str) for key in ("goal", "sol1", "sol2")):
            raise DataError(
                "this is no item of two choices",
                where=f"{path}, line {at + 1}",
                fix='write {"goal": "...", "sol1": "...", "sol2": "...", "label": 0}',
            )
        found.append((row["goal"], row["sol1"], row["sol2"], int(str(label))))
    return found
