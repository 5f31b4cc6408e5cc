"""Forecasts: what a learning curve says, as plain values and in sentences, and whether labels or a rung come next.

One example: TF-IDF has 78 % with 1,000 examples, and 82 % [79, 85] are to be expected of 2,000; an embedding has 84 %
already: another rung is the better step, since twice the labels would hardly bring this one there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from luthier.diagnose.skips import MEANS
from luthier.report.plain import count, duration, interval, level, percent, plain
from luthier.train.forecast import AHEAD, CONFIDENCE, MOST_AHEAD, PARTS, Forecast
from luthier.types import Estimate, EvalRun, Rung, Target

NextStep = Literal["nothing", "proof", "more labels", "another rung", "open"]
UNTAUGHT = ("majority", "zero-shot")
LEARNED = ("tfidf", "nearest", "embedding")
LIKELY = 0.5
UNLIKELY = 0.1
CURVE_POINTS = 25


def told(found: Forecast, target: Target, other: tuple[str, Estimate] | None = None) -> dict[str, Any]:
    """A forecast as plain values: the points, what is ahead, what the target takes, and the next step with its reason.

    `other` is the best other candidate with its measured estimate. Numbers of examples that are None lie beyond four
    times those there are.
    """
    step, because = next_step(found, target, other)
    ahead = [_ahead(found, times, target) for times in AHEAD]
    values = {
        "candidate": found.candidate,
        "metric": target.metric_name,
        "target": target.at_least,
        "confidence": CONFIDENCE,
        "examples": found.examples,
        "dev_examples": found.dev_examples,
        "points": [
            {"examples": point.size, "score": score, "loss": point.nll, "seconds": point.seconds}
            for point, score in zip(found.points, found.scores, strict=True)
        ],
        "ahead": ahead,
        "limit": found.limit(),
        "needed": found.needed(target.at_least),
        "begun": found.begun,
        "tested": None if found.tested is None else plain(found.tested),
        "loss": _loss(found),
        "own": None if found.own is None else plain(found.own),
        "other": None if other is None else {"name": other[0], **plain(other[1])},
        "next_step": step,
        "because": because,
        "curve": _curve(found),
    }
    return plain({**values, "sentences": _sentences(values)})  # type: ignore[no-any-return]


def next_step(found: Forecast, target: Target, other: tuple[str, Estimate] | None) -> tuple[NextStep, str]:
    """Whether more labels or another rung is the better next step, and why, in a sentence part. Pure."""
    now, most = found.examples, MOST_AHEAD * found.examples
    bar, four = level(target.at_least), found.score(most)
    tested, expected = found.tested, found.score(now)
    if tested is not None and tested.low >= target.at_least:
        return "nothing", f"the test split has shown that it reaches {bar}, with {interval(plain(tested))}"
    if tested is not None and (expected["low"] > tested.high or expected["high"] < tested.low):
        return "open", (
            f"dev and test disagree about what it has now ({interval(expected)} by {count(found.dev_examples)} "
            f"examples of dev, {interval(plain(tested))} by {count(tested.n)} of test), so that a curve measured on "
            "dev foretells little: give dev more examples"
        )
    if found.reaches(target.at_least, now) >= LIKELY:
        return "proof", f"it probably reaches {bar} already: what lacks is proof, which more test examples give"
    if not found.begun and (other is None or other[1].low <= four["high"]):
        return "open", (
            "no fit is better than one answer to everything yet, so that nothing here says when it begins to learn, "
            "which can be sudden: train it longer ([training] epochs), or label more"
        )
    if found.own is not None and target.metric in MEANS and found.own.high < target.at_least:
        return "another rung", (
            f"it scores only {interval(plain(found.own))} on {found.own.n} of its own training examples, so that it is "
            "too small for the task or was trained too little; of a fine-tune, a larger base model may be enough"
        )
    if found.reaches(target.at_least, most) >= LIKELY:
        needed = found.needed(target.at_least)
        needed["low"] = None if needed["low"] is None else max(now, needed["low"])  # fewer have not reached it
        return "more labels", f"{bar} is probably reached with about {_needed(needed)} examples"
    best = f"even {count(most)} examples would probably give {interval(four)}"
    if other is not None and other[1].low > four["high"]:
        return "another rung", f"{best}, and {other[0]} has {interval(plain(other[1]))} now"
    if other is not None and other[1].mean > four["mean"]:
        return "another rung", f"{best}, and {other[0]}, with {interval(plain(other[1]))} now, is probably still better"
    if found.limit()["high"] < target.at_least:
        return "another rung", f"no number of labels would take it above {percent(found.limit()['high'])}"
    if found.reaches(target.at_least, most) < UNLIKELY:
        return "another rung", f"{best}, and hardly {bar}"
    return "open", f"{best}; it reaches {bar} with a probability of {percent(found.reaches(target.at_least, most))}"


def learns(rung: Rung) -> bool:
    """Whether more training examples can make another predictor of it that nothing but them makes."""
    return rung.guarded or rung.name in LEARNED


def measured_in(summary: Mapping[str, Any] | None) -> dict[str, Estimate]:
    """The estimates of a finished run, by candidate, of those that may be chosen."""
    candidates = summary["verdict"]["candidates"] if summary else ()
    return {
        each["name"]: Estimate(**each["estimate"])
        for each in candidates
        if each["estimate"] and each["eligible"] != "no"
    }


def best_other(measured: Mapping[str, Estimate], candidate: str) -> tuple[str, Estimate] | None:
    others = [each for each in measured.items() if each[0] != candidate]
    return max(others, key=lambda each: each[1].mean) if others else None


def most_worth(rungs: Sequence[Rung], measured: Mapping[str, Estimate]) -> str:
    """The rung with the best measured candidate, else the last of the rungs."""
    of = {name.partition("@")[0]: estimate.mean for name, estimate in measured.items()}
    known = [rung for rung in rungs if rung.name in of]
    return max(known, key=lambda rung: of[rung.name]).name if known else rungs[-1].name


def worth_a_look(runs: Sequence[EvalRun], rungs: Mapping[str, Rung], measured: Mapping[str, Estimate]) -> list[EvalRun]:
    """The best of the learned candidates, and the best of the fine-tuned ones: of the others no choice hangs on it."""
    found = []
    for guarded in (False, True):
        mine = [
            run
            for run in runs
            if run.guarded == guarded and learns(rungs[run.candidate.rung]) and run.candidate.name in measured
        ]
        if mine:
            found.append(max(mine, key=lambda run: measured[run.candidate.name].mean))
    return found


def lines(values: Mapping[str, Any]) -> list[str]:
    """A forecast as lines for the verdict's "what would change it", without the full stop."""
    return [sentence.rstrip(".") for sentence in values["sentences"]]


def skipped(candidate: str, seconds: float, limit: float) -> str:
    """That a forecast would take too long to be made unasked, and how it is asked for; without the full stop."""
    return (
        f"Whether more labels would help {candidate} was not measured: it takes about {duration(seconds)}, and "
        f"[forecast] max_seconds is {duration(limit)}; `luthier forecast --rung {candidate.partition('@')[0]}` does it"
    )


def _ahead(found: Forecast, times: int, target: Target) -> dict[str, Any]:
    n = times * found.examples
    on_dev = 1.0 - found.curve.measured(n, same_dev=True)
    low, high = np.quantile(on_dev, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return {
        "times": times,
        "examples": n,
        **found.score(n),
        "on_dev": {"low": float(low), "high": float(high)},
        "reaches_target": found.reaches(target.at_least, n),
    }


def _loss(found: Forecast) -> list[dict[str, Any]] | None:
    """The dev loss ahead, in nats a token, where every fit told one."""
    if found.loss is None:
        return None
    intervals = [(times * found.examples, found.loss.interval(times * found.examples)) for times in AHEAD]
    return [{"examples": n, "mean": mean, "low": low, "high": high} for n, (mean, low, high) in intervals]


def _curve(found: Forecast) -> list[list[float]]:
    """[examples, middle, low, high] of the score, from the smallest part to four times the examples."""
    sizes = np.geomspace(found.examples / PARTS[0], MOST_AHEAD * found.examples, CURVE_POINTS)
    bands = [found.score(float(n)) for n in sizes]
    return [[float(n), band["mean"], band["low"], band["high"]] for n, band in zip(sizes, bands, strict=True)]


def _needed(needed: Mapping[str, int | None]) -> str:
    """
    >>> _needed({"median": 2400, "low": 1800, "high": None}), _needed({"median": None, "low": 3100, "high": None})
    ('2,400 [1,800, more than 4 times those there are]', 'more than 4 times those there are [from 3,100]')
    """
    beyond = f"more than {MOST_AHEAD} times those there are"
    if needed["median"] is None:
        return beyond if needed["low"] is None else f"{beyond} [from {count(needed['low'])}]"
    high = beyond if needed["high"] is None else count(needed["high"])
    return f"{count(needed['median'])} [{count(needed['low'] or 0)}, {high}]"


def _sentences(values: Mapping[str, Any]) -> list[str]:
    ahead: Sequence[Mapping[str, Any]] = values["ahead"]
    now, *later = ahead
    far = " and ".join(f"{interval(each)} with {count(each['examples'])}" for each in later)
    first = (
        f"{values['candidate']} has {interval(now)} with {count(now['examples'])} training examples; it would probably "
        f"have {far} (each at {level(values['confidence'])}, from {len(values['points'])} fits measured on dev)."
    )
    words = {
        "nothing": "No further step is needed",
        "proof": "More test examples are the next step",
        "more labels": "More labels are the better next step",
        "another rung": "Another rung is the better next step than more labels",
        "open": "Neither more labels nor another rung is clearly the better next step",
    }
    own = values["own"]
    said = own is None or "its own training examples" in values["because"]
    fits = [] if said else [f"It scores {interval(own)} on {own['n']} of its own training examples."]
    return [first, f"{words[values['next_step']]}: {values['because']}.", *fits]
