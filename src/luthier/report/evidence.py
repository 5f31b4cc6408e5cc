"""Evidence: what one race shows about one candidate, as plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from luthier import stats
from luthier.audit.personal import masked
from luthier.evaluate import race
from luthier.evaluate.scorers import Mean, metric
from luthier.report.plain import shorten
from luthier.types import Estimate, EvalRun, Input, Row, TaskSpec

SHOWN = 4
LONGEST_INPUT = 280
LONGEST_ANSWER = 80  # of a label in the table of confusions
LONGEST_TEXT = 280
LONGEST_REASON = 160
MOST_CONFUSIONS = 8
MOST_POINTS = 60


def text_of(given: Input) -> str:
    """An input as one text; the turns of a chat each start with their role."""
    return given if isinstance(given, str) else "\n".join(f"{turn.role}: {turn.content}" for turn in given)


def is_right(row: Row) -> bool:
    return row.score.value is not None and row.score.value >= 1.0


def is_wrong(row: Row) -> bool:
    return row.score.value is not None and row.score.value < 1.0


def answer_of(row: Row) -> str:
    return row.prediction.output if row.prediction.output is not None else "no answer"


def right_examples(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Up to four right answers, spread over the references: the first of each in the test order, then the second."""
    return _spread([row for row in rows if is_right(row)], lambda row: row.example.reference)


def wrong_examples(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Up to four wrong answers, spread over the confusions, the most frequent confusion first."""
    return _spread([row for row in rows if is_wrong(row)], lambda row: (row.example.reference, answer_of(row)))


def is_graded(task: TaskSpec) -> bool:
    """Whether a score may lie between 0 and 1, so that an answer is no more just right or wrong."""
    measured = metric(task.target, task.label_names)
    return not task.labels and not (isinstance(measured, Mean) and measured.binary)


def best_examples(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Up to four answers with the highest scores, the first in the test order among equals."""
    return [_example(row) for row in sorted(_scored(rows), key=_value, reverse=True)[:SHOWN]]


def worst_examples(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Up to four answers with the lowest scores, none of which is also among the best; the first among equals."""
    scored = sorted(_scored(rows), key=_value)
    return [_example(row) for row in scored[: max(0, min(SHOWN, len(scored) - SHOWN))]]


def _scored(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.score.value is not None]


def _value(row: Row) -> float:
    return row.score.value or 0.0


def unscored_examples(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Up to four rows that could not be scored, spread over the reasons."""
    unscored = [row for row in rows if row.score.value is None]
    return _spread(unscored, lambda row: row.prediction.error or row.score.reason)


def _spread(rows: Sequence[Row], key: Any) -> list[dict[str, Any]]:
    """Round robin over the kinds, the most frequent kind first; ties and turns keep the test order."""
    kinds: dict[Any, list[Row]] = {}
    for row in rows:
        kinds.setdefault(key(row), []).append(row)
    queues = sorted(kinds.values(), key=len, reverse=True)
    longest = len(queues[0]) if queues else 0
    turns = (queue[turn] for turn in range(min(SHOWN, longest)) for queue in queues if turn < len(queue))
    return [_example(row) for row, _ in zip(turns, range(SHOWN), strict=False)]


def _example(row: Row) -> dict[str, Any]:
    """A row as the report shows it: reports are handed on, so that personal data is masked as the audit masks it."""
    return {
        "id": masked(row.example.id),
        "input": shorten(masked(text_of(row.example.input)), LONGEST_INPUT),
        "reference": shorten(masked(" or ".join(row.example.references)), LONGEST_TEXT),
        "answer": shorten(masked(answer_of(row)), LONGEST_TEXT),
        "reason": shorten(masked(row.prediction.error or row.score.reason), LONGEST_REASON) + _cites(row),
    }


def _cites(row: Row) -> str:
    """Where the answer says it stands, in the documents."""
    told = shorten(masked(", ".join(row.prediction.citations)), LONGEST_REASON)
    return f"; cites {told}" if row.prediction.citations else ""


def cited(run: EvalRun) -> dict[str, str]:
    """How many of the answers cite a passage of the documents; nothing for a candidate that looks nothing up."""
    answers = [row for row in run.rows if row.prediction.output is not None]
    count = sum(bool(row.prediction.citations) for row in answers)
    return {"answers that cite a passage": f"{count} of {len(answers)}"} if "documents" in run.fit else {}


def confusions(rows: Sequence[Row]) -> dict[str, Any]:
    """The most frequent wrong answers per reference, and how many further kinds and rows the list leaves out.

    `of` counts all scored rows with that reference, so that `count` can be read as a share of it.
    """
    scored = Counter(row.example.reference for row in rows if row.score.value is not None)
    wrong = Counter((row.example.reference, answer_of(row)) for row in rows if is_wrong(row))
    top = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))
    rest = top[MOST_CONFUSIONS:]
    return {
        "top": [
            {
                "reference": shorten(reference, LONGEST_ANSWER),
                # a label is the task's own word; an answer that is none may repeat its input
                "answer": shorten(answer if answer in scored else masked(answer), LONGEST_ANSWER),
                "count": count,
                "of": scored[reference],
            }
            for (reference, answer), count in top[:MOST_CONFUSIONS]
        ],
        "more_kinds": len(rest),
        "more_rows": sum(count for _, count in rest),
    }


def narrowing(run: EvalRun, estimate: Estimate | None, task: TaskSpec) -> dict[str, Any]:
    """How the interval narrowed while the race ran: at most 60 points [n, mean, low, high], or why there are none.

    The last point is the interval of the verdict.
    """
    target = task.target
    if estimate is None or not run.rows:
        return _no_points("nothing was scored")
    if estimate.method == "census":
        return _no_points("the whole split was scored: the figure is what it is, without an interval")
    found = race.narrowing(run, target, task.label_names)
    if found is None:
        return _no_points(f"{target.metric_name} is judged on the whole split at once, so it has no running interval")
    at = np.unique(np.linspace(0, len(found.mean) - 1, min(MOST_POINTS, len(found.mean))).round().astype(int))
    points = [[int(i) + 1, *(round(float(v), 6) for v in (found.mean[i], found.low[i], found.high[i]))] for i in at]
    return {"points": points, "why_not": None}


def _no_points(why_not: str) -> dict[str, Any]:
    return {"points": [], "why_not": why_not}


def training(run: EvalRun | None) -> dict[str, Any] | None:
    """How a fine-tune went: [step, loss] (at most 60 points, each the mean since the one before) and the dev checks.

    None where nothing was trained by steps.
    """
    losses = [float(loss) for loss in run.fit.get("loss by step", ())] if run else []
    if run is None or not losses:
        return None
    ends = np.unique(np.linspace(0, len(losses), min(MOST_POINTS, len(losses)) + 1).round().astype(int))
    points = [[int(end), round(float(np.mean(losses[start:end])), 4)] for start, end in pairwise(ends)]
    checks = [
        {"step": check["step"], "accuracy": check.get("dev_accuracy"), "loss": round(float(check["dev_nll"]), 4)}
        for check in run.fit.get("dev checks", ())
    ]
    return {"points": points, "checks": checks, "best": run.fit.get("best step"), "steps": len(losses)}


def paired(one: EvalRun, other: EvalRun, *, alpha: float) -> dict[str, Any] | None:
    """By how much `other` beats `one` on the groups that both answered, with an anytime-valid interval at 1 - alpha.

    The races share one test order, so difficulty cancels (Waudby-Smith & Ramdas, arXiv 2010.09686: the betting sequence
    on (s_other - s_one + 1) / 2). The interval is valid although the races stopped on their own; it is no part of the
    promise behind MEETS. None where they share nothing.
    """
    ones, others = ({group: _known(scores) for group, scores in _by_group(run.rows).items()} for run in (one, other))
    pairs = ((ones[group], others[group]) for group in ones if group in others)
    shared = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not shared:
        return None
    differences = np.array([b - a for a, b in shared], dtype=float)
    low, high = stats.betting_sequence((differences + 1) / 2, alpha)
    return {
        "one": one.candidate.rung,
        "other": other.candidate.rung,
        "model": other.candidate.model,
        "mean": float(differences.mean()),
        "low": 2 * float(low[-1]) - 1,
        "high": 2 * float(high[-1]) - 1,
        "n": len(shared),
        "only_one_right": int((differences < 0).sum()),
        "only_other_right": int((differences > 0).sum()),
        "method": "betting sequence on paired differences",
    }


def _by_group(rows: Sequence[Row]) -> dict[str, list[float | None]]:
    """The scores of each group in the test order: a second row of a group is never a new observation."""
    groups: dict[str, list[float | None]] = {}
    for row in rows:
        groups.setdefault(row.example.group or row.example.id, []).append(row.score.value)
    return groups


def _known(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None
