"""Latency: how long a predictor lets people wait, by an open-loop probe: requests arrive by a clock, answered or not.

One example: a model answers in 1.0 s, and 0.8 requests a second arrive. Asked one after the other it is never slower
than 1.0 s; in the probe one request in twenty takes 7.6 s or longer, for it stands in a queue.

Whoever waits for an answer before asking again leaves out the very requests that would have waited: coordinated
omission (Tene, "How NOT to Measure Latency", 2013). So arrivals follow a Poisson clock of their own, and a latency
counts from the moment at which a request was meant to be sent.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from luthier.errors import DataError
from luthier.stats.quantiles import Quantile, quantile
from luthier.types import Input, Prediction, Predictor

VERSION = 1
QUANTILES: Mapping[str, float] = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
BATCH = 16  # the most that one worker answers together: what waits is taken as one batch, as a race does
ENOUGH_CALLS = 10
MOST_SECONDS = 120.0  # of the predictor's time; then nothing more arrives
# enough to show an upper end where a third of the time is busy: the dependence between neighbours takes its share
REQUESTS: Mapping[str, int] = {"p50": 100, "p95": 400, "p99": 1500}

Floats = NDArray[np.float64]
Working = Callable[[int, int], None]


class Clock(Protocol):
    """Seconds that pass by themselves, and may be let pass where nothing is under way."""

    def now(self) -> float: ...
    def skip(self, seconds: float) -> None: ...


@dataclass
class SkippingClock:
    """The machine's own clock. Time in which nobody waits and nothing is answered is skipped: it changes no latency."""

    _skipped: float = 0.0

    def now(self) -> float:
        return time.perf_counter() + self._skipped

    def skip(self, seconds: float) -> None:
        self._skipped += max(0.0, seconds)


@dataclass(frozen=True, slots=True)
class Load:
    """What arrives: so many requests a second in the mean, `together` of them at the same moment, by a Poisson clock.

    `workers` answer side by side (a local model is one worker, an endpoint as many as it may be asked at once), each
    up to `batch` waiting requests together.
    """

    requests_per_s: float
    together: int = 1
    requests: int = REQUESTS["p99"]
    workers: int = 1
    batch: int = BATCH
    most_seconds: float = MOST_SECONDS

    def arrivals(self, seed: int) -> Floats:
        """Seconds from the start at which each request is meant to be sent, in order."""
        rng = np.random.default_rng(seed)
        moments = -(-self.requests // self.together)
        gaps = rng.exponential(self.together / self.requests_per_s, moments)
        return np.repeat(np.cumsum(gaps), self.together)[: self.requests]


@dataclass(frozen=True)
class Probed:
    """What a probe measured, in seconds. `alone`: the time that answering took without the wait before it, which is
    what asking one after the other would have shown. `busy`: the share of the time that workers were at work;
    `keeps_up` is False where requests were shown to arrive faster than they are answered: the queue grows without end.
    `cycles`: how often a request found nobody before it; between those, latencies depend on each other.
    """

    load: Load
    latency: Mapping[str, Quantile]
    alone: Mapping[str, Quantile]
    busy: float
    keeps_up: bool
    failed: int
    cycles: int
    inputs: int
    seconds: float

    def plain(self) -> dict[str, Any]:
        """The same as plain values, in milliseconds; an end that is unknown is None."""
        return {
            "requests_per_s": self.load.requests_per_s,
            "together": self.load.together,
            "workers": self.load.workers,
            "batch": self.load.batch,
            "requests": next(iter(self.latency.values())).n,
            "failed": self.failed,
            "ms": {name: _in_ms(each) for name, each in self.latency.items()},
            "alone_ms": {name: _in_ms(each) for name, each in self.alone.items()},
            "busy": self.busy,
            "keeps_up": self.keeps_up,
            "cycles": self.cycles,
            "inputs": self.inputs,
            "seconds": self.seconds,
        }


def _in_ms(found: Quantile) -> dict[str, Any]:
    def ms(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else 1000.0 * value

    return {**asdict(found), "value": ms(found.value), "low": ms(found.low), "high": ms(found.high)}


def probe(
    predictor: Predictor,
    inputs: Sequence[Input],
    load: Load,
    *,
    seed: int = 0,
    clock: Clock | None = None,
    working: Working = lambda done, total: None,
) -> Probed:
    """Ask the predictor as requests would really arrive; how long each took from when it was meant to be sent.

    Inputs are asked in order, and again from the beginning where there are fewer than requests. One is asked before the
    clock starts, so that loading is no latency. A request without an answer counts as slower than all others. Errors:
    DataError without inputs. Does not cover: networks and servers around the predictor, and drift over hours.
    """
    if not inputs:
        raise DataError("there is nothing to ask", where="the latency probe", fix="give it at least one input")
    predictor.predict([inputs[0]])
    asked = _Asked(predictor, inputs, load, load.arrivals(seed), clock or SkippingClock(), working)
    if load.workers == 1:
        asked.in_turn()
    else:
        asked.side_by_side()
    return asked.told()


@dataclass
class _Asked:
    """One probe under way: what waits, what was answered when, and what each call took."""

    predictor: Predictor
    inputs: Sequence[Input]
    load: Load
    arrivals: Floats
    clock: Clock
    working: Working
    waiting: deque[int] = field(default_factory=deque)
    arrived: int = 0
    cycle: int = 0
    cycles: list[int] = field(default_factory=list)
    latency: dict[int, float] = field(default_factory=dict)
    alone: dict[int, float] = field(default_factory=dict)
    calls: list[tuple[float, int]] = field(default_factory=list)
    failed: int = 0
    spent: float = 0.0
    start: float = 0.0
    end: float = 0.0

    def in_turn(self) -> None:
        """One worker, in this thread: nothing runs beside what is measured."""
        self.start = self.clock.now()
        while self._more() or self.waiting:
            self._admit()
            if not self.waiting:
                self._skip()
            at = self._next_batch()
            self._answered(at, *self._call(at))

    def side_by_side(self) -> None:
        """Several workers, a thread each."""
        self.start = self.clock.now()
        running: dict[Future[tuple[Sequence[Prediction], float, float]], list[int]] = {}
        with ThreadPoolExecutor(self.load.workers) as pool:
            while self._more() or self.waiting or running:
                self._admit()
                if not self.waiting and not running:
                    self._skip()
                while self.waiting and len(running) < self.load.workers:
                    at = self._next_batch()
                    running[pool.submit(self._call, at)] = at
                left = self.arrivals[self.arrived] - self._now() if self._more() else None
                for done in wait(running, timeout=left and max(0.0, left), return_when=FIRST_COMPLETED).done:
                    self._answered(running.pop(done), *done.result())

    # ------------------------------------------------------------ arriving

    def _now(self) -> float:
        return self.clock.now() - self.start

    def _more(self) -> bool:
        return self.arrived < len(self.arrivals) and self.spent < self.load.most_seconds * self.load.workers

    def _admit(self) -> None:
        """Whatever was meant to be sent by now waits."""
        now = self._now()
        while self._more() and self.arrivals[self.arrived] <= now:
            self._join()

    def _skip(self) -> None:
        """Nobody waits and nothing is under way: on to the next arrival, whose latency owes nothing to those before."""
        self.clock.skip(float(self.arrivals[self.arrived]) - self._now())
        self.cycle += 1
        self._join()
        self._admit()

    def _join(self) -> None:
        self.cycles.append(self.cycle)
        self.waiting.append(self.arrived)
        self.arrived += 1

    # ------------------------------------------------------------ answering

    def _next_batch(self) -> list[int]:
        return [self.waiting.popleft() for _ in range(min(self.load.batch, len(self.waiting)))]

    def _call(self, at: Sequence[int]) -> tuple[Sequence[Prediction], float, float]:
        began = self._now()
        # the first input was asked before the clock started
        found = self.predictor.predict([self.inputs[(1 + each) % len(self.inputs)] for each in at])
        return found, began, self._now()

    def _answered(self, at: Sequence[int], found: Sequence[Prediction], began: float, ended: float) -> None:
        for each, prediction in zip(at, found, strict=True):
            lost = prediction.error is not None
            self.failed += lost
            self.latency[each] = math.inf if lost else ended - float(self.arrivals[each])
            self.alone[each] = math.inf if lost else ended - began
        self.calls.append((ended - began, len(at)))
        self.spent += ended - began
        self.end = max(self.end, ended)
        self.working(len(self.latency), len(self.arrivals))

    # ------------------------------------------------------------ what it says

    def told(self) -> Probed:
        order = sorted(self.latency)
        waited = [self.latency[at] for at in order]
        alone = [self.alone[at] for at in order]
        return Probed(
            load=self.load,
            latency={name: quantile(waited, q, cycles=self.cycles) for name, q in QUANTILES.items()},
            alone={name: quantile(alone, q) for name, q in QUANTILES.items()},
            busy=self.spent / (self.load.workers * self.end),
            keeps_up=self._keeps_up(),
            failed=self.failed,
            cycles=self.cycle,
            inputs=min(len(self.inputs), len(order)),
            seconds=self.spent,
        )

    def _keeps_up(self) -> bool:
        """False where it is shown, at 95 %, that requests arrive faster than full batches are answered."""
        full = np.array([seconds for seconds, size in self.calls if size == self.load.batch])
        if len(full) < ENOUGH_CALLS:
            return True
        half = float(stats.t.ppf(0.975, len(full) - 1)) * float(full.std(ddof=1)) / math.sqrt(len(full))
        each = (float(full.mean()) - half) / self.load.batch
        return self.load.requests_per_s / self.load.workers * each < 1.0
