"""Review: files that a person edits or hands on: probable label errors to check, the data corrected, the data masked.

Nothing that exists is ever overwritten: each function refuses a path that is there already.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.audit.finding import Place
from luthier.audit.material import Material, Row
from luthier.audit.mislabelled import Suspects
from luthier.audit.personal import find, masked
from luthier.audit.shape import text_of
from luthier.errors import DataError, MissingExtra, SpecError, StoreError
from luthier.task.data import Dialect, decode, format_of, read_bytes, read_table
from luthier.task.hub import PREFIX
from luthier.task.settings import Settings

COLUMNS = ("place", "id", "input", "label", "suggested", "confidence", "correct")
_ABOUT = "correct"  # the column that a person fills in


@dataclass(frozen=True, slots=True)
class Written:
    """What was written where: `rows` rows, of which `changed` differ from the original."""

    path: Path
    rows: int
    changed: int


def write_review(found: Suspects, path: Path) -> Written:
    """A CSV of the probable label errors, the likeliest first; the column `correct` is for a person to fill in.

    Raises StoreError where the path is taken or cannot be written.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for each in found.suspects:
        row = each.row
        rows.writerow(
            [
                row.place,
                _inert(masked(row.id)),
                _inert(masked(text_of(row.input))),
                row.reference,
                each.suggested,
                f"{each.of_suggested:.3f}",
                "",
            ]
        )
    _write(path, text.getvalue().encode("utf-8-sig"))  # the mark tells spreadsheets that it is UTF-8
    return Written(path, len(found.suspects), 0)


def _inert(text: str) -> str:
    """A text as no spreadsheet takes it for a formula: inputs are other people's.

    >>> _inert("=1+1"), _inert("a = 1")
    ("'=1+1", 'a = 1')
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def check_free(path: Path) -> None:
    """Raises StoreError where something is at the path already."""
    if path.exists():
        raise _taken(path)


def read_review(path: Path, material: Material) -> dict[Place, str]:
    """The right label of each row whose `correct` was filled in, and of its copies. Raises DataError, naming the line.

    A review has one row of each input. Copies of it with the same label are the same mistake: left as they are, they
    would outvote the correction. A row is the one that was reviewed only if its label is still what the review says it
    was: data that changed since is an error, and so are a label that the data does not have, and two answers to one.
    """
    encoding = _encoding(read_bytes(path))
    table = read_table(path, Dialect("csv", encoding, _delimiter(path, encoding)))
    for name in ("place", "label", _ABOUT):
        table.column(name, "the review")
    known = {str(row.place): row for row in material.rows}
    labels = {row.reference for row in material.rows}
    alike: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for each in material.rows:
        alike[each.source, each.form, each.reference].append(each)
    found: dict[Place, str] = {}
    for line in table.rows:
        correct = line.values[_ABOUT].strip()
        if not correct:
            continue
        where, place = f"{path.name}, line {line.line}", line.values["place"].strip()
        row = known.get(place)
        if row is None or row.reference != line.values["label"].strip():
            raise DataError(
                f"the row at {place!r} is not the one that was reviewed" if row else f"there is no row at {place!r}",
                where=where,
                fix="the data changed since: write a new review with luthier audit --review",
            )
        if material.closed and correct not in labels:
            raise DataError(
                f"{correct!r} is not a label of the data",
                where=where,
                fix=f"use one of {', '.join(sorted(labels)[:20])}, or correct the spelling",
            )
        for copy in alike[row.source, row.form, row.reference]:
            if found.setdefault(copy.place, correct) != correct:
                raise DataError(
                    f"the input at {place!r} is corrected to {correct!r} here, and to {found[copy.place]!r} above",
                    where=where,
                    fix="decide for one of them",
                )
    return {place: correct for place, correct in found.items() if correct != known[str(place)].reference}


def _encoding(raw: bytes) -> str:
    """A spreadsheet may have saved the review in its own way; a label that was misread is refused as another one."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _delimiter(path: Path, encoding: str) -> str:
    """A spreadsheet may have saved the review with semicolons."""
    head = decode(read_bytes(path), encoding, path.name).split("\n", 1)[0]
    return max(",;\t", key=head.count)


def apply_review(material: Material, corrections: Mapping[Place, str], path: Path) -> Written:
    """A copy of the data file with the corrected labels. Raises StoreError, DataError, SpecError."""
    data = _settings(material).data
    column = data.reference
    if column is None or not material.closed:
        raise SpecError("only labels can be corrected", where=material.where, fix="edit the file by hand")
    if any(isinstance(place, str) for place in corrections):
        raise DataError("the review names rows of the test file", where="the review", fix="correct that file by hand")

    def correct(line: int, values: dict[str, Any]) -> dict[str, Any]:
        if line not in corrections:
            return values
        return {**values, column: _like(values[column], corrections[line])}

    return _copy(material, data.path, path, correct)


def _like(before: Any, label: str) -> Any:
    """A label as the file has it: a number or a truth value where that was one.

    >>> _like(1, "0"), _like(True, "false"), _like("1", "0"), _like(1, "one")
    (0, False, '0', 'one')
    """
    if isinstance(before, str) or not isinstance(before, bool | int | float):
        return label
    try:
        after = json.loads(label)
    except ValueError:
        return label
    return after if isinstance(after, bool | int | float) else label


def write_masked(material: Material, path: Path) -> tuple[Written, ...]:
    """A copy of the data with [EMAIL], [PHONE] and so on for personal data, in every column but id and group.

    Where the task has a test file, its copy stands beside the other one: masked.csv and masked-test.csv. Raises
    StoreError, DataError, SpecError.
    """
    data = _settings(material).data
    kept = {name for name in (data.id, data.group) if name is not None}

    def mask(_line: int, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value if name in kept else _masked(value) for name, value in values.items()}

    beside = path.with_name(f"{path.stem}-test{Path(data.test or path.name).suffix}")
    names = [(data.path, path), *([(data.test, beside)] if data.test is not None else [])]
    for _, target in names:  # before any of them is written
        check_free(target)
    return tuple(_copy(material, name, target, mask) for name, target in names)


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, list):
        return [_masked(each) for each in value]
    if isinstance(value, dict):
        return {name: _masked(each) for name, each in value.items()}
    if isinstance(value, int) and not isinstance(value, bool) and find(str(value)):
        return masked(str(value))
    return value


# ---------------------------------------------------------------- a copy of a data file

Change = Callable[[int, dict[str, Any]], dict[str, Any]]


def _settings(material: Material) -> Settings:
    assert material.settings is not None
    return material.settings


def _copy(material: Material, name: str, path: Path, change: Change) -> Written:
    """The data file, row by row changed, in its own format, encoding and dialect."""
    data = _settings(material).data
    if name.startswith(PREFIX):
        raise SpecError("the data comes from a hub", where=f"{material.where}, [data] path", fix="save it as a file")
    source = material.folder / name
    form = data.format or format_of(source)
    if path.suffix.lower() != source.suffix.lower():
        raise SpecError(
            f"'{path.name}' would be written like {source.name}, and its ending says something else",
            where="luthier audit",
            fix=f"end it with {source.suffix}",
        )
    if form == "parquet":
        return _copy_parquet(source, path, change)
    raw = read_bytes(source)
    text = decode(raw, data.encoding, source.name)
    if form == "jsonl":
        copied, rows, changed = _copy_jsonl(text, change)
    else:
        delimiter = data.delimiter or ("\t" if form == "tsv" else ",")
        dialect = Dialect(str(form), data.encoding, delimiter, data.quote)
        copied, rows, changed = _copy_delimited(source, dialect, change, "\r\n" if "\r\n" in text else "\n")
    encoded = copied.encode("utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else data.encoding, "xmlcharrefreplace")
    _write(path, encoded)
    return Written(path, rows, changed)


def _copy_jsonl(text: str, change: Change) -> tuple[str, int, int]:
    lines, rows, changed = [], 0, 0
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            values = json.loads(line)
            after = change(number, values)
            rows, changed = rows + 1, changed + (after != values)
            line = json.dumps(after, ensure_ascii=False) if after != values else line
        lines.append(line)
    return "\n".join(lines), rows, changed


def _copy_delimited(source: Path, dialect: Dialect, change: Change, end: str) -> tuple[str, int, int]:
    table = read_table(source, dialect)
    if len(set(table.columns)) < len(table.columns):
        raise DataError("two columns have the same name", where=source.name, fix="rename one of them first")
    text = io.StringIO(newline="")
    quoted = {"quotechar": dialect.quote} if dialect.quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    rows = csv.writer(text, delimiter=dialect.delimiter or ",", lineterminator=end, **quoted)
    rows.writerow(table.columns)
    changed = 0
    for row in table.rows:
        after = change(row.line, dict(row.values))
        changed += after != row.values
        rows.writerow([after[name] for name in table.columns])
    return text.getvalue(), len(table.rows), changed


def _copy_parquet(source: Path, path: Path, change: Change) -> Written:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("parquet", "a Parquet file") from error
    table = parquet.read_table(source)
    before = table.to_pylist()
    after = [change(number, dict(values)) for number, values in enumerate(before, start=1)]
    buffer = pyarrow.BufferOutputStream()
    columns = {field.name: _column([row[field.name] for row in after], field.type) for field in table.schema}
    parquet.write_table(pyarrow.table(columns), buffer)
    _write(path, buffer.getvalue().to_pybytes())
    return Written(path, len(after), sum(one != other for one, other in zip(before, after, strict=True)))


def _column(values: list[Any], kind: Any) -> Any:
    """A column of its old type; of text, where a change put a word among numbers."""
    import pyarrow

    try:
        return pyarrow.array(values, type=kind)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
        texts = [
            value if value is None or isinstance(value, str) else json.dumps(value, default=str) for value in values
        ]
        return pyarrow.array(texts, type=pyarrow.string())


def _write(path: Path, content: bytes) -> None:
    """Raises StoreError: a file that is there already may hold somebody's work."""
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise StoreError(f"cannot write: {error}", where=str(path), fix="choose another path") from error


def _taken(path: Path) -> StoreError:
    return StoreError("it is there already", where=str(path), fix="choose another name")
