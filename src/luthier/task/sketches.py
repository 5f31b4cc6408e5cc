"""Sketches: MinHash signatures of many texts at once, and the pairs of texts that agree in a band of them.

The signatures are datasketch's, bit for bit (scheme "affine32"), computed for whole blocks of texts; its own objects
and index take about 3.7 KB a text, these 512 bytes. Time grows as n log n (one sort a band), whatever the texts:
where many share a band, each meets a bounded number of neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

from luthier.types import whole

SHINGLE = 5
# 32 bands of 4 hashes: a pair of similarity s becomes a candidate with probability 1 - (1 - s^4)^32,
# which is .87 at .5, .999 at .7 and 1 - 5e-8 at .8
BANDS, ROWS = 32, 4
HASHES = BANDS * ROWS
# where many texts share a band, each is compared with this many neighbours in the order of the next bands, not with
# all of them: a thousand letters from one template would be half a million pairs. Among very many texts with fewer,
# so that the pairs fit into memory.
CROWD, FEWEST_NEIGHBOURS, MANY = 16, 4, 100_000
_BLOCK = 1 << 16  # characters hashed at once: they stay in the processor's cache
_PAIRS = 1 << 15  # pairs looked at at once
_CODES = 1 << 24  # candidates kept before repeats among them are removed
# a pair's shared hashes may lie this many standard deviations below what the floor lets expect
_DEVIATIONS = 5.0

Rows = NDArray[np.int64]


def shingles(forms: Sequence[str]) -> tuple[NDArray[np.uint32], Rows]:
    """A 32-bit hash of each run of 5 characters, text after text with repeats, and how many each text has (1 at least).

    A polynomial over code points, mixed; a text that is shorter than a run is one run.
    """
    texts = [form if form.isascii() else whole(form) for form in forms]
    points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    begins = np.cumsum(lengths) - lengths
    counts = np.maximum(lengths - SHINGLE + 1, 1)
    firsts = np.cumsum(counts) - counts
    runs = max(len(points) - SHINGLE + 1, 0)
    every = np.zeros(runs, dtype=np.uint64)
    for start in range(SHINGLE if runs else 0):
        every = every * _BASE + points[start : start + runs]
    at = np.repeat(begins - firsts, counts) + np.arange(int(counts.sum()))
    mixed = every[np.minimum(at, max(runs - 1, 0))] if runs else np.zeros(len(at), dtype=np.uint64)
    for short in np.flatnonzero(lengths < SHINGLE).tolist():
        mixed[firsts[short]] = _short(texts[short])
    # the upper half of a multiply is the well-mixed one
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(32)).astype(np.uint32), counts


_BASE = np.uint64(0x9E3779B97F4A7C15)


def _short(text: str) -> int:
    value = 0
    for sign in text:
        value = (value * int(_BASE) + ord(sign)) % (1 << 64)
    return value


def signatures(forms: Sequence[str]) -> NDArray[np.uint32]:
    """The MinHash signature of each text's set of shingles, shape (n, 128)."""
    multipliers, offsets = _PERMUTATIONS
    found = np.empty((len(forms), HASHES), dtype=np.uint32)
    for first, last in _blocks(forms):
        values, counts = shingles(forms[first:last])
        values = _fmix(values)
        starts = np.cumsum(counts) - counts
        block = np.empty((HASHES, last - first), dtype=np.uint32)
        permuted = np.empty_like(values)
        for at in range(HASHES):
            np.multiply(values, multipliers[at], out=permuted)
            np.add(permuted, offsets[at], out=permuted)
            np.minimum.reduceat(permuted, starts, out=block[at])
        found[first:last] = block.T
    return found


def _blocks(forms: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ranges of texts that have about `_BLOCK` characters together; a longer text is a block by itself."""
    first = size = 0
    for at, form in enumerate(forms):
        if size and size + len(form) > _BLOCK:
            yield first, at
            first, size = at, 0
        size += len(form) + 1
    if first < len(forms):
        yield first, len(forms)


def _fmix(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """MurmurHash3's finalizer, with which datasketch mixes what it is given once more."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return values ^ (values >> np.uint32(16))


def _permutations() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    multipliers, offsets = MinHash(num_perm=HASHES, seed=1, scheme="affine32").permutations
    return np.asarray(multipliers, dtype=np.uint32), np.asarray(offsets, dtype=np.uint32)


_PERMUTATIONS = _permutations()


# ---------------------------------------------------------------- candidates


def candidates(signed: NDArray[np.uint32], floor: float) -> tuple[Rows, Rows]:
    """The pairs left < right that agree in a whole band and in about as many hashes as `floor` lets expect, each once.

    A pair whose similarity is the floor is lost to the count of hashes with a probability below one in a million.
    """
    n = len(signed)
    least = HASHES * (floor - _DEVIATIONS * (floor * (1.0 - floor) / HASHES) ** 0.5)
    kept: list[Rows] = [np.empty(0, dtype=np.int64)]
    waiting = 0
    for band in range(BANDS):
        for one, other in _neighbours(signed, band):
            agree = (signed[one] == signed[other]).sum(axis=1)
            close = agree >= least
            one, other = one[close], other[close]
            kept.append(np.minimum(one, other) * n + np.maximum(one, other))
            waiting += len(one)
        if waiting > _CODES:
            kept, waiting = [np.unique(np.concatenate(kept))], 0
    codes = np.unique(np.concatenate(kept))
    return codes // max(n, 1), codes % max(n, 1)


def _neighbours(signed: NDArray[np.uint32], band: int) -> Iterator[tuple[Rows, Rows]]:
    """Pairs that agree in one band, in parts: all of them, or in a crowd the nearest by the bands that follow."""
    n = len(signed)
    crowd = CROWD if n <= MANY else max(FEWEST_NEIGHBOURS, CROWD * MANY // n)
    key = _key(signed, band)
    order = np.argsort(key)
    ordered = key[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if n else np.empty(0, dtype=bool)
    bucket = np.cumsum(new) - 1
    sizes = np.bincount(bucket) if n else np.empty(0, dtype=np.int64)
    several = sizes[bucket] > 1
    order, bucket = order[several], bucket[several]
    large = sizes[bucket] > crowd + 1
    if large.any():
        # within a bucket the order only matters where not all pairs are taken: there the closest stand together
        members, of = order[large], bucket[large]
        columns = [(band * ROWS + step) % HASHES for step in range(4 * ROWS - 1, ROWS - 1, -1)]
        order[large] = members[np.lexsort((members, *(signed[members, column] for column in columns), of))]
    for step in range(1, crowd + 1):
        same = bucket[step:] == bucket[:-step]
        if not same.any():
            return
        one, other = order[:-step][same], order[step:][same]
        for start in range(0, len(one), _PAIRS):
            yield one[start : start + _PAIRS], other[start : start + _PAIRS]


def _key(signed: NDArray[np.uint32], band: int) -> NDArray[np.uint64]:
    """One number for the hashes of a band; two bands that differ have the same one time in 2^64."""
    pair = np.ascontiguousarray(signed[:, band * ROWS : (band + 1) * ROWS]).view(np.uint64)
    key = (pair[:, 0] ^ (pair[:, 1] * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray(key ^ (key >> np.uint64(31)))


# ---------------------------------------------------------------- exact similarity


def jaccard(forms: Sequence[str], left: Rows, right: Rows) -> NDArray[np.float64]:
    """The exact Jaccard similarity of the shingle sets of each pair, in the order of the pairs."""
    lengths = np.array([len(form) for form in forms], dtype=np.int64)
    found = np.empty(len(left), dtype=np.float64)
    work = np.cumsum(lengths[left] + lengths[right] + 1)
    first = 0
    while first < len(left):  # few enough shingles at once to stay in the cache
        reached = work[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(work, reached + 2 * _BLOCK)))
        found[first:last] = _jaccard(forms, left[first:last], right[first:last])
        first = last
    return found


def _jaccard(forms: Sequence[str], left: Rows, right: Rows) -> NDArray[np.float64]:
    rows = np.union1d(left, right)
    values, counts = shingles([forms[row] for row in rows.tolist()])
    owner = np.repeat(np.arange(len(rows), dtype=np.uint64), counts)
    held = np.unique((owner << np.uint64(32)) | values)  # each row's distinct shingles, in order
    sizes = np.bincount((held >> np.uint64(32)).astype(np.int64), minlength=len(rows))
    begins = np.cumsum(sizes) - sizes
    one, other = np.searchsorted(rows, left), np.searchsorted(rows, right)
    taken = sizes[one]
    firsts = np.cumsum(taken) - taken
    at = np.repeat(begins[one] - firsts, taken) + np.arange(int(taken.sum()))
    wanted = (np.repeat(other.astype(np.uint64), taken) << np.uint64(32)) | (held[at] & np.uint64(0xFFFFFFFF))
    place = np.minimum(np.searchsorted(held, wanted), len(held) - 1)
    shared = np.add.reduceat((held[place] == wanted).astype(np.int64), firsts)
    return np.asarray(shared / (sizes[one] + sizes[other] - shared))
