"""A prompted model as a predictor: one fixed prompt, all labels scored exactly, perhaps against a prior."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp

from luthier.errors import ModelError
from luthier.rungs.base import ask_choices, conversation, prediction, read_predictor, same_model, write_predictor
from luthier.types import Input, Model, Prediction, Reply

# Zhao et al. 2021, section 5: content-free inputs, whose label probabilities show the prompt's own bias.
CONTENT_FREE = ("N/A", "", "[MASK]")


@dataclass(frozen=True)
class PromptPredictor:
    """Scores every label after one fixed prompt; the best one is the answer.

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

    def with_prior(self) -> PromptPredictor:
        """The same prompt, calibrated by what it says about content-free inputs (Zhao et al. 2021, eq. 3 and 4)."""
        replies = self.ask(CONTENT_FREE)
        for reply in replies:
            if reply.error is not None:
                raise ModelError(
                    f"a content-free prompt failed: {reply.error}", where=self.model.name, fix="shorten it"
                )
        normalised = log_softmax([_logprobs(reply) for reply in replies], axis=1)
        prior = logsumexp(normalised, axis=0) - math.log(len(replies))
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
