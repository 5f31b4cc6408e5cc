"""Latency: the open-loop probe finds the queue that asking one after the other misses; intervals hold what they say."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_server import FaultServer
from test_cli import call
from test_climb import script, task_at
from test_remote_climb import colour
from test_remote_climb import task_at as remote_task_at

import luthier
from luthier.errors import DataError, SpecError, Stopped
from luthier.evaluate.latency import Load, probe
from luthier.models.budget import spent_in
from luthier.models.embed import HashEmbedder
from luthier.models.scripted import ScriptedModel
from luthier.report.verdict import decide
from luthier.stats.quantiles import fewest, quantile
from luthier.task import load_task
from luthier.types import Input, Outcome, Prediction


@dataclass
class VirtualClock:
    """Time that only passes when somebody lets it."""

    at: float = 0.0

    def now(self) -> float:
        return self.at

    def skip(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class Timed:
    """A predictor of known service time: so many seconds a call, and more for each request of it."""

    clock: VirtualClock | None
    a_call: float = 0.0
    a_request: float = 0.0
    failing: frozenset[int] = frozenset()
    sizes: list[int] = field(default_factory=list)
    asked: int = 0

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        seconds = self.a_call + self.a_request * len(inputs)
        if self.clock is None:
            time.sleep(seconds)
        else:
            self.clock.at += seconds
        self.sizes.append(len(inputs))
        first, self.asked = self.asked, self.asked + len(inputs)
        return [
            Prediction(None, error="down") if at in self.failing else Prediction("yes")
            for at in range(first, self.asked)
        ]

    def save(self, folder: Path) -> None: ...

    def describe(self) -> dict[str, str]:
        return {}


def md1_wait_cdf(t: float, load: float) -> float:
    """P(wait <= t) of a queue with Poisson arrivals and a service of exactly 1 s (Erlang 1909)."""
    return (1.0 - load) * sum(
        (-load * (t - k)) ** k / math.factorial(k) * math.exp(load * (t - k)) for k in range(math.floor(t) + 1)
    )


def md1_latency(q: float, load: float) -> float:
    low, high = 0.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if md1_wait_cdf(middle, load) < q else (low, middle)
    return 1.0 + low


# ---------------------------------------------------------------- the queue


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_the_probe_finds_the_latencies_that_queueing_theory_says(load: float) -> None:
    clock = VirtualClock()
    found = probe(Timed(clock, a_call=1.0), ["x"], Load(load, requests=6_000, batch=1, most_seconds=1e9), clock=clock)
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        each, truth = found.latency[name], md1_latency(q, load)
        assert each.value == pytest.approx(truth, rel=0.12), name
        assert each.low is not None
        assert each.low - 1e-9 <= truth, name
        assert each.high is None or truth <= each.high, name
    assert found.busy == pytest.approx(load, rel=0.05)
    assert found.keeps_up


def test_asking_one_after_the_other_would_have_missed_the_queue() -> None:
    clock = VirtualClock()
    predictor = Timed(clock, a_call=1.0)
    found = probe(predictor, ["x"], Load(0.8, requests=1_500, batch=1, most_seconds=1e9), clock=clock)
    closed = []
    for _ in range(200):  # a closed loop: the next is sent when the last is answered
        before = clock.now()
        predictor.predict(["x"])
        closed.append(clock.now() - before)
    assert max(closed) == pytest.approx(1.0), "whoever waits for the answer never sees the queue"
    assert found.alone["p99"].value == pytest.approx(1.0), "and the probe says what that would have shown"
    assert found.latency["p50"].value > 1.5
    assert found.latency["p99"].value > 6.0


def test_a_stall_is_felt_by_all_who_were_meant_to_be_sent_meanwhile() -> None:
    """Tene's example: one stall of 100 s in 200 s of fast answers, one request a second."""

    class Stalling(Timed):
        def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
            assert self.clock is not None
            if self.asked == 100:
                self.clock.at += 100.0
            return super().predict(inputs)

    clock = VirtualClock()
    load = Load(1.0, requests=200, batch=1, most_seconds=1e9)
    found = probe(Stalling(clock, a_call=0.001), ["x"], load, clock=clock)
    assert found.alone["p95"].value < 0.01
    assert found.latency["p95"].value > 50.0
    assert found.latency["p95"].high is None or found.latency["p95"].high > 80.0


def test_whoever_cannot_keep_up_is_told_so() -> None:
    clock = VirtualClock()
    slow = probe(Timed(clock, a_call=1.0), ["x"], Load(1.25, requests=400, batch=1, most_seconds=1e9), clock=clock)
    assert not slow.keeps_up
    batched = probe(Timed(clock, a_call=1.0), ["x"], Load(1.25, requests=400, most_seconds=1e9), clock=clock)
    assert batched.keeps_up, "what waits is answered together, and a batch takes no longer here"
    assert batched.latency["p99"].value <= 2.0 + 1e-9
    each = probe(Timed(clock, a_request=1.0), ["x"], Load(1.25, requests=400, most_seconds=1e9), clock=clock)
    assert not each.keeps_up, "a batch that takes as long as its requests one by one gains nothing"


def test_requests_that_come_together_wait_for_each_other() -> None:
    clock = VirtualClock()
    apart = probe(Timed(clock, a_request=0.1), ["x"], Load(0.5, requests=400, batch=1, most_seconds=1e9), clock=clock)
    fours = Load(0.5, together=4, requests=400, batch=1, most_seconds=1e9)
    assert apart.latency["p50"].value == pytest.approx(0.1)
    assert probe(Timed(clock, a_request=0.1), ["x"], fours, clock=clock).latency["p50"].value >= 0.2


def test_time_in_which_nobody_waits_is_skipped_and_what_fails_is_slower_than_all() -> None:
    started = time.perf_counter()
    quick = Timed(None, a_call=0.001, failing=frozenset(range(50, 60)))
    found = probe(quick, ["x", "y"], Load(0.05, requests=100))
    assert time.perf_counter() - started < 5.0, "100 requests at one in 20 s, and no 33 minutes"
    assert found.failed == 10
    assert found.latency["p95"].value == math.inf
    assert found.plain()["ms"]["p95"]["value"] is None
    assert 0.001 <= found.latency["p50"].value < 0.05
    assert found.cycles == 100
    json.dumps(found.plain(), allow_nan=False)


def test_several_workers_answer_side_by_side_by_the_real_clock() -> None:
    one = probe(Timed(None, a_call=0.02), ["x"], Load(60.0, requests=40, batch=1))
    four = probe(Timed(None, a_call=0.02), ["x"], Load(60.0, requests=40, workers=4, batch=1))
    assert one.latency["p50"].value > 2 * four.latency["p50"].value
    assert four.latency["p50"].value >= 0.02
    assert not one.keeps_up
    assert four.keeps_up


def test_a_probe_ends_after_the_time_it_may_take() -> None:
    clock = VirtualClock()
    found = probe(Timed(clock, a_call=1.0), ["x"], Load(0.1, requests=1_500, most_seconds=30.0), clock=clock)
    assert 25 <= found.latency["p50"].n <= 35
    assert found.latency["p99"].high is None, "too few to show it"
    with pytest.raises(DataError, match="nothing to ask"):
        probe(Timed(clock), [], Load(1.0))


def test_the_same_seed_gives_the_same_arrivals() -> None:
    load = Load(2.0, together=3, requests=10)
    assert load.arrivals(7).tolist() == load.arrivals(7).tolist()
    assert load.arrivals(7).tolist() != load.arrivals(8).tolist()
    assert len(load.arrivals(7)) == 10
    many = Load(2.0, together=3, requests=30_000).arrivals(0)
    assert 30_000 / many[-1] == pytest.approx(2.0, rel=0.05), "the rate is that of requests, not of moments"


# ---------------------------------------------------------------- intervals of quantiles


def test_an_interval_of_independent_observations_has_the_ranks_of_the_binomial() -> None:
    found = quantile(np.arange(1, 101), 0.5)
    assert (found.low, found.high) == (40.0, 61.0)  # Hahn and Meeker 1991, table A.15a: 40 and 61 of 100
    assert quantile(np.arange(1, 100), 0.95, confidence=0.95).high is not None
    for q in (0.5, 0.95, 0.99):
        n = fewest(q)
        assert quantile(np.arange(n), q).high is not None
        assert quantile(np.arange(n - 1), q).high is None


def test_the_interval_covers_the_truth_although_neighbours_in_a_queue_depend_on_each_other() -> None:
    load, runs, covered, naive = 0.6, 60, 0, 0
    truth = md1_latency(0.95, load)
    for seed in range(runs):
        clock = VirtualClock()
        timed = Load(load, requests=600, batch=1, most_seconds=1e9)
        each = probe(Timed(clock, a_call=1.0), ["x"], timed, seed=seed, clock=clock).latency["p95"]
        covered += (each.low is None or each.low <= truth) and (each.high is None or truth <= each.high)
    rng = np.random.default_rng(0)
    for _ in range(runs):
        waits = [0.0]
        for gap in rng.exponential(1 / load, 599):
            waits.append(max(0.0, waits[-1] + 1.0 - gap))
        plain = quantile(np.array(waits) + 1.0, 0.95)
        naive += plain.low <= truth and (plain.high is None or truth <= plain.high)  # type: ignore[operator]
    assert covered / runs >= 0.90  # 200 probes: benchmarks/latency.py
    assert naive / runs < 0.75, "as if they were independent, it would hold in little more than half of all cases"


def test_one_cycle_counts_as_one_observation() -> None:
    found = quantile(np.arange(500), 0.95, cycles=np.zeros(500, dtype=int))
    assert found.effective == 1.0
    assert found.high is None


# ---------------------------------------------------------------- limits decide


def slow_models(latency_s: float) -> dict[str, Any]:
    return {"prompted": ScriptedModel(script, name="oracle", latency_s=latency_s), "embedder": HashEmbedder()}


def limited(folder: Path, more: str, rungs: tuple[str, ...] = ("majority", "zero-shot")) -> Path:
    path = task_at(folder, rungs=rungs)
    path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")
    return path


def test_a_limit_that_is_broken_excludes_and_the_climb_goes_on(tmp_path: Path) -> None:
    more = "[constraints]\nlatency_p50_ms = 2\nrequests_per_s = 20\n"
    path = limited(tmp_path, more, ("zero-shot", "calibrated"))
    free = limited(tmp_path / "free", "", ("zero-shot", "calibrated"))
    assert load_task(path).fingerprint == load_task(free).fingerprint, "it chooses, and changes nothing measured"
    verdict = luthier.run(path, models=slow_models(0.004))
    slow, next_one = verdict.candidates
    assert (slow.outcome, slow.eligible) == (Outcome.MEETS, "no")
    (why,) = slow.blocked_by  # the limit, and nothing else
    assert why.startswith("latency_p50_ms: ")
    assert why.endswith("at 20 requests a second against at most 2 ms")
    assert verdict.chosen is None
    assert "zero-shot@oracle, calibrated@oracle would meet it but may not be used" in verdict.sentence
    assert next_one.outcome is Outcome.MEETS, "the climb went on"
    assert next_one.blocked_by
    found = verdict.to_dict()["candidates"][0]["latency"]
    assert found["requests"] == 100
    assert found["ms"]["p50"]["low"] > 4
    again = slow_models(0.004)
    luthier.run(path, models=again)
    assert again["prompted"].calls == 0, "what was probed is kept"


def test_a_limit_that_holds_is_shown_and_one_that_cannot_be_is_named(tmp_path: Path) -> None:
    more = "[constraints]\nlatency_p50_ms = 200\nrequests_per_s = 2\n"
    verdict = luthier.run(limited(tmp_path, more), models=slow_models(0.001))
    assert verdict.chosen == "zero-shot@oracle"
    assert verdict.candidates[1].eligible == "yes"
    assert "it answers 50 % within" in verdict.to_markdown(tmp_path / "r.md").read_text(encoding="utf-8")
    run = replace(verdict.runs[1], latency={**(verdict.runs[1].latency or {}), "ms": {"p50": UNSHOWN}})
    spec = verdict.task
    (result,) = decide([run], {}, spec.target, spec.constraints, task=spec).candidates
    assert result.eligible == "unknown"
    assert "is not shown to be at most 200 ms (100 requests)" in result.unsettled[0]
    away = replace(run, latency={**(run.latency or {}), "elsewhere": "modal-l4", "ms": {"p50": SLOW}})
    (result,) = decide([away], {}, spec.target, spec.constraints, task=spec).candidates
    assert result.eligible == "unknown", "what was measured here says nothing about another machine"
    flooded = replace(run, latency={**(run.latency or {}), "keeps_up": False})
    (result,) = decide([flooded], {}, spec.target, spec.constraints, task=spec).candidates
    assert "arrive faster than they are answered" in result.blocked_by[0]


UNSHOWN = {"value": 150.0, "low": 90.0, "high": None, "n": 100, "effective": 4.0}
SLOW = {"value": 900.0, "low": 800.0, "high": 950.0, "n": 100, "effective": 100.0}


def test_a_limit_without_a_load_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="latency_p99_ms needs to know how much is asked"):
        load_task(limited(tmp_path, "[constraints]\nlatency_p99_ms = 500\n"))
    with pytest.raises(SpecError, match="latency_p50_ms = 500 never counts beside latency_p99_ms = 100"):
        load_task(limited(tmp_path, "[constraints]\nlatency_p50_ms = 500\nlatency_p99_ms = 100\nrequests_per_s = 1\n"))
    with pytest.raises(SpecError, match="greater than 0"):
        load_task(limited(tmp_path, "[constraints]\nlatency_p99_ms = 0\nrequests_per_s = 1\n"))


def test_cost_probes_what_the_last_run_chose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = limited(tmp_path, "[economics]\nmonthly_requests = 300000\n", ("majority", "tfidf"))
    assert call("cost", str(path), "--probe") == 2
    assert "no run" in capsys.readouterr().err
    luthier.run(path, models=slow_models(0.0))
    assert call("cost", str(path), "--probe", "--json") == 0
    found = json.loads(capsys.readouterr().out)["latency"]
    assert found["candidate"] == "tfidf"
    assert found["requests_per_s"] == pytest.approx(300_000 / (730 * 3600) * 3)
    assert found["ms"]["p50"]["low"] <= found["ms"]["p50"]["value"] <= found["ms"]["p50"]["high"]
    assert call("cost", str(path), "--probe") == 0
    assert (
        "How long requests wait for tfidf:\n  At 0.342 requests a second it answers 50 % within"
        in capsys.readouterr().out
    )


def test_an_endpoint_is_asked_anew_and_side_by_side_and_a_rerun_asks_nothing(tmp_path: Path) -> None:
    more = "[constraints]\nlatency_p50_ms = 5000\nrequests_per_s = 2\n"
    with FaultServer(colour).running() as server:
        path = remote_task_at(
            tmp_path, server.base_url, rungs=("zero-shot",), remote="concurrency = 4\nstructured = false", more=more
        )
        verdict = luthier.run(path)
        asked = len(server.bodies)
        luthier.run(path)
        assert len(server.bodies) == asked
    found = verdict.to_dict()["candidates"][0]["latency"]
    assert (found["workers"], found["batch"], found["requests"]) == (4, 1, 100)
    assert asked >= verdict.candidates[0].estimate.n + 101  # type: ignore[union-attr]
    assert verdict.chosen == "zero-shot@served"


def test_a_limit_of_money_stops_a_probe_as_it_stops_a_race(tmp_path: Path) -> None:
    more = "[constraints]\nlatency_p50_ms = 5000\nrequests_per_s = 2\n"
    with FaultServer(colour).running() as server:
        free = remote_task_at(tmp_path, server.base_url, rungs=("zero-shot",), remote="structured = false")
        luthier.run(free)
        spent = spent_in(tmp_path / ".luthier").tokens
        text = free.read_text(encoding="utf-8") + f"{more}[limits]\nmax_tokens = {spent + 500}\n"
        free.write_text(text, encoding="utf-8")
        with pytest.raises(Stopped):
            luthier.run(free)


def test_a_machine_gets_its_share_of_what_all_tasks_send_and_another_machine_is_not_judged_by_this_one(
    tmp_path: Path,
) -> None:
    more = '[economics]\nmonthly_requests = 3e6\ntasks = 2\ndeploy = "host"\n[constraints]\nlatency_p50_ms = 0.000001\n'
    verdict = luthier.run(limited(tmp_path, more, ("tfidf",)), models=slow_models(0.0))
    (result,) = verdict.candidates
    found = verdict.to_dict()["candidates"][0]["latency"]
    assert found["requests_per_s"] == pytest.approx(3e6 * 2 / (730 * 3600) * 3), "one machine answers both tasks"
    assert found["elsewhere"] == "modal-l4"
    assert result.eligible == "unknown"
    assert "measured here and not on modal-l4" in result.unsettled[0]
    assert verdict.chosen == "tfidf", "it is not shown to be too slow there"
    assert "chosen with an open question: latency_p50_ms" in " ".join(verdict.reasons)
