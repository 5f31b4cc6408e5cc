"""Instructed: the task in better words: what labels mean, how to answer, what a strong model proposes.

One example, from input to score: instead of "LOC: a place" the prompt says "LOC: a place. Typical: 'What is the capital
of Peru ?'", and the user's turn ends with "Which one is it: ABBR, DESC, ENTY, HUM, LOC or NUM?". "What is the tallest
mountain ?" now makes LOC the likeliest; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from luthier.rungs.base import PLAIN_FRAME, instruction, role_model, text_of
from luthier.rungs.prompted import Chosen, PromptPredictor, PromptTrial
from luthier.rungs.proposals import propose
from luthier.rungs.search import halve
from luthier.rungs.shots import Fixed
from luthier.types import Example, FitContext, TaskSpec

TYPICAL = 2  # examples that stand for a label
WORDS = 6  # words that set a label apart
LONGEST_EXAMPLE = 120
MOST_LABELS_ASKED = 20  # a question that lists more labels than these is no help


@dataclass(frozen=True)
class Instructed:
    """Instruction candidates: what labels mean times how the answer is asked for, halved on dev, each with a prior.

    With a `teacher` in [models], instructions that it proposes and improves by reflecting on mistakes stand among them.
    """

    name = "instructed"
    rank = 47
    roles = ("prompted",)
    optional_roles = ("teacher",)
    guarded = False
    version = "1"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        model = role_model(context.models, "prompted", self.name)
        systems = {
            "as written": instruction(task),
            "labels with typical examples": instruction(task, typical(task, train)),
            "labels with their words": instruction(task, telling_words(task, train)),
        }
        if "teacher" in context.models:
            systems |= propose(task, model, context.models["teacher"], train, context)
        trials = [
            PromptTrial(f"{meaning}, {asking}", PromptPredictor(model, system, Fixed(), task.label_names, frame=frame))
            for asking, frame in frames(task).items()
            for meaning, system in systems.items()
        ]
        found = halve(trials, dev, context, budget_tokens=task.search_tokens, what=f"{len(trials)} instructions")
        return Chosen(found.reading.predictor, {"instruction": found.winner.name, **found.describe()})


def frames(task: TaskSpec) -> dict[str, str]:
    """Ways to ask in the user's turn, the plain one first."""
    found = {"input alone": PLAIN_FRAME}
    names = task.label_names
    if len(names) <= MOST_LABELS_ASKED:
        listed = f"{', '.join(names[:-1])} or {names[-1]}"
        found["input and question"] = f"{PLAIN_FRAME}\n\nWhich one is it: {listed}?"
    return found


def typical(task: TaskSpec, train: Sequence[Example]) -> Mapping[str, str]:
    """For each label the training inputs that are most like all inputs of that label (TF-IDF centroid)."""
    texts = [text_of(example.input) for example in train]
    try:
        vectors = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)
    except ValueError:  # no words at all
        return {}
    found = {}
    for label in task.label_names:
        rows = [at for at, example in enumerate(train) if example.reference == label]
        if not rows:
            continue
        likeness = np.asarray(vectors[rows] @ np.asarray(vectors[rows].mean(axis=0)).T).ravel()
        best = [texts[rows[at]] for at in np.argsort(-likeness, kind="stable")[:TYPICAL]]
        found[label] = "Typical: " + " / ".join(f"'{_cut(text)}'" for text in best)
    return found


def telling_words(task: TaskSpec, train: Sequence[Example]) -> Mapping[str, str]:
    """For each label the words whose share of its inputs most exceeds their share of the others (smoothed log odds)."""
    texts = [text_of(example.input) for example in train]
    try:
        counter = CountVectorizer(binary=True, token_pattern=r"(?u)\b\w+\b")
        counts = counter.fit_transform(texts)
    except ValueError:
        return {}
    words = counter.get_feature_names_out()
    of = np.array([example.reference for example in train])
    found = {}
    for label in task.label_names:
        inside = np.asarray(counts[of == label].sum(axis=0)).ravel()
        outside = np.asarray(counts[of != label].sum(axis=0)).ravel()
        if not inside.any():
            continue
        odds = np.log((inside + 0.5) / ((of == label).sum() + 1)) - np.log((outside + 0.5) / ((of != label).sum() + 1))
        # a word must come back: a single occurrence sets nothing apart
        odds[inside < 2] = -np.inf
        best = [str(words[at]) for at in np.argsort(-odds, kind="stable")[:WORDS] if np.isfinite(odds[at])]
        if best:
            found[label] = f"Words: {', '.join(best)}"
    return found


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= LONGEST_EXAMPLE else flat[: LONGEST_EXAMPLE - 1].rstrip() + "…"
