"""Next steps: where nothing may be chosen, what to try next, in the order of what it is expected to be worth.

One example: 1,000 more labels at $0.50 are expected to bring 4 points; at 300,000 requests a month, 12 months and $0.02
an error 4 points are worth $2,880, less the $500.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scipy import stats

from luthier.economics.calculation import Calculation
from luthier.economics.cost import Accuracy
from luthier.report.amounts import dollars
from luthier.report.plain import count, level, percent
from luthier.types import CandidateResult, Outcome, VerdictFacts

HALF_WIDTH = 1.959963984540054  # standard errors in half of a 95 % interval


def next_steps(facts: VerdictFacts, found: Calculation) -> list[dict[str, Any]]:
    """Steps with their expected gain in right answers, the chance that they reach the target, cost and worth.

    `worth` is what the gain saves in wrong answers over the horizon, less the cost; None where wrong answers or labels
    have no price: then the chance decides the order, and then the cost. Empty where something is chosen.
    """
    if facts.chosen is not None:
        return []
    steps = [*_proof(facts, found), *_labels(facts, found), *_options(facts, found), *_lower(facts)]
    for step in steps:
        step["worth"] = _worth(step, found)
        step["sentence"] = _sentence(step)
    return sorted(
        steps, key=lambda step: (step["worth"] is None, -(step["worth"] or 0.0), -step["p_target"], step["cost"] or 0.0)
    )


def _best(facts: VerdictFacts) -> float:
    return max((result.estimate.mean for result in facts.candidates if result.estimate), default=0.0)


def _proof(facts: VerdictFacts, found: Calculation) -> Iterator[dict[str, Any]]:
    """More test examples for what may already be good enough."""
    for result in facts.candidates:
        if result.outcome is not Outcome.INCONCLUSIVE or result.more is None or result.more.median is None:
            continue
        if result.estimate is None or result.eligible == "no":
            continue
        estimate = result.estimate
        chance = _above(
            Accuracy(estimate.mean, estimate.low, estimate.high, estimate.n, "measured"), facts.task.target.at_least
        )
        yield {
            "what": f"label {count(result.more.median)} more test examples, to decide {result.candidate.name}",
            "gain": 0.0,
            "p_target": chance,
            "cost": _label_cost(result.more.median, found),
            "basis": "measured",
        }


def _labels(facts: VerdictFacts, found: Calculation) -> Iterator[dict[str, Any]]:
    """More training examples, as the forecasts see it."""
    for told in facts.forecasts:
        for ahead in told["ahead"]:
            more = ahead["examples"] - told["examples"]
            if more <= 0:
                continue
            yield {
                "what": f"label {count(more)} more training examples, for {told['candidate']}",
                "gain": ahead["mean"] - _best(facts),
                "p_target": ahead["reaches_target"],
                "cost": _label_cost(more, found),
                "basis": "forecast",
            }


def _options(facts: VerdictFacts, found: Calculation) -> Iterator[dict[str, Any]]:
    """Another model or process that was only stated: race it, then it counts."""
    for way in found.ways:
        if way.kind not in ("option", "today") or way.accuracy is None:
            continue
        verb = "stay with today's process" if way.kind == "today" else "race"
        yield {
            "what": f"{verb}: {way.name}, stated at {percent(way.accuracy.mean)}",
            "gain": way.accuracy.mean - _best(facts),
            "p_target": _above(way.accuracy, facts.task.target.at_least),
            "cost": float(way.numbers().once),
            "basis": "stated",
        }


def _lower(facts: VerdictFacts) -> Iterator[dict[str, Any]]:
    """A target that the best candidate meets as it is."""
    known: list[CandidateResult] = [
        result for result in facts.candidates if result.estimate and not result.approximate and result.eligible != "no"
    ]
    best = max(known, key=lambda result: result.estimate.low if result.estimate else 0.0, default=None)
    if best is None or best.estimate is None or not 0 < best.estimate.low < facts.task.target.at_least:
        return
    bar = int(1000 * best.estimate.low) / 1000
    yield {
        "what": f"lower the target to {level(bar)}: {best.candidate.name} is enough for that",
        "gain": 0.0,
        "p_target": 1.0,
        "cost": 0.0,
        "basis": "measured",
    }


def _above(accuracy: Accuracy, bar: float) -> float:
    """How probable it is that the share is at or above the bar, by its interval; no interval: it is as it is."""
    sd = (accuracy.high - accuracy.low) / 2 / HALF_WIDTH
    if sd <= 0:
        return float(accuracy.mean >= bar)
    return float(stats.norm.sf((bar - accuracy.mean) / sd))


def _label_cost(labels: int, found: Calculation) -> float | None:
    price = found.economics.usd_per_label
    return labels * price if price else None


def _worth(step: Mapping[str, Any], found: Calculation) -> float | None:
    error = found.economics.usd_per_error
    if error is None or step["cost"] is None:
        return None
    requests = sum(float(found.world.requests_in(month)) for month in range(1, found.world.months + 1))
    return float(step["gain"] * requests * error - step["cost"])


def _sentence(step: Mapping[str, Any]) -> str:
    parts = [f"reaches the target with a probability of {percent(step['p_target'])}"]
    if abs(step["gain"]) >= 5e-4:
        parts.append(f"{100 * step['gain']:+.1f} points".replace("-", "\N{MINUS SIGN}"))
    parts.append("cost unknown (usd_per_label)" if step["cost"] is None else f"costs {dollars(step['cost'])}")
    if step["worth"] is not None and abs(step["gain"]) >= 5e-4:
        parts.append(f"expected to be worth {dollars(step['worth'])}")
    what = step["what"][0].upper() + step["what"][1:]
    return f"{what}: {', '.join(parts)}" + (" (as stated)" if step["basis"] == "stated" else "")
