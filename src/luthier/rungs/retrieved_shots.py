"""Retrieved shots: for each input, its nearest training examples as solved turns before it.

One example, from input to score: before "What is the tallest mountain ?" the prompt shows "What is the highest peak in
Africa ?" with LOC and seven more neighbours. LOC comes out best; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import EVERY_KIND, Writing, instruction, role_model, text_of
from luthier.rungs.prompted import Chosen, PromptPredictor, PromptTrial
from luthier.rungs.search import Reading, difference, halve, scores
from luthier.rungs.shots import By, FixedShots, NearestShots, Shot
from luthier.types import Embedder, Example, FitContext, Prediction, TaskSpec

NEIGHBOURS = 8
DEV = 256  # dev examples whose neighbours are looked at


@dataclass(frozen=True)
class RetrievedShots:
    """The eight nearest training examples, the nearest last: by meaning, by words, or by both, as dev prefers.

    What the neighbours alone say of dev costs no model: ways that this rules out are not asked about.
    """

    name = "retrieved-shots"
    rank = 60
    roles = ("prompted", "embedder")
    kinds = EVERY_KIND
    guarded = False
    version = "3"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        model = role_model(context.models, "prompted", self.name)
        embedder: Embedder = role_model(context.models, "embedder", self.name)
        context.working("embedding train", 0, len(train))
        vectors = np.asarray(embedder.embed([text_of(example.input) for example in train]), dtype=np.float32)
        pool = tuple((text_of(example.input), example.reference) for example in train)
        ways = {}
        for by in get_args(By):
            known = (None, None) if by == "bm25" else (embedder, vectors)
            ways[by] = NearestShots(pool, NEIGHBOURS, by, *known)
        context.working("looking at the neighbours of dev")
        standing, told = plausible(ways, task, dev[:DEV])
        plain = PromptPredictor(model, instruction(task), FixedShots(), task.label_names, writing=Writing.of(task))
        trials = [PromptTrial(f"nearest by {by}", replace(plain, shots=ways[by]), dev_scorer(task)) for by in standing]
        found = halve(trials, dev, task, context, what="ways to find examples")
        return Chosen(found.reading.predictor, {**found.describe(), "the neighbours alone on dev": told})


def plausible(
    ways: Mapping[By, NearestShots], task: TaskSpec, dev: Sequence[Example]
) -> tuple[list[By], dict[str, str]]:
    """The ways whose neighbours say no less of dev than the best way's do, within a 95 % interval; and what each says.

    Neighbours say the label that most of them have, of several that of the nearest; where answers are written, the
    nearest one's answer.
    """
    if not dev:
        return list(ways), {}
    scorer, texts = dev_scorer(task), [text_of(example.input) for example in dev]
    said = {
        by: scores(scorer, dev, [Prediction(_said(row, vote=bool(task.labels))) for row in shots.of(texts)])
        for by, shots in ways.items()
    }
    best = max(said, key=lambda by: sum(said[by]))
    standing = [by for by in said if difference(said[by], said[best])[2] >= 0.0]
    return standing, {by: Reading(None, some).told for by, some in said.items()}


def _said(shots: Sequence[Shot], *, vote: bool) -> str:
    answers = [answer for _, answer in reversed(shots)]  # the nearest first: it wins a tie
    return Counter(answers).most_common(1)[0][0] if vote else answers[0]
