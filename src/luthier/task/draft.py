"""Draft: the text of a proposed luthier.toml, for a file whose columns have been guessed."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.task.answers import is_nothing
from luthier.task.data import Table, format_of
from luthier.task.spec import DEFAULT_INSTRUCTION
from luthier.task.spelling import fold

_MOST_LABELS = 200
# a third of them as a test split can prove 0.85 among eight candidates if nearly all answers are right
FEW_ROWS = 200
INPUT_NAMES = re.compile(
    r"text|message|input|question|sentence|body|subject|title|content|review|comment|utterance|query|description|tweet",
    re.IGNORECASE,
)
_ID_NAMES = re.compile(r"(^|[_\s-])(id|uuid|guid|key|index|idx|no|nr|number|row)$", re.IGNORECASE)
_GROUP_NAMES = re.compile(
    r"(^|[_\s-])(group|thread|conversation|session|customer|user|author|dialogue)s?([_\s-]?id)?$", re.IGNORECASE
)


@dataclass(frozen=True)
class Column:
    """A column in numbers."""

    name: str
    values: tuple[str, ...]
    distinct: int
    words: float
    numeric: bool
    dates: bool = False

    @property
    def rows(self) -> int:
        return len(self.values)

    @property
    def is_id(self) -> bool:
        """One value a row that carries no text: an index, a key."""
        each_once = self.distinct == self.rows > 0
        return each_once and (
            self.numeric or (self.words <= 1 and (not self.name or bool(_ID_NAMES.search(self.name))))
        )

    @property
    def could_be_label(self) -> bool:
        """Few values that come back, and no dates."""
        most = 20 if self.numeric else _MOST_LABELS
        return not self.dates and 2 <= self.distinct <= min(most, self.rows / 2) and self.words <= 6

    @property
    def could_be_input(self) -> bool:
        """Texts that mostly come once."""
        wordy = self.words >= 2 or (self.words > 0 and bool(INPUT_NAMES.search(self.name)))
        return wordy and not self.numeric and not self.dates and not self.is_id and self.distinct > self.rows / 2


@dataclass(frozen=True)
class Draft:
    """What goes into the proposed file."""

    file: Path
    folder: Path
    encoding: str
    form: str
    delimiter: str | None
    quote: str
    inputs: list[Column]
    reference: Column
    columns: dict[str, Column]
    table: Table

    def labels(self) -> dict[str, int]:
        """The labels as load_task will spell them, with their rows, the most frequent first."""
        forms: dict[str, Counter[str]] = {}
        for value in self.reference.values:
            forms.setdefault(fold(value), Counter())[value] += 1
        named = {min(same, key=lambda each: (-same[each], each)): same.total() for same in forms.values()}
        return dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))

    def has_empty(self) -> bool:
        empty_inputs = [
            row for row in self.table.rows if all(is_nothing(row.values[column.name]) for column in self.inputs)
        ]
        return bool(empty_inputs) or self.reference.rows < len(self.table.rows)

    def has_twins(self) -> bool:
        spellings = {row.values[self.reference.name] for row in self.table.rows} - {
            row.values[self.reference.name] for row in self.table.rows if is_nothing(row.values[self.reference.name])
        }
        return spellings != set(self.labels())

    def id_column(self) -> str | None:
        """A named column of ids that are all there, each once."""
        for column in self.columns.values():
            named = bool(column.name) and bool(_ID_NAMES.search(column.name))
            if named and column.is_id and column.rows == len(self.table.rows):
                return column.name
        return None

    def flaws(self) -> list[str]:
        """What the proposal works around, or leaves to be seen."""
        found = []
        if self.has_empty():
            found.append('some inputs or labels are empty: on_empty = "drop" leaves those rows out')
        if self.has_twins():
            found.append("some labels differ only in case or spaces: normalise_labels = true merges them")
        if len(self.table.rows) < FEW_ROWS:
            found.append(
                f"only {len(self.table.rows)} rows: too few to prove anything about a usual target; "
                f"from about {FEW_ROWS} on it makes sense to start"
            )
        rare = [name for name, rows in self.labels().items() if rows < 10]
        if rare:
            found.append(f"few rows for {', '.join(repr(name) for name in rare[:5])}: hard to learn, and hard to judge")
        if self.reference.numeric and self.reference.distinct > 5:
            found.append(f"'{self.reference.name}' holds {self.reference.distinct} numbers, which are read as classes")
        return found

    def text(self, reasons: Sequence[str], warnings: Sequence[str]) -> str:
        lines = [f"# Proposed from {comment(self.file.name)}. Read it once; `luthier keys` explains every key."]
        lines += [f"# {comment(reason)}" for reason in reasons]
        lines += [f"# LOOK: {comment(warning)}" for warning in warnings]
        lines += ["", "[task]", f"name = {toml_text(self.file.stem)}", 'kind = "classification"']
        lines += ["# what a model is told; say what the texts are and what the labels are for"]
        lines += [f"instruction = {toml_text(DEFAULT_INSTRUCTION)}", ""]
        lines += [
            "# the closed set of labels; a line that says what each one means helps every prompt",
            "[task.labels]",
        ]
        lines += [f'{toml_text(name)} = ""  # {rows} rows' for name, rows in self.labels().items()]
        lines += ["", "[data]", *self._data()]
        lines += [
            "",
            "[split]",
            "# shares of the distinct examples, or counts such as test = 1000; train gets the rest",
        ]
        lines += ["dev = 0.15", "test = 0.35", "seed = 0"]
        lines += ["", "[target]", 'metric = "accuracy"  # or macro_f1; precision, recall, f1 with class = "a label"']
        lines += ["at_least = 0.85  # choose this: from which score on would you use it?", "confidence = 0.95"]
        lines += ["", "[constraints]", "local_only = false  # true: no example may leave this machine"]
        lines += ["", "# left out, every rung of the ladder is climbed, with the models that luthier brings along"]
        lines += ["# [ladder]", '# rungs = ["majority", "tfidf", "zero-shot", "calibrated"]']
        lines += ["# [models]", '# prompted = "a folder of safetensors, or the name of a [remote.NAME] section"', ""]
        return "\n".join(lines)

    def _data(self) -> list[str]:
        lines = data_lines(self.file, self.folder, self.encoding, self.form, self.delimiter, self.quote)
        lines += input_lines([column.name for column in self.inputs])
        lines.append(f"reference = {toml_text(self.reference.name)}")
        if (name := self.id_column()) is not None:
            lines.append(f"id = {toml_text(name)}")
        unused = [each for each in self.columns.values() if each.could_be_input and each not in self.inputs]
        if unused and len(self.inputs) == 1:
            both = "\\n\\n".join(f"{{{each.name}}}" for each in (*unused, *self.inputs))
            lines.append(f'# not used: {comment(", ".join(each.name for each in unused))}; all: template = "{both}"')
        groups = [each for each in self.columns if _GROUP_NAMES.search(each) and each != self.reference.name]
        lines += [
            f"# group = {toml_text(name)}  # if its examples belong together and must not be parted" for name in groups
        ]
        if self.has_empty():
            lines.append('on_empty = "drop"')
        if self.has_twins():
            lines.append("normalise_labels = true")
        return lines


def data_lines(file: Path, folder: Path, encoding: str, form: str, delimiter: str | None, quote: str) -> list[str]:
    """The lines of [data] that say where the file is and how it is written."""
    lines = [f"path = {toml_text(relative(file, folder))}"]
    if format_of(file) != form:
        lines.append(f"format = {toml_text(form)}")
    if encoding != "utf-8":
        lines.append(f"encoding = {toml_text(encoding)}")
    if delimiter is not None:
        lines.append(f"delimiter = {toml_text(delimiter)}")
    if quote != '"':
        lines.append(f"quote = {toml_text(quote)}")
    return lines


def input_lines(names: Sequence[str]) -> list[str]:
    """The line of [data] that says which columns are the input."""
    if len(names) == 1:
        return [f"input = {toml_text(names[0])}"]
    return [f"template = {toml_text((chr(10) * 2).join(f'{{{name}}}' for name in names))}"]


def relative(file: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:
        # another drive on Windows has no relative path
        return file.resolve().as_posix()


def toml_text(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def comment(text: str) -> str:
    """A comment's text: no line breaks, no control characters."""
    return "".join(char if char.isprintable() else " " for char in text)
