"""A prompted model as a predictor: a prompt with its solved examples, all labels scored, perhaps against a prior."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp

from luthier.errors import ModelError
from luthier.rungs.base import (
    PLAIN_FRAME,
    Writing,
    ask,
    conversation,
    drawn_twice,
    framed,
    prediction,
    read_predictor,
    rewordings,
    same_model,
    text_of,
    write_predictor,
    written,
)
from luthier.rungs.search import Reading, scores
from luthier.rungs.shots import Shot, Shots, load_shots
from luthier.types import Example, Input, Message, Model, Prediction, Reply, Scorer, Usage

# Zhao et al. 2021, section 5: content-free inputs, whose label probabilities show the prompt's own bias.
CONTENT_FREE = ("N/A", "", "[MASK]")


@dataclass(frozen=True)
class PromptPredictor:
    """Scores every label after a prompt; the best one is the answer (or what a model says that scores none).

    With `writing` an answer is written.

    `shots` gives the solved examples of each input; `frame` is what the user's turn says, with `{input}` where the
    input goes. `prior` holds a log-probability a label that is subtracted before labels are compared (contextual
    calibration); None compares the plain log-probabilities.
    """

    model: Model
    system: str
    shots: Shots
    labels: tuple[str, ...]
    prior: tuple[float, ...] | None = None
    frame: str = PLAIN_FRAME
    role: str = "prompted"
    writing: Writing | None = None

    kind = "prompt"

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """The best label of each input; a model may leave out the scores that cannot change it."""
        replies = ask(self.model, self.prompts(inputs), self.labels, self.writing, scores="best", prior=self.prior)
        return [self._said(reply) for reply in replies]

    def ask(self, inputs: Sequence[Input]) -> list[Reply]:
        """All labels scored for each input, as calibrating and choosing between prompts need it, or answers written."""
        return ask(self.model, self.prompts(inputs), self.labels, self.writing)

    def draw(self, inputs: Sequence[Input]) -> list[Reply]:
        """Two answers to each input at temperature 1."""
        return drawn_twice(self.model, self.prompts(inputs), self.labels, self.writing)

    def prompts(self, inputs: Sequence[Input]) -> list[tuple[Message, ...]]:
        """The whole conversation for each input, up to where the model answers."""
        found = self.shots.of([text_of(value) for value in inputs])
        return [
            conversation(self.system, self._solved(shots), framed(self.frame, value), self.writing)
            for shots, value in zip(found, inputs, strict=True)
        ]

    def _solved(self, shots: Sequence[Shot]) -> list[Shot]:
        return [(text_of(framed(self.frame, text)), answer) for text, answer in shots]

    def answer(self, reply: Reply) -> Prediction:
        """A reply to this prompt as a prediction: the best label, against the prior where there is one."""
        if self.prior is None or reply.error is not None:
            return self._said(reply)
        best = self.labels[calibrated_best(_logprobs(reply), self.prior)]
        return prediction(replace(reply, texts=(best,)))

    def _said(self, reply: Reply) -> Prediction:
        """A label that was written freely may stand on a line of its own."""
        found = prediction(reply)
        free = self.labels and self.writing is not None and found.output is not None
        return replace(found, output=found.output.strip()) if free and found.output else found

    def reworded(self) -> Sequence[PromptPredictor]:
        """The same prompt in other words that mean the same."""
        return [replace(self, system=system) for system in rewordings(self.system)]

    def with_prior(self, replies: Sequence[Reply]) -> PromptPredictor:
        """The same prompt, calibrated by what it said to inputs whose labels are not looked at.

        The prior of a label is its mean probability among the labels, over content-free inputs (contextual calibration,
        Zhao et al. 2021, eq. 3 and 4) or over real ones (batch calibration, Zhou et al. 2024, eq. 3). Replies with an
        error, or of a model that tells texts only, are left out; without any other the prompt stays as it is.
        """
        logprobs = [_logprobs(reply) for reply in replies if reply.choice_logprobs is not None]
        if not logprobs:
            return self
        prior = logsumexp(log_softmax(logprobs, axis=1), axis=0) - math.log(len(logprobs))
        return replace(self, prior=tuple(float(value) for value in prior))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "model": self.model.fingerprint,
            "role": self.role,
            "system": self.system,
            "frame": self.frame,
            "labels": self.labels,
            "prior": self.prior,
            "examples": self.shots.save(folder),
            **written(self.writing),
        }
        write_predictor(folder, self.kind, content)

    @classmethod
    def load(cls, folder: Path, models: Mapping[str, Any]) -> PromptPredictor:
        content = read_predictor(folder)
        prior = content["prior"]
        return cls(
            model=same_model(models, content["role"], content["model"], folder),
            system=content["system"],
            shots=load_shots(content["examples"], folder, models),
            labels=tuple(content["labels"]),
            prior=None if prior is None else tuple(prior),
            frame=content["frame"],
            role=content["role"],
            writing=Writing.saved(content),
        )

    def describe(self) -> Mapping[str, Any]:
        told: dict[str, Any] = {"prompt": self.system, **self.shots.describe()}
        if self.frame != PLAIN_FRAME:
            told["the user's turn"] = self.frame
        if self.prior is not None:
            told["prior"] = {label: round(math.exp(p), 4) for label, p in zip(self.labels, self.prior, strict=True)}
        return told


@dataclass(frozen=True)
class Chosen:
    """A prompt that won on dev, and what the choice was made on; saved and loaded, it is the prompt alone."""

    prompt: PromptPredictor
    choice: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        return self.prompt.predict(inputs)

    def save(self, folder: Path) -> None:
        self.prompt.save(folder)

    def describe(self) -> Mapping[str, Any]:
        return {**self.prompt.describe(), **self.choice}


@dataclass(frozen=True)
class PromptTrial:
    """A prompt on trial: read as it is or, where labels are scored, calibrated by its own replies (labels unseen)."""

    name: str
    prompt: PromptPredictor
    scorer: Scorer
    replies: tuple[Reply, ...] = ()

    @property
    def usage(self) -> Usage:
        return sum((reply.usage for reply in self.replies), Usage())

    def asked(self, inputs: Sequence[Input]) -> PromptTrial:
        return replace(self, replies=(*self.replies, *self.prompt.ask(inputs)))

    def best(self, examples: Sequence[Example]) -> Reading:
        ways = [self.prompt]
        if self.prompt.writing is None and any(reply.choice_logprobs is not None for reply in self.replies):
            ways.append(self.prompt.with_prior(self.replies))
        # ties: as it is
        return max((self.read(way, examples) for way in ways), key=lambda reading: reading.total)

    def read(self, way: PromptPredictor, examples: Sequence[Example]) -> Reading:
        answers = [way.answer(reply) for reply in self.replies]
        return Reading(way, scores(self.scorer, examples, answers))


def calibrated_best(logprobs: Sequence[float], prior: Sequence[float]) -> int:
    """The index of the label whose probability rises most above its prior.

    >>> calibrated_best([-1.0, -1.2], [math.log(0.9), math.log(0.1)])
    1
    """
    return int(np.argmax(np.asarray(logprobs) - np.asarray(prior)))


def check_logprobs(model: Model, needed_by: str) -> None:
    """Raise ModelError where a model is known to tell no label probabilities, before anything is asked of it."""
    if not getattr(model, "gives_logprobs", True):
        raise ModelError(
            f"{needed_by} needs the probability of each label, and {model.name} tells only its answer",
            fix="use a local model, which scores every label, or leave the rung out",
        )


def _logprobs(reply: Reply) -> tuple[float, ...]:
    found = tuple(logprob for logprob in reply.choice_logprobs or () if logprob is not None)
    if reply.choice_logprobs is None or len(found) < len(reply.choice_logprobs):
        raise ModelError("the model tells no label probabilities", fix="use a model that scores choices")
    return found
