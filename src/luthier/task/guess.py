"""Guess: look at a data file and propose a luthier.toml for it, saying what was guessed and why.

From a file with the columns `id,text,label`, 500 short texts and two labels, to

    [data]
    path = "mails.csv"
    input = "text"
    reference = "label"
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.errors import DataError
from luthier.task.answers import is_nothing
from luthier.task.data import Dialect, Table, format_of, read_bytes, read_table
from luthier.task.draft import INPUT_NAMES, Column, Draft, comment, data_lines, input_lines, toml_text
from luthier.task.spelling import fold
from luthier.task.written import ANSWER_NAMES, Found, chats_in, records_in, written_in, written_text

# 2024-03-01, 1.3.2024, 03/01/24, perhaps with a time behind it
_DATE = re.compile(r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})([T ]\d|$)")
_DELIMITERS = ",;\t|"
_REFERENCE_NAMES = re.compile(
    r"label|class|category|intent|reference|target|answer|topic|sentiment|spam|tag|y$|type$|output|expected",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Proposal:
    """A luthier.toml for a file: its `text`, what was guessed and why, and what to look at before trusting it."""

    text: str
    inputs: tuple[str, ...]
    reference: str
    labels: tuple[str, ...]
    encoding: str
    format: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def propose(
    path: str | Path, *, input: str | None = None, reference: str | None = None, folder: str | Path | None = None
) -> Proposal:
    """A commented luthier.toml for a CSV, TSV, JSONL or Parquet file.

    `input` and `reference` name columns that are known; the others are guessed. `folder` is where the luthier.toml will
    stand (default: the working directory): the path in it is relative to that. Raises DataError when the file cannot be
    read, or when a guess would be the toss of a coin.
    """
    file = Path(path)
    raw = read_bytes(file)
    if format_of(file) == "parquet":
        encoding, note, form, delimiter, quote = "utf-8", "", "parquet", None, '"'
    else:
        encoding, note = _encoding(raw)
        form, delimiter, quote = _form(file, raw.decode(encoding, "replace"))
    table = read_table(file, Dialect(form, encoding, delimiter, quote))
    columns = {name: _column(table, name) for name in table.columns if name not in table.nested}
    reasons: list[str] = [f"{len(table.rows)} rows, columns {', '.join(repr(name) for name in table.columns)}"]
    warnings = [note] if note else []
    if quote == "":
        warnings.append("some quotes are never closed, so quotes are read as plain text")
    written = _written(table, columns, reference, input)
    if written is not None:
        how = _How(file, Path(folder or "."), encoding, form, delimiter, quote)
        return _proposed(written, how, table, columns, input, reasons, warnings)
    chosen = _reference(table, columns, reference, input, reasons)
    warnings += _free_texts(columns, chosen.name, input)
    inputs = _inputs(table, columns, input, chosen.name, reasons, warnings)
    draft = Draft(file, Path(folder or "."), encoding, form, delimiter, quote, inputs, chosen, columns, table)
    warnings += draft.flaws()
    return Proposal(
        text=draft.text(reasons, warnings),
        inputs=tuple(column.name for column in inputs),
        reference=chosen.name,
        labels=tuple(draft.labels()),
        encoding=encoding,
        format=form,
        reasons=tuple(reasons),
        warnings=tuple(warnings),
    )


# ---------------------------------------------------------------- answers that are no labels


@dataclass(frozen=True)
class _How:
    """How the file is written, and where the luthier.toml will stand."""

    file: Path
    folder: Path
    encoding: str
    form: str
    delimiter: str | None
    quote: str


def _written(table: Table, columns: dict[str, Column], wanted: str | None, taken: str | None) -> Found | None:
    """What is written in answer; None where the answers are, or ought to be, labels."""
    if wanted is not None:
        table.column(wanted, "--reference", lists=True)
        closed = wanted in columns and columns[wanted].distinct <= columns[wanted].rows / 2
        asks = taken is not None or chats_in(table) is not None
        asks = asks or any(each.could_be_input and each.name != wanted for each in columns.values())
        if not asks or (closed and not records_in(table, wanted)):
            return None
    found = written_in(table, columns, wanted, taken)
    if found is None or wanted is not None or found.reference is None or found.kind == "extraction" or found.messages:
        return found
    labels = [each for each in columns.values() if each.could_be_label and each.name and each.name != taken]
    return None if labels else found


def _free_texts(columns: dict[str, Column], chosen: str, taken: str | None) -> list[str]:
    """Columns that might be the answer after all, next to one with labels."""
    names = [
        each.name
        for each in columns.values()
        if each.name not in (chosen, taken) and each.could_be_input and ANSWER_NAMES.search(each.name)
    ]
    return [f"'{name}' may be a right answer in words: --reference {name} proposes that" for name in names]


def _proposed(
    found: Found,
    how: _How,
    table: Table,
    columns: dict[str, Column],
    wanted: str | None,
    reasons: list[str],
    warnings: list[str],
) -> Proposal:
    reasons += found.reasons
    inputs: tuple[str, ...] = (found.messages or "",)
    if found.messages is None:
        chosen = _inputs(table, columns, wanted, found.reference or "", reasons, warnings)
        inputs = tuple(column.name for column in chosen)
    answers = [row.values[found.reference or inputs[0]] for row in table.rows]
    if any(is_nothing(answer) for answer in answers):
        warnings.append('some right answers are empty: on_empty = "drop" leaves those rows out')
    data = data_lines(how.file, how.folder, how.encoding, how.form, how.delimiter, how.quote)
    data += [f"messages = {toml_text(found.messages)}"] if found.messages else input_lines(inputs)
    data += [f"reference = {toml_text(found.reference)}"] if found.reference else []
    data += ['on_empty = "drop"'] if any(is_nothing(answer) for answer in answers) else []
    notes = [f"# Proposed from {comment(how.file.name)}. Read it once; `luthier keys` explains every key."]
    notes += [f"# {comment(reason)}" for reason in reasons]
    notes += [f"# LOOK: {comment(warning)}" for warning in warnings]
    longest = max((len(answer.split()) for answer in answers), default=0)
    return Proposal(
        text="\n".join(written_text(found, how.file.stem, data, notes, longest)),
        inputs=inputs,
        reference=found.reference or inputs[0],
        labels=(),
        encoding=how.encoding,
        format=how.form,
        reasons=tuple(reasons),
        warnings=tuple(warnings),
    )


# ---------------------------------------------------------------- how the file is written


def _encoding(raw: bytes) -> tuple[str, str]:
    """(encoding, warning)."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16", ""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as mistake:
        line = raw.count(b"\n", 0, mistake.start) + 1
        # 0x80-0x9f are control characters in latin-1, and quotes, dashes and the euro sign in cp1252
        windows = any(0x80 <= byte <= 0x9F for byte in raw)
        if windows:
            try:
                raw.decode("cp1252")
            except UnicodeDecodeError:
                windows = False
        name = "cp1252" if windows else "latin-1"
        return name, f"line {line} is not UTF-8, so the file is read as {name}: check that accents look right"
    return "utf-8", ""


def _form(file: Path, text: str) -> tuple[str, str | None, str]:
    """(format, delimiter when it is not the format's own, quote)."""
    known = format_of(file)
    if known == "jsonl" or (known is None and text.lstrip("\ufeff \r\n").startswith("{")):
        return "jsonl", None, '"'
    form = known or ("tsv" if file.suffix.lower() == ".tsv" else "csv")
    own = "\t" if form == "tsv" else ","
    text = text.removeprefix("\ufeff")
    quote = "" if _fields(text, own, '"') is None and _fields(text, own, "") else '"'
    scores = {delimiter: _fields(text, delimiter, quote) or 0 for delimiter in _DELIMITERS}
    best = own if scores[own] > 1 else max(_DELIMITERS, key=lambda delimiter: scores[delimiter])
    if scores[best] < 2:
        raise DataError(
            "no delimiter cuts its lines into two columns or more",
            where=file.name,
            fix="luthier reads CSV, TSV and JSONL with a header (or keys) and at least two columns",
        )
    return form, best if best != own else None, quote


def _fields(text: str, delimiter: str, quote: str) -> int | None:
    """How many fields the header has, if most records have as many (0 if not); None when a quote is never closed."""
    lines = io.StringIO(text, newline="")
    limit = csv.field_size_limit(2**31 - 1)
    try:
        if quote:
            records = [cells for cells in csv.reader(lines, delimiter=delimiter, strict=True) if cells]
        else:
            records = [cells for cells in csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE) if cells]
    except csv.Error:
        return None
    finally:
        csv.field_size_limit(limit)
    alike = sum(len(cells) == len(records[0]) for cells in records) if records else 0
    # a defective row or two is for read_table to name
    return len(records[0]) if records and alike >= 0.8 * len(records) else 0


# ---------------------------------------------------------------- which column is what


def _column(table: Table, name: str) -> Column:
    values = [row.values[name].strip() for row in table.rows]
    values = [value for value in values if not is_nothing(value)]
    return Column(
        name=name,
        values=tuple(values),
        distinct=len(set(values)),
        words=sum(len(value.split()) for value in values) / max(len(values), 1),
        numeric=bool(values) and all(re.fullmatch(r"[-+]?\d+([.,]\d+)?", value) for value in values),
        dates=bool(values) and all(_DATE.match(value) for value in values),
    )


def _reference(
    table: Table, columns: dict[str, Column], wanted: str | None, taken: str | None, reasons: list[str]
) -> Column:
    if wanted is not None:
        found = columns[table.column(wanted, "--reference")]
        if not 2 <= found.distinct <= max(found.rows / 2, 2):
            raise DataError(
                f"'{wanted}' has {found.distinct} different values in {found.rows} rows: no closed set of labels",
                where=table.name,
                fix="name a column with at least two labels that come back",
            )
        reasons.append(f"reference: '{wanted}', as you said")
        return found
    fitting = [each for each in columns.values() if each.could_be_label and each.name and each.name != taken]
    named = [each for each in fitting if _REFERENCE_NAMES.search(each.name)]
    exact = [
        each for each in named if fold(each.name) in ("label", "labels", "reference", "category", "class", "intent")
    ]
    candidates = exact or named or fitting
    if len(candidates) != 1:
        raise _ask("reference", candidates, table)
    why = "by its name and its" if named else "the only column with"
    reasons.append(f"reference: '{candidates[0].name}', {why} {candidates[0].distinct} values that come back")
    return candidates[0]


def _inputs(
    table: Table,
    columns: dict[str, Column],
    wanted: str | None,
    reference: str,
    reasons: list[str],
    warnings: list[str],
) -> list[Column]:
    if wanted is not None:
        reasons.append(f"input: '{wanted}', as you said")
        return [columns[table.column(wanted, "--input")]]
    fitting = [each for each in columns.values() if each.could_be_input and each.name and each.name != reference]
    if not fitting:
        raise _ask("input", [], table)
    if len(fitting) == 1:
        reasons.append(f"input: '{fitting[0].name}', the only column with texts that mostly come once")
        return fitting
    named = [each for each in fitting if INPUT_NAMES.search(each.name)]
    chosen = named or fitting
    # a name with braces cannot stand in a template
    chosen = [each for each in chosen if not set("{}") & set(each.name)] or chosen[:1]
    if len(chosen) > 1:
        names = ", ".join(f"'{each.name}'" for each in chosen)
        reasons.append(f"input: {names}, all of them texts, filled into a template")
        warnings.append(
            f"{len(chosen)} columns hold texts ({names}): take out of the template what a model must not see"
        )
    else:
        reasons.append(f"input: '{chosen[0].name}', by its name, of {len(fitting)} columns with texts")
        others = ", ".join(f"'{each.name}'" for each in fitting if each not in chosen)
        warnings.append(f"{others} hold texts too: use `template` if a model should see them")
    return chosen


def _ask(what: str, fitting: Sequence[Column], table: Table) -> DataError:
    names = ", ".join(f"'{each.name}'" for each in fitting)
    looks = (
        "a label (few values that come back)" if what == "reference" else "a text (mostly different from row to row)"
    )
    return DataError(
        f"more than one column could be the {what}: {names}" if fitting else f"no column looks like {looks}",
        where=table.name,
        fix=f"say which one: --{what} COLUMN; the columns are {', '.join(repr(name) for name in table.columns)}",
    )
