"""Instructed: the task in better words: what labels mean, how to answer, what a strong model proposes.

One example, from input to score: instead of "LOC: a place" the prompt says "LOC: a place. Typical: 'What is the capital
of Peru ?'", and the user's turn ends with "Which one is it: ABBR, DESC, ENTY, HUM, LOC or NUM?". "What is the tallest
mountain ?" now makes LOC the likeliest; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import EVERY_KIND, PLAIN_FRAME, Writing, instruction, role_model, text_of
from luthier.rungs.prompted import Chosen, PromptPredictor, PromptTrial
from luthier.rungs.proposals import propose
from luthier.rungs.search import halve
from luthier.rungs.shots import FixedShots
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
    kinds = EVERY_KIND
    optional_roles = ("teacher",)
    guarded = False
    version = "1"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        model = role_model(context.models, "prompted", self.name)
        plain = PromptPredictor(model, instruction(task), FixedShots(), task.label_names, writing=Writing.of(task))
        systems = wordings(task, train)
        if "teacher" in context.models:
            systems |= propose(task, plain, context.models["teacher"], train, context)
        chats = any(not isinstance(example.input, str) for example in (*train, *dev))
        trials = [
            PromptTrial(f"{meaning}, {asking}", replace(plain, system=system, frame=frame), dev_scorer(task))
            for asking, frame in frames(task).items()
            if not (chats and frame != PLAIN_FRAME)  # a chat is gone on with: nothing stands around its turns
            for meaning, system in systems.items()
        ]
        found = halve(trials, dev, task, context, what=f"{len(trials)} instructions")
        return Chosen(found.reading.predictor, {"instruction": found.winner.name, **found.describe()})


def wordings(task: TaskSpec, train: Sequence[Example]) -> dict[str, str]:
    """System messages by name, the task's own words first."""
    found = {"as written": instruction(task)}
    if task.labels:
        found["labels with typical examples"] = instruction(task, typical(task, train))
        found["labels with their words"] = instruction(task, telling_words(task, train))
    elif train:
        shapes = sorted((example.reference for example in train), key=len)
        some = [shapes[at * (len(shapes) - 1) // TYPICAL] for at in range(TYPICAL + 1)]
        listed = "\n".join(dict.fromkeys(_cut(text) for text in some))
        found["with the form of the answers"] = f"{instruction(task)}\n\nAnswers look like these:\n{listed}"
    return found


def frames(task: TaskSpec) -> dict[str, str]:
    """Ways to ask in the user's turn, the plain one first."""
    found = {"input alone": PLAIN_FRAME}
    names = task.label_names
    if not names:
        found["input and rule"] = f"{PLAIN_FRAME}\n\nGive the answer alone, without any explanation."
    elif len(names) <= MOST_LABELS_ASKED:
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
