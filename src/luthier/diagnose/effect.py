"""Effect: what an intervention repairs, beyond what a no-op repairs, less the harm it does; with a paired interval.

One example: of 60 failures an intervention repairs 30, rewordings that mean the same repair 3 on average, and of 36
passing answers it breaks 5 where the rewordings break 2. Per failure: 0.50 - 0.05 - (5 - 2) / 60 = 0.40.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from luthier.diagnose.sample import Bools, Floats, Sample

LEVEL = 0.99  # of every interval: eight causes are looked at, so that any is named by chance in less than 5 % of runs
RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class Effect:
    """Shares of the failures, each in [0, 1] but `effect` and its ends, which lie in [-many, 1].

    `repaired`: failures that are right under the intervention. `noop`: those that are right under the control.
    `harmed`: passing answers that the intervention breaks beyond what the control breaks, per failure.
    """

    repaired: float
    noop: float
    harmed: float
    effect: float
    low: float
    high: float

    @property
    def plain(self) -> dict[str, float]:
        return {name: round(float(value), 4) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Change:
    """How the mean score on all asked dev examples would change, with its interval."""

    mean: float
    low: float
    high: float

    @property
    def plain(self) -> dict[str, float]:
        return {"mean": round(self.mean, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


@dataclass(frozen=True)
class Resampling:
    """The same bootstrap resamples of a sample's groups for all probes, so that their differences are paired too.

    `counts`, shape (resamples, groups): how often each group was drawn.
    """

    sample: Sample
    seed: int = 0

    @cached_property
    def counts(self) -> NDArray[np.float64]:
        groups = int(self.sample.groups.max()) + 1
        rng = np.random.default_rng([self.seed, 11])
        return rng.multinomial(groups, np.full(groups, 1.0 / groups), size=RESAMPLES).astype(np.float64)

    @cached_property
    def pseudo(self) -> NDArray[np.float64]:
        """Two pairs that nobody saw, one repaired and one undone, drawn like the others, shape (resamples,).

        Without them nothing of 60 repaired would be known for certain: the bootstrap cannot draw what it never saw
        (Agresti and Min 2005 add half a pair to each cell for the same reason).
        """
        drawn = np.random.default_rng([self.seed, 12]).poisson(1.0, size=(RESAMPLES, 2))
        return (drawn[:, 0] - drawn[:, 1]).astype(np.float64)

    def effect(self, right: Floats, control: Floats, asked: Bools | None = None) -> Effect:
        """The effect of an intervention, from who is right under it and under its control, shape (n,), in [0, 1].

        `asked`, shape (n,): which examples the intervention was asked about; None: all.

        Failures are a selection: asked again in any other way, some come out right. A control that is as free to vary
        as the intervention (rewordings that mean the same) shows how many, and is subtracted: repair and harm alike.
        Harm counts per failure, in the proportion in which passing answers occur on dev: then an intervention that only
        shuffles who is right has an expected effect of nothing, however many were right before. (With one weight for
        each side it would seem to repair where most answers pass, and to harm where most fail.) What an intervention
        spares that the control breaks is no repair: harm is at least 0.
        """
        weights = self.weights(asked)
        fails = self.sample.failing & (weights > 0)
        gain = weights * (right - control)
        many = self._sums(weights * fails)
        repairs = (self._sums(gain * fails) + self.pseudo) / np.maximum(many, 1.0)
        harms = np.maximum(0.0, -self._sums(gain * ~fails) / np.maximum(many, 1.0))
        low, high = self._ends(repairs - harms)
        repaired, noop = float(right[fails].mean()), float(control[fails].mean())
        harmed = max(0.0, -float(gain[~fails].sum()) / float(fails.sum()))
        effect = repaired - noop - harmed
        return Effect(repaired, noop, harmed, effect, min(low, effect), min(1.0, max(high, effect)))

    def weights(self, asked: Bools | None = None) -> Floats:
        """How many dev examples each of the asked ones stands for, shape (n,), so that passing ones keep their part."""
        weights, fails = self.sample.weights, self.sample.failing
        if asked is None:
            return weights
        passing = weights * ~fails
        part = float((fails & asked).sum()) / float(fails.sum())
        left = float((passing * asked).sum())
        scaled = passing * asked * (part * float(passing.sum()) / left if left else 0.0)
        return np.asarray(weights * (fails & asked) + scaled)

    def change(self, scores: Floats, asked: Bools | None = None) -> Change:
        """How the mean score changes from what it was, on all asked examples: no selection, so nothing to subtract."""
        return self._mean(scores - self.sample.base.scores, asked)

    def score(self, scores: Floats, asked: Bools | None = None) -> Change:
        """The mean score on all asked dev examples under an intervention."""
        found = self._mean(scores, asked)
        return Change(found.mean, max(0.0, found.low), min(1.0, found.high))

    def _mean(self, scores: Floats, asked: Bools | None) -> Change:
        weights = self.weights(asked)
        mean = float((weights * scores).sum() / weights.sum())
        drawn = (self._sums(weights * scores) + self.pseudo) / np.maximum(self._sums(weights), 1.0)
        low, high = self._ends(drawn)
        return Change(mean, min(low, mean), max(high, mean))

    def _sums(self, values: Floats) -> Floats:
        groups = np.bincount(self.sample.groups, values, minlength=self.counts.shape[1])
        return np.asarray(self.counts @ groups)

    @staticmethod
    def _ends(drawn: Floats) -> tuple[float, float]:
        tail = (1.0 - LEVEL) / 2
        low, high = np.quantile(drawn, [tail, 1.0 - tail])
        return float(low), float(high)


def best_of(resampling: Resampling, rights: Sequence[Floats], asked: Sequence[Bools]) -> NDArray[np.int64]:
    """Which of several interventions is the best one for each example, as indices, shape (n,).

    The best one is chosen on one half of the groups and read on the other, and the other way round: the best of many
    on the examples that chose it is better than it is.
    """
    sample = resampling.sample
    rng = np.random.default_rng([resampling.seed, 13])
    half = rng.permutation(int(sample.groups.max()) + 1)[sample.groups] % 2
    chosen = np.zeros(len(sample.examples), dtype=np.int64)
    for side in (0, 1):
        means = []
        for right, some in zip(rights, asked, strict=True):
            weights = resampling.weights(some) * (half != side)
            means.append(float((weights * right).sum() / max(float(weights.sum()), 1e-9)))
        chosen[half == side] = int(np.argmax(means))
    return chosen
