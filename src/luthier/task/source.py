"""Source: the [data] section of luthier.toml: where the examples are, and how to read them."""

from __future__ import annotations

import codecs
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from luthier.task.section import Section, problem
from luthier.task.template import template_columns

LOWEST_NEAR_DUPLICATE = 0.5


class DataSection(Section):
    """Where the examples with their right answers are, and how to read them. The files are only ever read."""

    path: str = Field(
        min_length=1,
        description=(
            "The file with the examples and their right answers, relative to luthier.toml; or a data set of a hub: "
            '`"hf://owner/dataset/split"` (or `/config/split`; the split is "train" where none is named).'
        ),
    )
    test: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A second file, of the same form, that is the test split. What it shares with `path` (a copy, a near-copy, "
            "a group) is taken out of train and dev, and the report says how much that was."
        ),
    )
    unlabelled: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A file of further inputs without right answers, in the same columns, for `distilled`: a stronger model "
            "labels them. Copies and near-copies of dev and test inputs are left out, and counted."
        ),
    )
    preferences: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A file (JSONL, CSV) of `prompt`, `chosen` and `rejected`: two answers to an input, the better one first, "
            "for `dpo`. Left out: the pairs are right answers and the model's own wrong ones."
        ),
    )
    documents: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A folder of texts (.txt, .md) of the task's domain, for `pretrained`. Paragraphs that hold a dev or test "
            "input are left out, and counted."
        ),
    )
    format: Literal["csv", "tsv", "jsonl", "parquet"] | None = Field(
        default=None,
        description=(
            "How the file is written. Left out: by its ending (.csv, .tsv, .tab, .jsonl, .ndjson, .parquet). Parquet "
            "needs the extra `parquet`."
        ),
    )
    encoding: str = Field(
        default="utf-8", description='The character encoding; older files are often "latin-1" or "cp1252".'
    )
    delimiter: str | None = Field(
        default=None, description="The one character between two columns. Left out: a comma in .csv, a tab in .tsv."
    )
    quote: str = Field(
        default='"',
        max_length=1,
        description='The character around a field that holds delimiters; `""`: quotes are plain text.',
    )
    input: str | None = Field(
        default=None,
        min_length=1,
        description="The column with the input. Exactly one of `input`, `template` and `messages` is needed.",
    )
    template: str | None = Field(
        default=None,
        description=(
            'The input made of several columns: `"{subject}\\n\\n{body}"`; `{{` and `}}` stand for the braces '
            "themselves."
        ),
    )
    messages: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "The column with the input as a chat (JSONL, Parquet): a list of `{role, content}`, the roles `system` "
            "(first only), `user` and `assistant`, the last turn the user's. Without `reference`, each chat ends with "
            "an assistant's turn: that is the right answer."
        ),
    )
    reference: str | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description=(
            "The column with the right answer: the label, the text, or the record as JSON. For texts and records, a "
            "list holds several right answers (JSONL, Parquet). Needed, except with `messages`."
        ),
    )
    reference_separator: str | None = Field(
        default=None,
        min_length=1,
        description=(
            'Generation only: what parts several right answers in one field, such as `" | "` (in CSV, which has no '
            "lists). Left out: a field is one answer."
        ),
    )
    id: str | None = Field(
        default=None,
        min_length=1,
        description="A column that names each example. Left out: its line number in the file.",
    )
    group: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A column that says which examples belong together (one customer, one thread): a group never spans two "
            "splits, and a test group counts once, by its mean."
        ),
    )
    on_empty: Literal["error", "drop"] = Field(
        default="error", description="What happens to rows whose input or label is empty or NaN."
    )
    normalise_labels: bool = Field(
        default=False,
        description=(
            "Strip spaces around labels and merge spellings that differ only in case (into the one in `labels`, else "
            "the most frequent one)."
        ),
    )
    near_duplicates: float = Field(
        default=0.8,
        description=(
            "From which similarity on two inputs are near-copies that the split must not part: the Jaccard similarity "
            f"of their sets of 5 characters in a row, from {LOWEST_NEAR_DUPLICATE} to 1; `false`: don't look."
        ),
        json_schema_extra={"values": "number or false"},
    )

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, value: str) -> str:
        try:
            return _text_codec(value)
        except LookupError:
            raise problem(
                f"{value!r} is no character encoding", 'use "utf-8", "latin-1", "cp1252" or "utf-16"'
            ) from None

    @field_validator("delimiter")
    @classmethod
    def _delimiter(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or value in '\r\n"'):
            raise problem(f"{value!r} cannot part two columns", 'use one character, such as "," or ";" or "\\t"')
        return value

    @field_validator("template")
    @classmethod
    def _template(cls, value: str | None) -> str | None:
        try:
            named = value is None or bool(template_columns(value))
        except ValueError as mistake:
            raise problem(str(mistake), "write {{ or }} for a brace that is plain text") from None
        if not named:
            raise problem("the template names no column", 'name columns in braces: "{subject}\\n\\n{body}"')
        return value

    @field_validator("near_duplicates", mode="before")
    @classmethod
    def _near_duplicates(cls, value: object) -> object:
        if value is False:
            return 0.0
        if isinstance(value, (int, float)) and (
            value is True or not (value == 0 or LOWEST_NEAR_DUPLICATE <= value <= 1)
        ):
            raise problem(
                f"{str(value).lower()} is no similarity from {LOWEST_NEAR_DUPLICATE} to 1",
                "write 0.8 (the default) or another number in that range, or false to switch it off",
            )
        return value

    @field_validator("reference")
    @classmethod
    def _reference(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("messages") is None:
            raise problem("is missing", "add `reference = ...`: the column with the right answer")
        return value

    @model_validator(mode="after")
    def _one_input(self) -> DataSection:
        given = [name for name in ("input", "template", "messages") if getattr(self, name) is not None]
        if len(given) != 1:
            raise problem(
                f"both `{given[0]}` and `{given[1]}` are given"
                if given
                else "neither `input` nor `template` nor `messages` is given",
                'give exactly one: input = "a column", template = "{one column}\\n\\n{another}", or '
                'messages = "a column of chats"',
            )
        return self

    @property
    def input_columns(self) -> tuple[str, ...]:
        if self.template is not None:
            return template_columns(self.template)
        return (self.input or self.messages or "",)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read, inputs first."""
        return (*self.input_columns, *(name for name in (self.reference, self.id, self.group) if name is not None))


def _text_codec(name: str) -> str:
    found = codecs.lookup(name)
    # base64, zlib and the like are registered as codecs too, and are no character encodings
    if not getattr(found, "_is_text_encoding", True):
        raise LookupError(name)
    return found.name
