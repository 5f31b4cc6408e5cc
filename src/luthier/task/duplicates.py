"""Duplicates: exact copies are merged into one example; near-copies are measured first, grouped at a threshold later.

Exact: equal after Unicode NFKC, case folding and collapsing of spaces. Near: the Jaccard similarity of the sets of 5
characters in a row ("shingles") of that form. Candidate pairs come from MinHash sketches cut into bands (sketches.py;
Broder 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", 3.4); each is then measured exactly, so that the
sketch can miss a pair, and never invents one.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from luthier.task.chats import words_of
from luthier.task.json_record import canonical
from luthier.task.records import Findings, Record
from luthier.task.sketches import candidates, jaccard, signatures
from luthier.task.slices import without_copies
from luthier.task.source import LOWEST_NEAR_DUPLICATE
from luthier.types import Input, Kind


def normal_form(text: str) -> str:
    """The form in which two inputs are the same input.

    >>> normal_form("  Where IS\\tmy card ?\\n") == normal_form("where is my card ?")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def form_of(given: Input) -> str:
    """The form in which two inputs are the same: of a chat, every turn with its role."""
    if isinstance(given, str):
        return normal_form(given)
    return "\x1e".join(f"{turn.role}\x1f{normal_form(turn.content)}" for turn in given)


def likeness_of(given: Input) -> str:
    """The form by which two inputs are near-copies: a chat without its system's turn, which may stand in every chat."""
    return normal_form(given if isinstance(given, str) else words_of(given))


# ---------------------------------------------------------------- exact copies


@dataclass(frozen=True, slots=True)
class Distinct:
    """One distinct input: the record that stands for all its copies, their number, and every group they name."""

    record: Record
    form: str
    copies: int
    groups: frozenset[str]

    @property
    def likeness(self) -> str:
        return self.form if isinstance(self.record.input, str) else likeness_of(self.record.input)


def merge_exact(records: Sequence[Record], findings: Findings, kind: Kind = "classification") -> list[Distinct]:
    """One entry for each distinct input, in the order of the file; a copy with the right answer stands for all.

    Where copies disagree about the label or the record, a strict majority decides. A tie has no right answer to learn
    or to score by: the input is left out, and counted. Copies with different free texts have several right answers,
    the most frequent first. Weight and majority count every copy.
    """
    copies: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        copies[form_of(record.input)].append(record)
    distinct = []
    for form, same in copies.items():
        columns = without_copies([record.columns for record in same])
        same = [replace(record, columns=columns) for record in same] if columns else same
        places = [record.place for record in same]
        if len(same) > 1:
            findings.note("exact_duplicates_merged", len(same) - 1, [places[: Findings.EXAMPLES]])
        if kind == "generation":
            distinct.append(_with_all_answers(form, same, findings))
            continue
        votes = Counter(_vote(record, kind) for record in same).most_common(2)
        if len(votes) > 1:
            tie = votes[0][1] == votes[1][1]
            findings.note("conflicts_dropped" if tie else "conflicts_resolved", 1, [places[: Findings.EXAMPLES]])
            if tie:
                continue
        # chosen by content, so that the order of the file changes nothing
        chosen = min((record for record in same if _vote(record, kind) == votes[0][0]), key=_content)
        distinct.append(Distinct(chosen, form, len(same), _groups(same)))
    return distinct


def _vote(record: Record, kind: Kind) -> str:
    if kind == "classification":
        return record.reference
    return "\n".join(sorted(canonical(reference) for reference in record.references))


def _content(record: Record) -> tuple[str, tuple[str, ...]]:
    return str(record.input), record.references


def _groups(same: Sequence[Record]) -> frozenset[str]:
    return frozenset(record.group for record in same if record.group is not None)


def _with_all_answers(form: str, same: Sequence[Record], findings: Findings) -> Distinct:
    counts = Counter(reference for record in same for reference in record.references)
    chosen = min(same, key=_content)
    if len(same) > 1:
        # a lone record keeps the order in which its author wrote the answers
        references = tuple(sorted(counts, key=lambda each: (-counts[each], each)))
        if len(references) > len(chosen.references):
            findings.note("answers_of_copies_joined", 1, [[record.place for record in same][: Findings.EXAMPLES]])
        chosen = replace(chosen, references=references)
    return Distinct(chosen, form, len(same), _groups(same))


# ---------------------------------------------------------------- near-copies


@dataclass(frozen=True)
class Pairs:
    """Measured pairs among `n` texts: positions `left` < `right` and their exact Jaccard similarity, best first.

    Complete from `floor` up, but for the sketch's misses; among many texts that share a band, enough to link them.
    """

    n: int
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    similarity: NDArray[np.float64]
    floor: float

    def __len__(self) -> int:
        return len(self.similarity)

    def above(self, threshold: float) -> Pairs:
        """The pairs at or above a threshold, which has to be at or above the floor that was measured."""
        if threshold < self.floor:
            raise ValueError(f"measured from {self.floor} up; {threshold} is below that")
        keep = self.similarity >= threshold
        return replace(
            self, left=self.left[keep], right=self.right[keep], similarity=self.similarity[keep], floor=threshold
        )

    def clusters(self) -> list[list[int]]:
        """The sets of two and more texts that the pairs link, directly or through others; each in order."""
        union = Union(self.n)
        for left, right in zip(self.left.tolist(), self.right.tolist(), strict=True):
            union.join(left, right)
        return [members for members in union.sets() if len(members) > 1]


class Union:
    """Disjoint sets of 0..n-1, joined pair by pair."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def _root(self, item: int) -> int:
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._parent[second] = first

    def sets(self) -> list[list[int]]:
        """All sets, each in order, ordered by their first member."""
        found: dict[int, list[int]] = defaultdict(list)
        for item in range(len(self._parent)):
            found[self._root(item)].append(item)
        return list(found.values())


def measure(forms: Sequence[str], floor: float = LOWEST_NEAR_DUPLICATE) -> Pairs:
    """The pairs of texts (in normal form) whose similarity is at least `floor`, measured exactly.

    >>> pairs = measure(["where is my new card?", "what is the time?", "where is my new card!"])
    >>> len(pairs), pairs.clusters(), round(float(pairs.similarity[0]), 3)
    (1, [[0, 2]], 0.889)
    """
    left, right = candidates(signatures(forms), floor)
    similarity = jaccard(forms, left, right)
    order = np.lexsort((right, left, -similarity))
    order = order[similarity[order] >= floor]
    return Pairs(len(forms), left[order], right[order], similarity[order], floor)
