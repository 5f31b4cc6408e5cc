"""A sample diagnosis in its agreed shape, and a sample verdict with slices, for the pages "why" and "where"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from report_sample import LABELS, questions, task

from luthier import stats
from luthier.evaluate.runner import BLOCK
from luthier.report.verdict import Verdict, decide
from luthier.task.slices import settled
from luthier.types import (
    Candidate,
    EvalRun,
    Example,
    Prediction,
    Row,
    Score,
    Slice,
    SliceRules,
    SliceTarget,
    TaskSpec,
)

CHANNELS = ("web", "web", "web", "phone", "e-mail")
PHONE = Slice("column", "channel", ("phone",))


def diagnosis() -> dict[str, Any]:
    return {
        "version": 1,
        "candidate": "zero-shot@smollm2-135m",
        "examples": 160,
        "failures": 96,
        "passing": 64,
        "score": 0.4,
        "abstained": None,
        "confidence": 0.99,
        "causes": [
            {
                "cause": "elicitation",
                "title": "It can do it once it is shown examples",
                "share": 0.44,
                "low": 0.31,
                "high": 0.57,
                "supported": True,
                "evidence": [
                    "Eight of the nearest training examples in the prompt set 52 of 96 wrong answers right; other "
                    "words alone set 7 right, and 3 of 64 right answers broke.",
                ],
                "remedy": "Show it examples: retrieve the nearest ones, or fine-tune on them.",
                "rungs": ["retrieved-shots", "lora"],
                "gain": {"mean": 0.26, "low": 0.17, "high": 0.34},
                "examples": [
                    {"id": "q0007", "input": "What is the Danube known for ?", "reference": "DESC", "answer": "LOC",
                     "repaired": "DESC"},
                    {"id": "q0031", "input": "Who should I mail at ada@example.org about <script>alert(1)</script> ?",
                     "reference": "HUM", "answer": "ENTY", "repaired": "HUM"},
                    {"id": "q0042", "input": "How many people use the sewing machine " + "again and " * 60 + "?",
                     "reference": "NUM", "answer": "", "repaired": "NUM"},
                ],
            },
            {
                "cause": "instruction",
                "title": "The instruction is misread",
                "share": 0.15,
                "low": 0.05,
                "high": 0.25,
                "supported": True,
                "evidence": ["The best of four other instructions set 21 of 96 wrong answers right."],
                "remedy": "Say in the instruction what each label means.",
                "rungs": ["instructed"],
                "gain": None,
                "examples": [
                    {"id": "q0101", "input": "What colour is jade ?", "reference": "ENTY", "answer": "DESC",
                     "repaired": "ENTY"},
                ],
            },
            {
                "cause": "unstable", "title": "Its answers are unsteady", "share": 0.03, "low": -0.06, "high": 0.12,
                "supported": False, "evidence": [], "remedy": "", "rungs": [], "gain": None, "examples": [],
            },
            {
                "cause": "references", "title": "Right answers that are wrong", "share": 0.02, "low": -0.02,
                "high": 0.06, "supported": False, "evidence": [], "remedy": "", "rungs": [], "gain": None,
                "examples": [],
            },
        ],
        "probes": [
            {"probe": "shots-8", "title": "Eight nearest examples in the prompt", "failures": 96, "passing": 64,
             "repaired": 0.54, "noop": 0.07, "harmed": 0.03, "effect": 0.44, "low": 0.31, "high": 0.57},
            {"probe": "paraphrase", "title": "Other instructions", "failures": 96, "passing": 64,
             "repaired": 0.24, "noop": 0.07, "harmed": 0.02, "effect": 0.15, "low": 0.05, "high": 0.25},
        ],
        "skips": {"rag": "the passage that holds the answer sets 1 of 96 wrong answers right: no knowledge is missing"},
        "not_probed": ["A stronger model was not asked: the task names none ([models] teacher)."],
        "usage": {"fresh_tokens": 120_000, "cached_tokens": 40_000, "cache_write_tokens": 0, "output_tokens": 800},
        "seconds": 74.2,
    }  # fmt: skip


def examples(count: int = 1000) -> list[Example]:
    """The sample's questions, each with the channel that it came by."""
    rng = np.random.default_rng(3)
    return [replace(each, columns=(("channel", str(rng.choice(CHANNELS))),)) for each in questions(count)]


def sliced(test: Sequence[Example], targets: Sequence[SliceTarget] = (), **more: Any) -> TaskSpec:
    """The sample's task with the slices of these test examples."""
    spec = task()
    rules = SliceRules(columns=("channel",), targets=tuple(targets), **more)
    return replace(spec, slices=settled(rules, test, (), LABELS, spec.target, where="luthier.toml"))


def raced(
    spec: TaskSpec,
    test: Sequence[Example],
    name: str,
    *,
    rank: int,
    rate: float,
    by_phone: float,
    seed: int = 1,
    stop: bool = True,
) -> EvalRun:
    """A race whose answers are right with `rate`, and with `by_phone` where they came by phone."""
    rng = np.random.default_rng([seed, rank])
    rows = []
    for example in test:
        right = rng.random() < (by_phone if dict(example.columns)["channel"] == "phone" else rate)
        said = example.reference if right else "DESC" if example.reference != "DESC" else "ENTY"
        rows.append(Row(example, Prediction(said), Score(float(right), "right" if right else "wrong")))
    run = EvalRun(
        candidate=Candidate(name, None, rank), split="test", rows=tuple(rows), fingerprint="f", alpha=0.05 / 8,
        population=len(test), groups=len(test),
    )  # fmt: skip
    evidence = np.maximum(
        *stats.target_evidence(np.cumsum([row.score.value for row in rows]).astype(int), spec.target.at_least)
    )
    settled_at = np.flatnonzero(evidence >= math.log(1 / run.alpha))
    if not stop or not len(settled_at):
        return run
    return replace(run, rows=run.rows[: BLOCK * (int(settled_at[0]) // BLOCK + 1)])


def verdict() -> Verdict:
    """A verdict with all that the pages "why" and "where" can show."""
    test = examples()
    spec = sliced(test, [SliceTarget(PHONE, 0.8), SliceTarget(Slice("class", values=("NUM",)), 0.8)])
    runs = [
        raced(spec, test, "zero-shot", rank=40, rate=0.4, by_phone=0.4),
        raced(spec, test, "tfidf", rank=20, rate=0.96, by_phone=0.6, stop=False),
        raced(spec, test, "few-shot", rank=50, rate=0.93, by_phone=0.86, stop=False),
    ]
    found = decide(sorted(runs, key=lambda run: run.candidate.rank), {}, spec.target, spec.constraints, task=spec)
    return replace(found, diagnosis=diagnosis())
