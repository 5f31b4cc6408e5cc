"""The spec: luthier.toml, read, checked against every rule, and turned into the frozen nouns of `types`.

The pydantic models below are the boundary and the documentation at once: `reference.py` renders each field's meaning
into docs/configuration.md. Behind this file only `Settings` and the dataclasses of `types` are passed on.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator, model_validator

from luthier.task.remote import CacheSection, LimitsSection, RemoteSection, check_roles, checked_names
from luthier.task.section import Section, problem
from luthier.task.spelling import fold, suggest
from luthier.task.template import template_columns
from luthier.types import About, Constraints, Endpoint, Label, Limits, MetricName, Target

RUNG_NAMES = ("majority", "tfidf", "embedding", "zero-shot", "calibrated", "few-shot", "retrieved-shots", "lora")
ONE_CLASS_METRICS = ("precision", "recall", "f1")
LOWEST_NEAR_DUPLICATE = 0.5
DEFAULT_INSTRUCTION = "Read the text and choose the one label that fits it best."


class TaskSection(Section):
    """What is wanted, in words."""

    name: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f]*\S[^\x00-\x1f]*$",
        description="What the task is called in the report and in the store.",
    )
    kind: Literal["classification"] = Field(
        default="classification", description="The kind of task: each input gets one label of a closed set."
    )
    instruction: str = Field(
        default=DEFAULT_INSTRUCTION, min_length=1, description="What a model is told to do, before it sees the labels."
    )
    labels: dict[str, str] | None = Field(
        default=None,
        description=(
            'The closed set of labels, spelt as in the data: a table `label = "what it means"` (the meaning goes into '
            'the prompt; `""` is allowed) or a list of names. Left out: every label in the data, the most frequent '
            "first. Given: any other label in the data is an error."
        ),
        json_schema_extra={"values": "table or list of text"},
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _labels(cls, value: object) -> object:
        if isinstance(value, list):
            if not all(isinstance(name, str) for name in value):
                raise problem("a label in the list is not text", 'write every label in quotes: labels = ["0", "1"]')
            if len(set(value)) < len(value):
                raise problem("a label stands in the list twice", "name each label once")
            value = dict.fromkeys(value, "")
        if not isinstance(value, dict) or not all(isinstance(meaning, str) for meaning in value.values()):
            raise problem(
                'this is neither a list of names nor a table of label = "what it means"',
                'write [task.labels] and then one line a label: spam = "unwanted advertising"',
            )
        return _checked_labels(value)


def _checked_labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) < 2:
        raise problem(f"{len(labels)} label is no choice", "name at least two labels, or leave the table out")
    seen: dict[str, str] = {}
    for name in labels:
        if not name.strip() or name != name.strip():
            raise problem(f"the label {name!r} is empty or has spaces around it", "write it without them")
        if fold(name) in seen:
            raise problem(f"{seen[fold(name)]!r} and {name!r} differ only in case", "keep one of the two spellings")
        seen[fold(name)] = name
    return labels


class DataSection(Section):
    """Where the labelled examples are, and how to read them. The files are only ever read."""

    path: str = Field(min_length=1, description="The file with the labelled examples; relative to luthier.toml.")
    test: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A second file, of the same form, that is the test split. What it shares with `path` (a copy, a near-copy, "
            "a group) is taken out of train and dev, and the report says how much that was."
        ),
    )
    format: Literal["csv", "tsv", "jsonl"] | None = Field(
        default=None,
        description="How the file is written. Left out: by its ending (.csv, .tsv, .tab, .jsonl, .ndjson).",
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
        description="The column with the input. Exactly one of `input` and `template` is needed.",
    )
    template: str | None = Field(
        default=None,
        description=(
            'The input made of several columns: `"{subject}\\n\\n{body}"`; `{{` and `}}` stand for the braces '
            "themselves."
        ),
    )
    reference: str = Field(min_length=1, description="The column with the right answer, the label.")
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

    @model_validator(mode="after")
    def _one_input(self) -> DataSection:
        if (self.input is None) == (self.template is None):
            raise problem(
                "both `input` and `template` are given" if self.input else "neither `input` nor `template` is given",
                'give exactly one: input = "a column", or template = "{one column}\\n\\n{another}"',
            )
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read, inputs first."""
        inputs = template_columns(self.template) if self.template is not None else (self.input or "",)
        return (*inputs, self.reference, *(name for name in (self.id, self.group) if name is not None))


def _text_codec(name: str) -> str:
    found = codecs.lookup(name)
    # base64, zlib and the like are registered as codecs too, and are no character encodings
    if not getattr(found, "_is_text_encoding", True):
        raise LookupError(name)
    return found.name


class SplitSection(Section):
    """How many examples each split gets: a count (`1000`) or a share of the distinct examples (`0.35`)."""

    train: int | float | None = Field(
        default=None, description="What rungs are fitted on. Left out: all that dev and test leave."
    )
    dev: int | float = Field(
        default=0.15, description="What every choice is made on: the prompt, the shots, the epoch."
    )
    test: int | float = Field(
        default=0.35,
        description="What is sealed for the race. More examples decide a closer call; not used with `[data] test`.",
    )
    seed: int = Field(
        default=0, ge=0, description="Which random split it is, and in which order the test split is raced."
    )

    @field_validator("train", "dev", "test", mode="before")
    @classmethod
    def _size(cls, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise problem(f"{value!r} is no number", "write a count such as 1000, or a share such as 0.35")
        if isinstance(value, float) and not 0 < value < 1:
            raise problem(f"{value} is no share", "a share lies between 0 and 1; a count has no decimal point")
        if value < 1 and isinstance(value, int):
            raise problem(f"{value} examples are too few", "write a count of at least 1, or a share such as 0.35")
        return value

    @model_validator(mode="after")
    def _sum(self) -> SplitSection:
        sizes = {"train": self.train, "dev": self.dev, "test": self.test}
        shares = {name: size for name, size in sizes.items() if isinstance(size, float)}
        total = sum(shares.values())
        if total > 1 + 1e-9:
            parts = " + ".join(f"{name} {share:g}" for name, share in shares.items())
            raise problem(f"{parts} = {total:g} is more than 1", "give all three shares, adding up to at most 1")
        if self.train is None and total > 1 - 1e-9:
            raise problem("dev and test leave nothing for train", "choose smaller shares")
        return self


MOST_CONFIDENCE = 0.9999


class TargetSection(Section):
    """The bar to clear."""

    metric: MetricName = Field(
        default="accuracy", description="What is measured; the last three are about one `class`."
    )
    at_least: float = Field(allow_inf_nan=False, description="The bar: a candidate MEETS the target at or above it.")
    confidence: float = Field(
        default=0.95,
        allow_inf_nan=False,
        description="How sure a verdict has to be: 0.95 allows one wrong call in twenty splits.",
    )
    about: About = Field(
        default="inputs to come",
        description=(
            'What the promise is about: `"inputs to come"` like these, or `"split"`, the test examples themselves (a '
            "backlog to work off)."
        ),
    )
    class_: str | None = Field(
        default=None,
        alias="class",
        min_length=1,
        description="The label that precision, recall or f1 is about: needed with these metrics, an error with others.",
    )

    @field_validator("at_least", "confidence", mode="after")
    @classmethod
    def _proportion(cls, value: float) -> float:
        if 1 < value < 100:
            raise problem(f"{value:g} is not between 0 and 1", f"did you mean {value / 100:g}?")
        if value in (0, 1):
            sample = "no sample can prove a perfect score" if value else "there is nothing to prove"
            raise problem(f"{value:g} is not between 0 and 1, the ends left out: {sample}", "choose for example 0.95")
        if not 0 < value < 1:
            raise problem(f"{value:g} is not between 0 and 1", "choose for example 0.95")
        return value

    @field_validator("confidence", mode="after")
    @classmethod
    def _confidence(cls, value: float) -> float:
        if value < 0.5:
            raise problem(f"{value:g} is a guess, not a confidence", f"did you mean {1 - value:g}?")
        if value > MOST_CONFIDENCE:
            raise problem(f"{value!r} cannot be reached with a test split", f"choose at most {MOST_CONFIDENCE}")
        return value

    @model_validator(mode="after")
    def _class(self) -> TargetSection:
        if self.metric in ONE_CLASS_METRICS and self.class_ is None:
            raise problem(f"{self.metric} is about one class, and `class` is missing", 'add class = "a label"')
        if self.metric not in ONE_CLASS_METRICS and self.class_ is not None:
            raise problem(
                f"{self.metric} is about all classes, but class = {self.class_!r} is given",
                "remove `class`, or choose the metric precision, recall or f1",
            )
        return self


class ConstraintsSection(Section):
    """What may not be done, whatever it scores."""

    local_only: bool = Field(default=False, description="No example may leave this machine.")


class LadderSection(Section):
    """Which customizations are tried. The order is fixed: the simplest first."""

    rungs: list[str] = Field(
        default=list(RUNG_NAMES),
        description="The rungs to climb, by name.",
        json_schema_extra={"values": "list of text"},
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="The seed of everything random in fitting: the shot sets, the order of training.",
    )

    @field_validator("rungs")
    @classmethod
    def _rungs(cls, value: list[str]) -> list[str]:
        if not value:
            raise problem("no rung is named", "name at least one, or leave the key out to climb all")
        for name in value:
            if name not in RUNG_NAMES:
                raise problem(
                    f"{name!r} is no rung", f"{suggest(name, RUNG_NAMES)}the rungs are {', '.join(RUNG_NAMES)}"
                )
        return [name for name in RUNG_NAMES if name in value]


class ModelsSection(Section):
    """Which model plays which role: by its name in the catalog, by a folder's path, or by a `[remote.NAME]` section."""

    prompted: str = Field(default="smollm2-135m", min_length=1, description="The model that the prompt rungs ask.")
    student: str = Field(default="smollm2-135m", min_length=1, description="The model that is fine-tuned.")
    embedder: str = Field(
        default="all-minilm-l6-v2", min_length=1, description="The model that turns texts into vectors."
    )


class File(Section):
    """The whole of luthier.toml."""

    task: TaskSection
    data: DataSection
    split: SplitSection = Field(default=SplitSection())
    target: TargetSection
    constraints: ConstraintsSection = Field(default=ConstraintsSection())
    ladder: LadderSection = Field(default=LadderSection())
    models: ModelsSection = Field(default=ModelsSection())
    remote: dict[str, RemoteSection] = Field(default={})
    limits: LimitsSection = Field(default=LimitsSection())
    cache: CacheSection = Field(default=CacheSection())

    _checked_names = field_validator("remote")(checked_names)

    @model_validator(mode="after")
    def _roles(self) -> File:
        local_only = self.constraints.local_only
        check_roles(self.models.model_dump(), self.remote, self.limits, local_only=local_only)
        return self

    @model_validator(mode="after")
    def _fixed_test(self) -> File:
        if self.data.test is not None and "test" in self.split.model_fields_set:
            raise problem("[data] test names a file, and [split] test gives a size", "keep one of the two")
        return self


@dataclass(frozen=True)
class Settings:
    """All that luthier.toml says, checked; `labels` is empty when they are to come from the data."""

    where: str
    name: str
    instruction: str
    labels: tuple[Label, ...]
    data: DataSection
    split: SplitSection
    target: Target
    constraints: Constraints
    rungs: tuple[str, ...]
    models: dict[str, str]
    seed: int
    remote: dict[str, Endpoint]
    limits: Limits
    cached: bool


def settings(file: File, where: str) -> Settings:
    """The checked file as nouns; `where` names it in the errors that can only be found with the data at hand."""
    target = file.target
    return Settings(
        where=where,
        name=file.task.name,
        instruction=file.task.instruction,
        labels=tuple(Label(name, meaning) for name, meaning in (file.task.labels or {}).items()),
        data=file.data,
        split=file.split,
        target=Target(target.metric, target.at_least, target.confidence, target.about, target.class_),
        constraints=Constraints(local_only=file.constraints.local_only),
        rungs=tuple(file.ladder.rungs),
        models=file.models.model_dump(),
        seed=file.ladder.seed,
        remote={
            name: file.remote[name].noun(name) for name in file.models.model_dump().values() if name in file.remote
        },
        limits=file.limits.noun(),
        cached=file.cache.enabled,
    )
