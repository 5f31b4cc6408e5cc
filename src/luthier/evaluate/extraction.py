"""Scores of extracted records against their references, and the rates that say where they fail.

One example, from input to score: the reference is {"city": "Oslo", "nights": 2}. The answer {"nights": 2, "city":
"Oslo"} scores 1. {"city": "Oslo", "nights": 3} scores 0 by `record_exact`, and by `field_f1` 1/2: one of its two fields
is right, one of the reference's two is found. "Oslo, 2 nights" is not JSON and scores 0 by both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from luthier import stats
from luthier.task.json_record import NotARecord, read_record, same
from luthier.task.schema import Schema
from luthier.types import Estimate, EvalRun, Example, Prediction, Row, Score, TaskSpec, digest

RATE_ALPHA = 0.05  # of each rate's interval, by itself: rates describe, they decide nothing
_TOLD = 3  # differences in a reason
_SHOWN = 40  # characters of a value in a reason


@dataclass(frozen=True)
class RecordExact:
    """1 where the answer is JSON and equal to a reference by value, whatever the order of its keys; else 0, with why.

    Lists are equal in order, numbers by value, texts letter for letter. An answer that failed is unscored.
    """

    schema: Mapping[str, Any]

    def score(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Score]:
        schema = Schema(self.schema)
        return [_exact(example, prediction, schema) for example, prediction in zip(examples, predictions, strict=True)]

    @property
    def fingerprint(self) -> str:
        return digest("record-exact", 1)


@dataclass(frozen=True)
class FieldF1:
    """F1 over the fields of a record, the best of its references: an extra field is a false positive, a missing one a
    false negative, a wrong one is both.

    A field is a path to a value that is no object or list (or is an empty one). Lists are compared without their order:
    their elements are paired so that most fields agree (an optimal assignment), so that an element too many costs its
    own fields and no others. An answer that is not JSON scores 0; one that does not fit the schema is scored by its
    fields, and the rate `schema_valid` tells it.
    """

    schema: Mapping[str, Any]

    def score(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Score]:
        schema = Schema(self.schema)
        return [
            _by_fields(example, prediction, schema) for example, prediction in zip(examples, predictions, strict=True)
        ]

    @property
    def fingerprint(self) -> str:
        return digest("field-f1", 1)


def _exact(example: Example, prediction: Prediction, schema: Schema) -> Score:
    if prediction.output is None:
        return Score(None, prediction.error or "the predictor gave no output")
    try:
        record = read_record(prediction.output)
    except NotARecord as why:
        return Score(0.0, f"not JSON: {why}")
    if any(same(record, read_record(reference)) for reference in example.references):
        return Score(1.0, "right")
    return Score(0.0, _why(record, example, schema))


def _by_fields(example: Example, prediction: Prediction, schema: Schema) -> Score:
    if prediction.output is None:
        return Score(None, prediction.error or "the predictor gave no output")
    try:
        record = read_record(prediction.output)
    except NotARecord as why:
        return Score(0.0, f"not JSON: {why}")
    value = max(field_f1(record, read_record(reference)) for reference in example.references)
    return Score(value, "right" if value == 1.0 else f"{value:.2f}; {_why(record, example, schema)}")


def field_f1(answer: Any, reference: Any) -> float:
    """
    >>> field_f1({"a": 1, "b": {"c": [2, 3]}, "extra": 0}, {"a": 1, "b": {"c": [3, 2]}, "d": 9})
    0.75
    """
    return 2.0 * _agreed(answer, reference) / (_fields(answer) + _fields(reference))


def _fields(value: Any) -> int:
    if isinstance(value, dict) and value:
        return sum(_fields(each) for each in value.values())
    if isinstance(value, list) and value:
        return sum(_fields(each) for each in value)
    return 1


def _agreed(one: Any, other: Any) -> int:
    """How many fields two values have in common."""
    if isinstance(one, dict) and isinstance(other, dict) and one and other:
        return sum(_agreed(one[key], other[key]) for key in one if key in other)
    if isinstance(one, list) and isinstance(other, list) and one and other:
        table = np.array([[_agreed(left, right) for right in other] for left in one])
        rows, columns = linear_sum_assignment(table, maximize=True)
        return int(table[rows, columns].sum())
    return int(same(one, other))


def _why(record: Any, example: Example, schema: Schema) -> str:
    flaw = schema.flaw(record)
    told = list(_differences(record, read_record(example.reference), ""))
    more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
    differs = "; ".join(told[:_TOLD]) + more or "not the first reference"
    return f"does not fit the schema ({_short(flaw, 2 * _SHOWN)}): {differs}" if flaw else differs


def _differences(record: Any, reference: Any, path: str) -> Iterator[str]:
    if isinstance(record, dict) and isinstance(reference, dict):
        for key in reference:
            at = f"{path}.{key}" if path else key
            if key not in record:
                yield f"{at} is missing"
            else:
                yield from _differences(record[key], reference[key], at)
        yield from (f"{path}.{key} is extra" if path else f"{key} is extra" for key in record if key not in reference)
    elif not same(record, reference):
        yield f"{path} {_short(repr(record), _SHOWN)} instead of {_short(repr(reference), _SHOWN)}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


# ---------------------------------------------------------------- rates


def rates(run: EvalRun, task: TaskSpec) -> dict[str, Estimate]:
    """What is told beside the score: how records fail, or how often a judge gave a verdict; empty for other tasks."""
    if task.schema is not None:
        return record_rates(run, task.schema)
    answered = [row for row in run.rows if row.prediction.output is not None]
    if task.target.metric != "judge" or not answered:
        return {}
    return {"scored": _rate([row.score.value is not None for row in answered], answered)}


def record_rates(run: EvalRun, schema: Mapping[str, Any]) -> dict[str, Estimate]:
    """How often the answers parse, fit the schema and are right: each with an anytime-valid 95 % interval of its own.

    Over the answers that there are: failed ones are counted as unscored elsewhere. Empty where there is none.
    """
    checked = Schema(schema)
    answered = [row for row in run.rows if row.prediction.output is not None]
    if not answered:
        return {}
    seen = [_checks(row, checked) for row in answered]
    return {
        name: _rate([check[at] for check in seen], answered)
        for at, name in enumerate(("parses", "schema_valid", "record_exact"))
    }


def _checks(row: Row, schema: Schema) -> tuple[bool, bool, bool]:
    try:
        record = read_record(row.prediction.output or "")
    except NotARecord:
        return False, False, False
    right = any(same(record, read_record(reference)) for reference in row.example.references)
    return True, schema.flaw(record) is None, right


def _rate(found: Sequence[bool], rows: Sequence[Row]) -> Estimate:
    groups: dict[str, list[bool]] = {}
    for value, row in zip(found, rows, strict=True):
        groups.setdefault(row.example.group or row.example.id, []).append(value)
    means = np.array([np.mean(values) for values in groups.values()])
    mean, n = float(means.mean()), len(means)
    if n == len(rows):
        low, high = stats.bernoulli_sequence(np.cumsum(means).round().astype(int), RATE_ALPHA)
        return Estimate(mean, float(low[-1]), float(high[-1]), n, "ppr")
    low, high = stats.betting_sequence(means, RATE_ALPHA)
    return Estimate(mean, float(low[-1]), float(high[-1]), n, "betting")
