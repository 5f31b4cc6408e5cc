"""Retrieved shots: for each input, its nearest training examples as solved turns before it.

One example, from input to score: before "What is the tallest mountain ?" the prompt shows "What is the highest peak in
Africa ?" with LOC and seven more neighbours. LOC comes out best; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import EVERY_KIND, Writing, instruction, role_model, text_of
from luthier.rungs.prompted import Chosen, PromptPredictor, PromptTrial
from luthier.rungs.search import halve
from luthier.rungs.shots import By, NearestShots
from luthier.types import Embedder, Example, FitContext, TaskSpec

NEIGHBOURS = 8


@dataclass(frozen=True)
class RetrievedShots:
    """The eight nearest training examples, the nearest last: by meaning, by words, or by both, as dev prefers."""

    name = "retrieved-shots"
    rank = 60
    roles = ("prompted", "embedder")
    kinds = EVERY_KIND
    guarded = False
    version = "2"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        model = role_model(context.models, "prompted", self.name)
        embedder: Embedder = role_model(context.models, "embedder", self.name)
        context.working("embedding train", 0, len(train))
        vectors = np.asarray(embedder.embed([text_of(example.input) for example in train]), dtype=np.float32)
        pool = tuple((text_of(example.input), example.reference) for example in train)
        trials = []
        for by in get_args(By):
            known = (None, None) if by == "bm25" else (embedder, vectors)
            shots = NearestShots(pool, NEIGHBOURS, by, *known)
            prompt = PromptPredictor(model, instruction(task), shots, task.label_names, writing=Writing.of(task))
            trials.append(PromptTrial(f"nearest by {by}", prompt, dev_scorer(task)))
        found = halve(trials, dev, task, context, what="ways to find examples")
        return Chosen(found.reading.predictor, found.describe())
