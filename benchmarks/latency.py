"""What the latency probe finds of a queue that theory knows, and how often its intervals hold: benchmarks/latency.py.

A model that takes exactly 1 s a request, Poisson arrivals (M/D/1; the waits are Erlang's of 1909), by a virtual clock:
it takes half a minute of one core. `closed` is what asking one after the other would show, `covers` the share of
probes whose 95 % interval holds the true quantile, `as_if_independent` the same where order statistics are taken as if
neighbours in the queue had nothing to do with each other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.evaluate.latency import QUANTILES, Load, probe
from luthier.stats.quantiles import quantile
from luthier.types import Input, Prediction

RESULTS = Path(__file__).parent / "results" / "latency.json"
PROBES, REQUESTS = 200, 600


@dataclass
class OneSecond:
    """A predictor that takes one virtual second a request, and the clock that knows."""

    at: float = 0.0

    def now(self) -> float:
        return self.at

    def skip(self, seconds: float) -> None:
        self.at += seconds

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        self.at += len(inputs)
        return [Prediction("yes") for _ in inputs]

    def save(self, folder: Path) -> None: ...

    def describe(self) -> dict[str, str]:
        return {}


def latency_quantile(q: float, load: float) -> float:
    """1 s and the wait that is not exceeded with probability q."""

    def cdf(t: float) -> float:
        return (1.0 - load) * sum(
            (-load * (t - k)) ** k / math.factorial(k) * math.exp(load * (t - k)) for k in range(math.floor(t) + 1)
        )

    low, high = 0.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cdf(middle) < q else (low, middle)
    return 1.0 + low


def measured(load: float) -> dict[str, Any]:
    holds = {name: [0, 0, 0] for name in QUANTILES}
    for seed in range(PROBES):
        clock = OneSecond()
        asked = Load(load, requests=REQUESTS, batch=1, most_seconds=1e9)
        found = probe(clock, ["x"], asked, seed=seed, clock=clock)
        waits = [0.0]
        for gap in np.random.default_rng(seed).exponential(1.0 / load, REQUESTS)[1:]:
            waits.append(max(0.0, waits[-1] + 1.0 - gap))
        for name, q in QUANTILES.items():
            truth = latency_quantile(q, load)
            plain = quantile(np.array(waits) + 1.0, q)
            for at, each in enumerate((found.latency[name], plain)):
                inside = (each.low is None or each.low <= truth + 1e-6) and (
                    each.high is None or truth - 1e-6 <= each.high
                )
                holds[name][at] += inside
            holds[name][2] += found.latency[name].high is None
    return {
        name: {
            "truth_s": round(latency_quantile(q, load), 3),
            "closed_s": 1.0,
            "covers": holds[name][0] / PROBES,
            "as_if_independent": holds[name][1] / PROBES,
            "no_upper_end": holds[name][2] / PROBES,
        }
        for name, q in QUANTILES.items()
    }


def main() -> None:
    found = {
        "probes": PROBES,
        "requests": REQUESTS,
        "by_load": {f"{load:g}": measured(load) for load in (0.3, 0.6, 0.8)},
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
