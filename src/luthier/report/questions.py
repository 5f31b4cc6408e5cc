"""Questions: the five that every team asks, each answered by what was measured, or "not measured" and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luthier.report.evidence import is_graded, paired
from luthier.report.findings import split_sizes
from luthier.report.plain import count, interval, level, percent, plain, points
from luthier.types import CandidateResult, EvalRun, Outcome, Usage, VerdictFacts

PROMPT_RUNGS = (
    *("zero-shot", "calibrated", "instructed", "few-shot", "many-shot", "retrieved-shots"),
    *("reasoned", "combined"),
)
TUNED_RUNGS = ("lora", "full")
READING_RUNGS = ("rag", "rag-shots", "rag-lora")
COMPARISON_ALPHA = 0.05  # shared among the comparisons that can be made, so that they hold together
# what one step up the ladder adds, so that each comparison says what it is about
STEPS = (
    ("zero-shot", "few-shot", "what fixed examples in the prompt add"),
    ("zero-shot", "instructed", "what better words add"),
    ("few-shot", "many-shot", "what filling the context with examples adds"),
    ("few-shot", "retrieved-shots", "what choosing the nearest examples adds"),
    ("zero-shot", "lora", "what fine-tuning adds to a bare prompt"),
    ("few-shot", "lora", "what fine-tuning adds to fixed examples"),
    ("zero-shot", "reasoned", "what thinking before the answer adds"),
    ("combined", "lora", "what fine-tuning adds to the best prompt"),
    ("retrieved-shots", "lora", "what fine-tuning adds to the nearest examples"),
    ("lora", "full", "what training all weights adds to training an adapter"),
    ("lora", "distilled", "what a teacher's answers to further inputs add"),
    ("lora", "dpo", "what learning from wrong answers adds"),
    ("lora", "pretrained", "what reading the documents adds"),
)
LOOKING_UP = (
    ("zero-shot", "rag", "what looking answers up adds to a bare prompt"),
    ("few-shot", "rag-shots", "what looking answers up adds to fixed examples"),
    ("lora", "rag-lora", "what looking answers up adds to fine-tuning"),
)


def five_questions(facts: VerdictFacts) -> list[dict[str, Any]]:
    """One dict a question: question, measured ("yes", "in part" or "no"), answer, because, then, comparisons.

    `then` is what follows from the answer for the choice; empty where nothing does.
    """
    compared = _comparisons(facts.runs)
    up = [step for step in compared if step["about"] in {about for _, _, about in LOOKING_UP}]
    rest = [step for step in compared if step not in up]
    return [_prompt(facts), _knowledge(facts, up), _behaviour(facts, rest), _pay(facts), _stay(facts)]


def trace(questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The decision in five steps: each question with its answer, whether it was measured, and what follows."""
    return [{key: each[key] for key in ("question", "answer", "measured", "then")} for each in questions]


def _answer(
    question: str, measured: str, answer: str, because: str, then: str = "", comparisons: Sequence[Any] = ()
) -> dict[str, Any]:
    return {
        "question": question,
        "measured": measured,
        "answer": answer,
        "because": because,
        "then": then,
        "comparisons": list(comparisons),
    }


def _prompt(facts: VerdictFacts) -> dict[str, Any]:
    question = "Does a prompt reach the target?"
    prompts = [result for result in facts.candidates if result.candidate.rung in PROMPT_RUNGS]
    measured = [result for result in prompts if result.estimate is not None]
    missing = [result.candidate.name for result in prompts if result.estimate is None]
    if not measured:
        was = "was" if len(missing) == 1 else "were"
        why = f"{listed(missing)} {was} not raced" if missing else "the ladder of this task has no prompt on it"
        reason = next(
            (run.not_measured for run in facts.runs if run.candidate.name in missing and run.not_measured), ""
        )
        if missing and facts.chosen is not None and facts.chosen in reason:
            why += f": the climb ended at {facts.chosen}, which comes earlier on the ladder"
        elif missing and reason:
            why += f": {reason.rstrip('.')}"
        return _answer(question, "no", "Not measured.", why[0].upper() + why[1:] + ".")
    winners = [result for result in measured if result.outcome is Outcome.MEETS]
    open_ones = [result for result in measured if result.outcome is Outcome.INCONCLUSIVE]
    best = max(measured, key=lambda result: result.estimate.mean if result.estimate else 0.0)
    if winners:
        first = winners[0]
        answer, because = "Yes.", f"{first.candidate.name} is the simplest that does: {_figure(first)}."
        then = "No fine-tune is needed for this target; whether one is cheaper is the fourth question."
    elif open_ones:
        answer = "Not proven either way."
        then = "More test examples would decide it: they come before anything dearer."
        because = (
            f"{listed([result.candidate.name for result in open_ones])} came too near to the target to be decided. "
            f"The best prompt is {best.candidate.name}: {_figure(best)}."
        )
    else:
        answer = "No."
        then = "What a prompt lacks is knowledge (the second question) or behaviour (the third)."
        because = f"The best prompt is {best.candidate.name}: {_figure(best)}; the target is {_bar(facts)}."
    if missing:
        because += f" Not raced: {', '.join(missing)}."
    because += " This is about the prompts and the model that were tried; a larger model may do better."
    return _answer(question, "in part" if missing else "yes", answer, because, then)


def _knowledge(facts: VerdictFacts, compared: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What looking answers up changed in the race, else what the diagnosis found on dev."""
    question = "Is knowledge missing?"
    found = facts.diagnosis
    cause = next((each for each in found.get("causes", ()) if each["cause"] == "knowledge"), None)
    told = [
        f"{step['other']} against {step['one']}: {points(step['mean'])} points [{points(step['low'])}, "
        f"{points(step['high'])}]"
        for step in compared
    ]
    parts = [f"On the same test examples, {'; '.join(told)}."] if told else []
    if cause is not None and cause["supported"]:
        share = f"{percent(cause['share'])} [{percent(cause['low'], unit=False)}, {percent(cause['high'], unit=False)}]"
        parts.append(
            f"Of the misses of {found['candidate']}, {share} are for want of knowledge, as probes on dev show."
        )
    elif cause is not None:
        parts.append(f"Probes of the misses of {found['candidate']} do not show it.")
    helps = any(step["low"] > 0 for step in compared) or (not compared and cause is not None and cause["supported"])
    if helps:
        answer, then = "Yes.", "Looking answers up comes before training: training on answers teaches few facts."
    elif compared or cause is not None:
        answer, then = "Not shown.", "Looking answers up is not what this needs."
    else:
        because = found.get("abstained") or (
            "No rung that looks answers up was raced ([documents] names where), and "
            + ("no probe of the misses could show passages" if found else "no diagnosis was made")
        )
        return _answer(question, "no", "Not measured.", f"{str(because).rstrip('.')}.")
    return _answer(question, "yes" if compared else "in part", answer, " ".join(parts), then, plain(compared))


def _behaviour(facts: VerdictFacts, comparisons: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    question = "Is it a matter of format or behaviour, and is there data enough?"
    train = split_sizes(facts.findings).get("train")
    size = f"There were {count(train)} training examples. " if train is not None else ""
    curve = "Whether more of them would help was not measured: no rung was fitted on a part of them."
    if facts.forecasts:
        curve = " ".join(sentence for told in facts.forecasts for sentence in told["sentences"])
    if not comparisons:
        return _answer(
            question, "no", "Not measured.", f"Fewer than two of the rungs that would tell were raced. {size}{curve}"
        )
    graded = is_graded(facts.task)
    gains = [step for step in comparisons if step["low"] > 0]
    if gains:
        surest = max(gains, key=lambda step: step["low"])
        answer = "Examples change the behaviour."
        then = "Examples pay here, in the prompt or in training; the forecast says whether more of them would."
        gained = [percent(surest[end], unit=False) for end in ("mean", "low", "high")]
        because = (
            f"{surest['other']} starts from the same model as {surest['one']} ({surest['model']}), and on the "
            f"{count(surest['n'])} test examples that both answered it {'scored' if graded else 'was right'} "
            f"{gained[0]} [{gained[1]}, {gained[2]}] points {'higher' if graded else 'more often'}. "
        )
    else:
        answer = "Examples were not shown to change the behaviour."
        then = "More of them are no safe bet; another model or other data may be."
        because = "No comparison below is clear of zero. "
    because += f"{_form(facts)}{_unscored(facts.candidates)}{size}{curve}"
    return _answer(question, "in part", answer, because, then, plain(comparisons))


def _form(facts: VerdictFacts) -> str:
    """What is known about answers of a wrong form."""
    if facts.task.labels:
        return _off_label(facts.candidates)
    formed = [result for result in facts.candidates if "parses" in result.rates]
    if not formed:
        return "Answers were written freely, and a badly formatted one is scored like any other. "
    worst = min(formed, key=lambda result: result.rates["parses"].mean)
    rate = percent(worst.rates["parses"].mean)
    return f"The share of answers that are valid JSON is lowest for {worst.candidate.name}: {rate}. "


def _comparisons(runs: Sequence[EvalRun]) -> list[dict[str, Any]]:
    """Each step of the ladder that both its rungs were raced for, with the same model: other minus one."""
    pairs = [
        (one, other, about)
        for below, above, about in (*STEPS, *LOOKING_UP)
        for one in (run for run in runs if run.candidate.rung == below and run.rows)
        for other in (run for run in runs if run.candidate.rung == above and run.rows)
        if one.candidate.model == other.candidate.model
    ]
    alpha = COMPARISON_ALPHA / max(1, len(pairs))
    compared = ((about, paired(one, other, alpha=alpha)) for one, other, about in pairs)
    return [{"about": about, **step} for about, step in compared if step]


def _pay(facts: VerdictFacts) -> dict[str, Any]:
    question, costs = "Does it pay?", facts.costs
    if not costs:
        because = (
            "The task has no [economics] section that says how much is asked. The tokens and seconds that each rung "
            "took are below."
        )
        return _answer(question, "no", "Not measured.", because)
    because = " ".join(costs["sentences"])
    rivals = [pair for pair in costs["break_even"] if facts.chosen in (pair["of"], pair["against"])]
    if rivals:
        because += f" {rivals[0]['sentence']}."
    if not costs["counts_errors"]:
        because += " What a wrong answer costs is not stated, so accuracy is worth nothing in these figures."
    answer = f"{costs['cheapest']} costs least." if costs["cheapest"] else "Nothing that may be chosen has a cost."
    chance = costs["p_cheapest"]
    then = ""
    if costs["cheapest"] and chance is not None:
        likely = percent(chance["value"])
        then = f"{costs['cheapest']} is the cheapest of what may be chosen with a probability of {likely}."
    return _answer(question, "in part" if costs["not_counted"] else "yes", answer, because, then)


def _stay(facts: VerdictFacts) -> dict[str, Any]:
    question = "Must the data stay here?"
    demanded = facts.task.constraints.local_only
    wish = "The task says that it must (local_only)." if demanded else "The task does not say that it must."
    raced = sum(1 for result in facts.candidates if result.estimate is not None)
    if not raced:
        return _answer(question, "no", "Not measured.", f"{wish} No candidate was raced, so nothing was sent anywhere.")
    away = [run for run in facts.runs if run.remote and run.rows]
    usage = sum((run.usage for run in away), Usage())
    sent = usage.fresh_tokens + usage.cached_tokens + usage.cache_write_tokens
    if away:
        where = f"{listed([run.candidate.name for run in away])} sent the inputs to another machine."
        answer = "Not all of it did."
    else:
        where = "All candidates that were raced ran on this machine."
        answer = "Yes, and it did." if demanded else "It did."
    then = "Only a model on machines of one's own may be chosen." if demanded else ""
    return _answer(question, "yes", answer, f"{wish} {where} Input tokens that left this machine: {count(sent)}.", then)


def _figure(result: CandidateResult) -> str:
    estimate = result.estimate
    return f"{interval(plain(estimate))} after {count(estimate.n)} test examples" if estimate else "not measured"


def _bar(facts: VerdictFacts) -> str:
    return f"{facts.task.target.metric_name} of at least {level(facts.task.target.at_least)}"


def listed(names: Sequence[str]) -> str:
    """
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _off_label(candidates: Sequence[CandidateResult]) -> str:
    off = [result for result in candidates if result.off_label]
    if not off:
        return "Every answer was one of the labels: none was badly formatted. "
    told = listed([f"{count(result.off_label)} of {result.candidate.name}" for result in off])
    return f"Answers that are none of the labels, and count as wrong: {told}. "


def _unscored(candidates: Sequence[CandidateResult]) -> str:
    unscored = sum(result.unscored for result in candidates)
    return f"{count(unscored)} answers could not be scored. " if unscored else ""
