"""Learned: what small models that learn from train, and no LLM, say of the sample; and whose reference they doubt.

One example: a regression on sentence vectors and one on words, both fitted on train, say "cold" of a dev example whose
reference is "warm", and so does the diagnosed model in its best prompt: three that err in different ways agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.audit import material_of
from luthier.audit.mislabelled import suspects
from luthier.diagnose.sample import Floats, Sample
from luthier.errors import LuthierError
from luthier.rungs.embedding import Embedding
from luthier.rungs.tfidf import Tfidf
from luthier.types import Example, FitContext, Prediction, Task

MOST_TRAINED_ON = 2000  # examples: what can be learned so simply shows well before
FEWEST_TRAINED_ON = 30
MOST_CLASSES = 50  # different answers, from which on they are no classes
FEWEST_OF_CLASS = 3  # examples for each class, on average
FEWEST_CONTROLS = 8  # passing examples of one class, to know how often learners are wrong about it
MOST_WORK = 100_000  # rows times classes, of the audit's look at labels
HELD_OUT = 5  # every fifth training example chooses the penalty


@dataclass(frozen=True)
class Learned:
    """What the learners say: `views` by name, a label for each example of the sample, and how well they fit train.

    `fit` by name is the share of the training examples that a learner was fitted on and gets right; `suspected` the
    share of all rows of train and dev whose label the audit suspects (None: it could not look).
    """

    views: Mapping[str, tuple[str, ...]]
    fit: Mapping[str, float]
    trained_on: int
    suspected: float | None = None


def classes(task: Task) -> tuple[str, ...]:
    """The answers there are, where they are few: the labels, or the different references of train; else none."""
    if task.spec.labels:
        return task.spec.label_names
    counts = Counter(example.reference for example in task.train)
    few = 2 <= len(counts) <= MOST_CLASSES and len(task.train) >= FEWEST_OF_CLASS * len(counts)
    return tuple(sorted(counts)) if few else ()


def learn(
    task: Task, sample: Sample, embedder: Any | None, workdir: Path, working: Callable[[str], None]
) -> Learned | None:
    """Fit the learners on train and ask them about the sample; None where answers are no classes, or train is small."""
    if not classes(task) or len(task.train) < FEWEST_TRAINED_ON:
        return None
    order = np.random.default_rng([task.spec.seed, 17]).permutation(len(task.train))[:MOST_TRAINED_ON]
    fitted_on = [task.train[at] for place, at in enumerate(order) if place % HELD_OUT]
    held_out = [task.train[at] for place, at in enumerate(order) if not place % HELD_OUT]
    if len({example.reference for example in fitted_on}) < 2:
        return None
    views, fit = {}, {}
    for rung, role in ((Embedding(), embedder), (Tfidf(), None)):
        if rung.roles and role is None:
            continue
        working(f"what {rung.name} learns from train")
        context = FitContext({"embedder": role} if rung.roles else {}, task.spec.seed, workdir)
        predictor = rung.fit(task.spec, fitted_on, held_out, context)
        views[rung.name] = tuple(said.output or "" for said in predictor.predict(sample.inputs))
        inputs = [example.input for example in fitted_on]
        fit[rung.name] = _share_right(predictor.predict(inputs), fitted_on)
    return Learned(views, fit, len(fitted_on), suspected(task))


def _share_right(said: Sequence[Prediction], examples: Sequence[Example]) -> float:
    return float(np.mean([one.output == example.reference for one, example in zip(said, examples, strict=True)]))


def doubted(sample: Sample, views: Sequence[Sequence[str]], model: Sequence[str]) -> tuple[Floats, Floats, list[str]]:
    """Whose reference all doubt: (doubted, by chance, what they say instead), each of the sample's length.

    Doubted, 1 or 0: all `views` and the `model` say one and the same answer that is no reference. By chance: how often
    all views agree against the reference of a passing example (of the same reference, where there are enough), which
    the model confirms: that often they are wrong together. Only failures are doubted.
    """
    n = len(sample.examples)
    said = [views[0][at] if len({view[at] for view in views}) == 1 else "" for at in range(n)]
    against = [bool(said[at]) and said[at] not in sample.examples[at].references for at in range(n)]
    passing = [int(at) for at in np.flatnonzero(~sample.failing)]
    found, chance = np.zeros(n), np.zeros(n)
    for at in map(int, np.flatnonzero(sample.failing)):
        found[at] = float(against[at] and said[at] == model[at])
        alike = [other for other in passing if sample.examples[other].reference == sample.examples[at].reference]
        control = alike if len(alike) >= FEWEST_CONTROLS else passing
        chance[at] = float(np.mean([against[other] for other in control])) if control else 0.0
    return found, chance, said


def suspected(task: Task) -> float | None:
    """The share of the rows of train and dev whose label the audit suspects; None where it could not look."""
    try:
        found = suspects(material_of(task), MOST_WORK)
    except LuthierError:  # cleanlab is missing, or the files have changed
        return None
    return len(found.suspects) / found.looked_at if found.looked_at else None
