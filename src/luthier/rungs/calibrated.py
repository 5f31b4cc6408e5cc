"""Calibrated: zero-shot, with the prompt's own preference among the labels taken away.

One example, from input to score: asked about anything at all, the prompt prefers DESC with a probability of 0.9, so
DESC must be that much likelier than usual to win. "Who was Galileo ?" raises HUM most; the reference is "HUM"; the
score is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import LABELLED
from luthier.rungs.prompted import CONTENT_FREE, Chosen, PromptPredictor, PromptTrial, check_logprobs
from luthier.rungs.zero_shot import ZeroShot
from luthier.types import Example, FitContext, TaskSpec

PRIOR_INPUTS = 64  # training inputs whose answers make the batch prior; their labels are not looked at
DEV_EXAMPLES = 64


@dataclass(frozen=True)
class Calibrated:
    """The zero-shot prompt with a prior from content-free inputs or from training inputs, whichever dev prefers."""

    name = "calibrated"
    rank = 45
    roles = ("prompted",)
    kinds = LABELLED
    guarded = False
    version = "2"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        """Errors: ModelError where the model tells no label probabilities."""
        plain = ZeroShot().fit(task, train, dev, context)
        check_logprobs(plain.model, self.name)
        rng = np.random.default_rng(context.seed)
        some = [train[at].input for at in rng.permutation(len(train))[:PRIOR_INPUTS]]
        sources: Mapping[str, Sequence[Any]] = {"content-free inputs": CONTENT_FREE, "training inputs": some}
        contenders: dict[str, PromptPredictor] = {}
        for at, (source, inputs) in enumerate(sources.items()):
            context.working("asking for the prompt's own preference", at, len(sources))
            contenders[source] = plain.with_prior(plain.ask(inputs))
        examples = [dev[at] for at in rng.permutation(len(dev))[:DEV_EXAMPLES]]
        context.working("choosing on dev")
        replies = plain.ask([example.input for example in examples])
        trial = PromptTrial(self.name, plain, dev_scorer(task), tuple(replies))
        readings = {source: trial.read(prompt, examples) for source, prompt in contenders.items()}
        best = max(readings, key=lambda source: readings[source].total)  # ties: content-free, which needs no data
        told = {source: f"{reading.told} on dev" for source, reading in readings.items()}
        return Chosen(contenders[best], {"prior from": best, **told})
