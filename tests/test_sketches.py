"""Sketches: datasketch's signatures bit for bit, pairs as brute force has them, and bounded crowds."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.task import sketches
from luthier.task.duplicates import measure

TEXTS = st.lists(st.text(max_size=40), max_size=12)


@settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_signatures_are_those_of_datasketch(texts: list[str]) -> None:
    values, counts = sketches.shingles(texts)
    assert counts.sum() == len(values)
    found = sketches.signatures(texts)
    for row, part in enumerate(np.split(values, np.cumsum(counts)[:-1]) if texts else []):
        oracle = MinHash(num_perm=sketches.HASHES, seed=1, hashfunc=int, scheme="affine32")
        oracle.update_batch(np.unique(part).tolist())
        assert (oracle.hashvalues == found[row]).all()


def brute(one: str, other: str) -> float:
    first, second = ({text[at : at + 5] for at in range(max(1, len(text) - 4))} for text in (one, other))
    return len(first & second) / len(first | second)


def sentences(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 7))) for _ in range(200)]
    texts = [" ".join(rng.choices(words, k=12)) for _ in range(count)]
    for at in range(0, count, 5):
        place = rng.randrange(len(texts[at]))
        texts.append(texts[at][:place] + rng.choice("xyz") + texts[at][place + 1 :])
    return texts


def test_pairs_are_those_of_brute_force() -> None:
    texts = sentences(200, 1)
    pairs = measure(texts, 0.8)
    found = {
        (left, right): value
        for left, right, value in zip(pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist(), strict=True)
    }
    true = {
        (left, right): brute(texts[left], texts[right])
        for left in range(len(texts))
        for right in range(left + 1, len(texts))
    }
    assert found == pytest.approx({pair: value for pair, value in true.items() if value >= 0.8})
    assert len(found) >= 30


def test_blocks_and_parts_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*sentences(100, 2), "x" * 5000, "x" * 4990 + "y" * 10, "", "a"]
    whole = measure(texts)
    monkeypatch.setattr(sketches, "_BLOCK", 64)
    monkeypatch.setattr(sketches, "_PAIRS", 3)
    monkeypatch.setattr(sketches, "_CODES", 5)
    parts = measure(texts)
    assert (whole.left.tolist(), whole.right.tolist()) == (parts.left.tolist(), parts.right.tolist())
    assert whole.similarity.tolist() == parts.similarity.tolist()


def test_a_crowd_is_linked_without_all_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    letters = [
        f"Dear customer number {at}, your parcel of last week has arrived at the station of the town"
        for at in range(600)
    ]
    monkeypatch.setattr(sketches, "MANY", 100)  # as if they were very many
    pairs = measure(letters, 0.8)
    assert len(pairs) < 600 * 4 * sketches.BANDS
    assert [len(cluster) for cluster in pairs.clusters()] == [600]


def test_five_thousand_rows_take_little() -> None:
    texts = sentences(4200, 3)
    started = time.process_time()
    measure(texts, 0.8)
    assert time.process_time() - started < 6.0
