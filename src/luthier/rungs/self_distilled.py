"""Self-distilled: the student learns right answers in its own words, to have less to unlearn (arXiv 2402.13669).

One example, from input to score: the data answer "How do I reset it?" by "Hold the button for 10 s."; shown that, the
student itself writes "Hold the button for ten seconds.", which scores 0.67 against it and is kept as the target. After
training it answers "Where is the switch?" by "On the back."; the reference is "On the back side."; ROUGE-L is 0.86.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from luthier.errors import ModelError
from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import Writing, instruction, text_of
from luthier.rungs.prompted import PromptPredictor
from luthier.rungs.search import AnswerTrial, Rounds, worth
from luthier.rungs.shots import FixedShots
from luthier.rungs.tuned import Lesson, Student, TunedPredictor
from luthier.train.recipe import USUAL, Recipe
from luthier.types import Example, FitContext, Kind, Message, Prediction, Request, TaskSpec

TEXTS: tuple[Kind, ...] = ("generation",)
MOST_SHOTS = 4
KEPT_FROM = 0.5  # what a rewritten answer has to score against the one it was made of
BATCH = 64
ASK = "{input}\n\nA right answer is:\n{reference}\n\nGive this answer in your own words, and nothing else."


@dataclass(frozen=True)
class SelfDistilled:
    """`lora` on targets that the student rewrote; an answer whose rewriting lost its meaning stays as it was.

    It runs only where solved examples in the prompt help the student on dev: one that cannot use what it is shown has
    no words of its own to teach.
    """

    recipe: Recipe = USUAL

    name = "self-distilled"
    rank = 82
    roles = ("student",)
    kinds = TEXTS
    guarded = True
    replays = True
    version = "5"

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> TunedPredictor:
        """Errors: ModelError where solved examples do not help the student."""
        student = Student.of(task, context.models, self.name)
        gain, told = _gain(student, task, train, dev, context)
        if gain <= 0:
            raise ModelError(
                f"solved examples do not help the student ({told}), so that it has nothing to teach itself",
                where=self.name,
                fix="use lora, or a student that learns from its prompt",
            )
        targets = _rewritten(student, task, train, context)
        own = sum(after != before for after, before in zip(targets, train, strict=True))
        more = {
            "what solved examples add to the student": told,
            "targets in the student's words": own,
            "targets as in the data": len(train) - own,
        }
        lesson = Lesson.of(student, self.recipe, targets, dev, context)
        return lesson.learnt(task, context, more=more)


def _gain(
    student: Student, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
) -> tuple[float, str]:
    """What solved examples add to the student's mean score on some of dev, and how that is told."""
    context.working("asking whether solved examples help the student")
    order = np.random.default_rng([context.seed, 4]).permutation(len(dev))
    some = [dev[int(at)] for at in order[: Rounds.of(task).last]]
    shots = tuple((text_of(example.input), example.reference) for example in train[:MOST_SHOTS])
    plain = PromptPredictor(student.base, instruction(task), FixedShots(), (), role="student", writing=Writing.of(task))
    scores = [
        AnswerTrial(name, prompt, dev_scorer(task)).asked([example.input for example in some]).best(some).scores
        for name, prompt in (("shown", replace(plain, shots=FixedShots(shots))), ("plain", plain))
    ]
    return sum(scores[0]) - sum(scores[1]), worth(*scores)


def _rewritten(student: Student, task: TaskSpec, train: Sequence[Example], context: FitContext) -> list[Example]:
    """The examples, each with its right answer in the student's words where those still say it."""
    scorer, found = dev_scorer(task), list[Example]()
    for begin in range(0, len(train), BATCH):
        context.working("writing the answers in the student's words", begin, len(train))
        some = train[begin : begin + BATCH]
        asked = [Request(_asked(task, example), max_tokens=task.max_tokens) for example in some]
        replies = student.base.complete(asked)
        texts = [reply.texts[0].strip() if reply.texts and reply.finish_reason == "stop" else "" for reply in replies]
        scores = scorer.score(some, [Prediction(text) for text in texts])
        found += [
            replace(example, references=(text,)) if text and (score.value or 0.0) >= KEPT_FROM else example
            for example, text, score in zip(some, texts, scores, strict=True)
        ]
    return found


def _asked(task: TaskSpec, example: Example) -> tuple[Message, ...]:
    said = ASK.replace("{input}", text_of(example.input), 1).replace("{reference}", example.reference, 1)
    return Message("system", instruction(task)), Message("user", said)
