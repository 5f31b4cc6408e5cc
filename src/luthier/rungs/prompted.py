"""A prompted model as a predictor: one fixed prompt, all labels scored exactly, perhaps against a prior."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp

from luthier.errors import ModelError
from luthier.rungs.base import ask_choices, conversation, prediction, read_predictor, same_model, write_predictor
from luthier.types import Example, Input, Model, Prediction, Reply

# Zhao et al. 2021, section 5: content-free inputs, whose label probabilities show the prompt's own bias.
CONTENT_FREE = ("N/A", "", "[MASK]")


@dataclass(frozen=True)
class PromptPredictor:
    """Scores every label after one fixed prompt; the best one is the answer (or what a model says that scores none).

    `prior` holds a log-probability a label that is subtracted before labels are compared (contextual calibration);
    None compares the plain log-probabilities.
    """

    model: Model
    system: str
    shots: tuple[tuple[str, str], ...]
    labels: tuple[str, ...]
    prior: tuple[float, ...] | None = None
    role: str = "prompted"

    kind = "prompt"

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        return [self.answer(reply) for reply in self.ask(inputs)]

    def ask(self, inputs: Sequence[Input]) -> list[Reply]:
        prompts = [conversation(self.system, self.shots, value) for value in inputs]
        return ask_choices(self.model, prompts, self.labels)

    def answer(self, reply: Reply) -> Prediction:
        """A reply to this prompt as a prediction: the best label, against the prior where there is one."""
        if self.prior is None or reply.error is not None:
            return prediction(reply)
        best = self.labels[calibrated_best(_logprobs(reply), self.prior)]
        return prediction(replace(reply, texts=(best,)))

    def with_prior(self, replies: Sequence[Reply]) -> PromptPredictor:
        """The same prompt, calibrated by what it said to inputs whose labels are not looked at.

        The prior of a label is its mean probability among the labels, over content-free inputs (contextual calibration,
        Zhao et al. 2021, eq. 3 and 4) or over real ones (batch calibration, Zhou et al. 2024, eq. 3). Replies with an
        error, or of a model that tells texts only, are left out; without any other the prompt stays as it is.
        """
        logprobs = [reply.choice_logprobs for reply in replies if reply.choice_logprobs is not None]
        if not logprobs:
            return self
        prior = logsumexp(log_softmax(logprobs, axis=1), axis=0) - math.log(len(logprobs))
        return replace(self, prior=tuple(float(value) for value in prior))

    def save(self, folder: Path) -> None:
        content = {
            "model": self.model.fingerprint,
            "role": self.role,
            "system": self.system,
            "shots": self.shots,
            "labels": self.labels,
            "prior": self.prior,
        }
        write_predictor(folder, self.kind, content)

    @classmethod
    def load(cls, folder: Path, models: Mapping[str, Any]) -> PromptPredictor:
        content = read_predictor(folder)
        prior = content["prior"]
        return cls(
            model=same_model(models, content["role"], content["model"], folder),
            system=content["system"],
            shots=tuple((text, label) for text, label in content["shots"]),
            labels=tuple(content["labels"]),
            prior=None if prior is None else tuple(prior),
            role=content["role"],
        )

    def describe(self) -> Mapping[str, Any]:
        told: dict[str, Any] = {"prompt": self.system, "examples in the prompt": len(self.shots)}
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


def right(predictor: PromptPredictor, examples: Sequence[Example], replies: Sequence[Reply]) -> int:
    """How many of these replies to the examples the predictor reads rightly: a prior needs no new replies."""
    answers = [predictor.answer(reply).output for reply in replies]
    return sum(answer in example.references for answer, example in zip(answers, examples, strict=True))


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
    if reply.choice_logprobs is None:
        raise ModelError("the model tells no label probabilities", fix="use a model that scores choices")
    return reply.choice_logprobs
