"""The task: what is wanted, under which constraints, from which examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from luthier.types.data import Example, Input, Kind, Label
from luthier.types.models import Endpoint, Limits
from luthier.types.money import Economics

MetricName = Literal[
    "accuracy",
    "macro_f1",
    "precision",
    "recall",
    "f1",
    "exact_match",
    "rouge_l",
    "chrf",
    "bleu",
    "judge",
    "record_exact",
    "field_f1",
]


Scale = Literal["yes/no", "1-5", "preference"]


About = Literal["inputs to come", "split"]


_METRIC_WORDS = {"rouge_l": "ROUGE-L", "chrf": "chrF", "bleu": "BLEU", "judge": "judge's score", "field_f1": "field-F1"}


@dataclass(frozen=True, slots=True)
class Target:
    """The bar to clear. `label` names the class for precision, recall and f1; None for the other metrics."""

    metric: MetricName
    at_least: float
    confidence: float = 0.95
    about: About = "inputs to come"
    label: str | None = None

    @property
    def alpha(self) -> float:
        """The probability of a wrong MEETS or DOES NOT MEET that the whole split may spend."""
        return round(1.0 - self.confidence, 12)

    @property
    def metric_name(self) -> str:
        if self.label is not None:
            return f"{self.metric} of '{self.label}'"
        return _METRIC_WORDS.get(self.metric, self.metric.replace("_", "-"))


@dataclass(frozen=True, slots=True)
class Constraints:
    """What may not be done, whatever it scores. `local_only`: no example may leave this machine.

    `allow_unknown_licence`: a student may be fine-tuned whose folder names no licence. `licences`: those that a model
    may have, empty: any; `licence_of`: those that the files of a model do not say. The ceilings are in US dollars and
    need `[economics]`; None: there is none. The limits of latency hold at `requests_per_s` (None: those of
    `[economics]`), `concurrency` of them at the same moment.
    """

    local_only: bool = False
    allow_unknown_licence: bool = False
    licences: tuple[str, ...] = ()
    licence_of: Mapping[str, str] = field(default_factory=dict)
    usd_per_1k_requests: float | None = None
    usd_per_month: float | None = None
    usd_to_start: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    requests_per_s: float | None = None
    concurrency: int = 1

    @property
    def latency_ms(self) -> dict[str, float]:
        """The most milliseconds by quantile, "p50", "p95" or "p99", where there is a limit."""
        given = {"p50": self.latency_p50_ms, "p95": self.latency_p95_ms, "p99": self.latency_p99_ms}
        return {name: most for name, most in given.items() if most is not None}


Backend = Literal["auto", "loop", "trl"]


@dataclass(frozen=True, slots=True)
class Training:
    """Where fine-tunes run, and how. `processes`: how many share one, each on a device of its own where there are GPUs.

    `learning_rate`, `epochs` and `alpha` (the scale of an adapter times its rank): a number, "search" on dev, or None
    for the recipe's own; a search spends `search_tokens` of training rows and at most `search_seconds` (None: no
    limit). `replay`: how many rows a step of what the model said before (None: one, where the loop is luthier's own).
    `upper_layers`: on how many of the uppermost decoder layers adapters are put (None: on all).
    """

    backend: Backend = "auto"
    processes: int = 1
    learning_rate: float | Literal["search"] | None = None
    epochs: int | Literal["search"] | None = None
    alpha: int | Literal["search"] | None = None
    search_tokens: int = 40_000
    search_seconds: float | None = None
    replay: int | None = None
    upper_layers: int | None = None

    @property
    def needs_trl(self) -> bool:
        """Whether nothing but TRL's trainer will do, on any device."""
        return self.backend == "trl" or self.processes > 1


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one input, of which `chosen` is preferred."""

    id: str
    input: Input
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Extra:
    """What some fine-tunes learn from besides examples: inputs without answers, preferences, documents by name.

    None of it is a copy of a dev or test input, nor holds one: whoever makes an Extra sees to that.
    """

    unlabelled: tuple[Input, ...] = ()
    preferences: tuple[Preference, ...] = ()
    documents: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Documents:
    """Where answers can be looked up, and how documents become passages: [documents] in luthier.toml says what each is.

    A loaded task has absolute paths. `leave_out` are files that are no documents, whatever `paths` says; `oracles` say
    by an example's id where its answer stands: in a document of that name, or in that very passage.
    """

    paths: tuple[str, ...]
    folder: str = ""
    chunk_chars: tuple[int, ...] = (500, 1200)
    max_file_mb: float = 50.0
    encoding: str | None = None
    text: str = "text"
    title: str | None = None
    id: str | None = None
    no_answer: str = "not in the documents"
    reranker: str | None = None
    leave_out: tuple[str, ...] = ()
    oracles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the inputs that is known before anything is answered.

    By "class": the right answer is one of `values`. By "length": the input has from `low` to `high` characters. By
    "column": the column holds one of `values` or, without values, a number from `low` to `high`. Both ends belong to
    it; None: no end. `population` and `groups` count its examples and groups in the test split.
    """

    by: Literal["class", "length", "column"]
    column: str | None = None
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    population: int = 0
    groups: int = 0


@dataclass(frozen=True, slots=True)
class SliceTarget:
    """The bar that a slice has to clear on its own."""

    slice: Slice
    at_least: float


@dataclass(frozen=True, slots=True)
class SliceRules:
    """Where a candidate is looked at apart: `[slices]` in luthier.toml says what each is.

    `slices` are all those that a report compares, fixed before anything is answered; a loaded task has them.
    """

    confidence: float = 0.95
    least: int = 20
    columns: tuple[str, ...] = ()
    targets: tuple[SliceTarget, ...] = ()
    slices: tuple[Slice, ...] = ()

    @property
    def alpha(self) -> float:
        return round(1.0 - self.confidence, 12)


@dataclass(frozen=True, slots=True)
class GuardRules:
    """What a fine-tune must not forget, and how that is looked at: `[guard]` in luthier.toml says what each is.

    `text`, `probe` and `tasks` are paths; a loaded task has them absolute.
    """

    required: bool = True
    repair: bool = True
    alpha: float = 0.05
    nll_margin: float = 0.05  # nats a token
    accuracy_margin: float = 0.03
    kl_ceiling: float = 0.5  # nats a token
    stop_margin: float = 0.15
    task_margin: float = 0.05
    documents: int = 100
    document_tokens: int = 64
    items: int = 1000
    prompts: int = 96
    text: str | None = None
    probe: str | None = None
    tasks: tuple[str, ...] = ()
    task_examples: int = 300


@dataclass(frozen=True, slots=True)
class Diagnosing:
    """Whether and how a run finds out why candidates miss: `[diagnose]` in luthier.toml says what each is."""

    off: bool = False
    skip: bool = True
    examples: int = 64


@dataclass(frozen=True)
class TaskSpec:
    """What is wanted, without the data: all that a rung may know besides train and dev.

    `labels` is empty but for classification, and the fields after `seed` say nothing there: `max_tokens` bounds a
    written answer, `schema` is the JSON schema of an extracted record, `rubric` and `scale` tell a judge how to judge.
    """

    name: str
    kind: Kind
    instruction: str
    labels: tuple[Label, ...]
    target: Target
    constraints: Constraints
    rungs: tuple[str, ...]
    models: Mapping[str, str]
    seed: int = 0
    search_tokens: int = 100_000  # what one prompt rung may spend on dev while it chooses
    consistency: int = 0  # on how many dev inputs it is measured whether answers stay the same
    max_tokens: int = 0
    schema: Mapping[str, Any] | None = None
    rubric: str = ""
    scale: Scale = "yes/no"
    guard: GuardRules = GuardRules()
    training: Training = Training()  # where fine-tunes run
    slices: SliceRules = SliceRules()  # where a candidate is looked at apart

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)


@dataclass(frozen=True)
class SealedSplit:
    """The test split: anyone may know its size and hash, only a race opens it, and the store counts each access.

    `order` is the one seeded test order, whole groups after each other, shared by all rungs.
    """

    order: tuple[Example, ...]
    hash: str

    def __len__(self) -> int:
        return len(self.order)

    @property
    def groups(self) -> int:
        return len({example.group or example.id for example in self.order})


@dataclass(frozen=True)
class Task:
    """A task, loaded: the spec, the examples split by group, and what reading them found.

    `remote` are the endpoints of the models that `spec.models` names and that do not run in this process, by name.
    """

    spec: TaskSpec
    folder: Path
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: SealedSplit
    findings: Mapping[str, Any]
    fingerprint: str
    remote: Mapping[str, Endpoint] = field(default_factory=dict)
    limits: Limits = Limits()
    cached: bool = True
    extra: Extra = Extra()
    forecast_seconds: float = 900.0  # what forecasts that nobody asked for may take; not part of what is measured
    file: Path | None = None  # the luthier.toml it was read from
    economics: Economics | None = None  # what it is worth: not part of what is measured either
    documents: Documents | None = None
    diagnosing: Diagnosing = Diagnosing()  # not part of what is measured of a candidate
