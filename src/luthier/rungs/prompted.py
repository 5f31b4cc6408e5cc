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
    ask_choices,
    conversation,
    framed,
    prediction,
    read_predictor,
    rewordings,
    same_model,
    text_of,
    write_predictor,
)
from luthier.rungs.search import Reading, is_right
from luthier.rungs.shots import Shots, load_shots
from luthier.types import Example, Input, Message, Model, Prediction, Reply, Usage

# Zhao et al. 2021, section 5: content-free inputs, whose label probabilities show the prompt's own bias.
CONTENT_FREE = ("N/A", "", "[MASK]")


@dataclass(frozen=True)
class PromptPredictor:
    """Scores every label after a prompt; the best one is the answer.

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

    kind = "prompt"

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        return [self.answer(reply) for reply in self.ask(inputs)]

    def ask(self, inputs: Sequence[Input]) -> list[Reply]:
        return ask_choices(self.model, self.prompts(inputs), self.labels)

    def prompts(self, inputs: Sequence[Input]) -> list[tuple[Message, ...]]:
        """The whole conversation for each input, up to where the model answers."""
        texts = [text_of(value) for value in inputs]
        return [
            conversation(
                self.system, [(framed(self.frame, shot), answer) for shot, answer in some], framed(self.frame, text)
            )
            for some, text in zip(self.shots.of(texts), texts, strict=True)
        ]

    def answer(self, reply: Reply) -> Prediction:
        """A reply to this prompt as a prediction: the best label, against the prior where there is one."""
        if self.prior is None or reply.error is not None:
            return prediction(reply)
        best = self.labels[calibrated_best(_logprobs(reply), self.prior)]
        return prediction(replace(reply, texts=(best,)))

    def reworded(self) -> Sequence[PromptPredictor]:
        """The same prompt in other words that mean the same."""
        return [replace(self, system=system) for system in rewordings(self.system)]

    def with_prior(self, replies: Sequence[Reply]) -> PromptPredictor:
        """The same prompt, calibrated by what it said to inputs whose labels are not looked at.

        The prior of a label is its mean probability among the labels, over content-free inputs (contextual calibration,
        Zhao et al. 2021, eq. 3 and 4) or over real ones (batch calibration, Zhou et al. 2024, eq. 3). Replies with an
        error are left out; without any other the prompt stays as it is.
        """
        logprobs = [_logprobs(reply) for reply in replies if reply.error is None]
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
    """A prompt on trial: read as it is, or calibrated by its own replies (labels unseen), whichever dev prefers."""

    name: str
    prompt: PromptPredictor
    replies: tuple[Reply, ...] = ()

    @property
    def usage(self) -> Usage:
        return sum((reply.usage for reply in self.replies), Usage())

    def asked(self, inputs: Sequence[Input]) -> PromptTrial:
        return replace(self, replies=(*self.replies, *self.prompt.ask(inputs)))

    def best(self, examples: Sequence[Example]) -> Reading:
        ways = (self.prompt, self.prompt.with_prior(self.replies))
        readings = [Reading(way, right(way, examples, self.replies)) for way in ways]
        return max(readings, key=lambda reading: reading.count)  # ties: as it is


def right(predictor: PromptPredictor, examples: Sequence[Example], replies: Sequence[Reply]) -> tuple[bool, ...]:
    """Which of these replies to the examples the predictor reads rightly: a prior needs no new replies."""
    pairs = zip(examples, replies, strict=False)
    return tuple(is_right(example, predictor.answer(reply)) for example, reply in pairs)


def calibrated_best(logprobs: Sequence[float], prior: Sequence[float]) -> int:
    """The index of the label whose probability rises most above its prior.

    >>> calibrated_best([-1.0, -1.2], [math.log(0.9), math.log(0.1)])
    1
    """
    return int(np.argmax(np.asarray(logprobs) - np.asarray(prior)))


def _logprobs(reply: Reply) -> tuple[float, ...]:
    if reply.choice_logprobs is None:
        raise ModelError("the model gives no label probabilities", fix="use a model that scores choices")
    return reply.choice_logprobs
