"""Forgetting: what the guard found, in words, as a table and as the picture of strength against loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luthier.report.plain import percent, points
from luthier.report.questions import listed

GENERAL_TEXT = "general text"
MINUS = "\N{MINUS SIGN}"
WORDS = {
    "passed": "passed",
    "failed": "FAILED",
    "not shown": "NOT SHOWN",
    "refused": "not judged",
    "reported": "not judged",
}
# what a suite asks, for somebody who has never heard its name
ABOUT = {
    GENERAL_TEXT: "how unlikely the model finds prose from documentation",
    "continuations": "which of two words goes on with a text",
    "ends by itself": "how often its free answers end by themselves",
    "KL(base || tuned)": "how far its words moved on general prompts",
    "KL on the task's own prompts": "how far its first word moved on this task",
}


def elsewhere(guard: Mapping[str, Any] | None, *, guarded: bool) -> str:
    """The end of the verdict's sentence about what a fine-tuned model forgot; nothing for what is not fine-tuned."""
    if guard is None or guard["answer"] == "not measured":
        return "What the fine-tuned model forgot elsewhere was NOT MEASURED." if guarded else ""
    if guard["answer"] == "passed":
        judged = sum(suite["status"] == "passed" for suite in guard["suites"])
        return (
            f"What it forgot elsewhere is within the margins of the forgetting guard ({_suites(judged)}{_text(guard)})."
        )
    return f"Elsewhere, {lost(guard)}, which the task allows."


def lost(guard: Mapping[str, Any]) -> str:
    """What went wrong, suite by suite, as a sentence part.

    >>> lost({"suites": [{"suite": "piqa", "status": "failed"}, {"suite": "general text", "status": "not shown"}]})
    'it forgot too much (piqa), and that it did not could not be shown for general text'
    """
    failed = [suite["suite"] for suite in guard["suites"] if suite["status"] == "failed"]
    open_ones = [suite["suite"] for suite in guard["suites"] if suite["status"] == "not shown"]
    parts = [f"it forgot too much ({listed(failed)})"] if failed else []
    if open_ones:
        that = "that it did not" if failed else "that it did not forget too much"
        parts.append(f"{that} could not be shown for {listed(open_ones)}")
    return ", and ".join(parts)


def _suites(count: int) -> str:
    return "1 suite" if count == 1 else f"{count} suites"


def _text(guard: Mapping[str, Any]) -> str:
    """What general text costs now, where it was judged."""
    found = next((suite for suite in guard["suites"] if suite["suite"] == GENERAL_TEXT and suite["difference"]), None)
    return "" if found is None else f"; general text: {_change(found)} nats a token"


def table(guard: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A row for each suite, its numbers as a person reads them."""
    return [] if guard is None else [_row(suite) for suite in guard["suites"]]


def _row(suite: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "suite": suite["suite"],
        "about": ABOUT.get(
            suite["suite"], "your own task" if suite["unit"] == "mean score" else "which of two choices"
        ),
        "unit": suite["unit"] if _is_nats(suite) else "%",
        "units": suite["units"],
        "before": _level(suite, suite["base"]),
        "after": _level(suite, suite["tuned"]),
        "change": _change(suite) if suite["difference"] else "",
        "margin": _margin(suite),
        "status": suite["status"],
        "word": WORDS[suite["status"]],
        "reason": suite["reason"],
    }


def _is_nats(suite: Mapping[str, Any]) -> bool:
    return str(suite["unit"]).startswith("nats")


def _level(suite: Mapping[str, Any], value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if _is_nats(suite) else percent(value)


def _change(suite: Mapping[str, Any]) -> str:
    """
    >>> _change({"unit": "nats a token", "difference": {"mean": 0.0214, "low": 0.017, "high": 0.026}})
    '+0.021 [+0.017, +0.026]'
    """
    ends = [suite["difference"][end] for end in ("mean", "low", "high")]
    told = [f"{value:+.3f}".replace("-", MINUS) if _is_nats(suite) else points(value) for value in ends]
    return f"{told[0]} [{told[1]}, {told[2]}]"


def _margin(suite: Mapping[str, Any]) -> str:
    if suite["margin"] is None:
        return ""
    size = f"{suite['margin']:g}" if _is_nats(suite) else f"{100 * suite['margin']:g}"
    return f"+{size}" if suite["better"] == "lower" else f"{MINUS}{size}"


def summary_of(guard: Mapping[str, Any] | None) -> str:
    """What the table comes to, in a sentence; nothing where the guard did not look."""
    if guard is None:
        return ""
    if guard["answer"] == "not measured":
        return "Forgetting guard: NOT MEASURED, since no suite could be judged."
    if guard["answer"] == "passed":
        chance = f"{100 * guard['alpha']:g} %"
        return (
            f"Forgetting guard: passed. Had it lost a margin or more, it would pass with a chance of at most {chance}."
        )
    return f"Forgetting guard: {WORDS[guard['answer']]}. {_sentence(lost(guard))}"


def _sentence(part: str) -> str:
    return f"{part[0].upper()}{part[1:]}."


def strengths(fit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each strength of a fine-tune that was tried scores on dev and costs elsewhere; nothing where one was.

    `first`: of the first training, not of one anew. `x` and `y` are the place of the point in a box of 100 by 100: its
    loss on general text from 0 to the largest, to the right, and its dev score from 0 to 1, upwards.
    """
    tried: Sequence[Mapping[str, Any]] = fit.get("strengths tried", ())
    if len(tried) < 2:
        return []
    most = max(max(trial["text_lost"], 0.0) for trial in tried) or 1.0
    return [
        {
            "strength": f"{trial['scale']:g}" + (f", {trial['way']}" if trial.get("way") else ""),
            "first": not trial.get("way"),
            "score": percent(trial["dev_score"]),
            "lost": f"{trial['text_lost']:+.3f}".replace("-", MINUS),
            "within": trial["within"],
            "raced": (trial["scale"], trial.get("way", "")) == (fit.get("strength"), fit.get("trained anew", "")),
            "x": round(100 * max(trial["text_lost"], 0.0) / most, 2),
            "y": round(100 - 100 * trial["dev_score"], 2),
        }
        for trial in sorted(tried, key=lambda trial: (trial.get("way", ""), trial["scale"]))
    ]
