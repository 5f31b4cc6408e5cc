"""Causes: what the probes support, the leading cause first; all thresholds stand here.

One example: solved examples repair 0.44 [0.29, 0.58] of the failures, small learners 0.61, documents are none: named is
"elicitation", and its remedy is examples in the prompt.

A cause is named where its effect is at least `LEAST` of the failures and its 99 % interval lies above 0. Several can be
named: they overlap, and their shares do not add up to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from luthier import stats
from luthier.diagnose.effect import LEVEL, Change, Effect
from luthier.diagnose.examination import Examination, Probed
from luthier.rungs.base import text_of
from luthier.types import Task, whole

LEAST = 0.10  # of the failures: a smaller effect is no cause to act on
LEAST_DOUBTED = 0.25  # of the failures: learners also share honest mistakes
LEAST_SUSPECTED = 0.08  # of the labels of train and dev, by the audit: clean data shows about half of that
FEWEST_TO_LEARN = 100  # training examples: who learned nothing from fewer may not have seen enough
LEAST_LATENT = 0.15  # pass@8 above chance says that there is something, not that it can be had
YIELDS = 0.6  # a more specific cause leads where it explains so much of the largest share
HALF = 0.5  # of what the right passage repairs: a search that repairs less is at fault
SHOWN = 3  # examples of a cause
LONGEST = 400  # characters of an example

# the more specific first: a repair by a more specific one also shows in those behind it
ORDER = ("format", "references", "retriever", "knowledge", "instruction", "elicitation", "unstable", "capacity")
TITLES: Mapping[str, str] = {
    "format": "Right in substance, wrong in form",
    "knowledge": "It does not know the facts",
    "retriever": "The right passage is not found",
    "instruction": "The instruction is misread",
    "elicitation": "It can, but the prompt does not bring it out",
    "unstable": "It is right now and then",
    "references": "The right answers in the data are doubtful",
    "capacity": "The model is too small for the task",
}
REMEDIES: Mapping[str, str] = {
    "format": "Say the form in the prompt or hold decoding to it; fine-tuning teaches it for good.",
    "knowledge": "Give it the documents: retrieval before the input.",
    "retriever": "Better retrieval: other passage sizes, a reranker, better documents.",
    "instruction": "Reword the instruction, and say what labels or answers mean by examples of the data.",
    "elicitation": "Solved examples in the prompt, then fine-tuning.",
    "unstable": "Several answers and a vote, or preference tuning.",
    "references": "Relabel: luthier audit --review writes the rows to read.",
    "capacity": "A larger base model; if that one fails too, the answers may not follow from the inputs at all.",
}
LEARNABLE = "No prompt that was tried brings it out, and small learners show that it can be learned: fine-tuning."
RUNGS: Mapping[str, tuple[str, ...]] = {
    "format": ("instructed", "few-shot", "lora"),
    "knowledge": ("rag", "rag-shots", "rag-lora"),
    "retriever": ("rag", "rag-shots"),
    "instruction": ("instructed",),
    "elicitation": ("few-shot", "many-shot", "retrieved-shots", "lora"),
    "unstable": ("reasoned", "dpo"),
    "references": (),
    "capacity": (),
}


@dataclass(frozen=True)
class Cause:
    """One cause with its share of the failures, and whether the evidence supports it."""

    name: str
    effect: Effect
    supported: bool
    evidence: tuple[str, ...]
    remedy: str
    rungs: tuple[str, ...]
    gain: Change | None = None
    examples: tuple[Mapping[str, str], ...] = field(default=())

    @property
    def plain(self) -> dict[str, Any]:
        return {
            "cause": self.name,
            "title": TITLES[self.name],
            "share": round(self.effect.effect, 4),
            "low": round(self.effect.low, 4),
            "high": round(self.effect.high, 4),
            "supported": self.supported,
            "evidence": list(self.evidence),
            "remedy": self.remedy,
            "rungs": list(self.rungs),
            "gain": None if self.gain is None else self.gain.plain,
            "examples": [dict(example) for example in self.examples],
        }


def causes(found: Examination, task: Task) -> list[Cause]:
    """All causes that were looked for, those that the evidence supports first, the leading one at their head."""
    seen = [
        _of(found, task, "format", found.best("format"), LEAST),
        _references(found, task),
        *_context(found, task),
        _of(found, task, "instruction", found.best("instruction"), LEAST),
        _elicitation(found, task),
        _unstable(found, task),
        _of(found, task, "capacity", found.best("capacity"), LEAST),
    ]
    known = [cause for cause in seen if cause is not None]
    known = in_order([cause for cause in known if cause.supported]) + sorted(
        (cause for cause in known if not cause.supported), key=lambda cause: -cause.effect.effect
    )
    if not any(cause.supported for cause in known) and (by_elimination := nothing_helps(found, task)):
        known = [by_elimination, *(cause for cause in known if cause.name != "capacity")]
    return known


def in_order(named: Sequence[Cause]) -> list[Cause]:
    """The leading cause, then the others by share: it leads if it explains `YIELDS` of the largest share."""
    if not named:
        return []
    largest = max(_weight(cause) for cause in named)
    first = min(
        (cause for cause in named if _weight(cause) >= YIELDS * largest), key=lambda each: ORDER.index(each.name)
    )
    return [first, *sorted((cause for cause in named if cause is not first), key=lambda cause: -_weight(cause))]


def _weight(cause: Cause) -> float:
    """What counts beside other causes: that something can be learned does not say that a prompt cannot bring it out."""
    return 0.0 if cause.remedy == LEARNABLE else cause.effect.effect


def supported(effect: Effect, least: float) -> bool:
    return effect.effect >= least and effect.low > 0.0


def _of(found: Examination, task: Task, name: str, probed: Probed | None, least: float) -> Cause | None:
    if probed is None:
        return None
    same = [each for each in found.of(probed.family) if each.effect.effect >= LEAST] or [probed]
    return Cause(
        name=name,
        effect=probed.effect,
        supported=supported(probed.effect, least),
        evidence=tuple(sentence(each) for each in sorted(same, key=lambda each: -each.effect.effect)[:SHOWN]),
        remedy=REMEDIES[name],
        rungs=_rungs(task, RUNGS[name]),
        gain=found.resampling.change(probed.scores, probed.asked) if probed.answers else None,
        examples=shown(found, probed),
    )


def sentence(probed: Probed) -> str:
    """One probe's result in words, with its figures."""
    effect = probed.effect
    return (
        f"{probed.title[0].upper()}{probed.title[1:]}: {effect.repaired:.0%} of {probed.failures} failures come out "
        f"right, {effect.noop:.0%} would by chance, harm to passing answers {effect.harmed:.0%}: "
        f"{effect.effect:+.0%} [{effect.low:+.0%}, {effect.high:+.0%}]."
    )


def _references(found: Examination, task: Task) -> Cause | None:
    """Doubt of the model and the learners counts where the audit, which asks neither, suspects labels as well."""
    cause = _of(found, task, "references", found.best("references"), LEAST_DOUBTED)
    share = None if found.learned is None else found.learned.suspected
    if cause is None or share is None:
        return cause
    told = f"The audit suspects {share:.0%} of the labels of train and dev."
    return replace(
        cause, supported=cause.supported and share >= LEAST_SUSPECTED, evidence=(*cause.evidence, told), gain=None
    )


def _context(found: Examination, task: Task) -> list[Cause | None]:
    oracle, retrieved = found.named("oracle-context"), found.named("retrieved-context")
    best = oracle or retrieved
    if best is None:
        return []
    if best.family == "retriever" and best is oracle:  # the candidate looks passages up: what it lacks, it missed
        return [_of(found, task, "retriever", oracle, LEAST)]
    knowledge = _of(found, task, "knowledge", best, LEAST)
    if oracle is None or retrieved is None:
        return [knowledge]
    missed = found.resampling.effect(oracle.right, retrieved.right, oracle.asked & retrieved.asked)
    at_fault = supported(missed, LEAST) and retrieved.effect.effect < HALF * oracle.effect.effect
    retriever = Cause(
        "retriever",
        missed,
        at_fault and supported(oracle.effect, LEAST),
        (sentence(oracle), sentence(retrieved)),
        REMEDIES["retriever"],
        _rungs(task, RUNGS["retriever"]),
        examples=shown(found, oracle),
    )
    return [retriever, knowledge]


def _elicitation(found: Examination, task: Task) -> Cause | None:
    by_prompt = _of(found, task, "elicitation", found.best("elicitation"), LEAST)
    learned = _of(found, task, "elicitation", found.best("learnable"), LEAST)
    if learned is None or not learned.supported:
        return by_prompt
    if by_prompt is not None and by_prompt.supported:
        return replace(by_prompt, evidence=(*by_prompt.evidence, *learned.evidence[:1]))
    rungs = _rungs(task, ("tfidf", "embedding", "lora", "full"))
    return Cause(
        "elicitation", learned.effect, True, learned.evidence, LEARNABLE, rungs, learned.gain, learned.examples
    )


def _unstable(found: Examination, task: Task) -> Cause | None:
    majority, any_of = found.named("majority"), found.named("pass-at-8")
    if majority is not None and supported(majority.effect, LEAST):
        return _of(found, task, "unstable", majority, LEAST)
    return _of(found, task, "unstable", any_of, LEAST_LATENT)


def nothing_helps(found: Examination, task: Task) -> Cause | None:
    """Capacity by elimination: all was asked, nothing repairs, and under nothing could the score reach the target.

    Where labels are chosen, a model that guesses looks the same as one that is too small: then learners that saw
    `FEWEST_TO_LEARN` training examples have to fail as well. Nobody can tell a task that is beyond these models from
    one that nobody can do; the remedy says so.
    """
    if not {"instruction", "elicitation"} <= {probed.family for probed in found.probed}:
        return None
    answers = [probed for probed in found.probed if probed.answers and probed.family != "no-op"]
    target, learned = task.spec.target.at_least, found.learned
    reach = max(found.resampling.score(probed.scores, probed.asked).high for probed in answers)
    evidence = [
        f"{len(answers)} interventions were tried: under the best of them the score may be {reach:.2f} at most."
    ]
    enough = not task.spec.labels or (learned is not None and learned.trained_on >= FEWEST_TO_LEARN)
    if learned is not None:
        told = " and ".join(f"{name} {share:.0%}" for name, share in learned.fit.items())
        evidence.append(
            f"Of the {learned.trained_on} training examples themselves, learners get right: {told}; of the dev "
            "examples, no more than above."
        )
    return Cause(
        "capacity", _not_repaired(found, answers), enough and reach < target, tuple(evidence), REMEDIES["capacity"], ()
    )


def _not_repaired(found: Examination, answers: Sequence[Probed]) -> Effect:
    """The share of failures that are right under no intervention at all."""
    fails = found.sample.failing
    never = ~np.any([probed.right[fails] > 0 for probed in answers], axis=0)
    low, high = stats.wilson(int(never.sum()), int(fails.sum()), LEVEL)
    return Effect(0.0, 0.0, 0.0, float(never.mean()), low, high)


def _rungs(task: Task, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in task.spec.rungs)


def shown(found: Examination, probed: Probed) -> tuple[Mapping[str, str], ...]:
    """Up to three failures that are right under the probe, and never under its control where there are such."""
    repaired = np.flatnonzero(found.sample.failing & probed.asked & (probed.right > 0))
    best = sorted(repaired, key=lambda at: (probed.control[at], at))[:SHOWN]
    return tuple(
        {
            "id": found.sample.examples[at].id,
            "input": _short(text_of(found.sample.examples[at].input)),
            "reference": _short(found.sample.examples[at].reference),
            "answer": _short(found.sample.base.texts[at]),
            "repaired": _short(probed.texts[at]),
        }
        for at in best
    )


def _short(text: str) -> str:
    text = whole(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
