"""Reference: docs/configuration.md, rendered from the fields of spec.py, so that no key stays undocumented.

python -m luthier.task.reference > docs/configuration.md
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from luthier.task.parse import named_sections, sections, tables_of

_HEAD = """\
# luthier.toml, key by key

This page is generated from the code (`python -m luthier.task.reference > docs/configuration.md`); a test keeps it up
to date, and `luthier keys` prints it. `luthier init DATA` writes a first luthier.toml for a file; these few lines are
enough for a run:

```toml
[task]
name = "question routing"

[data]
path = "questions.csv"
input = "text"
reference = "label"

[target]
at_least = 0.85
```

A key that is not on this page is an error, and so is a value of another type: `at_least = "0.85"` is text, not a
number. Paths are relative to the folder of luthier.toml. The files with the data are only ever read.
"""

_TAIL = """\
## What happens to the data

1. Rows with an empty or NaN input or label are an error that names their lines, or are left out with
   `on_empty = "drop"`.
2. Labels with stray spaces, and labels that differ only in case, are an error, or are merged with
   `normalise_labels = true`.
3. Exact copies (equal after Unicode NFKC, case folding and collapsing of spaces; chats: turn by turn) become one
   example with a weight. Where copies disagree about the label or the record, a strict majority decides; a tie is left
   out. Copies with different free texts have several right answers, the most frequent first.
4. Near-copies (`near_duplicates`) and examples of one `group` never land in two splits. Of a set of near-copies that
   falls to dev or test, one is drawn and the others are set aside, so that each test example is a new observation.
   A group named by `group` enters dev or test whole, and counts once.
5. The splits are stratified by label, where there are labels, and drawn by hashes of seed and content: the same
   examples give the same splits on every machine and in whatever order the rows stand.

## References of the other kinds

- **generation**: a text, without white space around it. Several right answers: a list (JSONL, Parquet), or
  `reference_separator`; an answer is scored against the one it suits best, and training uses the first.
- **extraction**: one JSON object, as an object or as its text; a list holds several. A key that stands twice, NaN,
  Infinity and text after the object are not JSON. Keys are put in the order of the schema.
- **chats** (`messages`): without `reference`, the assistant's last turn is the right answer; with it, a chat that ends
  with an assistant's turn is an error. A chat's near-copies are found by what was said, the system's turn left out. In
  Parquet files, "line" is the number of the row.

Everything that was dropped, merged or set aside is counted, with example lines, in the report.
"""


@dataclass(frozen=True)
class Key:
    """One key of luthier.toml, as a person reads about it."""

    section: str
    name: str
    value: str
    default: str
    meaning: str


def every_key() -> list[Key]:
    """Each key of each section, in the order of the documentation."""
    return [
        Key(title, field.alias or name, _values(field), _default(field), field.description or "")
        for section, model in sections().items()
        for title, table in {section: model, **tables_of(section)}.items()
        for name, field in table.model_fields.items()
    ]


def configuration_markdown() -> str:
    """The whole page. Every section and every key of luthier.toml is on it."""
    parts = [_HEAD]
    for section, model in sections().items():
        title = f"[{section}.NAME]" if section in named_sections() else f"[{section}]"
        parts.append(f"## {title}\n\n{cleandoc(model.__doc__ or '')}\n\n{_rows(section)}\n")
        for name, table in tables_of(section).items():
            parts.append(f"### [[{name}]]\n\n{cleandoc(table.__doc__ or '')}\n\n{_rows(name)}\n")
    return "\n".join([*parts, _TAIL])


def _rows(section: str) -> str:
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key in every_key():
        if key.section == section:
            cells = (f"`{key.name}`", key.value, key.default, key.meaning)
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _values(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "values" in extra:
        return str(extra["values"])
    return _kind(field.annotation)


def _kind(annotation: Any) -> str:
    words = {str: "text", float: "number", int: "whole number", bool: "true or false"}
    if annotation in words:
        return words[annotation]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{json.dumps(choice)}`" for choice in get_args(annotation))
    kinds = [_kind(each) for each in get_args(annotation) if each is not type(None)]
    return "count or share" if kinds == ["whole number", "number"] else kinds[0]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "none" if field.default is None else f"`{json.dumps(field.default)}`"


if __name__ == "__main__":
    sys.stdout.write(configuration_markdown())
