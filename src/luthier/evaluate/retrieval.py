"""Retrieval: how well passages are found, apart from what a model makes of them; and whether an answer stands in them.

One example: of 60 questions, the first passage that was found holds the answer for 51, one of the first five for 59:
recall@1 is 0.85, recall@5 0.98, and the mean of 1 / (place of the first right passage), the MRR, is 0.91.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from luthier import stats
from luthier.documents.library import DEPTH, By, Hit, Library, holds
from luthier.types import Estimate, Example, Kind

ALPHA = 0.05
Known = Literal["as the data say", "by the answer in the passage"]


@dataclass(frozen=True)
class Retrieval:
    """The place of the first right passage for each example, from 1; None: not among those looked at (20).

    `before` counts the characters of the passages in front of it. `known` says how a right passage was recognized:
    where the data name it, or by a right answer's words in it, which may stand in a wrong passage by chance.
    """

    places: tuple[int | None, ...]
    before: tuple[int | None, ...]
    known: Known

    def recall(self, count: int) -> Estimate:
        """The share of examples with a right passage among the first `count`; a Wilson interval."""
        n = len(self.places)
        found = sum(place is not None and place <= count for place in self.places)
        low, high = stats.wilson(found, n, 1 - ALPHA)
        return Estimate(found / n, low, high, n, "Wilson")

    def reciprocal(self) -> tuple[float, ...]:
        """1 / place of each example, 0 where no right passage was found."""
        return tuple(0.0 if place is None else 1.0 / place for place in self.places)

    def mrr(self) -> Estimate:
        """The mean reciprocal rank, with a betting interval."""
        scores = self.reciprocal()
        low, high = stats.betting_sequence(np.array(scores), ALPHA)
        return Estimate(float(np.mean(scores)), float(low[-1]), float(high[-1]), len(scores), "betting")

    def within(self, characters: int) -> float:
        """The share of examples whose first right passage begins before so many characters of passages."""
        return float(np.mean([before is not None and before < characters for before in self.before]))


def retrieval(
    library: Library,
    examples: Sequence[Example],
    texts: Sequence[str],
    *,
    kind: Kind,
    by: By,
    size: int | None = None,
) -> Retrieval | None:
    """How the library finds the passages for some examples, whose queries are `texts`.

    None where nobody can tell a right passage: labels are no words to look for, and the data name none. Examples whose
    right answer is that there is none are left out.
    """
    by_data = [at for at, example in enumerate(examples) if library.wanted(example)]
    known: Known = "as the data say" if by_data else "by the answer in the passage"
    if not by_data and kind != "generation":
        return None
    counted = by_data or [
        at for at, example in enumerate(examples) if not is_no_answer(example.reference, library.no_answer)
    ]
    if not counted:
        return None
    found = library.search([texts[at] for at in counted], DEPTH, by=by, size=size)
    places = [
        first_right(library, examples[at], hits, by_answer=not by_data) for at, hits in zip(counted, found, strict=True)
    ]
    before = [
        None if place is None else sum(len(hit.chunk.text) for hit in hits[: place - 1])
        for place, hits in zip(places, found, strict=True)
    ]
    return Retrieval(tuple(places), tuple(before), known)


def first_right(library: Library, example: Example, hits: Sequence[Hit], *, by_answer: bool) -> int | None:
    """The place of the first right passage, from 1: one that the data name, else one that holds a right answer.

    Without `by_answer` the data alone can tell: the name of a label may stand anywhere.
    """
    wanted = library.wanted(example)
    for place, hit in enumerate(hits, 1):
        said = by_answer and is_supported(hit.chunk.text, example.references)
        if library.is_wanted(hit.chunk, wanted) if wanted else said:
            return place
    return None


def is_supported(text: str, answers: Sequence[str]) -> bool:
    """Whether the words of one of the answers stand in the text, one after the other."""
    return any(holds(text, answer) for answer in answers)


def is_no_answer(answer: str, no_answer: str) -> bool:
    """Whether an answer says that the documents do not say it, in the words agreed on, case and full stop aside."""
    return _bare(answer) == _bare(no_answer)


def _bare(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!\"'")
