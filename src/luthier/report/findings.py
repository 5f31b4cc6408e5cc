"""Findings: what reading the data found, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luthier.report.plain import count, flat, plain
from luthier.types import Label

# findings by their key in Task.findings; any other key is shown as it is spelt
WORDS: Mapping[str, str] = {
    "data_sha256": "content hash of the data file (SHA-256)",
    "test_sha256": "content hash of the test file (SHA-256)",
    "rows_read": "rows read",
    "empty_dropped": "rows without an input or a right answer, left out",
    "labels_normalised": "labels whose spelling was cleaned",
    "label_spellings": "spellings that were cleaned",
    "exact_duplicates_merged": "exact repeats, merged before the split",
    "several_references": "rows with several right answers",
    "answers_of_copies_joined": "inputs whose copies have different right answers, all of them kept",
    "conflicts_resolved": "inputs whose copies disagree, settled by the most frequent answer",
    "conflicts_dropped": "inputs whose copies disagree equally often, left out",
    "distinct": "different inputs",
    "near_duplicate_threshold": "likeness from which two inputs count as near-copies",
    "near_duplicate_pairs": "pairs of near-copies",
    "near_duplicate_groups": "groups of near-copies, each kept within one split",
    "near_duplicate_members": "inputs in these groups",
    "near_duplicate_groups_with_several_labels": "groups of near-copies that have several labels",
    "set_aside": "further near-copies of a dev or test example, set aside",
    "leaked_from_train": "near-copies of test examples, taken out of the training data",
    "unused": "inputs that no split asked for",
}
APART = ("lines", "warnings", "splits")


def rows_of(findings: Mapping[str, Any]) -> list[dict[str, str]]:
    """The counts as rows of `what` and `value`; what was looked for and not found is left out.

    The finding "lines" holds, by key, the first lines of the file that show it.

    >>> rows_of({"rows_read": 20, "empty_dropped": 2, "unused": 0, "lines": {"empty_dropped": [3, 9]}})[1]
    {'what': 'rows without an input or a right answer, left out', 'value': '2 (for example line 3, line 9)'}
    """
    lines = plain(findings.get("lines", {}))
    rows = []
    for key, value in plain(findings).items():
        if key in APART or value in (0, [], {}, None):
            continue
        found = flat({WORDS.get(key, key): count(value) if isinstance(value, int) else value})
        if lines.get(key):
            found[-1]["value"] += f" (for example {places(lines[key])})"
        rows += found
    return rows


def places(lines: Sequence[Any]) -> str:
    """Lines of the data file; those that belong together are joined by an equals sign.

    >>> places([[3, 17], 20, "test line 4"])
    'line 3 = 17, line 20, test line 4'
    """
    named = (" = ".join(str(one) for one in place) if isinstance(place, list) else str(place) for place in lines)
    return ", ".join(f"line {name}" if name[:1].isdigit() else name for name in named)


def split_sizes(findings: Mapping[str, Any]) -> dict[str, int]:
    """How many examples each split has, where the findings tell it."""
    sizes = {name: split.get("examples") for name, split in _splits(findings).items()}
    return {name: size for name, size in sizes.items() if isinstance(size, int)}


def label_rows(labels: Sequence[Label], findings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each label with its meaning and its number of examples in each split that the findings tell about."""
    counts = {name: split.get("labels", {}) for name, split in _splits(findings).items()}
    return [
        {
            "name": label.name,
            "description": label.description,
            "counts": [of_split.get(label.name, 0) for of_split in counts.values()],
        }
        for label in labels
    ]


def _splits(findings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    splits = plain(findings.get("splits", {}))
    return {name: split for name, split in splits.items() if isinstance(split, dict)}
