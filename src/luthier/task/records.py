"""Records: the rows of a table as inputs and answers that can be used; empties, ids and spellings are checked here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from luthier.errors import DataError, SpecError
from luthier.task.answers import Answers, is_nothing
from luthier.task.chats import chat_of, with_answer
from luthier.task.data import RawRow, Table, lines_of
from luthier.task.settings import Settings
from luthier.task.spelling import fold, suggest
from luthier.task.template import fill
from luthier.types import Input, Label

# rows needed before "as many labels as rows" says that the column is free text
_FEW_ROWS = 20


@dataclass(frozen=True, slots=True)
class Record:
    """One usable row. `source` is "data" or "test" (the file of [data] test); `line` is where it begins in it."""

    id: str
    line: int
    input: Input
    references: tuple[str, ...]
    group: str | None
    source: str = "data"
    oracle: str = ""
    columns: tuple[tuple[str, str], ...] = ()

    @property
    def reference(self) -> str:
        return self.references[0] if self.references else ""

    @property
    def place(self) -> int | str:
        """The line, for findings: a number, or a text where it is the line of the test file."""
        return self.line if self.source == "data" else f"test line {self.line}"


@dataclass
class Findings:
    """What was found on the way from file to splits: counts, and for each count the lines that show it."""

    counts: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, list[Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    EXAMPLES = 5

    def note(self, name: str, count: int, lines: Sequence[Any] = ()) -> None:
        """Add to a count, and keep the first few lines that show it."""
        self.counts[name] = self.counts.get(name, 0) + count
        if lines:
            self.lines[name] = [*self.lines.get(name, []), *lines][: self.EXAMPLES]

    def plain(self) -> dict[str, Any]:
        """As one dict that JSON can hold."""
        return {**self.counts, "lines": self.lines, "warnings": self.warnings}


def records_of(
    table: Table, settings: Settings, answers: Answers, findings: Findings, source: str = "data"
) -> list[Record]:
    """The table's rows as records, empties dropped where the spec says so. Raises DataError."""
    data = settings.data
    oracle = None if settings.documents is None else settings.documents.oracle
    if oracle is not None:
        table.column(oracle, "[documents] oracle")
    for name in data.columns:
        table.column(name, _asker(name, settings), lists=name == data.messages or answers.lists(name))
    columns = settings.slices.columns
    for name in columns:
        table.column(name, "[slices] columns")
    named = data.id is not None
    prefix = "test line" if source == "test" else "line"
    records = []
    for row in table.rows:
        asked, references = asked_and_answered(row, settings, answers, table.name)
        group = row.values[data.group].strip() if data.group else ""
        records.append(
            Record(
                id=row.values[data.id].strip() if data.id is not None else f"{prefix} {row.line}",
                line=row.line,
                input=asked,
                references=references,
                group=group or None,
                source=source,
                oracle=row.values[oracle].strip() if oracle is not None else "",
                columns=tuple((name, row.values[name].strip()) for name in columns),
            )
        )
    findings.note("rows_read", len(records))
    records = _without_empties(records, table, settings, findings)
    if named:
        _check_ids(records, table.name)
    return records


def asked_and_answered(row: RawRow, settings: Settings, answers: Answers, name: str) -> tuple[Input, tuple[str, ...]]:
    """A row's input and references; either is empty where the row has none."""
    data = settings.data
    references = answers.of(row, name) if data.reference is not None else ()
    if data.messages is not None:
        if is_nothing(row.values[data.messages]):
            return "", references
        if data.reference is not None:
            return chat_of(row.values[data.messages], row.line, name), references
        chat, answer = with_answer(row.values[data.messages], row.line, name)
        return chat, answers.written(answer, row.line, name)
    if all(is_nothing(row.values[column]) for column in data.input_columns):
        return "", references
    text = row.values[data.input] if data.input is not None else fill(data.template or "", row.values)
    return text, references


def _asker(column: str, settings: Settings) -> str:
    data = settings.data
    for key in ("input", "messages", "reference", "id", "group"):
        if getattr(data, key) == column:
            return f"[data] {key}"
    return "[data] template"


def _without_empties(records: list[Record], table: Table, settings: Settings, findings: Findings) -> list[Record]:
    word = "label" if settings.closed else "reference"
    inputs = [record.line for record in records if not record.input]
    references = [record.line for record in records if not record.reference]
    empty = sorted({*inputs, *references})
    if len(empty) == len(records):
        what = "input" if len(inputs) >= len(references) else word
        raise DataError(f"every row has an empty {what}", where=table.name, fix="check the columns named in [data]")
    if empty and settings.data.on_empty == "error":
        parts = [
            f"{len(lines)} empty {what}{'s' if len(lines) > 1 else ''} ({lines_of(lines)})"
            for what, lines in (("input", inputs), (word, references))
            if lines
        ]
        raise DataError(
            " and ".join(parts), where=table.name, fix='fill them in, or set [data] on_empty = "drop" to leave them out'
        )
    kept = [record for record in records if record.input and record.reference]
    findings.note("empty_dropped", len(empty), [record.place for record in records if record.line in {*empty}])
    return kept


def _check_ids(records: Sequence[Record], name: str) -> None:
    lines: dict[str, list[int]] = defaultdict(list)
    for record in records:
        lines[record.id].append(record.line)
    if "" in lines:
        raise DataError(f"an empty id in {lines_of(lines[''])}", where=name, fix="give it one, or remove [data] id")
    twice = {each: at for each, at in lines.items() if len(at) > 1}
    if twice:
        shown = "; ".join(f"'{each}' in {lines_of(at)}" for each, at in list(twice.items())[:3])
        more = f"; and {len(twice) - 3} more" if len(twice) > 3 else ""
        raise DataError(
            f"{len(twice)} id{'s' if len(twice) > 1 else ''} more than once: {shown}{more}",
            where=name,
            fix="make ids unique, or remove [data] id (line numbers serve then)",
        )


# ---------------------------------------------------------------- labels


def with_clean_labels(
    records: Sequence[Record], settings: Settings, name: str, findings: Findings
) -> tuple[list[Record], dict[str, str]]:
    """The records with one spelling a label, and which spellings were changed into which. Raises DataError.

    Without `normalise_labels`, stray spaces and case twins are errors: two spellings of one class would be two classes.
    """
    counts = Counter(record.reference for record in records)
    declared = {fold(label.name): label.name for label in settings.labels}
    spellings: dict[str, list[str]] = defaultdict(list)
    for spelling in sorted(counts, key=lambda each: (-counts[each], each)):
        spellings[fold(spelling)].append(spelling)
    chosen = {form: declared.get(form, found[0].strip()) for form, found in spellings.items()}
    changes = {spelling: chosen[fold(spelling)] for spelling in counts if spelling != chosen[fold(spelling)]}
    if changes and not settings.data.normalise_labels:
        _raise_spelling(records, changes, counts, name)
    changed = [record.place for record in records if record.reference in changes]
    findings.note("labels_normalised", len(changed), changed)
    records = [replace(record, references=(changes.get(record.reference, record.reference),)) for record in records]
    if declared:
        _check_declared(records, settings, name)
    _check_number(records, settings, name)
    return records, changes


def _raise_spelling(records: Sequence[Record], changes: dict[str, str], counts: Counter[str], name: str) -> None:
    shown = []
    for spelling, into in list(changes.items())[:3]:
        place = next(record.place for record in records if record.reference == spelling)
        twin = f" beside {into!r} ({counts[into]} rows)" if into in counts else f" for {into!r}"
        shown.append(
            f"{spelling!r} in {lines_of([place])} ({counts[spelling]} row{'s' if counts[spelling] > 1 else ''}){twin}"
        )
    more = f"; and {len(changes) - 3} more" if len(changes) > 3 else ""
    raise DataError(
        f"labels that differ only in case or spaces: {'; '.join(shown)}{more}",
        where=name,
        fix="set [data] normalise_labels = true to merge them, or correct the file",
    )


def _check_declared(records: Sequence[Record], settings: Settings, name: str) -> None:
    known = [label.name for label in settings.labels]
    strange = Counter(record.reference for record in records if record.reference not in known)
    if strange:
        label, count = strange.most_common(1)[0]
        lines = [record.place for record in records if record.reference == label]
        others = f" (and {len(strange) - 1} other labels like that)" if len(strange) > 1 else ""
        raise DataError(
            f"the label {label!r} in {lines_of(lines)} is not in [task.labels]{others}",
            where=name,
            fix=f"{suggest(label, known)}add it to [task.labels], or correct the {'rows' if count > 1 else 'row'}",
        )


def _check_number(records: Sequence[Record], settings: Settings, name: str) -> None:
    labels = {record.reference for record in records}
    if len(labels) < 2:
        raise DataError(
            f"every row has the label {next(iter(labels))!r}: one class leaves nothing to decide",
            where=name,
            fix="add examples of another class, or check [data] reference",
        )
    if not settings.labels and len(records) >= _FEW_ROWS and len(labels) > len(records) / 2:
        raise DataError(
            f"'{settings.data.reference}' has {len(labels)} different values in {len(records)} rows: "
            "that is free text, not a closed set of labels",
            where=name,
            fix="check [data] reference; it has to name the column with the label",
        )


def labels_of(references: Sequence[str], settings: Settings, findings: Findings) -> tuple[Label, ...]:
    """The labels of the task: as declared, else by name. Raises SpecError on a strange class.

    Not by frequency: that would tell a prompt something about the test split's answers.
    """
    counts = Counter(references)
    labels = settings.labels or tuple(Label(name) for name in sorted(counts))
    absent = [label.name for label in labels if not counts[label.name]]
    if absent:
        findings.warnings.append(f"no example has the label {', '.join(repr(name) for name in absent)}")
    wanted, names = settings.target.label, [label.name for label in labels]
    if wanted is not None and wanted not in names:
        raise SpecError(
            f"{wanted!r} is not a label",
            where=f"{settings.where}, [target] class",
            fix=f"{suggest(wanted, names)}the labels are {', '.join(names[:20])}",
        )
    return labels
