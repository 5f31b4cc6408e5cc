"""Measured: what a race tells about cost: tokens, seconds, right answers, and what fitting took."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from luthier.economics.cost import Accuracy
from luthier.economics.usage import Tokens
from luthier.types import Estimate, EvalRun, Family, Input, Row, Target

WITHOUT_LLM = ("majority", "tfidf", "nearest", "embedding")
RETRIEVES = ("retrieved-shots", "rag", "rag-shots", "rag-lora")  # what looks something up for each input
SHARE_METRICS = ("accuracy", "exact_match", "record_exact")  # whose mean is the share of right answers
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Measured:
    """One raced candidate as the numbers that its cost follows from. `seconds`: of this machine, for one request;
    `remote`: the model that answers is paid by the token.

    `input_chars`: characters of the input in the mean. `wrong_by_class`: wrong answers by their right label, as shares
    of all answers; `classes`: each label's share.
    """

    name: str
    rung: str
    model: str | None
    family: Family
    remote: bool
    answers: int
    tokens: Tokens
    seconds: float
    fit_seconds: float
    accuracy: Accuracy | None = None
    training_tokens: float | None = None
    wrong_by_class: Mapping[str, float] = field(default_factory=dict)
    classes: Mapping[str, float] = field(default_factory=dict)
    latency: Mapping[str, float] = field(default_factory=dict)
    input_chars: float = 0.0

    @property
    def learns(self) -> bool:
        """Whether fitting it used labelled examples to learn from."""
        return self.rung != "zero-shot"

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Measured:
        """From what `plain` gave, by way of JSON."""
        accuracy = kept.get("accuracy")
        return cls(
            **{
                **kept,
                "tokens": Tokens(**kept["tokens"]),
                "accuracy": None if accuracy is None else Accuracy(**accuracy),
            }
        )


def family_of(rung: str, *, guarded: bool) -> Family:
    """What kind of way a rung is: rules and classic learning, a prompt, or a fine-tune."""
    if guarded:
        return "tune"
    return "rules" if rung in WITHOUT_LLM else "prompt"


def measured(run: EvalRun, target: Target, estimate: Estimate | None) -> Measured | None:
    """What the race of a candidate told; None where it was not raced."""
    rows = run.rows
    if not rows:
        return None
    return Measured(
        name=run.candidate.name,
        rung=run.candidate.rung,
        model=run.candidate.model,
        family=family_of(run.candidate.rung, guarded=run.guarded),
        remote=run.by_token,
        answers=len(rows),
        tokens=Tokens.mean(run.usage, len(rows)),
        seconds=run.race_seconds / len(rows),
        fit_seconds=run.fit_seconds,
        accuracy=_accuracy(rows, target, estimate),
        training_tokens=_number(run.fit.get("training tokens")),
        wrong_by_class=_by_class([row for row in rows if row.score.value != 1.0], len(rows)),
        classes=_by_class(rows, len(rows)),
        latency=_latency(rows),
        input_chars=float(np.mean([_characters(row.example.input) for row in rows])),
    )


def _characters(value: Input) -> int:
    return len(value) if isinstance(value, str) else sum(len(message.content) for message in value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _accuracy(rows: Sequence[Row], target: Target, estimate: Estimate | None) -> Accuracy | None:
    """The share of right answers: the race's estimate where that is what it measured, else the share of full scores.

    None where scores lie between right and wrong: then nobody can say how many answers are wrong.
    """
    scores = [row.score.value for row in rows if row.score.value is not None]
    if not scores or any(score not in (0.0, 1.0) for score in scores):
        return None
    if target.metric in SHARE_METRICS and estimate is not None:
        if not all(map(math.isfinite, (estimate.mean, estimate.low, estimate.high))):
            return None
        return Accuracy(estimate.mean, estimate.low, estimate.high, estimate.n, "measured")
    mean, n = float(np.mean(scores)), len(scores)
    middle = (mean + Z95**2 / 2 / n) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(mean * (1 - mean) / n + Z95**2 / 4 / n**2)
    return Accuracy(mean, max(0.0, middle - half), min(1.0, middle + half), n, "measured")


def _by_class(rows: Sequence[Row], among: int) -> dict[str, float]:
    counts = Counter(row.example.reference for row in rows)
    return {name: count / among for name, count in sorted(counts.items())} if len(counts) <= 200 else {}


def _latency(rows: Sequence[Row]) -> dict[str, float]:
    """Quantiles of the seconds until an answer was there, as the race asked: in batches, back to back."""
    seconds = [row.prediction.latency_s for row in rows if row.prediction.error is None]
    if not seconds or max(seconds) <= 0:
        return {}
    return {name: float(np.quantile(seconds, q)) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
