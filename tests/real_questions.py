"""Questions of the demo's real data, some of each class."""

from __future__ import annotations

from luthier.models import catalog
from luthier.types import Example

LABELS = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")


def questions(count: int) -> list[Example]:
    """The first distinct questions of the demo data that fall on all classes in turn."""
    text = (catalog.data_folder("demo-data") / "question_labels.txt").read_text("latin-1")
    of_class: dict[str, dict[str, None]] = {label: {} for label in LABELS}
    for line in text.splitlines():
        kind, _, question = line.partition(" ")
        of_class[kind.partition(":")[0]][question.strip()] = None
    columns = [[(question, label) for question in of_class[label]] for label in LABELS]
    mixed = [pair for row in zip(*columns, strict=False) for pair in row][:count]
    return [Example(f"q{at}", question, (label,)) for at, (question, label) in enumerate(mixed)]
