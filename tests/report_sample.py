"""A sample verdict: eight candidates on a question-typing task, drawn by a seeded coin and judged by the real race."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from luthier import stats
from luthier.evaluate.race import judge, more_examples
from luthier.types import (
    Candidate,
    CandidateResult,
    Constraints,
    EvalRun,
    Example,
    Label,
    Outcome,
    Prediction,
    Row,
    Score,
    Target,
    TaskSpec,
    Usage,
    VerdictFacts,
)

LABELS = (
    Label("ABBR", "asks for an abbreviation or its meaning"),
    Label("DESC", "asks for a definition, a description, a manner or a reason"),
    Label("ENTY", "asks for a thing: an animal, a food, a colour, a word, a product"),
    Label("HUM", "asks for a person, a group or a title"),
    Label("LOC", "asks for a place"),
    Label("NUM", "asks for a number: a date, a count, a distance, money"),
)
FRAMES = {
    "ABBR": ("What does {} stand for ?", "What is the abbreviation of {} ?"),
    "DESC": ("What is {} ?", "How does {} work ?", "Why is {} important ?"),
    "ENTY": ("What kind of animal lives in {} ?", "What product is {} known for ?", "What colour is {} ?"),
    "HUM": ("Who invented {} ?", "Who was the first to write about {} ?", "What company makes {} ?"),
    "LOC": ("Where can one find {} ?", "What country is {} from ?", "What city is famous for {} ?"),
    "NUM": ("When was {} first seen ?", "How many people use {} ?", "How much does {} weigh ?"),
}
THINGS = (
    *("the telescope", "NATO", "amber", "the Suez Canal", "penicillin", "a hurricane", "the violin", "porcelain"),
    *("the Danube", "chess", "a lighthouse", "the printing press", "saffron", "Mount Etna", "the metre", "a monsoon"),
    *("cork", "the compass", "Esperanto", "a glacier", "the guillotine", "quinine", "the tulip", "a fjord"),
    *("the abacus", "Braille", "a geyser", "the zeppelin", "indigo", "the tango", "a comet", "the sewing machine"),
)
SHARES = {"ABBR": 0.02, "DESC": 0.22, "ENTY": 0.22, "HUM": 0.22, "LOC": 0.16, "NUM": 0.16}
ALPHA = 0.05 / 8


def task(labels: Sequence[Label] = LABELS, target: Target | None = None, **more: Any) -> TaskSpec:
    return TaskSpec(
        name=more.get("name", "question-routing"),
        kind="classification",
        instruction="Say what kind of answer the question asks for.",
        labels=tuple(labels),
        target=target or Target("accuracy", 0.85),
        constraints=Constraints(local_only=more.get("local_only", False)),
        rungs=("majority", "tfidf", "embedding", "zero-shot", "calibrated", "few-shot", "retrieved-shots", "lora"),
        models={"prompted": "smollm2-135m", "student": "smollm2-135m", "embedder": "all-minilm-l6-v2"},
        seed=7,
    )


def questions(count: int, seed: int = 7) -> list[Example]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(list(SHARES), size=count, p=list(SHARES.values()))
    examples = []
    for at, label in enumerate(labels.tolist()):
        frame, thing = rng.choice(FRAMES[label]), rng.choice(THINGS)
        examples.append(Example(f"q{at:04}", str(frame).format(thing), (label,)))
    return examples


def row(example: Example, answer: str | None, *, usage: Usage = Usage(), error: str | None = None) -> Row:
    if answer is None:
        return Row(example, Prediction(None, usage, error=error), Score(None, error or "no answer"))
    right = answer in example.references
    reason = "right" if right else f"{answer} instead of {example.reference}"
    return Row(example, Prediction(answer, usage), Score(float(right), reason))


def raced(
    candidate: Candidate,
    test: Sequence[Example],
    accuracy: float,
    *,
    target: float = 0.85,
    seed: int = 7,
    usage: Usage = Usage(),
    fit: Mapping[str, Any] | None = None,
    seconds: tuple[float, float] = (0.0, 0.0),
    guarded: bool = False,
    always: str | None = None,
) -> EvalRun:
    """A run whose answers are right with probability `accuracy`, or `always` the same, stopped once it is decided."""
    rng = np.random.default_rng([seed, candidate.rank])
    names = [label.name for label in LABELS]
    rows = []
    for example in test:
        others = [name for name in names if name != example.reference]
        weights = np.array([4.0 if name in ("DESC", "ENTY") else 1.0 for name in others])
        wrong = str(rng.choice(others, p=weights / weights.sum()))
        rows.append(row(example, always or (example.reference if rng.random() < accuracy else wrong), usage=usage))
    above, below = stats.target_evidence(np.cumsum([r.score.value for r in rows]).astype(int), target)
    decided = np.flatnonzero(np.maximum(above, below) >= math.log(1 / ALPHA))
    stop = 16 * -(-(int(decided[0]) + 1) // 16) if len(decided) else 16 * 40
    return EvalRun(
        candidate=candidate,
        split="test",
        rows=tuple(rows[:stop]),
        fingerprint=f"{candidate.rank:032x}",
        alpha=ALPHA,
        population=len(test),
        groups=len(test),
        guarded=guarded,
        fit=fit or {},
        fit_seconds=seconds[0],
        race_seconds=seconds[1],
        gave_up=not len(decided) and stop < len(test),
    )


def result(run: EvalRun, spec: TaskSpec) -> CandidateResult:
    judged = judge(run, spec.target, spec.label_names)
    measured = judged.outcome is not Outcome.NOT_MEASURED
    return CandidateResult(
        candidate=run.candidate,
        outcome=judged.outcome,
        eligible="unknown" if run.guarded or not measured else "yes",
        blocked_by=(),
        alpha=run.alpha,
        estimate=judged.estimate,
        population=run.population,
        reasons=(
            judged.why or f"certain after {judged.decided_at} test examples" if judged.decided_at else "too close",
        ),
        usage=run.usage,
        seconds=run.race_seconds,
        fit_seconds=run.fit_seconds,
        decided_at=judged.decided_at,
        unscored=judged.unscored,
        approximate=judged.approximate,
        more=more_examples(run, spec.target, spec.label_names) if judged.outcome is Outcome.INCONCLUSIVE else None,
        unsettled=("forgetting guard: NOT MEASURED",) if run.guarded and measured else (),
    )


def facts(runs: Sequence[EvalRun], spec: TaskSpec, *, sentence: str | None = None, **more: Any) -> VerdictFacts:
    results = tuple(result(run, spec) for run in runs)
    chosen = next((found.candidate.name for found in results if found.outcome is Outcome.MEETS), None)
    raced_runs = [run for run in runs if run.rows]
    outcome = Outcome.MEETS if chosen else Outcome.INCONCLUSIVE if raced_runs else Outcome.NOT_MEASURED
    return VerdictFacts(
        task=spec,
        outcome=outcome,
        chosen=chosen,
        sentence=sentence or f"{chosen or 'No candidate'} meets the target.",
        candidates=results,
        runs=tuple(runs),
        reasons=tuple(f"{found.candidate.name}: {found.outcome}" for found in results),
        flips=more.get("flips", ()),
        findings=more.get("findings", {"splits": {"train": {"examples": 1000, "labels": {}}}}),
        provenance=more.get("provenance", PROVENANCE),
        spend={
            "examples_scored": sum(len(run.rows) for run in runs),
            "examples_available": sum(run.population for run in raced_runs),
            "usage": sum((run.usage for run in runs), Usage()),
            "seconds": sum(run.fit_seconds + run.race_seconds for run in runs),
            "test_accesses": sum(len(run.rows) for run in runs),
        },
    )


PROVENANCE = {
    "luthier": "0.1.0",
    "python": "3.11.2",
    "platform": "Linux x86_64",
    "machine": {"processor": "2 cores, AVX2", "memory_gb": 8},
    "packages": {
        "numpy": "2.4.1",
        "scikit-learn": "1.8.0",
        "torch": "2.13.0",
        "transformers": "5.23.0",
        "peft": "0.21.2",
    },
    "seed": 7,
    "split_hash": "8d969eef6ecad3c29a3a629280e686cf",
    "task_fingerprint": "86f8fb5e0c3f4c2a9d1a7be21b0b1c3e",
    "models": {
        "smollm2-135m": "sha256:5a1395716f7913741cc51d98581b9b1c",
        "all-minilm-l6-v2": "sha256:53aa51172d142c89d9012cce",
    },
    "started_at": "2030-01-02T09:00:00Z",
    "finished_at": "2030-01-02T09:08:41Z",
}
FINDINGS = {
    "rows_read": 15452,
    "empty_dropped": 0,
    "exact_duplicates_merged": 10072,
    "distinct": 5380,
    "near_duplicate_threshold": 0.8,
    "near_duplicate_groups": 14,
    "unused": 2979,
    "splits": {
        "train": {
            "examples": 1000,
            "groups": 996,
            "labels": {"ABBR": 16, "DESC": 214, "ENTY": 232, "HUM": 226, "LOC": 153, "NUM": 159},
        },
        "dev": {
            "examples": 400,
            "groups": 400,
            "labels": {"ABBR": 6, "DESC": 86, "ENTY": 93, "HUM": 90, "LOC": 61, "NUM": 64},
        },
        "test": {
            "examples": 1000,
            "groups": 1000,
            "labels": {"ABBR": 16, "DESC": 215, "ENTY": 231, "HUM": 226, "LOC": 153, "NUM": 159},
        },
    },
    "lines": {"exact_duplicates_merged": [[2, 1002, 3002], [3, 1003, 3003]], "near_duplicate_groups": [[263, 15069]]},
    "warnings": ["test has fewer than 20 examples of 'ABBR': the verdict says little about them"],
}


def sample() -> VerdictFacts:
    """The whole ladder of the routing demo, with the accuracies that its pilots found."""
    spec, test = task(), questions(1000)
    llm, zero = "smollm2-135m", Usage()

    def shots(fresh: int, cached: int) -> Usage:
        return Usage(fresh, cached, 0, 0)

    plan: list[tuple[str, str | None, float, Usage, dict[str, Any], tuple[float, float]]] = [
        ("majority", None, 0.22, zero, {"always answers": "ENTY", "share of train": 0.226}, (0.01, 0.01)),
        ("tfidf", None, 0.80, zero, {"features": 30412, "inverse penalty C": 10.0, "dev accuracy": 0.79}, (1.9, 0.2)),
        (
            *("embedding", "all-minilm-l6-v2", 0.825, zero),
            {"embedder": "all-minilm-l6-v2", "inverse penalty C": 3.0, "dev accuracy": 0.8175},
            (21.4, 9.8),
        ),
        (
            "zero-shot",
            llm,
            0.13,
            shots(14, 96),
            {"template": "smollm2 chat", "label order": "as in the task"},
            (0.0, 1.1),
        ),
        (
            "calibrated",
            llm,
            0.20,
            shots(14, 96),
            {"neutral inputs": ["", "N/A", "[MASK]"], "dev accuracy": 0.21},
            (0.6, 1.2),
        ),
        (
            *("few-shot", llm, 0.37, shots(14, 231)),
            {
                "sets tried": 4,
                "dev accuracy of each": [0.31, 0.37, 0.28, 0.35],
                "the chosen examples": "Who was Galileo ? -> HUM\nWhat is an atom ? -> DESC\n"
                "Where is the Louvre ? -> LOC\n"
                "What does NASA stand for ? -> ABBR\nHow many feet in a mile ? -> NUM\nWhat colour is jade ? -> ENTY",
            },
            (38.0, 2.4),
        ),
        ("retrieved-shots", llm, 0.67, shots(168, 96), {"shots": 8, "embedder": "all-minilm-l6-v2"}, (11.2, 19.5)),
        (
            *("lora", llm, 0.92, shots(37, 0)),
            {"rank": 16, "learning rate": 0.001, "epochs": 2, "kept epoch": 2, "dev accuracy": 0.915},
            (402.0, 31.7),
        ),
    ]
    runs = [
        raced(
            Candidate(rung, model, 10 * (at + 1)),
            test,
            accuracy,
            usage=usage,
            fit=fit,
            seconds=seconds,
            guarded=rung == "lora",
            always="ENTY" if rung == "majority" else None,
        )
        for at, (rung, model, accuracy, usage, fit, seconds) in enumerate(plan)
    ]
    return facts(
        runs,
        spec,
        sentence="lora@smollm2-135m meets accuracy of at least 85.0 %, with 93.3 % [84.5, 98.1] on 208 test examples; "
        "majority, tfidf, zero-shot@smollm2-135m, calibrated@smollm2-135m, few-shot@smollm2-135m and "
        "retrieved-shots@smollm2-135m do not meet it; embedding@all-minilm-l6-v2 is inconclusive. "
        "What the fine-tuned model forgot elsewhere was NOT MEASURED.",
        flips=("At a target of 77.9 % or less, embedding@all-minilm-l6-v2 is enough",),
        findings=FINDINGS,
    )
