"""The nouns and the protocols: frozen dataclasses, standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

# ---------------------------------------------------------------- what is wanted


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat: `role` is "system", "user" or "assistant"."""

    role: str
    content: str


Input = str | tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One input with its right answer. Near-copies share a `group`; None: the example is its own group."""

    id: str
    input: Input
    references: tuple[str, ...]
    group: str | None = None
    weight: float = 1.0
    columns: tuple[tuple[str, str], ...] = ()  # (name, value) of what `[slices] columns` asks for; no rung reads them

    @property
    def reference(self) -> str:
        return self.references[0]


@dataclass(frozen=True, slots=True)
class Label:
    """A class of a classification task, as the data spells it, with a line that tells a model what it means."""

    name: str
    description: str = ""


Kind = Literal["classification", "generation", "extraction"]
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


# ---------------------------------------------------------------- models


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, in four disjoint counts: nothing is counted twice."""

    fresh_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.fresh_tokens + other.fresh_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a model: `choices` (score each exactly), JSON of a `schema`, or a free completion.

    `n` texts are drawn from seeds that follow from `seed`; at temperature 0 all n are the same. The best choice is the
    likeliest, or with a `prior` (log-probabilities in the order of the choices) the one that rises most above it. With
    `scores="best"` only the best is asked for: a model may leave out whatever cannot change it.
    """

    messages: tuple[Message, ...]
    choices: tuple[str, ...] | None = None
    schema: Mapping[str, Any] | None = None
    max_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    n: int = 1
    scores: Literal["all", "best"] = "all"
    prior: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered, in the order of the requests.

    With `choices`, `texts` holds the best choice and `choice_logprobs` the log-probability (nats) of each choice, its
    end-of-turn token included, in the order of the request; None marks a choice that was not scored to its end, which
    only happens where the request asks for the best alone. A model that cannot tell them leaves them out, and then its
    text may be none of the choices: it stands as it was said. `finish_reason` is "stop", or "length" where `max_tokens`
    cut a text: then the JSON of a `schema` is not whole. A failure is an `error` and no texts.
    """

    texts: tuple[str, ...] = ()
    choice_logprobs: tuple[float | None, ...] | None = None
    usage: Usage = Usage()
    latency_s: float = 0.0
    finish_reason: str = ""
    error: str | None = None


@runtime_checkable
class Model(Protocol):
    """The one seam to any LLM. `fingerprint` changes whenever an answer could (weights, template, adapter, engine).

    Facts a model may add, each the ordinary case where it is left out: `remote` (False): what it is asked leaves this
    machine; `gives_logprobs` (True): its replies to `choices` carry `choice_logprobs`; `follows_schemas` (True): what
    it writes for a request with a `schema` is JSON of it; `context_tokens` (None: unknown) and
    `prompt_tokens(messages)`: how much fits into a prompt, and how much a prompt takes of it.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def thread_safe(self) -> bool: ...

    def complete(self, requests: Sequence[Request]) -> list[Reply]: ...


Arrived = Callable[[int, Reply], None]


@runtime_checkable
class AnswersOneByOne(Protocol):
    """A model whose replies arrive apart, and do not depend on the rest of the batch.

    `arrived` is called with the request's position and its reply as soon as there is one, from any thread.
    """

    def complete_each(self, requests: Sequence[Request], arrived: Arrived) -> list[Reply]: ...


ApiName = Literal["openai", "anthropic"]
SamplingKey = Literal["temperature", "seed"]


@dataclass(frozen=True, slots=True)
class Prices:
    """What an endpoint takes, in US dollars per million tokens of each kind."""

    input: float
    cached_input: float
    cache_write: float
    output: float

    def usd(self, usage: Usage) -> float:
        return (
            usage.fresh_tokens * self.input
            + usage.cached_tokens * self.cached_input
            + usage.cache_write_tokens * self.cache_write
            + usage.output_tokens * self.output
        ) / 1e6


@dataclass(frozen=True)
class Endpoint:
    """A model behind an address. `key_env` names the environment variable with the key; the key itself is nowhere.

    `on_this_machine`: the address is a loopback one, so that nothing sent there leaves the machine. `send` are the
    sampling settings that the endpoint takes, `parameters` what else goes into the body of each request. `terms` say
    what its maker allows to be trained on its outputs, in the words of whoever wrote the task.
    """

    name: str
    base_url: str
    model: str
    api: ApiName
    key_env: str
    on_this_machine: bool = False
    structured: bool = True
    limit_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    thinking_tokens: int = 0
    context_tokens: int | None = None
    send: tuple[SamplingKey, ...] = ("temperature", "seed")
    parameters: Mapping[str, Any] = field(default_factory=dict)
    terms: str | None = None
    concurrency: int = 8
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout_s: float = 60.0
    retries: int = 6
    prices: Prices | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What can change an answer: all but the name, the key, and what only says how fast and how dear asking is."""
        return {
            "base_url": self.base_url,
            "model": self.model,
            "api": self.api,
            "structured": self.structured,
            "limit_key": self.limit_key,
            "thinking_tokens": self.thinking_tokens,
            "send": sorted(self.send),
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True, slots=True)
class Limits:
    """What the remote models of a project folder may take in all its runs together; None: no limit."""

    max_usd: float | None = None
    max_tokens: int | None = None


Family = Literal["rules", "prompt", "tune"]


@dataclass(frozen=True, slots=True)
class Price:
    """What luthier.toml says a model or a machine costs, in US dollars; tokens by the million, machines by the hour.

    None: not said, so that a table may know it. `source` and `as_of` (an ISO date) are for whoever reads the report.
    """

    name: str
    input: Decimal | None = None
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    output: Decimal | None = None
    training: Decimal | None = None
    batch: Decimal | None = None
    cache_seconds: float | None = None
    cache_minimum: int | None = None
    usd_per_hour: Decimal | None = None
    tflops: float | None = None
    gb_per_s: float | None = None
    retires: str | None = None
    source: str = ""
    as_of: str | None = None


@dataclass(frozen=True)
class Option:
    """A way to do the task that nobody raced, as whoever wrote the task states it: `[option.NAME]` says what each is.

    `today`: it is how the task is done now. None: not said.
    """

    name: str
    today: bool = False
    model: str | None = None
    prompt_tokens: float = 0.0
    prefix_tokens: float = 0.0
    output_tokens: float = 0.0
    usd_per_request: float | None = None
    accuracy: float | None = None
    accuracy_range: tuple[float, float] | None = None
    usd_once: float | None = None
    usd_per_month: float | None = None
    training_tokens: float | None = None
    training_model: str | None = None
    labels: int = 0
    host: str | None = None
    seconds_per_request: float | None = None
    local: bool = True
    days: float | None = None


@dataclass(frozen=True)
class Economics:
    """What the task is worth and what people cost: `[economics]` in luthier.toml says what each is.

    `options` and `prices` are what `[option.NAME]` and `[price.NAME]` say. None: not said; the report then names what
    is assumed, or that it is not counted.
    """

    monthly_requests: float
    requests_range: tuple[float, float] | None = None
    growth_per_month: float = 0.0
    horizon_months: int = 12
    discount_per_year: float = 0.0
    price_fall_per_year: float = 0.0
    usd_per_error: float | None = None
    error_by_class: Mapping[str, float] = field(default_factory=dict)
    active_hours: float = 730.0
    peak: float = 3.0
    utilisation: float = 0.6
    replicas: int = 1
    machine_usd_per_hour: float | None = None
    host: str | None = None
    deploy: Literal["this machine", "host"] = "this machine"
    batch_share: float = 0.0
    retry_rate: float = 0.0
    verification_usd: float = 0.0
    usd_per_label: float = 0.0
    usd_per_hour: float | None = None
    engineering_hours: Mapping[Family, float] = field(default_factory=dict)
    upkeep_hours: Mapping[Family, float] = field(default_factory=dict)
    monitoring_usd: float = 0.0
    preparation_share: float | None = None
    trials: int = 1
    months_between_changes: float = 0.0
    change_hours: Mapping[Family, float] = field(default_factory=dict)
    labels_per_change: int = 0
    tasks: int = 1
    tasks_per_tune: int = 1
    embedding_model: str | None = None
    retrieval_usd_per_request: float = 0.0
    index_usd_per_month: float = 0.0
    judge_share: float = 0.0
    judge_model: str | None = None
    judge_tokens: tuple[float, float] | None = None
    labels_per_day: float | None = None
    deployment_days: Mapping[Family, float] = field(default_factory=dict)
    probe_latency: bool = False
    options: tuple[Option, ...] = ()
    prices: tuple[Price, ...] = ()


Backend = Literal["auto", "loop", "trl"]


@dataclass(frozen=True, slots=True)
class Training:
    """Where fine-tunes run, and how. `processes`: how many share one, each on a device of its own where there are GPUs.

    `learning_rate`: a number, "search" on dev, or None for the recipe's own; a search spends `search_tokens` of
    training rows and at most `search_seconds` (None: no limit). `epochs`: None for the recipe's own. `replay`: how many
    rows a step of what the model said before (None: one, where the loop is luthier's own).
    """

    backend: Backend = "auto"
    processes: int = 1
    learning_rate: float | Literal["search"] | None = None
    epochs: int | None = None
    search_tokens: int = 40_000
    search_seconds: float | None = None
    replay: int | None = None

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


@runtime_checkable
class Embedder(Protocol):
    """Texts to unit vectors, float32 of shape (len(texts), dimension), in the order of the texts."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> Any: ...


# ---------------------------------------------------------------- rungs and predictors


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer of a predictor; `error` says why there is none (then `output` is None)."""

    output: str | None
    usage: Usage = Usage()
    latency_s: float = 0.0
    error: str | None = None
    citations: tuple[str, ...] = ()


class Predictor(Protocol):
    """A fitted rung: a batch of inputs in, a batch of predictions out, in the same order.

    What is raced, released, routed and served. `save` writes a folder from which `luthier.rungs.load_predictor` makes
    an equal predictor in a fresh process; `describe` tells, in plain words by key, what fitting chose.
    """

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]: ...
    def save(self, folder: Path) -> None: ...
    def describe(self) -> Mapping[str, Any]: ...


class Rung(Protocol):
    """One way to customize, unfitted. `roles` name the models it needs ("prompted", "student", "embedder").

    `kinds` are the kinds of task it can answer. `guarded` says that fitting changes the model's weights, so that the
    forgetting guard has to pass it. A rung may also have `optional_roles`, models that it uses where the task names
    them, `builds_on`, the rungs whose fitted predictors it starts from, and `learns_from`, the fields of Extra that it
    reads.
    """

    @property
    def name(self) -> str: ...
    @property
    def rank(self) -> int: ...
    @property
    def roles(self) -> tuple[str, ...]: ...
    @property
    def kinds(self) -> tuple[Kind, ...]: ...
    @property
    def guarded(self) -> bool: ...
    @property
    def version(self) -> str: ...

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> Predictor: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rung with a model: `lora@smollm2-135m`; without a model the rung's name alone."""

    rung: str
    model: str | None
    rank: int

    @property
    def name(self) -> str:
        return f"{self.rung}@{self.model}" if self.model else self.rung


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person who waits wants to see. `kind` says which of the fields are set."""

    kind: Literal["note", "working", "racing", "finished"]
    candidate: str | None = None
    text: str = ""
    done: int = 0
    total: int = 0
    run: EvalRun | None = None
    outcome: str | None = None
    estimate: Estimate | None = None


Listener = Callable[[Event], None]


def silent(_event: Event) -> None:
    """The listener of those who do not want to watch."""


@dataclass(frozen=True)
class FitContext:
    """What a rung may use while it is fitted: models and embedders by role, a seed, a folder for its checkpoints.

    `fitted` holds the predictors of the rungs that this one says it builds on, by rung, where they were fitted; `extra`
    what there is to learn from besides examples; `terms` by role what the task says about training on a model's
    outputs.
    """

    models: Mapping[str, Any]
    seed: int
    workdir: Path
    candidate: str = ""
    listen: Listener = silent
    fitted: Mapping[str, Predictor] = field(default_factory=dict)
    extra: Extra = Extra()
    terms: Mapping[str, str] = field(default_factory=dict)

    def working(self, text: str, done: int = 0, total: int = 0) -> None:
        self.listen(Event("working", candidate=self.candidate, text=text, done=done, total=total))


# ---------------------------------------------------------------- measurements


@dataclass(frozen=True, slots=True)
class Score:
    """A number in [0, 1] with a reason, or unscored (value None): never silently 0."""

    value: float | None
    reason: str


class Scorer(Protocol):
    def score(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Score]: ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval, the number of observations behind it and the method that made the interval."""

    mean: float
    low: float
    high: float
    n: int
    method: str


@dataclass(frozen=True, slots=True)
class Row:
    """One raced example: what was asked, answered and scored."""

    example: Example
    prediction: Prediction
    score: Score


@dataclass(frozen=True)
class EvalRun:
    """What a race measured, before any threshold is applied.

    `rows` stand in the test order, from its beginning without gaps; `population` counts the examples of the whole
    split, `groups` the independent observations it can give; `grouped`: some of them have several examples, so that
    their means are judged by betting (known before the first score, as a sequence demands). A candidate that was not
    raced has no rows and a `not_measured` reason. `consistency` says how often its answers stay the same on dev, where
    that was measured. `remote`: its inputs left this machine; `guarded`: fitting changed a
    model's weights; `licences` are those of the local models that it runs, by their names, None where nobody knows;
    `by_token`: the model that answers stands behind an endpoint, which takes its price for tokens; `latency`: what a
    probe of waiting times measured (`evaluate.latency.Probed.plain`), and `elsewhere`: the machine it is to run on,
    where that is not this one.
    """

    candidate: Candidate
    split: str
    rows: tuple[Row, ...]
    fingerprint: str
    alpha: float
    population: int
    groups: int
    grouped: bool = False
    guarded: bool = False
    remote: bool = False
    fit: Mapping[str, Any] = field(default_factory=dict)
    fit_seconds: float = 0.0
    race_seconds: float = 0.0
    exhaustive: bool = False
    gave_up: bool = False
    consistency: Mapping[str, Any] = field(default_factory=dict)
    not_measured: str | None = None
    guard: Mapping[str, Any] | None = None
    licences: Mapping[str, str | None] = field(default_factory=dict)
    by_token: bool = False
    latency: Mapping[str, Any] | None = None

    @property
    def usage(self) -> Usage:
        return sum((row.prediction.usage for row in self.rows), Usage())


class Outcome(StrEnum):
    MEETS = "MEETS"
    DOES_NOT_MEET = "DOES NOT MEET"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_MEASURED = "NOT MEASURED"


Eligible = Literal["yes", "no", "unknown"]


@dataclass(frozen=True, slots=True)
class MoreExamples:
    """How many further test examples would be expected to decide: None means more than ten times the split."""

    median: int | None
    q90: int | None


@dataclass(frozen=True)
class CandidateResult:
    """Where a candidate stands, and why. `off_label` counts the answers that are none of the labels: they are wrong."""

    candidate: Candidate
    outcome: Outcome
    eligible: Eligible
    blocked_by: tuple[str, ...]
    alpha: float
    estimate: Estimate | None
    population: int
    reasons: tuple[str, ...]
    usage: Usage
    seconds: float
    fit_seconds: float = 0.0
    decided_at: int | None = None
    unscored: int = 0
    off_label: int = 0
    approximate: bool = False
    more: MoreExamples | None = None
    unsettled: tuple[str, ...] = ()
    consistency: Mapping[str, Any] = field(default_factory=dict)
    rates: Mapping[str, Estimate] = field(default_factory=dict)
    guard: Mapping[str, Any] | None = None
    slice_targets: tuple[Mapping[str, Any], ...] = ()
    latency: Mapping[str, Any] | None = None


# ---------------------------------------------------------------- the task


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


# ---------------------------------------------------------------- what a verdict knows


@dataclass(frozen=True)
class VerdictFacts:
    """Everything a verdict knows, and so everything a report can show; `luthier.report` turns it into one plain dict.

    `slices` say where a candidate is weaker (`luthier.report.slices.slices_of`), empty without a race.
    `chosen` is a candidate's name or None; `findings` come from reading the data; `spend` holds examples_scored,
    examples_available, usage, seconds and test_accesses; `provenance` holds seeds, hashes, versions and time stamps;
    `forecasts` are those of `luthier.report.forecasts.told`; `audit` is `luthier.audit.Audit.plain()`, empty where the
    data was not audited; `diagnosis` says why the misses are missed, empty where nobody looked; `changes` say what
    moved since the last run.
    """

    task: TaskSpec
    outcome: Outcome
    chosen: str | None
    sentence: str
    candidates: tuple[CandidateResult, ...]
    runs: tuple[EvalRun, ...]
    reasons: tuple[str, ...] = ()
    flips: tuple[str, ...] = ()
    costs: Mapping[str, Any] = field(default_factory=dict)
    findings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    spend: Mapping[str, Any] = field(default_factory=dict)
    forecasts: tuple[Mapping[str, Any], ...] = ()
    audit: Mapping[str, Any] = field(default_factory=dict)
    diagnosis: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    slices: Mapping[str, Any] = field(default_factory=dict)


# ---------------------------------------------------------------- content addresses


def whole(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which no file and no database can hold.

    >>> whole("a\\ud83d") == "a\\ufffd", whole("\\ud83d\\ude00") == "\\U0001f600"
    (True, True)
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def digest(*parts: Any) -> str:
    """A content address: the first 32 hex digits of the SHA-256 of the parts as canonical JSON.

    >>> digest("a", {"b": 1}) == digest("a", {"b": 1})
    True
    >>> digest("ab", "c") == digest("a", "bc")
    False
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no content address for a {type(value).__name__}")
