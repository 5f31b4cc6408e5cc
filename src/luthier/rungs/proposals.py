"""Proposals: instructions that a strong model writes and improves by reflecting on mistakes (GEPA, arXiv 2507.19457).

From the instruction as written, training examples and what the prompted model got wrong, the teacher proposes a better
instruction; proposals that do better on further training examples survive. Dev and test are never seen here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from luthier.errors import MissingExtra, ModelError
from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import text_of
from luthier.rungs.prompted import PromptPredictor
from luthier.types import Example, FitContext, Message, Model, Prediction, Request, Score, Scorer, TaskSpec

LEARN = 32  # training examples that mistakes are drawn from
CHECK = 32  # further ones that proposals must do better on
CALLS = 256  # answers of the prompted model in all
MOST_PROPOSALS = 2
LONGEST_PROPOSAL = 1024  # tokens


def propose(
    task: TaskSpec, plain: PromptPredictor, teacher: Model, train: Sequence[Example], context: FitContext
) -> dict[str, str]:
    """Up to two instructions by name, the best on held-out training examples first; none where none is better.

    Errors: MissingExtra without the library; ModelError where the teacher fails.
    """
    try:
        from gepa.api import optimize
    except ImportError as error:
        raise MissingExtra("reflect", "instructions proposed by a teacher") from error
    order = np.random.default_rng(context.seed).permutation(len(train))
    some = [train[at] for at in order[: LEARN + CHECK]]
    learn, check = some[: len(some) // 2], some[len(some) // 2 :]
    found: Any = optimize(
        seed_candidate={"instruction": plain.system},
        trainset=learn,
        valset=check,
        adapter=_Adapter(plain, dev_scorer(task), context),
        reflection_lm=_Teacher(teacher),
        max_metric_calls=CALLS,
        seed=context.seed,
        logger=_Silent(),
    )
    ranked = sorted(zip(found.val_aggregate_scores, found.candidates, strict=True), key=lambda pair: -pair[0])
    floor = found.val_aggregate_scores[0]  # the first candidate is the instruction as written
    texts = dict.fromkeys(each["instruction"] for score, each in ranked if score > floor)
    return {f"proposed by {teacher.name} ({at + 1})": text for at, text in enumerate(list(texts)[:MOST_PROPOSALS])}


@dataclass(frozen=True)
class _Teacher:
    """The strong model as the library calls it: a prompt in, a text out."""

    model: Model

    def __call__(self, prompt: str | list[dict[str, Any]]) -> str:
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        messages = tuple(Message(turn["role"], str(turn["content"])) for turn in turns)
        (reply,) = self.model.complete([Request(messages, max_tokens=LONGEST_PROPOSAL)])
        if reply.error is not None:
            raise ModelError(
                f"the teacher gave no proposal: {reply.error}",
                where=self.model.name,
                fix="check [models] teacher, or leave it out",
            )
        return reply.texts[0]


@dataclass(frozen=True)
class _Adapter:
    """What the library asks of us: evaluate an instruction on examples, and tell what went wrong with it."""

    plain: PromptPredictor
    scorer: Scorer
    context: FitContext
    propose_new_texts: None = None

    def evaluate(self, batch: list[Example], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        from gepa.core.adapter import EvaluationBatch

        self.context.working("trying proposed instructions on training examples")
        answers = replace(self.plain, system=candidate["instruction"]).predict([example.input for example in batch])
        found = self.scorer.score(batch, answers)
        traces = list(zip(batch, answers, found, strict=True)) if capture_traces else None
        return EvaluationBatch(answers, [score.value or 0.0 for score in found], traces)

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        records = [_record(*trace) for trace in eval_batch.trajectories]
        return dict.fromkeys(components_to_update, records)


def _record(example: Example, answer: Prediction, score: Score) -> Mapping[str, Any]:
    said = answer.output if answer.output is not None else f"no answer ({answer.error})"
    feedback = score.reason if score.value == 1 else f"{score.reason}. The right answer is {example.reference}"
    return {"Inputs": {"text": text_of(example.input)}, "Generated Outputs": said, "Feedback": feedback}


class _Silent:
    def log(self, message: str) -> None:
        """The library's log would go to stdout, which is for answers."""
