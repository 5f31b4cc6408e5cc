"""Diagnosing: a diagnosis as plain lines: what each cause explains, what to do, and what was skipped or not asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.report.plain import count, percent, points, shorten

LONGEST = 100  # characters of an example


def diagnosis_sentence(found: Mapping[str, Any]) -> str:
    """The diagnosis in one sentence: the leading cause with its share, or why none is named."""
    named = [cause for cause in found["causes"] if cause["supported"]]
    if not named:
        return f"{found['candidate']}: no cause is named: {found['abstained']}."
    first, *others = named
    also = f" Also: {', '.join(cause['title'][0].lower() + cause['title'][1:] for cause in others)}." if others else ""
    return f"{found['candidate']}: {_lower(first['title'])}, {_share(first)} of its failures. {first['remedy']}{also}"


def diagnosis_lines(found: Mapping[str, Any]) -> list[str]:
    """A diagnosis (`Verdict.diagnosis`) as lines of text, the leading cause first."""
    right = "" if found["score"] is None else f", mean score {found['score']:.2f}"
    lines = [
        f"{found['candidate']}: {count(found['failures'])} of {count(found['examples'])} dev examples fail{right}",
        "",
    ]
    if found["abstained"]:
        lines += [f"No cause is named: {found['abstained']}.", ""]
    for cause in found["causes"]:
        if cause["supported"]:
            lines += [*_cause(cause), ""]
    others = [f"{_lower(cause['title'])} {_share(cause)}" for cause in found["causes"] if not cause["supported"]]
    if others:
        lines.append(f"not shown: {'; '.join(others)}")
    lines += [f"skipped in a run: {rung}: {reason}" for rung, reason in found["skips"].items()]
    lines += [f"not asked: {reason}" for reason in found["not_probed"]]
    tokens = sum(found["usage"].get(name, 0) for name in ("fresh_tokens", "cache_write_tokens", "output_tokens"))
    lines.append(f"{len(found['probes'])} probes, {count(tokens)} tokens, {found['seconds']:.0f} seconds")
    return lines


def _cause(cause: Mapping[str, Any]) -> list[str]:
    lines = [f"{cause['title']}: {_share(cause)} of the failures", *(f"  {line}" for line in cause["evidence"])]
    for each in cause["examples"][:1]:
        lines.append(
            f"  e.g. {shorten(each['input'], LONGEST)!r}: {shorten(each['answer'], LONGEST)!r} becomes "
            f"{shorten(each['repaired'], LONGEST)!r} (right: {shorten(each['reference'], LONGEST)!r})"
        )
    gain = cause["gain"]
    brings = f" Expected on dev: {points(gain['mean'])} points [{points(gain['low'])}, {points(gain['high'])}]."
    return (
        [*lines, f"  do: {cause['remedy']}{brings if gain else ''}"] if gain else [*lines, f"  do: {cause['remedy']}"]
    )


def _share(cause: Mapping[str, Any]) -> str:
    return f"{percent(cause['share'])} [{percent(cause['low'], unit=False)}, {percent(cause['high'], unit=False)}]"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
