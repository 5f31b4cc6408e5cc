"""The spec: luthier.toml, read, checked against every rule, and turned into the frozen nouns of `types`.

The pydantic models below are the boundary and the documentation at once: `reference.py` renders each field's meaning
into docs/configuration.md. Behind this file only `Settings` and the dataclasses of `types` are passed on.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from luthier.errors import SpecError
from luthier.task.kinds import RULES, rungs_for
from luthier.task.remote import CacheSection, LimitsSection, RemoteSection, check_roles, checked_names
from luthier.task.section import Section, problem
from luthier.task.spelling import fold, suggest
from luthier.task.template import template_columns
from luthier.types import About, Constraints, Endpoint, Kind, Label, Limits, MetricName, Scale, Target

RUNG_NAMES = (
    *("majority", "tfidf", "nearest", "embedding", "zero-shot", "calibrated", "instructed", "few-shot", "many-shot"),
    *("retrieved-shots", "reasoned", "combined", "lora"),
)
ONE_CLASS_METRICS = ("precision", "recall", "f1")
LOWEST_NEAR_DUPLICATE = 0.5
DEFAULT_INSTRUCTION = RULES["classification"].instruction
MOST_ANSWER_TOKENS = 8192


class TaskSection(Section):
    """What is wanted, in words."""

    name: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f]*\S[^\x00-\x1f]*$",
        description="What the task is called in the report and in the store.",
    )
    kind: Kind = Field(
        default="classification",
        description=(
            "The kind of task: each input gets one label of a closed set, a text of its own, or a JSON record of a "
            "`schema`."
        ),
    )
    instruction: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "What a model is told to do, before it sees the labels or the schema. Left out: a sentence for the kind, "
            f'such as "{DEFAULT_INSTRUCTION}"'
        ),
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
    schema_: str | dict[str, Any] | None = Field(
        default=None,
        alias="schema",
        description=(
            "Extraction only, and needed there: the JSON schema of the record, as a file relative to luthier.toml or "
            "as a table. It has to describe an object; references that do not fit it are errors."
        ),
        json_schema_extra={"values": "text or table"},
    )
    max_tokens: int | None = Field(
        default=None,
        description=(
            "Generation and extraction only: how many tokens an answer may have. Left out: "
            f"{RULES['generation'].max_tokens}, or {RULES['extraction'].max_tokens} for extraction."
        ),
    )

    @field_validator("max_tokens")
    @classmethod
    def _max_tokens(cls, value: int | None) -> int | None:
        if value is not None and not 1 <= value <= MOST_ANSWER_TOKENS:
            raise problem(
                f"{value} is no length of an answer", f"write a whole number from 1 to {MOST_ANSWER_TOKENS:,}"
            )
        return value

    @model_validator(mode="after")
    def _of_the_kind(self) -> TaskSection:
        if self.kind != "classification" and self.labels is not None:
            raise problem(f"a {self.kind} task has no labels", 'remove `labels`, or set kind = "classification"')
        if self.kind == "classification" and self.max_tokens is not None:
            raise problem("max_tokens says nothing where labels are chosen", "remove `max_tokens`")
        if self.kind != "extraction" and self.schema_ is not None:
            raise problem(f"a {self.kind} task has no schema", 'remove `schema`, or set kind = "extraction"')
        if self.kind == "extraction" and self.schema_ is None:
            raise problem("extraction needs a schema", 'add schema = "schema.json", or a table [task.schema]')
        return self

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

    metric: MetricName | None = Field(
        default=None,
        description=(
            "What is measured. Classification: `accuracy` (the default), `macro_f1`, and about one `class` "
            "`precision`, `recall`, `f1`. Generation: `exact_match` (the default), `rouge_l`, `chrf`, `bleu`, `judge`. "
            "Extraction: `record_exact` (the default), `field_f1`."
        ),
    )
    rubric: str | None = Field(
        default=None,
        min_length=1,
        description='With the metric `judge`: what makes an answer good, in words, such as "States the right amount."',
    )
    scale: Scale = Field(
        default="yes/no",
        description=(
            "With the metric `judge`: is the answer right (`yes/no`: 1 or 0), how good is it (`1-5`: 0 to 1 in steps "
            "of a quarter), or which is better, it or the reference (`preference`, asked in both orders: 1, 0, and "
            "0.5 where the judge changes its mind)."
        ),
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
                f"{self.metric or 'accuracy'} is about all classes, but class = {self.class_!r} is given",
                "remove `class`, or choose the metric precision, recall or f1",
            )
        told = self.model_fields_set & {"rubric", "scale"}
        if told and self.metric != "judge":
            raise problem(
                f"`{min(told)}` says nothing without a judge", f'set metric = "judge", or remove `{min(told)}`'
            )
        return self


class ConstraintsSection(Section):
    """What may not be done, whatever it scores."""

    local_only: bool = Field(default=False, description="No example may leave this machine.")


class LadderSection(Section):
    """Which customizations are tried. The order is fixed: the simplest first."""

    rungs: list[str] | None = Field(
        default=None,
        description=f"The rungs to climb, by name. Left out: all that serve the kind, of {', '.join(RUNG_NAMES)}.",
        json_schema_extra={"values": "list of text"},
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="The seed of everything random in fitting: the shot sets, the order of training.",
    )

    search_tokens: int = Field(
        default=100_000,
        ge=0,
        description=(
            "How many tokens one prompt rung may spend on dev while it chooses among its contenders: fresh prompt "
            "tokens and output tokens; what is cached is free. The first round of a search is always made."
        ),
    )

    consistency: int = Field(
        default=24,
        ge=0,
        description=(
            "On how many dev inputs it is measured how often the best prompt and the fine-tuned model say the same "
            "again (drawn twice, and asked in other words); 0: not at all."
        ),
    )

    @field_validator("rungs")
    @classmethod
    def _rungs(cls, value: list[str] | None) -> list[str] | None:
        if value is None:
            return None
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
    teacher: str | None = Field(
        default=None,
        min_length=1,
        description="A stronger model that proposes instructions (extra `reflect`). Left out: none are proposed.",
    )
    judge: str | None = Field(
        default=None,
        min_length=1,
        description="The model that scores answers where the metric is `judge`: needed there.",
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
        check_roles(self.models.model_dump(exclude_none=True), self.remote, self.limits, local_only=local_only)
        return self

    @model_validator(mode="after")
    def _fixed_test(self) -> File:
        if self.data.test is not None and "test" in self.split.model_fields_set:
            raise problem("[data] test names a file, and [split] test gives a size", "keep one of the two")
        return self


@dataclass(frozen=True)
class Settings:
    """All that luthier.toml says, checked; `labels` is empty when they are to come from the data.

    `schema` is what `[task] schema` says: a path relative to `where`, a table, or None.
    """

    where: str
    name: str
    kind: Kind
    instruction: str
    labels: tuple[Label, ...]
    schema: str | dict[str, Any] | None
    max_tokens: int
    rubric: str
    scale: Scale
    data: DataSection
    split: SplitSection
    target: Target
    constraints: Constraints
    rungs: tuple[str, ...]
    models: dict[str, str]
    seed: int
    search_tokens: int
    consistency: int
    remote: dict[str, Endpoint]
    limits: Limits
    cached: bool

    @property
    def closed(self) -> bool:
        """Whether the answers are a closed set of labels."""
        return RULES[self.kind].closed


def settings(file: File, where: str) -> Settings:
    """The checked file as nouns; `where` names it in the errors that can only be found with the data at hand.

    Raises SpecError where two sections do not go together.
    """
    task, target, rules = file.task, file.target, RULES[file.task.kind]
    metric = target.metric or rules.metrics[0]
    _check_kind(file, metric, where)
    return Settings(
        where=where,
        name=task.name,
        kind=task.kind,
        instruction=task.instruction or rules.instruction,
        labels=tuple(Label(name, meaning) for name, meaning in (task.labels or {}).items()),
        schema=task.schema_,
        max_tokens=task.max_tokens or rules.max_tokens,
        rubric=target.rubric or "",
        scale=target.scale,
        data=file.data,
        split=file.split,
        target=Target(metric, target.at_least, target.confidence, target.about, target.class_),
        constraints=Constraints(local_only=file.constraints.local_only),
        rungs=tuple(file.ladder.rungs or rungs_for(task.kind, RUNG_NAMES)),
        models=file.models.model_dump(exclude_none=True),
        seed=file.ladder.seed,
        search_tokens=file.ladder.search_tokens,
        consistency=file.ladder.consistency,
        remote={
            name: file.remote[name].noun(name)
            for name in file.models.model_dump(exclude_none=True).values()
            if name in file.remote
        },
        limits=file.limits.noun(),
        cached=file.cache.enabled,
    )


def _check_kind(file: File, metric: MetricName, where: str) -> None:
    """What no section can know alone: that metric, rungs, models and data suit the kind. Raises SpecError."""
    kind, rules = file.task.kind, RULES[file.task.kind]
    if metric not in rules.metrics:
        raise SpecError(
            f"{metric} is no metric of a {kind} task",
            where=f"{where}, [target] metric",
            fix=f"{suggest(metric, rules.metrics)}use one of {', '.join(rules.metrics)}, or set [task] kind",
        )
    usable = rungs_for(kind, RUNG_NAMES)
    strange = [name for name in file.ladder.rungs or () if name not in usable]
    if strange:
        raise SpecError(
            f"{strange[0]!r} does not serve a {kind} task",
            where=f"{where}, [ladder] rungs",
            fix=f"use some of {', '.join(usable)}",
        )
    if metric == "judge" and file.models.judge is None:
        raise SpecError(
            "the metric is judge, and no model is", where=f"{where}, [models] judge", fix='add judge = "a model"'
        )
    if metric == "bleu" and file.data.group is not None:
        raise SpecError(
            "BLEU is a figure of all texts together and knows no groups",
            where=f"{where}, [target] metric",
            fix="use chrf or rouge_l, which are means over the groups, or remove [data] group",
        )
    for key, wrong, fix in (
        ("reference_separator", kind != "generation", "only texts can be parted"),
        ("normalise_labels", not rules.closed, f"a {kind} task has no labels"),
    ):
        if wrong and key in file.data.model_fields_set:
            raise SpecError(fix, where=f"{where}, [data] {key}", fix=f"remove `{key}`")
