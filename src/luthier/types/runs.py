"""What was measured: rows, runs, estimates, and what a verdict knows of each candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from luthier.types.data import Example
from luthier.types.models import Usage
from luthier.types.task import TaskSpec


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer of a predictor; `error` says why there is none (then `output` is None)."""

    output: str | None
    usage: Usage = Usage()
    latency_s: float = 0.0
    error: str | None = None
    citations: tuple[str, ...] = ()


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
