"""Extra: what some fine-tunes learn from besides examples: inputs without answers, preferences, documents.

What is a copy or a near-copy of a dev or test input is left out and counted: nobody may learn what is tested.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from luthier.errors import DataError, SpecError
from luthier.task.answers import is_nothing
from luthier.task.chats import chat_of
from luthier.task.data import Dialect, RawRow, Table, decode, format_of, read_bytes, read_table
from luthier.task.duplicates import form_of, likeness_of, measure, normal_form
from luthier.task.records import Findings
from luthier.task.settings import Settings
from luthier.task.template import fill
from luthier.types import Example, Extra, Input, Preference

TEXTS = (".txt", ".md")
# a shorter input, such as "yes", may stand anywhere by chance
SHORTEST_HELD = 20


def read_extra(
    settings: Settings, folder: Path, train: Sequence[Example], held: Sequence[Example], findings: Findings
) -> Extra:
    """What [data] names besides examples, without what `train` has already or what `held` (dev and test) holds.

    Raises SpecError and DataError.
    """
    data = settings.data
    unlabelled: list[Input] = []
    preferences: list[Preference] = []
    documents: list[tuple[str, str]] = []
    if data.unlabelled is not None:
        table = _table(settings, folder, "unlabelled", data.unlabelled)
        inputs = _unlabelled(table, settings)
        unlabelled = _fresh(inputs, [example.input for example in train], held, settings, findings)
    if data.preferences is not None:
        table = _table(settings, folder, "preferences", data.preferences)
        preferences = _unseen_preferences(_preferences(table), held, settings, findings)
    if data.documents is not None:
        documents = _documents(folder / data.documents, held, findings)
    return Extra(tuple(unlabelled), tuple(preferences), tuple(documents))


def _table(settings: Settings, folder: Path, key: str, name: str) -> Table:
    data, path = settings.data, folder / name
    form = format_of(path)
    if form is None:
        raise SpecError(
            f"the ending of '{name}' does not say how it is written",
            where=f"{settings.where}, [data] {key}",
            fix="name a .csv, .tsv, .jsonl or .parquet file",
        )
    return read_table(path, Dialect(form, data.encoding, data.delimiter, data.quote))


# ---------------------------------------------------------------- inputs without answers


def _unlabelled(table: Table, settings: Settings) -> list[Input]:
    data = settings.data
    for column in data.input_columns:
        table.column(column, "[data] unlabelled", lists=column == data.messages)
    return [_input(row, settings, table.name) for row in table.rows if _says_something(row, settings)]


def _says_something(row: RawRow, settings: Settings) -> bool:
    return not all(is_nothing(row.values[column]) for column in settings.data.input_columns)


def _input(row: RawRow, settings: Settings, name: str) -> Input:
    data = settings.data
    if data.messages is not None:
        return chat_of(row.values[data.messages], row.line, name)
    return row.values[data.input] if data.input is not None else fill(data.template or "", row.values)


def _fresh(
    inputs: Sequence[Input],
    known: Sequence[Input],
    held: Sequence[Example],
    settings: Settings,
    findings: Findings,
) -> list[Input]:
    """The inputs, each once, that no example holds already."""
    distinct: dict[str, Input] = {}
    for value in inputs:
        distinct.setdefault(form_of(value), value)
    found = list(distinct.values())
    labelled = {form_of(value) for value in known}
    fresh = [value for value in found if form_of(value) not in labelled]
    kept = _unlike(fresh, held, settings)
    findings.note("unlabelled_read", len(inputs))
    findings.note("unlabelled_with_an_answer_elsewhere", len(found) - len(fresh))
    findings.note("unlabelled_like_dev_or_test", len(fresh) - len(kept))
    return [fresh[at] for at in kept]


def _unlike(inputs: Sequence[Input], held: Sequence[Example], settings: Settings) -> list[int]:
    """The places of the inputs that are no copy, and no near-copy, of what is held back."""
    forms = {form_of(example.input) for example in held}
    near: set[int] = set()
    if settings.data.near_duplicates:
        texts = [likeness_of(value) for value in inputs] + [likeness_of(example.input) for example in held]
        pairs = measure(texts).above(settings.data.near_duplicates)
        both = zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
        near = {left for left, right in both if left < len(inputs) <= right}
    return [at for at, value in enumerate(inputs) if at not in near and form_of(value) not in forms]


# ---------------------------------------------------------------- preferences


def _preferences(table: Table) -> list[Preference]:
    for column in ("prompt", "chosen", "rejected"):
        table.column(column, "[data] preferences", lists=column == "prompt")
    found = []
    for row in table.rows:
        place = f"line {row.line}"
        chosen, rejected = row.values["chosen"].strip(), row.values["rejected"].strip()
        empty = next((key for key in ("prompt", "chosen", "rejected") if is_nothing(row.values[key])), None)
        if empty is not None:
            raise DataError(f"'{empty}' is empty", where=f"{table.name}, {place}", fix="fill it in, or remove the row")
        if chosen == rejected:
            raise DataError(
                "the chosen and the rejected answer are the same",
                where=f"{table.name}, {place}",
                fix="remove the row: it prefers nothing",
            )
        prompt = row.values["prompt"]
        asked = chat_of(prompt, row.line, table.name) if "prompt" in row.nested else prompt
        found.append(Preference(f"preference {place}", asked, chosen, rejected))
    return found


def _unseen_preferences(
    pairs: Sequence[Preference], held: Sequence[Example], settings: Settings, findings: Findings
) -> list[Preference]:
    kept = _unlike([pair.input for pair in pairs], held, settings)
    findings.note("preferences_read", len(pairs))
    findings.note("preferences_like_dev_or_test", len(pairs) - len(kept))
    return [pairs[at] for at in kept]


# ---------------------------------------------------------------- documents


def _documents(folder: Path, held: Sequence[Example], findings: Findings) -> list[tuple[str, str]]:
    """The texts by their paths in the folder, in their order, without paragraphs that hold what is held back."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in TEXTS)
    if not paths:
        raise DataError(
            f"there are no texts ({', '.join(TEXTS)}) here" if folder.is_dir() else "there is no such folder",
            where=str(folder),
            fix="point [data] documents to a folder of texts, relative to luthier.toml",
        )
    search = _Held(held)
    found, seen, left_out = [], set[str](), 0
    for path in paths:
        text = decode(read_bytes(path), "utf-8", path.name)
        paragraphs = [paragraph for paragraph in text.replace("\r\n", "\n").split("\n\n") if paragraph.strip()]
        kept = [paragraph for paragraph in paragraphs if not search.inside(paragraph)]
        left_out += len(paragraphs) - len(kept)
        whole = "\n\n".join(kept)
        mark = hashlib.sha256(whole.encode()).hexdigest()
        if kept and mark not in seen:  # the same text twice teaches nothing new
            found.append((path.relative_to(folder).as_posix(), whole))
            seen.add(mark)
    findings.note("documents_read", len(paths))
    findings.note("document_paragraphs_with_dev_or_test_inputs", left_out)
    return found


class _Held:
    """Finds inputs of dev and test inside a text: their beginnings are looked up at each of its characters."""

    def __init__(self, held: Sequence[Example]) -> None:
        self.starting: dict[str, list[str]] = {}
        for example in held:
            form = normal_form(likeness_of(example.input))
            if len(form) >= SHORTEST_HELD:
                self.starting.setdefault(form[:SHORTEST_HELD], []).append(form)

    def inside(self, paragraph: str) -> bool:
        text = normal_form(paragraph)
        return any(
            text.startswith(form, at)
            for at in range(len(text) - SHORTEST_HELD + 1)
            for form in self.starting.get(text[at : at + SHORTEST_HELD], ())
        )
