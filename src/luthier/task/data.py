"""Data: a CSV, TSV, JSONL or Parquet file, read into rows that know their lines. The file is only ever read.

Every defect is a DataError that names the line and the fix; nothing is repaired silently.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luthier.errors import DataError, MissingExtra
from luthier.task.spelling import fold, suggest

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_BOMS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
# Python's csv stops at 131,072 characters a field by default; a long document is no defect
_LONGEST_FIELD = 2**31 - 1


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as the file has it: the line it begins on (Parquet: its number, from 1), and its values by column.

    A list or an object is its JSON text, and its column is in `nested`.
    """

    line: int
    values: dict[str, str]
    nested: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Table:
    """A file that was read: its name for error messages, its columns in order, its rows, and a hash of its bytes.

    `nested` holds the first line of each column that somewhere holds a JSON list or object instead of a text.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[RawRow, ...]
    sha256: str
    nested: Mapping[str, int]

    def column(self, wanted: str, key: str, *, lists: bool = False) -> str:
        """`wanted`, if the file has it exactly once; `key` names who asked, `lists`: it may hold lists and objects.

        Raises DataError.
        """
        same = [name for name in self.columns if fold(name) == fold(wanted)]
        if len(same) > 1:
            raise DataError(
                f"{key}: '{wanted}' is ambiguous: the columns {_listed(same)} differ at most in case and spaces",
                where=self.name,
                fix="rename one of them in the file's header",
            )
        if wanted not in self.columns:
            raise DataError(
                f"{key}: there is no column '{wanted}'",
                where=self.name,
                fix=f"{suggest(wanted, self.columns)}the columns are {_listed(self.columns)}",
            )
        if wanted in self.nested and not lists:
            raise DataError(
                f"line {self.nested[wanted]}: '{wanted}' is a list or an object, not a text",
                where=self.name,
                fix="write the value as one text, number, true or false",
            )
        return wanted


@dataclass(frozen=True)
class Dialect:
    """How a file is written."""

    format: str
    encoding: str = "utf-8"
    delimiter: str | None = None
    quote: str = '"'


def format_of(path: Path) -> str | None:
    """The format that a file's ending stands for; None when it stands for none."""
    return FORMATS.get(path.suffix.lower())


def read_table(path: Path, dialect: Dialect) -> Table:
    """The file's rows, with line numbers. Raises DataError for whatever makes it not a table of text."""
    raw = read_bytes(path)
    if dialect.format == "parquet":
        return parquet_table([raw], path.name)
    text = decode(raw, dialect.encoding, path.name)
    if not text.strip():
        raise DataError("the file is empty", where=path.name, fix="point [data] path to a file with labelled examples")
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise DataError(
            f"line {line} holds a NUL byte",
            where=path.name,
            fix='if the file is UTF-16, set [data] encoding = "utf-16"; otherwise remove the byte',
        )
    nested: dict[str, int] = {}
    if dialect.format == "jsonl":
        columns, rows = _read_jsonl(text, path.name, nested)
    else:
        delimiter = dialect.delimiter or ("\t" if dialect.format == "tsv" else ",")
        columns, rows = _read_delimited(text, delimiter, dialect.quote, path.name)
    if not rows:
        raise DataError("there is a header, but no row below it", where=path.name, fix="add labelled examples")
    return Table(path.name, columns, rows, hashlib.sha256(raw).hexdigest(), nested)


def read_bytes(path: Path) -> bytes:
    """The file's content. Raises DataError when there is no such file, with names that are close to it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(path), fix=_neighbours(path)) from None
    except IsADirectoryError:
        raise DataError("this is a folder", where=str(path), fix=_neighbours(path / "?")) from None
    except ValueError:
        raise DataError("this is no path: it holds a NUL character", where=repr(str(path)), fix="take it out") from None
    except OSError as mistake:
        raise DataError(
            f"cannot be read: {mistake.strerror}", where=str(path), fix="check the path and its permissions"
        ) from None


def _neighbours(path: Path) -> str:
    try:
        names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    except OSError:
        return f"the folder {path.parent} does not exist either: check the path"
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    readable = [name for name in names if format_of(Path(name))]
    return f"the folder has {_listed(readable)}" if readable else "check the path; it is relative to luthier.toml"


def decode(raw: bytes, encoding: str, name: str) -> str:
    """The bytes as text, without a byte order mark. Raises DataError that names line and byte."""
    try:
        return raw.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as mistake:
        marked = next((known for bom, known in _BOMS if raw.startswith(bom)), None)
        before = raw[: mistake.start]
        line = before.count(b"\n") + 1
        column = mistake.start - (before.rfind(b"\n") + 1) + 1
        raise DataError(
            f"line {line}, byte {column} (0x{raw[mistake.start]:02x}) is not valid {encoding.upper()}",
            where=name,
            fix=f'set [data] encoding = "{marked or ("latin-1" if encoding == "utf-8" else "utf-8")}"'
            + ("" if marked else " if that is how the file was saved, or save it as UTF-8"),
        ) from None


# ---------------------------------------------------------------- CSV and TSV


def _read_delimited(text: str, delimiter: str, quote: str, name: str) -> tuple[tuple[str, ...], tuple[RawRow, ...]]:
    records = _records(text, delimiter, quote, name)
    header = next(records, None)
    if header is None:
        raise DataError("the file is empty", where=name, fix="point [data] path to a file with labelled examples")
    columns = tuple(cell.strip() for cell in header[1])
    # a repeated header is an error only when it is asked for; until then the first of its kind keeps the plain name
    rows = []
    for line, cells in records:
        if len(cells) != len(columns):
            raise DataError(
                f"line {line} has {len(cells)} fields, and the header has {len(columns)}",
                where=name,
                fix=f"put quotes around a field that holds {json.dumps(delimiter)}, or set [data] delimiter",
            )
        rows.append(RawRow(line, dict(zip(reversed(columns), reversed(cells), strict=True))))
    return columns, tuple(rows)


def _records(text: str, delimiter: str, quote: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """(first line, fields) of each record that is not a blank line."""
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        lines = io.StringIO(text, newline="")
        # strict: a quote that is never closed would silently swallow the rest of the file
        if quote:
            reader = csv.reader(lines, delimiter=delimiter, quotechar=quote, strict=True)
        else:
            reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
        start = 1
        try:
            for cells in reader:
                if cells:
                    yield start, cells
                start = reader.line_num + 1
        except csv.Error as mistake:
            unclosed = "unexpected end" in str(mistake)
            raise DataError(
                f"line {start} opens a quote that is never closed" if unclosed else f"line {start}: {mistake}",
                where=name,
                fix='write a quote inside a quoted field twice (""), or set [data] quote = "" if quotes are plain text',
            ) from None
    finally:
        csv.field_size_limit(limit)


# ---------------------------------------------------------------- JSONL


def _read_jsonl(text: str, name: str, nested: dict[str, int]) -> tuple[tuple[str, ...], tuple[RawRow, ...]]:
    """Columns and rows; notes in `nested` where a value is no text."""
    columns: dict[str, None] = {}
    rows = []
    # split at \n alone: JSON strings may hold U+2028 and other characters that str.splitlines would cut at
    for line, source in enumerate(text.split("\n"), start=1):
        if not source.strip():
            continue
        found = _json_row(source, line, name)
        columns.update(dict.fromkeys(found))
        rows.append(_raw_row(line, found, nested))
    return tuple(columns), tuple(replace(row, values={**dict.fromkeys(columns, ""), **row.values}) for row in rows)


def _raw_row(line: int, found: Mapping[str, object], nested: dict[str, int]) -> RawRow:
    lists = frozenset(key for key, value in found.items() if isinstance(value, (list, dict)))
    for key in found:
        if key in lists:
            nested.setdefault(key, line)
    return RawRow(line, {key: _json_text(value) for key, value in found.items()}, lists)


def _json_row(source: str, line: int, name: str) -> dict[str, object]:
    where = f"{name}, line {line}"
    try:
        # numbers stay as they are written: 1.0 is not 1
        found = json.loads(source, object_pairs_hook=_pairs, parse_int=_Int.read, parse_float=_Float.read)
    except json.JSONDecodeError as mistake:
        array = line == 1 and source.lstrip().startswith("[")
        raise DataError(
            f"not valid JSON at character {mistake.pos + 1}: {mistake.msg}",
            where=where,
            fix="the file is one JSON array: write one object a line"
            if array
            else "each line has to be one JSON object",
        ) from None
    except _Twice as twice:
        raise DataError(f"the key '{twice}' stands twice", where=where, fix="keep one of the two") from None
    except RecursionError:
        raise DataError("nested too deeply", where=where, fix="each line has to be one flat JSON object") from None
    if not isinstance(found, dict):
        raise DataError(
            "not a JSON object", where=where, fix='write one object a line: {"text": "...", "label": "..."}'
        )
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DataError("half of a surrogate pair is no text", where=where, fix="remove the \\ud8.. escape") from None
    return found


class _Int(int):
    source: str

    @classmethod
    def read(cls, source: str) -> Any:
        try:
            number = cls(source)
        except ValueError:  # Python reads no whole number of more than 4,300 digits
            return source
        number.source = source
        return number


class _Float(float):
    source: str

    @classmethod
    def read(cls, source: str) -> Any:
        number = cls(source)
        number.source = source
        return number


class _Twice(Exception):
    pass


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if repeated:
        raise _Twice(repeated[0])
    return dict(pairs)


def _json_text(value: object) -> str:
    """Text as it is; null as nothing; everything else as its JSON text."""
    if isinstance(value, str):
        return value
    if isinstance(value, (_Int, _Float)):
        return value.source
    return "" if value is None else json.dumps(value, ensure_ascii=False)


# ---------------------------------------------------------------- Parquet


def parquet_table(files: Sequence[bytes], name: str) -> Table:
    """The rows of Parquet files one after the other. Raises DataError, and MissingExtra without pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("parquet", "a Parquet file") from error
    columns: dict[str, None] = {}
    nested: dict[str, int] = {}
    rows: list[RawRow] = []
    sha256 = hashlib.sha256()
    for raw in files:
        sha256.update(raw)
        try:
            twice = [
                column
                for column, count in Counter(parquet.read_schema(pyarrow.BufferReader(raw)).names).items()
                if count > 1
            ]
            if twice:
                raise DataError(
                    f"two columns are called '{twice[0]}'",
                    where=name,
                    fix="rename one of them, and write the file again",
                )
            table = parquet.read_table(pyarrow.BufferReader(raw))
        except (pyarrow.ArrowException, OSError) as mistake:
            raise DataError(
                f"not a Parquet file: {str(mistake).splitlines()[0]}", where=name, fix="check [data] path and format"
            ) from None
        columns.update(dict.fromkeys(str(column) for column in table.column_names))
        for found in table.to_pylist():
            line = len(rows) + 1
            rows.append(_raw_row(line, {key: _plain(value, key, line, name) for key, value in found.items()}, nested))
    if not rows:
        raise DataError("there are columns, but no row", where=name, fix="add labelled examples")
    rows = [replace(row, values={**dict.fromkeys(columns, ""), **row.values}) for row in rows]
    return Table(name, tuple(columns), tuple(rows), sha256.hexdigest(), nested)


def _plain(value: Any, column: str, line: int, name: str) -> Any:
    """A Parquet value as JSON has it; dates and decimals are their texts."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(each, column, line, name) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each, column, line, name) for each in value]
    if isinstance(value, bytes):
        raise DataError(
            f"line {line}: '{column}' holds bytes, not a text", where=name, fix="write the column as a string column"
        )
    return str(value)


def _listed(names: Iterable[str]) -> str:
    shown = [f"'{name}'" for name in names]
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")


def lines_of(lines: Sequence[int | str], most: int = 5) -> str:
    """'line 3', or 'lines 3, 7, 9 and 12 more'; a text such as 'test line 4' stands for itself.

    >>> lines_of([3]), lines_of([3, 7, 9], most=2), lines_of(["test line 4"])
    ('line 3', 'lines 3, 7 and 1 more', 'test line 4')
    """
    shown = ", ".join(str(line) for line in lines[:most])
    more = f" and {len(lines) - most} more" if len(lines) > most else ""
    if isinstance(lines[0], str):
        return f"{shown}{more}"
    return f"{'line' if len(lines) == 1 else 'lines'} {shown}{more}"
