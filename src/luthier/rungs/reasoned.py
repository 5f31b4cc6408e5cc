"""Reasoned: the model thinks in words before it answers; once, or several times with a vote.

One example, from input to score: asked about "What is the tallest mountain ?" the model writes "The answer is the name
of a mountain, which is a place." and then scores each label: LOC. The reference is "LOC"; the score is 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import LABELLED, ask, instruction, prediction, read_predictor, role_model, write_predictor
from luthier.rungs.prompted import Chosen, PromptPredictor
from luthier.rungs.search import AnswerTrial, halve
from luthier.rungs.shots import FixedShots
from luthier.types import Example, FitContext, Input, Message, Prediction, Reply, Request, TaskSpec

THOUGHT_TOKENS = 64
VOTES = 5
VOTING_TEMPERATURE = 0.7  # Wang et al. 2023, section 3
THINK = "Think step by step about which label fits. Write at most two sentences, then a line that says: Answer: LABEL"
CONCLUDE = "So which label is it? Answer with the label alone."


@dataclass(frozen=True)
class ReasonedPredictor:
    """A prompt whose answers follow a chain of thought (Wei et al. 2022).

    `constrained`: after the thought, every label is scored and the best one is the answer; else the label is read from
    the line "Answer: LABEL", and where there is none the prediction is what was written: wrong, and seen to be so.
    With `votes` above 1, that many thoughts are drawn and the most frequent answer wins (self-consistency, Wang et al.
    2023); a tie goes to the answer that came first.
    """

    prompt: PromptPredictor
    constrained: bool
    votes: int = 1
    seed: int = 0

    kind = "reasoned"

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        asked = [_thinking(messages) for messages in self.prompt.prompts(inputs)]
        temperature = VOTING_TEMPERATURE if self.votes > 1 else 0.0
        thoughts = self.prompt.model.complete(
            [
                Request(messages, max_tokens=THOUGHT_TOKENS, temperature=temperature, seed=self.seed, n=self.votes)
                for messages in asked
            ]
        )
        said = self._concluded(asked, thoughts) if self.constrained else [self._read(reply) for reply in thoughts]
        return [_voted(reply, answers) for reply, answers in zip(thoughts, said, strict=True)]

    def _concluded(self, asked: Sequence[tuple[Message, ...]], thoughts: Sequence[Reply]) -> list[list[Prediction]]:
        """For each input the answers that follow from its thoughts, each label scored."""
        places = [(at, text) for at, reply in enumerate(thoughts) for text in reply.texts]
        prompts = [(*asked[at], Message("assistant", text), Message("user", CONCLUDE)) for at, text in places]
        answers: list[list[Prediction]] = [[] for _ in thoughts]
        replies = ask(self.prompt.model, prompts, self.prompt.labels, None, scores="best")
        for (at, _), reply in zip(places, replies, strict=True):
            answers[at].append(prediction(reply))
        return answers

    def _read(self, thought: Reply) -> list[Prediction]:
        return [Prediction(answer_in(text, self.prompt.labels)) for text in thought.texts]

    def save(self, folder: Path) -> None:
        self.prompt.save(folder / "prompt")
        content = {"constrained": self.constrained, "votes": self.votes, "seed": self.seed}
        write_predictor(folder, self.kind, content)

    @classmethod
    def load(cls, folder: Path, models: Mapping[str, Any]) -> ReasonedPredictor:
        content = read_predictor(folder)
        prompt = PromptPredictor.load(folder / "prompt", models)
        return cls(prompt, content["constrained"], content["votes"], content["seed"])

    def describe(self) -> Mapping[str, Any]:
        return {
            **self.prompt.describe(),
            "thoughts an answer": self.votes,
            "answer": "every label scored after the thought" if self.constrained else "read from the text",
        }


@dataclass(frozen=True)
class Reasoned:
    """Chain of thought, once or with a vote, its answer constrained or read from the text, whichever dev prefers."""

    name = "reasoned"
    rank = 65
    roles = ("prompted",)
    kinds = LABELLED
    guarded = False
    version = "1"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        model = role_model(context.models, "prompted", self.name)
        prompt = PromptPredictor(model, instruction(task), FixedShots(), task.label_names)
        trials = [
            AnswerTrial(name, ReasonedPredictor(prompt, constrained, votes, context.seed), dev_scorer(task))
            for name, constrained, votes in (
                ("one thought, labels scored", True, 1),
                ("one thought, answer read from the text", False, 1),
                (f"{VOTES} thoughts and a vote, labels scored", True, VOTES),
            )
        ]
        found = halve(trials, dev, task, context, what="ways to think")
        return Chosen(found.reading.predictor, {"thinking": found.winner.name, **found.describe()})


def _thinking(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt with the demand to think at the end of the user's turn, where it outweighs the one to be brief."""
    last = messages[-1]
    return (*messages[:-1], replace(last, content=f"{last.content}\n\n{THINK}"))


def answer_in(text: str, labels: Sequence[str]) -> str:
    """The label after the last "Answer:", letter case aside; without one, the text as it is.

    >>> answer_in("A mountain is a place.\\nAnswer: loc.", ["LOC", "NUM"])
    'LOC'
    >>> answer_in("It is a place", ["LOC", "NUM"])
    'It is a place'
    """
    found = re.findall(r"answer:\s*(.*)", text, flags=re.IGNORECASE)
    said = found[-1].strip().strip(".*\"'` ").casefold() if found else ""
    return next((label for label in labels if label.casefold() == said), text.strip())


def _voted(thought: Reply, answers: Sequence[Prediction]) -> Prediction:
    """The most frequent answer, at the cost of all; without any answer, the first error."""
    usage = sum((answer.usage for answer in answers), thought.usage)
    latency = thought.latency_s + sum(answer.latency_s for answer in answers)
    given = [answer.output for answer in answers if answer.output is not None]
    if thought.error is not None or not given:
        errors = [thought.error, *(answer.error for answer in answers)]
        return Prediction(None, usage, latency, next((error for error in errors if error), "no answer was given"))
    return Prediction(Counter(given).most_common(1)[0][0], usage, latency)
