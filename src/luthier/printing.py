"""Printing: what the commands say on stdout, as text or as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from luthier.audit import review as reviews
from luthier.models.budget import Spent
from luthier.models.cache import ModelEntries
from luthier.release import export as exports
from luthier.report.diagnosing import diagnosis_sentence
from luthier.report.plain import count, interval, level, percent
from luthier.report.verdict import Verdict
from luthier.screen import answers, print_table


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_verdict(verdict: Verdict) -> None:
    console = answers()
    print_table(console, verdict.candidates, verdict.task.target, verdict.chosen)
    console.print()
    console.print(verdict.sentence, style="bold")
    if verdict.diagnosis:
        console.print(f"  why: {diagnosis_sentence(verdict.diagnosis)}")
    for line in verdict.costs.get("sentences", ()):
        console.print(line)
    for flip in verdict.flips:
        console.print(f"  {flip}.")
    if any(each["worse"] for each in verdict.slices.get("compared", ())):
        console.print(f"  {verdict.slices['sentences'][0]}")
    for step in verdict.costs.get("next_steps", ()):
        console.print(f"  next: {step['sentence']}.")
    for change in verdict.changes:
        console.print(f"  since the last run: {change}.")


def print_release(release: exports.Release) -> None:
    for each in release.exports:
        gate = each.gate
        lost = f"; score lost {interval(asdict(gate.lost))}, {level(gate.margin)} allowed" if gate.lost else ""
        same = f"; same answers {interval(asdict(gate.agreement))}" if gate.agreement else ""
        print(f"{each.format}: {gate.result}, {gate.reason} ({gate.n} examples{same}{lost})")
        print(f"  {each.folder}{'' if each.released else '  NOT A RELEASE'}")
    for name, reason in release.left_out.items():
        print(f"{name}: not made: {reason}")
    print(f"manifest: {release.folder / 'manifest.json'}")


def print_forecast(found: dict[str, Any]) -> None:
    by_size: dict[int, list[str]] = {}
    for point in found["points"]:
        by_size.setdefault(point["examples"], []).append(percent(point["score"]))
    print(f"{found['candidate']}: {found['metric']} by training examples")
    for size, scores in by_size.items():
        print(f"  {count(size):>9}  {' and '.join(scores)} on dev")
    for each in found["ahead"]:
        chance = percent(each["reaches_target"])
        print(
            f"  {count(each['examples']):>9}  {interval(each)} expected; reaches the target with {chance} probability"
        )
    print()
    for sentence in found["sentences"]:
        print(sentence)


def print_written(written: Sequence[reviews.Written], *, as_json: bool) -> None:
    if as_json:
        files = [{"path": str(each.path), "rows": each.rows, "changed": each.changed} for each in written]
        print_json({"schema": 1, "files": files})
        return
    for each in written:
        print(f"wrote {each.path}: {each.rows:,} rows, {each.changed:,} of them changed")


def print_cache(found: Sequence[ModelEntries], spent: Spent) -> None:
    for each in found:
        usage = each.usage
        tokens = usage.fresh_tokens + usage.cached_tokens + usage.cache_write_tokens + usage.output_tokens
        print(f"{each.model}: {each.entries:,} replies, {each.bytes / 1e6:.1f} MB, {tokens:,} tokens, to {each.newest}")
    print(f"{sum(each.entries for each in found):,} replies in all")
    if spent.tokens:
        print(f"remote models took {spent.tokens:,} tokens and ${spent.usd:.4f} so far, in all runs of this folder")
