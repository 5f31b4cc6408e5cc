"""RAG: passages looked up in documents stand in the prompt before the input (retrieval-augmented generation).

One example, from input to score: for "How many days off do I have?" the passage "Everyone has 30 days off." is found in
`leave.md` and shown. The answer is "30 days", citing `leave.md:0-45`; the reference is "30 days"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from luthier.documents.library import BYS, WORDS, By, Library
from luthier.evaluate.retrieval import Retrieval, is_no_answer, retrieval
from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import EVERY_KIND, Writing, instruction, role_model, text_of
from luthier.rungs.prompted import Chosen, PromptPredictor, PromptTrial
from luthier.rungs.reading import RULE, Look, ReadingPredictor
from luthier.rungs.search import AnswerTrial, halve
from luthier.rungs.shots import FixedShots
from luthier.types import Example, FitContext, TaskSpec

COUNTS = (1, 3, 5)  # passages in a prompt
MOST_CHARACTERS = 4000  # of passages in a prompt
DEV = 256  # dev examples whose passages are looked up
_LOOKED_AT = 2400  # characters of passages within which a way has to find the right one


@dataclass(frozen=True)
class Rag:
    """How passages are found is chosen by how often that finds the right ones on dev, which costs no model.

    Where nobody can tell a right passage (labels, and the data name none), and for how many of them the prompt shows
    and in which words it does, the model is asked about dev.
    """

    name = "rag"
    rank = 62
    roles = ("prompted", "documents")
    kinds = EVERY_KIND
    guarded = False
    version = "1"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        model = role_model(context.models, "prompted", self.name)
        library: Library = role_model(context.models, "documents", self.name)
        found = ways(library, task, dev, context)
        plain = PromptPredictor(model, instruction(task), FixedShots(), task.label_names, writing=Writing.of(task))
        trials = [
            trial(f"{count} of {look.size} characters, {name}", ReadingPredictor(reader, look), task)
            for way in found.standing
            for count in COUNTS
            if count * way.size <= MOST_CHARACTERS or count == COUNTS[0]
            for name, reader in wordings(plain, library, (*train, *dev)).items()
            for look in [replace(way, count=count)]
        ]
        search = halve(trials, dev, task, context, what="ways to show passages")
        return Chosen(search.reading.predictor, {**search.describe(), **found.told})


@dataclass(frozen=True)
class Ways:
    """The ways to look passages up that are worth a prompt, and what looking up by each finds on dev."""

    standing: tuple[Look, ...]
    told: Mapping[str, Any]


def ways(library: Library, task: TaskSpec, dev: Sequence[Example], context: FitContext) -> Ways:
    """The way that finds most right passages on dev; where nobody knows them, the fused one of each size."""
    some = dev[:DEV]
    texts = [text_of(example.input) for example in some]
    measured: dict[tuple[int, By], Retrieval] = {}
    for at, size in enumerate(library.sizes):
        context.working("looking up dev in the documents", at, len(library.sizes))
        for by in BYS:
            found = retrieval(library, some, texts, kind=task.kind, by=by, size=size) if some else None
            if found is not None:
                measured[size, by] = found
    if not measured:
        fused = tuple(Look(library, "both", size, COUNTS[0]) for size in library.sizes)
        why = "not measured: nobody can tell which passage is right; [documents] oracle would"
        return Ways(fused, {"retrieval on dev": why})
    best = max(measured, key=lambda way: (measured[way].within(_LOOKED_AT), sum(measured[way].reciprocal())))
    size, by = best
    told = {
        "retrieval on dev": told_retrieval(measured[best]),
        "other ways to look up, on dev": {
            f"{WORDS[other]}, {chars} characters": told_retrieval(each)
            for (chars, other), each in measured.items()
            if (chars, other) != best
        },
        "a right passage is known": measured[best].known,
    }
    return Ways((Look(library, by, size, COUNTS[0]),), told)


def told_retrieval(found: Retrieval) -> str:
    """Recall and MRR in words, each with its 95 % interval.

    >>> told_retrieval(Retrieval((1, 2, None, 1), (0, 400, None, 0), "as the data say"))
    'recall@1 0.50 [0.15, 0.85], recall@5 0.75 [0.30, 0.95], MRR 0.62 [0.09, 1.00], 4 examples'
    """
    parts = []
    for name, each in (("recall@1", found.recall(1)), ("recall@5", found.recall(5)), ("MRR", found.mrr())):
        parts.append(f"{name} {each.mean:.2f} [{each.low:.2f}, {each.high:.2f}]")
    return f"{', '.join(parts)}, {len(found.places)} examples"


def wordings(plain: PromptPredictor, library: Library, examples: Sequence[Example]) -> dict[str, PromptPredictor]:
    """The prompt in several words. Where the data have examples without an answer, each says what to answer then."""
    absent = f'If the passages do not say it, answer: "{library.no_answer}"'
    open_ended = not plain.labels and (plain.writing is None or plain.writing.schema is None)
    told = replace(plain, system=f"{plain.system}\n\n{RULE}")
    if not open_ended:
        return {"passages before the input": plain, "told to answer from them": told}
    strict = replace(plain, system=f"{plain.system}\n\n{RULE} {absent}")
    if any(is_no_answer(reference, library.no_answer) for each in examples for reference in each.references):
        short = replace(plain, system=f"{plain.system}\n\n{absent}")
        return {"told what to answer where they do not say it": strict, "the same, in short": short}
    return {"passages before the input": plain, "told to answer from them, or to say that they do not": strict}


def trial(name: str, predictor: ReadingPredictor, task: TaskSpec) -> Any:
    """A contender: with labels it may be calibrated by its own replies, otherwise its answers are read as they are."""
    if predictor.labels:
        return PromptTrial(name, predictor, dev_scorer(task))  # type: ignore[arg-type]
    return AnswerTrial(name, predictor, dev_scorer(task))
