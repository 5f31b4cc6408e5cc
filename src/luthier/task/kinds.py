"""Kinds: what each kind of task may say in luthier.toml, and what it means where nothing is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from luthier.types import Kind, MetricName


@dataclass(frozen=True, slots=True)
class KindRules:
    """`metrics`: the first is the default; `closed`: the answers are a closed set of labels."""

    metrics: tuple[MetricName, ...]
    instruction: str
    max_tokens: int
    closed: bool = False


RULES: Mapping[Kind, KindRules] = {
    "classification": KindRules(
        ("accuracy", "macro_f1", "precision", "recall", "f1"),
        "Read the text and choose the one label that fits it best.",
        max_tokens=0,
        closed=True,
    ),
    "generation": KindRules(
        ("exact_match", "rouge_l", "chrf", "bleu", "judge"),
        "Answer briefly and exactly.",
        max_tokens=128,
    ),
    "extraction": KindRules(
        ("record_exact", "field_f1"), "Read the text and take from it what is asked for.", max_tokens=256
    ),
}
# rungs that can only choose among labels, and those that only serve where there are none; all others serve every kind
CLOSED_SET_RUNGS = ("tfidf", "embedding", "calibrated", "reasoned")
FREE_TEXT_RUNGS = ("nearest",)
TEXT_RUNGS = ("self-distilled",)  # neither labels nor records
# further fine-tunes, minutes each: climbed only where [ladder] rungs names them
ON_REQUEST = ("rag-lora", "dora", "full", "qlora", "distilled", "dpo", "self-distilled", "pretrained")

WITH_DOCUMENTS = ("rag", "rag-shots", "rag-lora")  # they look answers up: climbed only where there is [documents]


def rungs_for(kind: Kind, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the rungs that can answer a task of this kind, in their order. A test holds it to `Rung.kinds`.

    >>> rungs_for("generation", ["majority", "tfidf", "nearest", "lora"])
    ('majority', 'nearest', 'lora')
    """
    out = FREE_TEXT_RUNGS if RULES[kind].closed else CLOSED_SET_RUNGS
    out = out if kind == "generation" else (*out, *TEXT_RUNGS)
    return tuple(name for name in names if name not in out)
