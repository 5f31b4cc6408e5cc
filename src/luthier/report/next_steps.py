"""Next steps: where nothing may be chosen, what to try next, in the order of what it is expected to be worth.

One example: 1,000 more labels at $0.50 are expected to bring 4 points; at 300,000 requests a month, 12 months and $0.02
an error 4 points are worth $2,880, less the $500.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scipy import stats

from luthier.economics.calculation import Calculation
from luthier.economics.cost import Accuracy, Way
from luthier.economics.measured import family_of
from luthier.report.amounts import dollars
from luthier.report.plain import count, level, percent, points
from luthier.report.questions import READING_RUNGS, listed
from luthier.types import CandidateResult, Outcome, VerdictFacts

TUNED = ("lora", "rag-lora", "dora", "full", "qlora", "distilled", "dpo", "self-distilled", "pretrained")
HALF_WIDTH = 1.959963984540054  # standard errors in half of a 95 % interval


def next_steps(facts: VerdictFacts, found: Calculation) -> list[dict[str, Any]]:
    """Steps with their expected gain in right answers, the chance that they reach the target, cost and worth.

    `worth` is what the gain saves in wrong answers over the horizon, less the cost; of another way, what all of it
    costs less than the best candidate over the horizon. None where wrong answers or labels have no price: then the
    chance decides the order, and then the cost. Empty where something is chosen.
    """
    if facts.chosen is not None:
        return []
    known = [*_proof(facts, found), *_labels(facts, found), *_options(facts, found), *_lower(facts)]
    known += _remedies(facts, found)
    steps = [*known, *_untried(facts, known)]
    for step in steps:
        step.setdefault("worth", _worth(step, found))
        step["sentence"] = _sentence(step)
    return sorted(steps, key=_order)


def _order(step: Mapping[str, Any]) -> tuple[bool, bool, float, float, float]:
    """What was measured first; the most worth first; where there is no worth, the likeliest, then the cheapest."""
    unmeasured = step["p_target"] is None
    return unmeasured, step["worth"] is None, -(step["worth"] or 0.0), -(step["p_target"] or 0.0), step["cost"] or 0.0


def _best(facts: VerdictFacts) -> float:
    return max((result.estimate.mean for result in facts.candidates if result.estimate), default=0.0)


def _best_way(facts: VerdictFacts, found: Calculation) -> Way | None:
    """The best candidate as a way: what a step is compared with."""
    means = {result.candidate.name: result.estimate.mean for result in facts.candidates if result.estimate}
    ways = [way for way in found.ways if way.name in means]
    return max(ways, key=lambda way: means[way.name], default=None)


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
                "gain_low": ahead["low"] - _best(facts),
                "gain_high": ahead["high"] - _best(facts),
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
        best = _best_way(facts, found)
        more = None if best is None else found.month(way) - found.month(best)
        yield {
            "what": f"{verb}: {way.name}, stated at {percent(way.accuracy.mean)}",
            "gain": way.accuracy.mean - _best(facts),
            "gain_low": way.accuracy.low - _best(facts),
            "gain_high": way.accuracy.high - _best(facts),
            "p_target": _above(way.accuracy, facts.task.target.at_least),
            "cost": float(way.numbers().once),
            "more_a_month": more,
            "beside": None if best is None else best.name,
            "worth": None if best is None or not found.counting else float(found.total(best)) - float(found.total(way)),
            "basis": "stated",
        }


def _remedies(facts: VerdictFacts, found: Calculation) -> Iterator[dict[str, Any]]:
    """What the diagnosis of the misses says would help, and was not raced; without a figure where it has none."""
    told = facts.diagnosis
    raced = {run.candidate.rung for run in facts.runs if run.rows}
    for cause in told.get("causes", ()):
        gain = cause.get("gain")
        rungs = [name for name in cause.get("rungs", ()) if name not in raced]
        if not cause["supported"] or (cause.get("rungs") and not rungs):
            continue
        title = str(cause["title"])
        what = f"{str(cause['remedy']).rstrip('.')}{f' ({listed(rungs)})' if rungs else ''}"
        why = f"the diagnosis: {title[:1].lower()}{title[1:]}"
        if not gain:
            yield {**_nothing_known(what, why), "basis": "diagnosed", "cause": cause["cause"]}
            continue
        low, mean, high = (told["score"] + gain[end] for end in ("low", "mean", "high"))
        yield {
            "what": what,
            "how": why,
            "cause": cause["cause"],
            "gain": mean - _best(facts),
            "gain_low": low - _best(facts),
            "gain_high": high - _best(facts),
            "p_target": _above(Accuracy(mean, low, high, told["examples"], "measured"), facts.task.target.at_least),
            "cost": _work(rungs, found),
            "basis": "measured",
            "rungs": rungs,
        }


def _work(rungs: Sequence[str], found: Calculation) -> float | None:
    """Hours of the team for the simplest of these rungs; None where nobody stated them."""
    economics = found.economics
    if not rungs or economics.usd_per_hour is None:
        return None
    hours = economics.engineering_hours.get(family_of(rungs[0], guarded=rungs[0] in TUNED))
    return None if hours is None else hours * economics.usd_per_hour


def _untried(facts: VerdictFacts, known: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What may help and nothing here measured: without a figure, and after all that has one."""
    raced = {run.candidate.rung for run in facts.runs if run.rows}
    causes = {step.get("cause") for step in known}
    if not raced & set(READING_RUNGS) and not causes & {"knowledge", "retriever"}:
        yield _nothing_known("look answers up in documents", "name them in [documents]")
    models = sorted({run.candidate.model for run in facts.runs if run.rows and run.candidate.model})
    if models and "capacity" not in causes and not any(step["basis"] == "stated" for step in known):
        yield _nothing_known(
            f"race another model than {' and '.join(models)}", "a folder or a [remote.NAME] under [models]"
        )


def _nothing_known(what: str, how: str) -> dict[str, Any]:
    return {"what": what, "gain": None, "p_target": None, "cost": None, "basis": "not measured", "how": how}


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
    if error is None or step["cost"] is None or step["gain"] is None:
        return None
    requests = sum(float(found.world.requests_in(month)) for month in range(1, found.world.months + 1))
    return float(step["gain"] * requests * error - step["cost"])


def _sentence(step: Mapping[str, Any]) -> str:
    what = step["what"][0].upper() + step["what"][1:]
    if step["p_target"] is None:
        return f"{what}: what that would bring was not measured ({step['how']})"
    parts = [f"reaches the target with a probability of {percent(step['p_target'])}"]
    if abs(step["gain"]) >= 5e-4:
        span = f" [{points(step['gain_low'])}, {points(step['gain_high'])}]" if _spans(step) else ""
        parts.append(f"{points(step['gain'])} points{span}")
    unknown = "cost unknown (engineering_hours)" if step.get("rungs") is not None else "cost unknown (usd_per_label)"
    parts.append(unknown if step["cost"] is None else f"costs {dollars(step['cost'])}")
    more = step.get("more_a_month")
    if more is not None and abs(more) >= 0.01:
        parts.append(f"{dollars(abs(more))} a month {'more' if more > 0 else 'less'} than {step['beside']}")
    if step["worth"] is not None and abs(step["gain"]) >= 5e-4:
        parts.append(f"expected to be worth {dollars(step['worth'])}")
    return f"{what}: {', '.join(parts)}" + (" (as stated)" if step["basis"] == "stated" else "")


def _spans(step: Mapping[str, Any]) -> bool:
    return bool(step.get("gain_high", 0.0) - step.get("gain_low", 0.0) > 5e-4)
