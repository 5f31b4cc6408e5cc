"""What the functions of this package demand of their arguments; misuse is a ValueError."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Prior = tuple[float, float]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Jeffreys' prior: nearly the sharpest at every rate, and exactly symmetric in success and failure.
JEFFREYS: Prior = (0.5, 0.5)


def running_counts(successes: ArrayLike) -> Ints:
    """The running counts S_1..S_t as integers, shape (t,); each adds 0 or 1 to the one before it."""
    raw = np.asarray(successes)
    if raw.size == 0:
        return np.zeros(0, dtype=np.int64)
    if raw.ndim != 1:
        raise ValueError(f"successes has shape {raw.shape}; it must be the running counts, one dimension")
    counts = raw.astype(np.int64)
    if not np.array_equal(counts, raw):
        raise ValueError("successes must be whole numbers: the running counts after each example")
    steps = np.diff(counts, prepend=0)
    if np.any((steps != 0) & (steps != 1)):
        raise ValueError("successes must be running counts: each adds 0 or 1 to the one before (use numpy.cumsum)")
    return counts


def bounded_scores(scores: ArrayLike) -> Floats:
    """The scores as floats, shape (t,), each in [0, 1]."""
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        return np.zeros(0)
    if values.ndim != 1:
        raise ValueError(f"scores has shape {values.shape}; it must have one dimension")
    if not np.all((values >= 0.0) & (values <= 1.0)):
        raise ValueError("scores must all lie in [0, 1]")
    return values


def check_count(successes: int, n: int) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} examples: it must be 0 <= successes <= n")


def check_open(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} is {value}; it must lie strictly between 0 and 1")


def check_unit(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is {value}; it must lie in [0, 1]")


def check_prior(prior: Prior) -> None:
    if len(prior) != 2 or not all(0.0 < part < np.inf for part in prior):
        raise ValueError(f"prior is {prior}; it must be two positive numbers, the a and b of a Beta distribution")


def check_population(population: int, seen: int) -> None:
    if population < max(seen, 1):
        raise ValueError(f"a population of {population} cannot hold the {seen} examples that were seen")


def running_intersection(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The intersection of all intervals so far, at each time.

    Where it would be empty (an event whose probability the error level bounds, unless the data drift), the last
    interval that was not empty stands: a superset, so it is as valid, and a reader never meets low > high.
    """
    low, high = np.maximum.accumulate(low), np.minimum.accumulate(high)
    empty = np.flatnonzero(low > high)
    if empty.size and empty[0] > 0:
        low[empty[0] :], high[empty[0] :] = low[empty[0] - 1], high[empty[0] - 1]
    return low, high
