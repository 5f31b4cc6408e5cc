"""Why: what the report says about the misses: causes with shares, examples, what to do next; then the slices.

It reads a diagnosis as plain values (`Verdict.diagnosis`), never a model. One example: of 60 wrong answers 41 % [28,
55] are set right by showing the passage that holds the answer, beyond what any rewording repairs: knowledge is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.audit.personal import masked
from luthier.report.plain import count, interval, percent, points, shorten

LONGEST_TEXT = 280
EXAMPLES = 3
IN_PICTURE = 10  # slices; the others stand in a table
STEPS = (0.05, 0.1, 0.2, 0.25, 0.5)
MOST_STEPS = 6

# what a cause is, for somebody who has never heard its name
CAUSES: Mapping[str, tuple[str, str]] = {
    "format": ("The form of the answer", "The answer is right in substance, and not in the form that counts."),
    "knowledge": ("Missing knowledge", "The model was never told a fact that the answer needs."),
    "retriever": ("The search in the documents", "The answer stands in the documents, and the search did not find it."),
    "instruction": ("The instruction", "The model misreads what is wanted; in other words it gets it right."),
    "elicitation": ("Missing examples", "The model can do it, once it is shown how."),
    "unstable": ("Unsteady answers", "The model gets it right some of the time, and another answer comes out first."),
    "references": ("Wrong right answers", "The answers in the data that count as right are wrong themselves."),
    "capacity": ("The size of the model", "Neither help nor training gets this model there: it is too small."),
}


def masked_diagnosis(diagnosis: Mapping[str, Any]) -> dict[str, Any]:
    """The diagnosis with [EMAIL], [PHONE] and so on in place of personal data, as the audit shows texts."""
    return _each_text(diagnosis)  # type: ignore[no-any-return]


def _each_text(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {key: _each_text(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(each) for each in value]
    return value


def section(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """All that the pages "why" and "where" show, from a verdict as JSON: {"diagnosis": ..., "slices": ...}, or None."""
    diagnosis, slices = verdict.get("diagnosis"), verdict.get("slices")
    # the targets of slices matter for whoever meets the task's own; else for the one that the slices are of
    about = [each for each in verdict["candidates"] if each["outcome"] == "MEETS"] or [
        each for each in verdict["candidates"] if each["name"] == (slices or {}).get("candidate")
    ]
    targets = [{"candidate": each["name"], **told} for each in about for told in each.get("slice_targets", ())]
    return {
        "diagnosis": _diagnosed(diagnosis, verdict["candidates"], verdict["chosen"]) if diagnosis else None,
        "slices": _sliced(slices or {}, targets, verdict["chosen"]) if slices or targets else None,
    }


# ---------------------------------------------------------------- the diagnosis


def _diagnosed(found: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]], chosen: str | None) -> dict[str, Any]:
    causes = [_cause(each, found, candidates) for each in found.get("causes", ())]
    supported = [each for each in causes if each["supported"]]
    return {
        "candidate": found["candidate"],
        "title": f"Why {found['candidate']} misses" if chosen else "Why it misses, and what to do",
        "next": f"What helps ({chosen} is chosen)" if chosen else "What to do next",
        "headline": _headline(found, supported),
        "counted": _counted(found),
        "abstained": found.get("abstained"),
        "confidence": found.get("confidence"),
        "causes": supported,
        "others": [each for each in causes if not each["supported"]],
        "axis": _axis([each[end] for each in causes for end in ("low", "high")], zero=True) if causes else None,
        "steps": [_step(each, found) for each in supported],
        "probes": list(found.get("probes", ())),
        "skips": [{"rung": rung, "reason": reason} for rung, reason in found.get("skips", {}).items()],
        "not_probed": [line[:1].upper() + line[1:] for line in found.get("not_probed", ())],
    }


def _cause(
    cause: Mapping[str, Any], found: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    title, meaning = CAUSES.get(cause["cause"], (str(cause["cause"]), ""))
    return {
        "cause": cause["cause"],
        "title": cause.get("title") or title,
        "meaning": meaning,
        "supported": bool(cause["supported"]),
        # harm to right answers can take an effect out of the range of a share, and no share is out of it
        **{end: min(1.0, max(0.0, float(cause[end]))) for end in ("share", "low", "high")},
        "of": found["failures"],
        "evidence": list(cause.get("evidence", ())),
        "remedy": cause.get("remedy") or "",
        "rungs": [_rung(name, candidates) for name in cause.get("rungs", ())],
        "gain": cause.get("gain"),
        "examples": [_example(each) for each in list(cause.get("examples", ()))[:EXAMPLES]],
    }


def _rung(name: str, candidates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A rung that could help, and where it stands in this verdict."""
    raced = next((each for each in candidates if each["rung"] == name), None)
    if raced is None:
        return {"rung": name, "candidate": None, "standing": "not on the ladder of this task"}
    told = interval(raced["estimate"]) if raced["estimate"] else "not raced"
    return {"rung": name, "candidate": raced["name"], "standing": f"{raced['outcome']}, {told}"}


def _example(each: Mapping[str, Any]) -> dict[str, str]:
    keys = ("id", "input", "reference", "answer", "repaired")
    return {key: shorten(str(each.get(key) or ""), LONGEST_TEXT) for key in keys}


def _headline(found: Mapping[str, Any], supported: Sequence[Mapping[str, Any]]) -> str:
    if found.get("abstained"):
        return f"No cause is named: {str(found['abstained']).rstrip('.')}."
    if not supported:
        return (
            f"Of {count(found['failures'])} wrong answers of {found['candidate']}, no cause explains a share that is "
            "provably above chance."
        )
    first = supported[0]
    text = f"{first['title'].rstrip('.')}: that explains {estimate_of(first)} of the wrong answers."
    if len(supported) > 1:
        text += f" {'One more cause is' if len(supported) == 2 else f'{len(supported) - 1} more causes are'} shown."
    return text


def estimate_of(cause: Mapping[str, Any]) -> str:
    """
    >>> estimate_of({"share": 0.15, "low": 0.05, "high": 0.25})
    '15.0 % [5.0, 25.0]'
    """
    return interval({**cause, "mean": cause["share"]})


def _counted(found: Mapping[str, Any]) -> str:
    return (
        f"{found['candidate']} answered {count(found['examples'])} development examples: {count(found['passing'])} "
        f"right, {count(found['failures'])} wrong. Its wrong answers were asked again with one thing changed at a time."
    )


def _step(cause: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """What to do about a cause, and what it is expected to bring."""
    gain, score = cause["gain"], found.get("score")
    if gain is None:
        brings = "What it would bring was not measured."
    else:
        brings = f"Expected: {points(gain['mean'])} points [{points(gain['low'])}, {points(gain['high'])}]"
        if score is not None:
            reached = [percent(min(1.0, max(0.0, score + gain[end])), unit=False) for end in ("mean", "low", "high")]
            brings += f", from {percent(score)} to about {reached[0]} % [{reached[1]}, {reached[2]}]"
        brings += " on examples like these."
    return {"title": cause["title"], "remedy": cause["remedy"], "brings": brings, "rungs": cause["rungs"]}


# ---------------------------------------------------------------- the slices


def _sliced(found: Mapping[str, Any], targets: Sequence[Mapping[str, Any]], chosen: str | None) -> dict[str, Any]:
    slices = list(found.get("compared", ()))
    worse = sum(each["worse"] for each in slices)
    shown = slices[: max(IN_PICTURE, worse)]
    ends = [each["difference"][end] for each in shown for end in ("low", "high")]
    return {
        **found,
        "candidate": found.get("candidate"),
        "sentences": list(found.get("sentences", ())),
        "shown": shown,
        "table": slices[len(shown) :],
        "too_small": list(found.get("too_small", ())),
        "axis": _axis(ends, zero=True) if shown else None,
        "targets": [{**each, "chosen": each["candidate"] == chosen} for each in targets],
    }


# ---------------------------------------------------------------- pictures


def _axis(values: Sequence[float], *, zero: bool = False) -> dict[str, Any]:
    """A scale of shares in at most six round steps that holds all values: where it starts and ends, and its ticks.

    >>> _axis([0.02, 0.31])["ticks"][-1]
    {'share': 0.4, 'x': 100.0}
    """
    low, high = min([*values, *([0.0] if zero else [])]), max([*values, *([0.0] if zero else [])])
    for step in STEPS:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        last = max(last, first + 1)
        if last - first <= MOST_STEPS:
            break
    ticks = [
        {"share": round(at * step, 10), "x": round(100 * (at - first) / (last - first), 3)}
        for at in range(first, last + 1)
    ]
    return {"start": first * step, "end": last * step, "ticks": ticks}


def place(share: float, axis: Mapping[str, Any]) -> float:
    """Where a share stands on an axis, in per cent of it.

    >>> place(0.2, {"start": 0.0, "end": 0.8})
    25.0
    """
    start, end = float(axis["start"]), float(axis["end"])
    return round(100 * min(1.0, max(0.0, (share - start) / (end - start))), 3)
