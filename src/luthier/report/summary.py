"""Summary: a verdict as one plain dict, from which alone every report is drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from luthier.audit.personal import masked
from luthier.economics.measured import measured
from luthier.report import auditing, evidence, forgetting, why
from luthier.report.findings import label_rows, rows_of, split_sizes
from luthier.report.plain import REPORT, count, flat, interval, level, phrase, plain, words
from luthier.report.questions import five_questions, trace
from luthier.report.waiting import latency_sentence
from luthier.types import CandidateResult, Estimate, EvalRun, Outcome, Target, Usage, VerdictFacts

__all__ = ["VerdictFacts", "summarise", "verdict_json"]

SCHEMA = 1
LONG_TEXT = 120
SHORTEST_HEADLINE = 40

# what a rung is, for somebody who has never heard its name
RUNGS: Mapping[str, tuple[str, str]] = {
    "majority": (
        "The most frequent answer",
        "Gives every input the label that is most frequent in the training data. Anything worth having beats it.",
    ),
    "tfidf": (
        "Classic learning on words",
        "Weighs the words and letter groups of the input (TF-IDF: rare words count more) and learns from the training "
        "data which of them speak for which label. No language model.",
    ),
    "nearest": (
        "The nearest answer",
        "Copies the answer of the training example that shares most words and letter groups with the input. No "
        "language model.",
    ),
    "embedding": (
        "Classic learning on meaning",
        "A small encoder turns each input into a vector of its meaning; a linear classifier learns from the training "
        "data where each label lies.",
    ),
    "zero-shot": (
        "A prompt",
        "Asks the language model with an instruction and the labels, and shows it no example.",
    ),
    "calibrated": (
        "A prompt, with the model's habits removed",
        "The same prompt, but each label's probability is divided by what the model gives that label when the input "
        "says nothing.",
    ),
    "instructed": (
        "A prompt in better words",
        "Tries other words for the task, what the labels mean and how the answer is asked for, and keeps what does "
        "best on dev. A stronger model may propose some, where the task names one.",
    ),
    "few-shot": (
        "A prompt with fixed examples",
        "Shows the language model the same few training examples before every input.",
    ),
    "retrieved-shots": (
        "A prompt with the nearest examples",
        "Shows the language model, for each input, the training examples that are most like it.",
    ),
    "many-shot": (
        "A prompt with many examples",
        "Shows the language model as many training examples as fit its context.",
    ),
    "reasoned": (
        "A prompt that thinks first",
        "Lets the language model write down a thought before it answers, once or several times with a vote.",
    ),
    "combined": (
        "The best parts together",
        "Puts the best instruction, the best examples and, where it helps, a thought into one prompt, and tells what "
        "each part is worth.",
    ),
    "rag": (
        "A prompt with documents",
        "Looks up passages in documents and shows them to the language model with the input.",
    ),
    "rag-shots": (
        "A prompt with documents and examples",
        "Looks up passages in documents, and shows the language model how some inputs were answered from theirs.",
    ),
    "rag-lora": (
        "A fine-tuned reader of documents",
        "Trains added weights of the language model to answer from the passages that are looked up, and to leave aside "
        "those that do not help.",
    ),
    "lora": (
        "A fine-tuned small model",
        "Trains a small set of added weights (LoRA: low-rank adaptation) of the language model on the training data.",
    ),
    "dora": (
        "A fine-tuned small model, by DoRA",
        "Trains added weights as LoRA does, and the size of each output apart from them.",
    ),
    "full": (
        "A fully fine-tuned model",
        "Trains all weights of the language model on the training data.",
    ),
    "qlora": (
        "A fine-tuned model in four bits",
        "Trains added weights beside those of the language model, which are stored in four bits meanwhile.",
    ),
    "distilled": (
        "A model taught by a stronger one",
        "Trains the language model on the training data and on a stronger model's answers to unlabelled inputs.",
    ),
    "dpo": (
        "A model that prefers right answers",
        "Goes on from the fine-tuned model with pairs of a better and a worse answer (direct preference optimization).",
    ),
    "self-distilled": (
        "A model fine-tuned in its own words",
        "Lets the language model put the right answers into its own words, and trains it on those.",
    ),
    "pretrained": (
        "A fine-tuned model that read your documents",
        "Lets the language model read texts of the domain before it is trained on the training data.",
    ),
}

# the same where answers are written and not chosen
WRITTEN_RUNGS: Mapping[str, tuple[str, str]] = {
    "majority": (
        "The most frequent answer",
        "Gives every input the answer that is most frequent in the training data. Anything worth having beats it.",
    ),
    "zero-shot": ("A prompt", "Asks the language model with an instruction, and shows it no example."),
}


def verdict_json(facts: VerdictFacts) -> dict[str, Any]:
    """The verdict, schema 1: keys may be added, never renamed without a new number. Finite numbers and text only."""
    target = facts.task.target
    facts = replace(facts, diagnosis=why.masked_diagnosis(facts.diagnosis))
    return plain(  # type: ignore[no-any-return]
        {
            "schema": SCHEMA,
            "task": facts.task.name,
            "sentence": facts.sentence,
            "outcome": facts.outcome,
            "chosen": facts.chosen,
            "target": {
                "metric": target.metric,
                "at_least": target.at_least,
                "confidence": target.confidence,
                "about": target.about,
                "label": target.label,
            },
            "candidates": [
                {**_candidate_json(result, answers), "measured": _measured(facts, result)}
                for result, answers in zip(facts.candidates, _answers(facts), strict=True)
            ],
            "reasons": facts.reasons,
            **({"slices": facts.slices} if facts.slices else {}),
            "spend": {
                "examples_scored": 0,
                "examples_available": 0,
                "seconds": 0.0,
                **facts.spend,
                "usage": {**plain(Usage()), **plain(facts.spend.get("usage", {}))},
            },
            "flips": facts.flips,
            "changes": facts.changes,
            "costs": facts.costs or None,
            "trace": trace(five_questions(facts)),
            "forecasts": facts.forecasts,
            **({"audit": facts.audit} if facts.audit else {}),
            **({"diagnosis": facts.diagnosis} if facts.diagnosis else {}),
            "provenance": facts.provenance,
        }
    )


def _measured(facts: VerdictFacts, result: CandidateResult) -> dict[str, Any] | None:
    """What the race told about cost, for whoever prices it later."""
    run = next((run for run in facts.runs if run.candidate == result.candidate), None)
    found = None if run is None else measured(run, facts.task.target, result.estimate)
    return None if found is None else found.plain()


def _answers(facts: VerdictFacts) -> list[int]:
    """How many answers each candidate gave, in their order."""
    runs = {run.candidate.name: run for run in facts.runs}
    rows = (runs[result.candidate.name].rows if result.candidate.name in runs else () for result in facts.candidates)
    return [sum(row.prediction.output is not None for row in some) for some in rows]


def _candidate_json(result: CandidateResult, answers: int) -> dict[str, Any]:
    return {
        "name": result.candidate.name,
        "rung": result.candidate.rung,
        "model": result.candidate.model,
        "rank": result.candidate.rank,
        "outcome": result.outcome,
        "eligible": result.eligible,
        "blocked_by": result.blocked_by,
        "unsettled": result.unsettled,
        "alpha": result.alpha,
        "estimate": _finite(result.estimate),
        "population": result.population,
        "decided_at": result.decided_at,
        "unscored": result.unscored,
        "rates": result.rates,
        "off_label": {
            "count": result.off_label,
            "of": answers,
            "rate": result.off_label / answers if answers else None,
        },
        "approximate": result.approximate,
        "more_examples": result.more,
        "reasons": result.reasons,
        "usage": result.usage,
        "consistency": result.consistency,
        "guard": result.guard,
        **({"slice_targets": result.slice_targets} if result.slice_targets else {}),
        **({"latency": result.latency} if result.latency else {}),
        "seconds": result.seconds,
        "fit_seconds": result.fit_seconds,
    }


def _finite(estimate: Estimate | None) -> Estimate | None:
    """No estimate rather than one with an infinite end or without a mean: JSON has no such numbers."""
    whole = estimate is not None and all(map(math.isfinite, (estimate.mean, estimate.low, estimate.high)))
    return estimate if whole else None


def summarise(facts: VerdictFacts) -> dict[str, Any]:
    """One JSON-able dict: the verdict under "verdict", and everything else that a report shows."""
    runs = {run.candidate.name: run for run in facts.runs}
    verdict = verdict_json(facts)
    results = zip(facts.candidates, verdict["candidates"], strict=True)
    summary = {
        "report": REPORT,
        "verdict": verdict,
        "headline": headline(facts.sentence),
        "task": _task(facts),
        "candidates": [
            {**as_json, **_shown(facts, result, runs.get(result.candidate.name))} for result, as_json in results
        ],
        "questions": five_questions(facts),
        "data": rows_of(facts.findings),
        "splits": split_sizes(facts.findings),
        "warnings": plain(facts.findings.get("warnings", ())),
        "provenance": flat(plain(facts.provenance)),
        "made": {"version": facts.provenance.get("luthier"), "finished": facts.provenance.get("finished_at")},
        "limits": _limits(facts),
        **({"audit": auditing.section(facts.audit)} if facts.audit else {}),
        "why": why.section(verdict),
    }
    return plain(summary)  # type: ignore[no-any-return]


def steady_sentences(found: Mapping[str, Any]) -> list[str]:
    """How often a candidate says the same again, in sentences; none where it was not measured.

    >>> steady_sentences({"inputs": 24, "rewordings": 3, "repeated": None,
    ...                   "reworded": {"mean": 0.75, "low": 0.551, "high": 0.88}})
    ['In 3 other wordings of its instruction it gives the same answer to 75.0 % [55.1, 88.0] of 24 dev inputs.']
    """
    if not found:
        return []
    sentences = [
        f"In {found['rewordings']} other wordings of its instruction it gives the same answer to "
        f"{interval(found['reworded'])} of {found['inputs']} dev inputs."
    ]
    if found["repeated"] is not None:
        sentences.append(
            f"Two answers drawn at temperature 1 agree with a probability of {interval(found['repeated'])}."
        )
    return sentences


def headline(sentence: str) -> dict[str, str]:
    """The sentence in two: the clause that says it, and the rest; short clauses stay together.

    >>> headline("tfidf meets accuracy of at least 95 % on new inputs; majority does not.")
    {'first': 'tfidf meets accuracy of at least 95 % on new inputs.', 'rest': 'majority does not.'}
    """
    for found in re.finditer(r"[;:.] ", sentence):
        if found.end() > SHORTEST_HEADLINE:
            return {"first": sentence[: found.start()] + ".", "rest": sentence[found.end() :]}
    return {"first": sentence, "rest": ""}


def _task(facts: VerdictFacts) -> dict[str, Any]:
    task = facts.task
    return {
        "name": task.name,
        "kind": task.kind,
        "instruction": task.instruction,
        "labels": label_rows(task.labels, facts.findings),
        "target": target_sentence(task.target),
        "metric": task.target.metric_name,
        "local_only": task.constraints.local_only,
    }


def target_sentence(target: Target) -> str:
    """
    >>> target_sentence(Target("accuracy", 0.85))
    'accuracy of at least 85 % on inputs to come, proven at 95 % confidence'
    """
    where = "inputs to come" if target.about == "inputs to come" else "the test examples themselves"
    return (
        f"{target.metric_name} of at least {level(target.at_least)} on {where}, "
        f"proven at {level(target.confidence)} confidence"
    )


def _shown(facts: VerdictFacts, result: CandidateResult, run: EvalRun | None) -> dict[str, Any]:
    rung, closed = result.candidate.rung, bool(facts.task.labels)
    title, what = RUNGS.get(rung, (result.candidate.name, ""))
    if not closed:
        title, what = WRITTEN_RUNGS.get(rung, (title, what))
    rows = run.rows if run else ()
    graded = evidence.is_graded(facts.task)
    return {
        "title": title,
        "what": what,
        "chosen": result.candidate.name == facts.chosen,
        "scored": len(rows),
        "groups": run.groups if run else result.population,
        "exhaustive": bool(run and run.exhaustive),
        "gave_up": bool(run and run.gave_up),
        "guarded": bool(run and run.guarded),
        "not_measured": run.not_measured if run else None,
        "touches_target": _touches_target(result, facts.task.target),
        "more_sentence": more_sentence(result),
        "fit": _fit(run),
        "training": evidence.training(run),
        "steady": [*steady_sentences(result.consistency), *filter(None, [latency_sentence(plain(result.latency))])],
        "forgetting": {
            "sentence": forgetting.summary_of(result.guard),
            "suites": forgetting.table(plain(result.guard)),
            "seconds": result.guard["seconds"] if result.guard else 0.0,
            "strengths": forgetting.strengths(run.fit if run else {}),
        },
        "race_seconds": run.race_seconds if run else 0.0,
        "right_count": len(rows) - result.unscored if graded else sum(map(evidence.is_right, rows)),
        "wrong_count": len(rows) - result.unscored if graded else sum(map(evidence.is_wrong, rows)),
        "right": evidence.best_examples(rows) if graded else evidence.right_examples(rows),
        "wrong": evidence.worst_examples(rows) if graded else evidence.wrong_examples(rows),
        "answers_title": "Best and worst answers" if graded else "Right and wrong answers",
        "right_title": "Highest scores" if graded else "Right",
        "wrong_title": "Lowest scores" if graded else "Wrong",
        "not_scored": evidence.unscored_examples(rows),
        "confusions": evidence.confusions(rows if closed else ()),
        "rates_sentence": rates_sentence(result),
        "narrowing": evidence.narrowing(run, result.estimate, facts.task)
        if run
        else {"points": [], "why_not": "it was not raced"},
    }


def _touches_target(result: CandidateResult, target: Target) -> bool:
    """Decided although the interval that is shown still holds the target: the deciding test is the sharper one."""
    decided = result.outcome in (Outcome.MEETS, Outcome.DOES_NOT_MEET)
    estimate = result.estimate
    return bool(decided and estimate and not result.approximate and estimate.low <= target.at_least <= estimate.high)


def more_sentence(result: CandidateResult) -> str | None:
    """How many further test examples would decide, for a candidate that is INCONCLUSIVE; None for the others."""
    if result.outcome is not Outcome.INCONCLUSIVE or result.more is None:
        return None
    if result.more.median is None:
        return "Even ten times as many test examples would probably not decide it: it is too near to the target."
    often = (
        f"with {count(result.more.q90)} it would be decided nine times in ten"
        if result.more.q90 is not None
        else "it may also take more than ten times the split"
    )
    return f"About {count(result.more.median)} more test examples would decide it in half of all cases; {often}."


def rates_sentence(result: CandidateResult) -> str | None:
    """Where records fail, or how often the judge gave no verdict; None where the task has neither."""
    if not result.rates:
        return None
    if "scored" in result.rates:
        return f"The judge gave a verdict on {interval(plain(result.rates['scored']))} of its answers."
    told = {name: interval(plain(rate)) for name, rate in result.rates.items()}
    return (
        f"Of its answers, {told['parses']} are valid JSON, {told['schema_valid']} fit the schema, and "
        f"{told['record_exact']} are right in every field (each interval at 95 % confidence by itself)."
    )


def _fit(run: EvalRun | None) -> list[dict[str, Any]]:
    """What fitting chose, as rows; a long text (a prompt, say) is marked so that it can stand by itself."""
    rows = []
    for key, value in ({**plain(run.fit), **evidence.cited(run)} if run else {}).items():
        if key in ("strengths tried", "loss by step"):  # drawn, not told
            continue
        text = masked(phrase(value))  # a prompt may quote training examples
        rows.append({"what": words(key), "value": text, "long": len(text) > LONG_TEXT or "\n" in text})
    return rows


def _limits(facts: VerdictFacts) -> list[str]:
    """What the verdict does not say, in plain sentences, the most important first."""
    target = facts.task.target
    chance = level(round(1.0 - target.confidence, 12))
    where = "inputs like the test examples" if target.about == "inputs to come" else "the examples of this test split"
    limits = [
        f"MEETS means: on {where}, the true {target.metric_name} is at least {level(target.at_least)}. The chance that "
        f"this test split calls even one candidate wrongly, MEETS or DOES NOT MEET, is at most {chance} for all "
        "candidates together, however often one looked. It says nothing about inputs of another kind.",
        "INCONCLUSIVE means that neither could be proven. It is not a mild form of either.",
    ]
    if any(result.approximate for result in facts.candidates):
        limits.append(
            f"{target.metric_name} is no plain average, so its intervals come from resampling (bootstrap). They are "
            "approximate and outside the promise above."
        )
    if target.metric == "judge":
        limits.append(
            "The scores are a model's judgements. The judge passed its control (it prefers right answers to constant "
            "ones on dev), which says little about finer differences: read some of its scores yourself."
        )
    tuned = [run for run in facts.runs if run.guarded and run.rows]
    unknown = [run.candidate.name for run in tuned if run.guard is None]
    if unknown:
        limits.append(
            f"Forgetting guard: NOT MEASURED. Fine-tuning ({', '.join(unknown)}) can make a model worse at other "
            "tasks; nobody has checked that here. For this one task it does not matter."
        )
    if len(unknown) < len(tuned):
        limits.append(
            "The forgetting guard sees what it asks about: general text, general prompts, and the probes and tasks "
            "that [guard] names. A fine-tune may have forgotten something that none of them touches."
        )
    limits += [
        "An estimate after an early stop leans towards the side on which the race stopped: read the interval, not the "
        "mark on it.",
        "The examples in this report are test examples. Whoever changes a prompt after reading them tunes on the test; "
        "the store makes a changed candidate pay for that with a smaller share of the allowed error.",
    ]
    return limits
