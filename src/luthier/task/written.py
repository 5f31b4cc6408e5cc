"""Written: which kind of task a file holds whose answers are no labels, and the luthier.toml proposed for it.

From a file with the column `messages`, chats that end with an assistant's turn, to `kind = "generation"` with
`messages = "messages"`; from a column `record` of JSON objects to `kind = "extraction"` with a schema drawn from them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.errors import DataError
from luthier.task.answers import is_nothing
from luthier.task.chats import chat_of, with_answer
from luthier.task.data import Table
from luthier.task.draft import Column, toml_text
from luthier.task.json_record import NotARecord, read_record
from luthier.task.kinds import RULES
from luthier.types import Kind

ANSWER_NAMES = re.compile(
    r"answer|response|completion|output|summary|reference|target|expected|translation|reply|gold|record|json|extract",
    re.IGNORECASE,
)
_LONGEST_ANSWER = 2000  # words of the longest answer that max_tokens is proposed for
_TOKENS_A_WORD = 2  # generous: numbers and rare words take several


@dataclass(frozen=True)
class Found:
    """What a file's answers look like: the kind, the column with chats (or None), the column with answers (or None)."""

    kind: Kind
    messages: str | None
    reference: str | None
    reasons: tuple[str, ...]
    schema: Mapping[str, Any] | None = None


def chats_in(table: Table) -> tuple[str, bool] | None:
    """The first column that holds chats, and whether each ends with the assistant's answer; None: there is no such."""
    for column in table.nested:
        texts = [(row.values[column], row.line) for row in table.rows if not is_nothing(row.values[column])]
        for ends, read in ((True, with_answer), (False, chat_of)):
            try:
                for text, line in texts:
                    read(text, line, table.name)
            except DataError:
                continue
            return column, ends
    return None


def records_in(table: Table, column: str) -> list[dict[str, Any]] | None:
    """The records of a column in which every value is one or a list of them; None where one is not."""
    found = []
    for row in table.rows:
        if is_nothing(row.values[column]):
            continue
        try:
            found += list(_records(row.values[column]))
        except NotARecord:
            return None
    return found or None


def _records(text: str) -> Iterator[dict[str, Any]]:
    if not text.lstrip().startswith("["):
        yield read_record(text)
        return
    try:
        several = json.loads(text)
    except ValueError:
        raise NotARecord("no JSON") from None
    for each in several:
        yield read_record(json.dumps(each))


def written_in(table: Table, columns: Mapping[str, Column], wanted: str | None, taken: str | None) -> Found | None:
    """What is to be written in answer to this file's inputs, None where nothing looks like it.

    `wanted` is the column that the user named as the reference, `taken` the one that is the input.
    """
    chats = chats_in(table)
    if chats is not None and chats[1] and wanted is None:
        reason = f"'{chats[0]}' holds chats that end with the assistant's turn: that is the right answer"
        return Found("generation", chats[0], None, (reason,))
    messages = chats[0] if chats is not None else None
    names = [wanted] if wanted is not None else [name for name in table.columns if name not in (taken, messages, "")]
    told = [f"'{messages}' holds chats"] if messages else []
    for name in sorted(names, key=lambda each: not ANSWER_NAMES.search(each)):
        records = records_in(table, name)
        if records is not None:
            reason = f"reference: '{name}', in which every value is a JSON record"
            return Found("extraction", messages, name, (*told, reason), schema_of(records))
    for name in names:
        column = columns.get(name)
        lists = name in table.nested
        free = lists or (column is not None and column.distinct > column.rows / 2 and not column.is_id)
        if free and (wanted is not None or ANSWER_NAMES.search(name)):
            return Found("generation", messages, name, (*told, f"reference: '{name}', texts that mostly come once"))
    return None


# ---------------------------------------------------------------- a schema from records


def schema_of(values: Sequence[Any]) -> dict[str, Any]:
    """A JSON schema that all the values fit: types as they occur, keys required where none lacks them.

    >>> schema_of([{"a": 1, "b": ["x"]}, {"a": 2.5}])["required"]
    ['a']
    """
    kinds = sorted({_kind(value) for value in values})
    if "integer" in kinds and "number" in kinds:
        kinds.remove("integer")
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    objects = [value for value in values if isinstance(value, dict)]
    if objects:
        keys = dict.fromkeys(key for value in objects for key in value)
        schema["properties"] = {key: schema_of([value[key] for value in objects if key in value]) for key in keys}
        schema["required"] = [key for key in keys if all(key in value for value in objects)]
        schema["additionalProperties"] = False
    elements = [each for value in values if isinstance(value, list) for each in value]
    if elements:
        schema["items"] = schema_of(elements)
    return schema


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names: Mapping[type, str] = {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        list: "array",
        dict: "object",
    }
    return names[type(value)]


# ---------------------------------------------------------------- the text of the proposal


def written_text(found: Found, name: str, data: Sequence[str], reasons: Sequence[str], longest: int) -> list[str]:
    """The lines of a luthier.toml; `data` are those of [data], `longest` the words of the longest answer."""
    rules = RULES[found.kind]
    tokens = max(rules.max_tokens, _TOKENS_A_WORD * min(longest, _LONGEST_ANSWER))
    lines = [*reasons, "", "[task]", f"name = {toml_text(name)}", f"kind = {toml_text(found.kind)}"]
    lines += ["# what a model is told; say what the texts are and what a right answer looks like"]
    lines += [f"instruction = {toml_text(rules.instruction)}", f"max_tokens = {tokens}"]
    if found.schema is not None:
        lines += ['# drawn from the records of the file: loosen or tighten it, or name a file: schema = "schema.json"']
        lines += [f"schema = {_inline(found.schema)}"]
    lines += ["", "[data]", *data, "", "[split]"]
    lines += ["# shares of the distinct examples, or counts such as test = 1000; train gets the rest"]
    lines += ["dev = 0.15", "test = 0.35", "seed = 0", "", "[target]"]
    metric = "rouge_l" if found.kind == "generation" and longest > 3 else rules.metrics[0]
    others = ", ".join(other for other in rules.metrics if other != metric)
    lines += [f"metric = {toml_text(metric)}  # or {others}"]
    lines += ["at_least = 0.85  # choose this: from which score on would you use it?", "confidence = 0.95"]
    return [*lines, "", "[constraints]", "local_only = false  # true: no example may leave this machine", ""]


def _inline(value: Any) -> str:
    """A JSON value without null as TOML on one line.

    >>> _inline({"type": ["string"], "a b": {"x": False}})
    '{ "type" = ["string"], "a b" = { "x" = false } }'
    """
    if isinstance(value, Mapping):
        inner = ", ".join(f"{toml_text(str(key))} = {_inline(each)}" for key, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return toml_text(value) if isinstance(value, str) else json.dumps(value)
