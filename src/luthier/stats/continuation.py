"""Continuations: what a race of scores in [0, 1] would come to, from scores like those it has seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luthier.stats.betting import log_gains, log_mixture
from luthier.stats.checks import Ints, bounded_scores, check_open

_LOOKS = 64  # times of a continuation at which it is looked at
_DRAWS = 400
# counts held at once: 16 MB. Few large products: with small ones, threads of the algebra library wait for each other
_CELLS = 2_000_000


def continued_races(
    low_scores: ArrayLike,
    high_scores: ArrayLike,
    target: float,
    alpha: float,
    further: int,
    rng: np.random.Generator,
    draws: int = _DRAWS,
) -> tuple[Ints, Ints]:
    """After how many further scores each simulated continuation ends in MEETS, and in DOES NOT MEET; -1: it does not.

    `low_scores` and `high_scores`, shape (t,), are the scores that were seen, unscored answers at their worst and at
    their best. A continuation draws its scores from those that were seen, reweighted at random (the Bayesian
    bootstrap, Rubin 1981) together with half a 0 and half a 1 of prior weight: on scores that are 0 or 1 that is the
    Beta(1/2, 1/2) posterior. It is looked at `_LOOKS` times in geometric steps: a time is rounded up to the next one.
    Two arrays of shape (draws,). Simulated: for what to spend, never for a claim. Raises ValueError.

    >>> meets, fails = continued_races([0.8] * 30, [0.8] * 30, 0.6, 0.05, 500, np.random.default_rng(0))
    >>> bool((meets > 0).mean() > 0.9), bool((fails > 0).mean() < 0.02)
    (True, True)
    """
    low, high = bounded_scores(low_scores), bounded_scores(high_scores)
    check_open("alpha", alpha)
    if low.size != high.size or low.size == 0 or further < 1:
        raise ValueError("low_scores and high_scores must be as long as each other, and further at least 1")
    looks = np.unique(np.geomspace(1, further, min(_LOOKS, further)).round().astype(np.int64))
    steps = np.diff(looks, prepend=0)
    pools = [np.append(scores, (0.0, 1.0)) for scores in (low, 1.0 - high)]
    pools[1][-2:] = (1.0, 0.0)  # the same two pseudo-scores, mirrored
    gains = [log_gains(pool, mean) for pool, mean in zip(pools, (target, 1.0 - target), strict=True)]
    bases = [gain[: low.size].sum(axis=0) for gain in gains]
    prior = np.append(np.ones(low.size), (0.5, 0.5))
    found = np.full((2, draws), -1, dtype=np.int64)
    chunk = max(1, _CELLS // (looks.size * prior.size))
    for begin in range(0, draws, chunk):
        size = min(chunk, draws - begin)
        weights = rng.dirichlet(prior, size=size)
        counts = np.stack([np.cumsum(rng.multinomial(steps, each), axis=0) for each in weights]).astype(np.float64)
        times = np.array(
            [
                _crossing(log_mixture(base + counts @ gain) >= -np.log(alpha), looks)
                for base, gain in zip(bases, gains, strict=True)
            ]
        )
        for side in (0, 1):
            first = (times[side] <= further) & (times[side] <= times[1 - side])
            if side == 1:
                first &= times[1] < times[0]
            found[side, begin : begin + size] = np.where(first, times[side], -1)
    return found[0], found[1]


def _crossing(crossed: NDArray[np.bool_], looks: Ints) -> Ints:
    """The first look at which each row has crossed; one more than the last where it never does."""
    return np.asarray(np.where(crossed.any(axis=-1), looks[crossed.argmax(axis=-1)], looks[-1] + 1), np.int64)
