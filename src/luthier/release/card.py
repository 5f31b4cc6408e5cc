"""The model card: what an export is, what was measured, whether the gate passed it, and how to ask it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from luthier.release.asking import as_asked
from luthier.release.base import Base
from luthier.release.source import Source, Tuned
from luthier.report import plain
from luthier.report.summary import target_sentence
from luthier.types import Example, Task, TaskSpec

TITLES = {
    "adapter": "the adapter, for PEFT",
    "merged": "the whole weights, for transformers",
    "gguf": "GGUF, for llama.cpp",
}


def render(facts: Mapping[str, Any]) -> str:
    """The card as Markdown, from plain values alone: the same facts give the same bytes."""
    text = _environment().get_template("card.md").render(**facts, title=TITLES[facts["format"]])
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def facts(task: Task, source: Source, tuned: Tuned, base: Base) -> dict[str, Any]:
    """What the cards of all formats say alike: plain values from the run's summary and the predictor, no clock."""
    spec, verdict = task.spec, source.run.summary["verdict"]
    # a student that is a folder is named by its path in the run, which is nobody else's business
    candidate = {**source.candidate, "name": f"{source.candidate['rung']}@{base.name}"}
    placeholder = "The input goes here."
    (asked,) = as_asked(tuned, [Example("", placeholder, ("",))])
    asking = {"messages": asked.chat, "temperature": 0, "max_tokens": asked.max_tokens}
    return {
        "task": {"name": spec.name, "kind": spec.kind, "instruction": spec.instruction},
        "candidate": candidate,
        "metric": spec.target.metric_name,
        "target": target_sentence(spec.target),
        "guard": guard_line(candidate),
        "base": {
            "name": base.name,
            "licence": base.licence,
            "note": base.note,
            "fingerprint": tuned.base.fingerprint,
            "in_catalog": base.in_catalog,
        },
        "data": {
            "train": len(task.train),
            "sha256": task.findings.get("data_sha256") or task.findings.get("train_sha256", "unknown"),
            "split": task.test.hash,
        },
        "predictor": source.fingerprint,
        "run": source.run.id,
        "finished": verdict["provenance"].get("finished_at", ""),
        "labels": list(tuned.labels),
        "system": next((message.content for message in asked.messages if message.role == "system"), ""),
        "chat": json.dumps(asked.chat, ensure_ascii=False),
        "request": shlex.quote(json.dumps(asking, ensure_ascii=False)),
        "max_tokens": asked.max_tokens,
        "template": tuned.model.chat.template,
        "recipe": [*_adapter_rows(tuned.adapter / "adapter_config.json"), *candidate["fit"]],
        "scorer": _score_words(spec),
        "versions": {"luthier": metadata.version("luthier"), **verdict["provenance"].get("packages", {})},
    }


def _adapter_rows(config: Path) -> list[dict[str, Any]]:
    """What an adapter's own configuration says of its size; nothing where all weights were tuned."""
    if not config.is_file():
        return []
    said = json.loads(config.read_text(encoding="utf-8"))
    kind = "DoRA" if said.get("use_dora") else "LoRA"
    rank, alpha, layers = said["r"], said["lora_alpha"], len(said["target_modules"])
    return [{"what": "adapter", "value": f"{kind}, rank {rank}, alpha {alpha}, on {layers} linear layers"}]


def _score_words(spec: TaskSpec) -> str:
    if spec.labels:
        return "1 for a right label, 0 for anything else"
    return "chrF of the answer" if spec.target.metric == "judge" else f"{spec.target.metric_name} of the answer"


def guard_line(candidate: Mapping[str, Any]) -> str:
    """What the forgetting guard found about a candidate of a summary, in one line.

    >>> guard_line({"guard": {}})
    'NOT MEASURED'
    >>> guard_line({"guard": {"answer": "failed", "suites": [{"suite": "general text", "status": "failed"}]}})
    'failed (general text: failed)'
    """
    found = candidate.get("guard") or {}
    if found.get("answer", "not measured") == "not measured":
        return "NOT MEASURED"
    suites = ", ".join(f"{each['suite']}: {each['status']}" for each in found.get("suites", ()))
    return f"{found['answer']} ({suites})" if suites else str(found["answer"])


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("luthier.release", "templates"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for one in (plain.percent, plain.level, plain.interval, plain.count, plain.moment):
        environment.filters[one.__name__] = one
    environment.filters["flat"] = _flat
    environment.filters["sentence"] = lambda text: text[:1].upper() + text[1:].rstrip(".") + "."
    return environment


def _flat(text: str) -> str:
    """Text on one line, as a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
