"""Figures on dev: a metric's value for several predictors that answered the same examples, and their covariance.

One example: two fits are right about 300 and 312 of the same 400 dev examples. The errors .25 and .22 have standard
errors of .022 and .021, but both fits are wrong about mostly the same examples: the difference is known to .009.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from luthier import stats
from luthier.evaluate.scorers import Corpus, Mean, Pooled, confusion
from luthier.stats.checks import Floats
from luthier.types import Row

RESAMPLES = 1000
Metric = Mean | Corpus | Pooled


def losses(columns: Sequence[Sequence[Row]], found: Metric, labels: Sequence[str]) -> tuple[Floats, Floats, int]:
    """(losses, covariance, units): 1 - metric for each column of rows, and their covariance over draws of the examples.

    Each column holds one predictor's rows, all about the same examples in the same order. Groups are one unit each and
    weigh the same; unscored answers count as wrong. Means have the covariance in closed form; for other metrics it is
    that of a seeded bootstrap over the units.
    """
    groups = [row.example.group or row.example.id for row in columns[0]]
    _, unit = np.unique(groups, return_inverse=True)
    size = np.bincount(unit)
    even = 1.0 / size[unit]
    if isinstance(found, Mean) and _about_all(found, columns[0]):
        means = np.stack([np.bincount(unit, even * (1.0 - _scores(rows))) for rows in columns], axis=1)
        return means.mean(axis=0), stats.mean_covariance(means), len(size)
    drawn = np.random.default_rng(0).multinomial(len(size), np.full(len(size), 1.0 / len(size)), RESAMPLES)
    weights = np.concatenate([even[None, :], drawn[:, unit] * even])
    values = np.stack([1.0 - _weighted(rows, weights, found, labels) for rows in columns], axis=1)
    relevant = len(size)
    if isinstance(found, Mean):
        relevant = max(1, min(sum(found.relevant(row.example, row.prediction) for row in rows) for rows in columns))
    return values[0], np.atleast_2d(np.cov(values[1:], rowvar=False)), relevant


def _about_all(found: Mean, rows: Sequence[Row]) -> bool:
    return found.known_beforehand and all(found.relevant(row.example, row.prediction) for row in rows)


def _scores(rows: Sequence[Row]) -> Floats:
    return np.array([0.0 if row.score.value is None else row.score.value for row in rows])


def _weighted(rows: Sequence[Row], weights: Floats, found: Metric, labels: Sequence[str]) -> Floats:
    """The metric under each row of `weights`, shape (resamples, examples); 0 where no example is about it."""
    if isinstance(found, Mean):
        about = np.array([found.relevant(row.example, row.prediction) for row in rows], dtype=np.float64)
        total = weights @ about
        return (weights @ (about * _scores(rows))) / np.where(total > 0, total, 1.0)
    if isinstance(found, Pooled):
        return np.asarray(found.statistic(weights @ found.counts(rows, hopeful=False)))
    assert isinstance(found, Corpus)
    true, predicted = confusion(rows, labels)
    classes = len(labels)
    cells = np.zeros((len(rows), classes * (classes + 1)))
    cells[np.arange(len(rows)), true * (classes + 1) + predicted] = 1.0
    return np.asarray(found.statistic((weights @ cells).reshape(-1, classes, classes + 1)))
