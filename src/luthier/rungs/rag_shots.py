"""RAG with examples: solved examples, each with the passage of its answer, before the passages and the input.

One example, from input to score: the prompt first shows "[1] Leave: Everyone has 30 days off." with "How many days off
do I have?" and "30 days", then the passages found for "When is pay day?". The answer is "the 25th"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from luthier.documents.library import DEPTH, Hit, Library
from luthier.evaluate.retrieval import first_right, is_no_answer
from luthier.rungs.base import EVERY_KIND, Writing, instruction, role_model, text_of
from luthier.rungs.prompted import Chosen, PromptPredictor
from luthier.rungs.rag import trial, ways, wordings
from luthier.rungs.reading import ReadingPredictor
from luthier.rungs.search import halve
from luthier.rungs.shots import FixedShots, Shot
from luthier.types import Example, FitContext, TaskSpec

SHOTS = (2, 4)  # solved examples in a prompt
DRAWS = 2
COUNT = 3  # passages for the input, where no `rag` was fitted before
DRAWN_FROM = 200  # training examples whose passages are looked up


@dataclass(frozen=True)
class RagShots:
    """Sets of solved examples on shared dev examples, beside the same prompt without any.

    It goes on from what `rag` chose, where that was fitted. A solved example shows one passage: the right one.
    """

    name = "rag-shots"
    rank = 64
    roles = ("prompted", "documents")
    kinds = EVERY_KIND
    builds_on = ("rag",)
    guarded = False
    version = "1"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        told = {}
        if isinstance(below := context.fitted.get("rag"), ReadingPredictor):
            plain = below
        else:
            library: Library = role_model(context.models, "documents", self.name)
            found = ways(library, task, dev, context)
            model = role_model(context.models, "prompted", self.name)
            prompt = PromptPredictor(model, instruction(task), FixedShots(), task.label_names, writing=Writing.of(task))
            *_, reader = wordings(prompt, library, (*train, *dev)).values()
            plain, told = ReadingPredictor(reader, replace(found.standing[0], count=COUNT)), dict(found.told)
        plain = replace(plain, reader=replace(plain.reader, prior=None))
        sets = solved_sets(plain, train, context)
        trials = [trial("no examples", plain, task)] + [
            trial(
                f"set {at + 1}, {len(shots)} examples",
                replace(plain, reader=replace(plain.reader, shots=FixedShots(shots))),
                task,
            )
            for at, shots in enumerate(sets)
        ]
        search = halve(trials, dev, task, context, what="sets of examples with their passages")
        return Chosen(search.reading.predictor, {**search.describe(), **told})


def solved_sets(plain: ReadingPredictor, train: Sequence[Example], context: FitContext) -> list[tuple[Shot, ...]]:
    """Seeded sets of solved examples, the smaller first; only ones whose right passage is found, where that is known.

    Where some examples have no answer in the documents, each set shows one of them too, with a passage all the same.
    """
    rng = np.random.default_rng([context.seed, 7])
    some = [train[int(at)] for at in rng.permutation(len(train))[:DRAWN_FROM]]
    context.working("looking up training examples in the documents", 0, len(some))
    look, library = plain.look, plain.look.library
    found = library.search([text_of(each.input) for each in some], DEPTH, by=look.by, size=look.size)
    full, empty = list[Shot](), list[Shot]()
    for example, hits in zip(some, found, strict=True):
        if not hits:
            continue
        if is_no_answer(example.reference, library.no_answer):
            empty.append((_shown(example, hits[0]), example.reference))
            continue
        place = first_right(library, example, hits, by_answer=plain.open_ended)
        if place is not None:
            full.append((_shown(example, hits[place - 1]), example.reference))
    if not full:  # labels, say: nobody can tell which passage is right
        pairs = zip(some, found, strict=True)
        full = [(_shown(example, hits[0]), example.reference) for example, hits in pairs if hits]
    sets = []
    for size in SHOTS:
        for _ in range(DRAWS):
            drawn = [full[int(at)] for at in rng.permutation(len(full))[:size]]
            if empty:
                drawn[:1] = [empty[int(rng.integers(len(empty)))]]
            sets.append(tuple(drawn))
    return [shots for shots in dict.fromkeys(sets) if shots]


def _shown(example: Example, hit: Hit) -> str:
    return text_of(ReadingPredictor.shown(example.input, [hit]))
