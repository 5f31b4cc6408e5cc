"""Answers: what a row holds as its right answers: one label, several texts, or records of a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luthier.errors import DataError
from luthier.task.data import RawRow
from luthier.task.json_record import NotARecord, ordered, read_record, record_text
from luthier.task.schema import Schema
from luthier.task.settings import Settings

# what spreadsheets and data frames write for "nothing"; words such as "none" or "null" may be labels and stay
NOTHING = {"", "nan", "<na>", "#n/a"}


def is_nothing(value: str) -> bool:
    """Whether a cell holds nothing: empty, only spaces, or what stands for a missing value."""
    return value.strip().casefold() in NOTHING


@dataclass(frozen=True)
class Answers:
    """Reads the references of a row, as the kind of task has them. `schema` is None but for extraction."""

    settings: Settings
    schema: Schema | None = None

    def lists(self, column: str) -> bool:
        """Whether a column may hold lists and objects."""
        return column == self.settings.data.reference and not self.settings.closed

    def of(self, row: RawRow, name: str) -> tuple[str, ...]:
        """The row's references, none where it is empty. Raises DataError."""
        column = self.settings.data.reference or ""
        value = row.values[column]
        if self.settings.closed:
            return () if is_nothing(value) else (value,)
        if column not in row.nested:
            return self.written(value, row.line, name)
        found = json.loads(value)
        if not isinstance(found, list):
            found = [found]
        return self._unique([self._element(each, row.line, name) for each in found])

    def written(self, value: str, line: int, name: str) -> tuple[str, ...]:
        """The references of a field that is one text. Raises DataError."""
        if is_nothing(value):
            return ()
        separator = self.settings.data.reference_separator
        parts = [value] if separator is None else value.split(separator)
        return self._unique([self._one(part, line, name) for part in parts])

    def _unique(self, references: list[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(reference for reference in references if not is_nothing(reference)))

    def _element(self, value: Any, line: int, name: str) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return self._one(value, line, name)
        if self.schema is None and isinstance(value, (dict, list)):
            raise DataError(
                "the reference is a record or a list of lists, not a text",
                where=f"{name}, line {line}",
                fix='write texts, or set [task] kind = "extraction"',
            )
        return self._one(json.dumps(value, ensure_ascii=False), line, name)

    def _one(self, text: str, line: int, name: str) -> str:
        # a model's answer begins with no white space, and neither may the one it is trained on
        return text.strip() if self.schema is None else _record(text, self.schema, line, name)


def _record(text: str, schema: Schema, line: int, name: str) -> str:
    """A record as luthier writes it: its keys in the order of the schema, as a model is made to write them too."""
    if is_nothing(text):
        return ""
    try:
        record: Mapping[str, Any] = read_record(text)
    except NotARecord as mistake:
        raise DataError(
            f"the reference is no JSON record: {mistake}",
            where=f"{name}, line {line}",
            fix='write one JSON object, such as {"name": "Ada"}',
        ) from None
    flaw = schema.flaw(record)
    if flaw is not None:
        raise DataError(
            f"the reference does not fit the schema: {flaw}",
            where=f"{name}, line {line}",
            fix="correct the row, or the schema",
        )
    return record_text(ordered(record, schema.content))
