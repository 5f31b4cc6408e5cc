"""The spec: the sections of luthier.toml and the rules that each of them keeps.

The pydantic models here, in source.py and in remote.py are the boundary and the documentation at once: `reference.py`
renders each field's meaning into docs/configuration.md. settings.py turns them into nouns, and only those go further.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from luthier.task.constraining import LATENCIES, ConstraintsSection
from luthier.task.diagnosing import DiagnoseSection
from luthier.task.documents import DocumentsSection
from luthier.task.guarding import GuardSection
from luthier.task.kinds import ON_REQUEST, RULES, WITH_DOCUMENTS
from luthier.task.priced import PriceSection
from luthier.task.remote import CacheSection, LimitsSection, RemoteSection, check_roles, checked_names
from luthier.task.section import Section, problem
from luthier.task.slices import SlicesSection
from luthier.task.source import DataSection
from luthier.task.spelling import fold, suggest
from luthier.task.training import TrainingSection
from luthier.task.worth import EconomicsSection, OptionSection, check_worth
from luthier.types import About, Kind, MetricName, Scale

RUNG_NAMES = (
    *("majority", "tfidf", "nearest", "embedding", "zero-shot", "calibrated", "instructed", "few-shot", "many-shot"),
    *("retrieved-shots", "rag", "rag-shots", "reasoned", "combined", "lora", *ON_REQUEST),
)
ONE_CLASS_METRICS = ("precision", "recall", "f1")

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


class LadderSection(Section):
    """Which customizations are tried. The order is fixed: the simplest first."""

    rungs: list[str] | None = Field(
        default=None,
        description=(
            f"The rungs to climb, by name. Left out: all that serve the kind, of {', '.join(RUNG_NAMES)}; without "
            f"{', '.join(ON_REQUEST)}, which are further fine-tunes, minutes each, and have to be named; "
            f"{', '.join(WITH_DOCUMENTS)} need [documents]."
        ),
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


class ForecastSection(Section):
    """How far more labels would go: looked into where no candidate meets the target (`luthier forecast`: always)."""

    max_seconds: float = Field(
        default=900.0,
        ge=0,
        allow_inf_nan=False,
        description=(
            "What the forecasts of one run may take, estimated from what the fits took: one that would take longer is "
            "left out, and the verdict says so. 0: none unless asked for."
        ),
    )


class Numbers(Section):
    """A luthier.toml of somebody who only has numbers: no task, no data, no target."""

    economics: EconomicsSection
    option: dict[str, OptionSection] = Field(default={})
    price: dict[str, PriceSection] = Field(default={})
    constraints: ConstraintsSection = Field(default=ConstraintsSection())

    @model_validator(mode="after")
    def _worth(self) -> Numbers:
        check_worth(self.economics, self.option, self.price)
        return self


class File(Section):
    """The whole of luthier.toml."""

    task: TaskSection
    data: DataSection
    split: SplitSection = Field(default=SplitSection())
    target: TargetSection
    constraints: ConstraintsSection = Field(default=ConstraintsSection())
    ladder: LadderSection = Field(default=LadderSection())
    models: ModelsSection = Field(default=ModelsSection())
    guard: GuardSection = Field(default=GuardSection())
    training: TrainingSection = Field(default=TrainingSection())
    slices: SlicesSection = Field(default=SlicesSection())
    documents: DocumentsSection | None = Field(default=None)
    remote: dict[str, RemoteSection] = Field(default={})
    forecast: ForecastSection = Field(default=ForecastSection())
    diagnose: DiagnoseSection = Field(default=DiagnoseSection())
    limits: LimitsSection = Field(default=LimitsSection())
    cache: CacheSection = Field(default=CacheSection())
    economics: EconomicsSection | None = Field(default=None)
    option: dict[str, OptionSection] = Field(default={})
    price: dict[str, PriceSection] = Field(default={})

    _checked_names = field_validator("remote")(checked_names)

    @model_validator(mode="after")
    def _roles(self) -> File:
        local_only = self.constraints.local_only
        check_roles(self.models.model_dump(exclude_none=True), self.remote, self.limits, local_only=local_only)
        return self

    @model_validator(mode="after")
    def _worth(self) -> File:
        check_worth(self.economics, self.option, self.price, RUNG_NAMES)
        ceilings = ("usd_per_1k_requests", "usd_per_month", "usd_to_start")
        named = [name for name in ceilings if getattr(self.constraints, name) is not None]
        if named and self.economics is None:
            raise problem(
                f"[constraints] {named[0]} needs to know how much is asked",
                "add [economics] with monthly_requests = ...",
            )
        limits = [name for name in LATENCIES if getattr(self.constraints, name) is not None]
        if limits and self.economics is None and self.constraints.requests_per_s is None:
            raise problem(
                f"[constraints] {limits[0]} needs to know how much is asked",
                "add requests_per_s = 2 beside it, or [economics] with monthly_requests = ...",
            )
        return self

    @model_validator(mode="after")
    def _fixed_test(self) -> File:
        if self.data.test is not None and "test" in self.split.model_fields_set:
            raise problem("[data] test names a file, and [split] test gives a size", "keep one of the two")
        return self
