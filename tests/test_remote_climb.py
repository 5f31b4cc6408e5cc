"""Whole climbs with a remote model: faults, budgets, kills, privacy, and answers that are no label."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from builders import colour_rows, write_task
from fault_server import Fault, FaultServer
from test_climb import TOML, WARM, script, timeless
from typer.testing import CliRunner

import luthier
from luthier.cli import app
from luthier.errors import SpecError, Stopped
from luthier.models.budget import spent_in
from luthier.models.cache import ResponseCache
from luthier.models.scripted import ScriptedModel
from luthier.types import Outcome

KEY = "sk-a-key-that-nobody-may-see-1234567890"
FAR = "https://models.example.invalid/v1"


def colour(body: dict[str, Any]) -> str:
    text = body["messages"][-1]["content"]
    return "warm" if any(each in text for each in WARM) else "cold"


def task_at(
    folder: Path,
    base_url: str,
    *,
    rungs: tuple[str, ...] = ("zero-shot", "few-shot"),
    at_least: float = 0.85,
    noise: int = 0,
    more: str = "",
    remote: str = "",
) -> Path:
    toml = TOML.format(rungs=str(list(rungs)).replace("'", '"'), at_least=at_least)
    toml += f'[models]\nprompted = "served"\n[remote.served]\nbase_url = "{base_url}"\nmodel = "m"\n{remote}\n{more}\n'
    return write_task(folder, colour_rows(600, noise=noise), toml)


def faulty(number: int, _body: dict[str, Any]) -> Fault | None:
    """Three requests in ten go wrong, each in another way."""
    return {
        2: Fault("status", 429, {"Retry-After": "0.01"}),
        5: (Fault("truncated"), Fault("malformed"), Fault("no-usage"))[number % 3],
        8: (Fault("status", 500), Fault("status", 503), Fault("slow", seconds=0.4))[number % 3],
    }.get(number % 10)


@pytest.mark.slow
def test_faults_change_neither_the_verdict_nor_the_tokens(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"rungs": ("zero-shot",), "at_least": 0.7, "noise": 6}
    settings["remote"] = "timeout_s = 0.3\nretries = 12"
    with FaultServer(colour).running() as calm, FaultServer(colour, faulty).running() as rough:
        expected = luthier.run(task_at(tmp_path / "calm", calm.base_url, **settings))
        found = luthier.run(task_at(tmp_path / "rough", rough.base_url, **settings))
    assert len(rough.bodies) > 1.3 * len(calm.bodies)

    def plain(verdict: Any) -> dict[str, Any]:
        told = timeless(verdict)
        for where in ("task_fingerprint", "models", "predictors", "alpha_ledger"):  # the two servers' ports
            del told["provenance"][where]
        return told

    assert plain(found) == plain(expected)
    assert [run.usage for run in found.runs] == [run.usage for run in expected.runs]
    assert all(result.unscored == 0 for result in found.candidates)


def test_a_text_only_model_is_raced_and_rungs_that_need_probabilities_say_why_they_are_not(tmp_path: Path) -> None:
    with FaultServer(colour).running() as server:
        path = task_at(tmp_path, server.base_url, rungs=("calibrated", "zero-shot"))
        verdict = luthier.run(path, options=luthier.Options(all_rungs=True))
        asked = len(server.bodies)
    by_name = {result.candidate.name: result for result in verdict.candidates}
    assert by_name["zero-shot@served"].outcome is Outcome.MEETS
    assert by_name["calibrated@served"].outcome is Outcome.NOT_MEASURED
    (reason,) = by_name["calibrated@served"].reasons
    assert "calibrated needs the probability of each label, and served tells only its answer" in reason
    assert asked == len(set(map(question, server.bodies))), "nothing was asked for the rung left out"


def test_answers_that_are_no_label_are_a_wrong_class_of_their_own(tmp_path: Path) -> None:
    def vague(body: dict[str, Any]) -> str:
        text = str(body["messages"][-1]["content"])
        return "warm, I would say" if re.search(r"number \d*3 ", text) else colour(body)

    with FaultServer(vague).running() as server:
        path = task_at(tmp_path, server.base_url, remote="structured = false")
        verdict = luthier.run(path, options=luthier.Options(all_rungs=True, exhaustive=True))
    result = verdict.candidates[0]
    wrong = [row for row in verdict.runs[0].rows if row.prediction.output == "warm, I would say"]
    assert result.off_label == len(wrong) > 20
    assert all(row.score.value == 0.0 and row.prediction.error is None for row in wrong)
    told = verdict.to_dict()["candidates"][0]["off_label"]
    assert told == {"count": len(wrong), "of": 300, "rate": len(wrong) / 300}
    assert any("are none of the labels" in reason for reason in result.reasons)
    assert result.estimate is not None
    assert result.estimate.mean == pytest.approx(1 - len(wrong) / 300)
    assert "Answers that are none of the labels" in str(verdict.to_summary()["questions"])


def test_a_budget_stops_the_climb_and_the_same_command_resumes_with_what_was_paid_for(tmp_path: Path) -> None:
    with FaultServer(colour).running() as server, FaultServer(colour).running() as other:
        settings: dict[str, Any] = {"rungs": ("zero-shot",), "noise": 6}
        path = task_at(tmp_path / "one", server.base_url, more="[limits]\nmax_tokens = 2500", **settings)
        with pytest.raises(Stopped, match=r"out of budget.* tokens are spent") as caught:
            luthier.run(path)
        asked = len(server.bodies)
        assert asked > 20
        assert "[limits] max_tokens" in str(caught.value)
        again = CliRunner().invoke(app, ["run", str(path)], catch_exceptions=True)
        assert isinstance(again.exception, Stopped)
        assert again.exception.exit_code == 3
        assert len(server.bodies) <= asked + 2, "only what is shorter, and so may still fit"
        assert spent_in(tmp_path / "one" / ".luthier").tokens <= 2500
        path.write_text(path.read_text().replace("max_tokens = 2500", "max_tokens = 10_000_000"))
        found = luthier.run(path)
        expected = luthier.run(task_at(tmp_path / "other", other.base_url, **settings))
    assert len(server.bodies) == len(other.bodies)
    assert len(server.bodies) == len(set(map(question, server.bodies)))
    assert [result.outcome for result in found.candidates] == [result.outcome for result in expected.candidates]
    assert [result.estimate for result in found.candidates] == [result.estimate for result in expected.candidates]


def question(body: Mapping[str, Any]) -> str:
    """What makes a request another one: an answer drawn again has the same messages, and another seed."""
    return str([body["messages"], body["temperature"], body.get("seed")])


CLIMB = """
import sys
import luthier
luthier.run(sys.argv[1])
"""


def test_a_kill_loses_only_what_was_in_flight(tmp_path: Path) -> None:
    with FaultServer(colour, delay_s=0.02).running() as server:
        path = task_at(tmp_path, server.base_url, rungs=("few-shot",), remote="concurrency = 3")
        process = subprocess.Popen([sys.executable, "-c", CLIMB, str(path)])
        until = time.monotonic() + 120
        while server.answered < 50:  # in the middle of the first set's dev examples and the second's
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.1)
        before = list(map(question, server.bodies))
        cache = ResponseCache(tmp_path / ".luthier" / "responses.db")
        kept = sum(each.entries for each in cache.contents())
        cache.close()
        assert len(before) - 3 <= kept <= len(before)
        verdict = luthier.run(path)
        after = list(map(question, server.bodies[len(before) :]))
    assert verdict.outcome is Outcome.MEETS
    assert len(set(before) & set(after)) <= 3


def test_a_key_shows_in_no_file_and_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", KEY)

    def plan(number: int, body: dict[str, Any]) -> Fault | None:
        return Fault("status", 400, message=f"what is {KEY}?") if number % 9 == 5 else None

    with FaultServer(colour, plan).running() as server:
        path = task_at(tmp_path, server.base_url, rungs=("zero-shot",), remote='key_env = "THE_KEY"')
        result = CliRunner().invoke(app, ["run", str(path), "--json"])
    assert KEY in server.headers[0]["authorization"]
    assert '"unscored": 0' not in result.output
    assert KEY not in result.output + result.stderr
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert len(files) > 6
    assert all(KEY.encode() not in each.read_bytes() for each in files)
    assert any(b"[key]" in each.read_bytes() for each in files), "the message itself is kept"


def test_another_size_of_the_context_is_another_fit_and_keeps_the_answers(tmp_path: Path) -> None:
    with FaultServer(colour).running() as server:
        shown, prompts = [], []
        for size in (300, 100_000, 300):
            remote = f"context_tokens = {size}"
            verdict = luthier.run(task_at(tmp_path, server.base_url, rungs=("many-shot",), remote=remote))
            prompts.append(max((len(body["messages"]) for body in server.bodies), default=0))
            shown.append(len(server.bodies))
            assert verdict.outcome is Outcome.MEETS
    assert 0 < shown[0] < shown[1] == shown[2], "what was answered before is not asked again"
    assert prompts[0] < prompts[1]


# ---------------------------------------------------------------- what luthier.toml may say


def refused(folder: Path, base_url: str, **more: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        luthier.load_task(task_at(folder, base_url, **more))
    return caught.value


def test_local_only_with_a_remote_model_is_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    error = refused(tmp_path, FAR, remote='key_env = "K"', more="[constraints]\nlocal_only = true")
    assert "local_only = true, and [models] prompted = 'served' is a model on another machine" in error.what
    with FaultServer(colour).running() as server:
        path = task_at(tmp_path, server.base_url, rungs=("zero-shot",), more="[constraints]\nlocal_only = true")
        verdict = luthier.run(path)
    assert verdict.chosen == "zero-shot@served", "a server on this machine is this machine"
    assert verdict.runs[0].remote is False


def test_a_model_that_is_given_and_remote_is_an_error_too_and_is_told_where_it_is_allowed(tmp_path: Path) -> None:
    class Far(ScriptedModel):
        remote = True

    model = Far(script, name="far")
    path = task_at(tmp_path, "http://127.0.0.1:1/v1", rungs=("zero-shot",), more="[constraints]\nlocal_only = true")
    with pytest.raises(SpecError, match="far is on another machine"):
        luthier.run(path, models={"prompted": model})
    assert model.calls == 0
    path.write_text(path.read_text().replace("local_only = true", "local_only = false"))
    verdict = luthier.run(path, models={"prompted": model})
    assert verdict.runs[0].remote is True
    assert "sent the inputs to another machine" in str(verdict.to_summary()["questions"])


def test_the_fingerprint_of_a_task_holds_what_is_asked_where_and_no_budget(tmp_path: Path) -> None:
    def fingerprint(base_url: str = "http://localhost:1/v1", **more: Any) -> str:
        return luthier.load_task(task_at(tmp_path, base_url, **more)).fingerprint

    base = fingerprint()
    assert fingerprint("http://localhost:2/v1") != base
    assert fingerprint(remote="structured = false") != base
    assert fingerprint(remote='api = "anthropic"') != base
    sizes = {fingerprint(remote=f"context_tokens = {size}") for size in (600, 100_000)}
    assert len(sizes | {base}) == 3
    assert fingerprint(remote="concurrency = 2\ntimeout_s = 3.0\nusd_per_million = {input = 1.0, output = 2.0}") == base
    assert fingerprint(more="[limits]\nmax_tokens = 5\n[cache]\nenabled = false") == base
    assert fingerprint(more='[remote.unused]\nmodel = "x"') == base


@pytest.mark.parametrize(
    ("base_url", "more", "place", "what", "fix"),
    [
        (FAR, {}, "[remote.served]", "needs `key_env`", "key_env ="),
        ("models.example", {}, "[remote.served] base_url", "no http address", "https://"),
        (f"https://user:{KEY}@x.example/v1", {}, "[remote.served] base_url", "no user, key", "key_env"),
        (f"https://x.example/v1?key={KEY}", {}, "[remote.served] base_url", "no user, key", "key_env"),
        (FAR, {"remote": f'key_env = "{KEY}"'}, "[remote.served] key_env", "not the name", "OPENAI_API_KEY"),
        (FAR, {"remote": f'api_key = "{KEY}"'}, "[remote.served] api_key", "not a known key", "the keys of"),
        (FAR, {"remote": 'key_env = "K"\nconcurrency = 0'}, "[remote.served] concurrency", "0: ", "luthier keys"),
        (FAR, {"remote": 'key_env = "K"\nparameters = {n = 3}'}, "[remote.served] parameters", "`n` is set", "take"),
        *(
            (FAR, {"remote": f'key_env = "K"\nparameters = {{{line}}}'}, "[remote.served] parameters", what, fix)
            for line, what, fix in (
                ("temperature = 1.0", "`temperature` is set", "`send`"),
                ("seed = 1", "`seed` is set", "`send`"),
                ("max_tokens = 1", "`max_tokens` is set", "take"),
                ("a = inf", "what JSON cannot say", "finite"),
                ("a = [{b = 2026-01-01}]", "what JSON cannot say", "in quotes"),
            )
        ),
        ("http://localhost:abc/v1", {}, "[remote.served] base_url", "its port", "https://"),
        ("http://localhost:99999/v1", {}, "[remote.served] base_url", "its port", "https://"),
        ("http://local\\nhost/v1", {}, "[remote.served] base_url", "a character", "https://"),
        (FAR, {"remote": 'key_env = "K"\ntimeout_s = 1e300'}, "[remote.served] timeout_s", "1e+300", "luthier keys"),
        (
            FAR,
            {"remote": 'key_env = "K"\nthinking_tokens = 9223372036854775807'},
            "[remote.served] thinking_tokens",
            "9223372036854775807",
            "luthier keys",
        ),
        (
            FAR,
            {"remote": 'key_env = "K"\nusd_per_million = {input = 1.0}'},
            "[remote.served] usd_per_million",
            "`output` is missing",
            "luthier keys",
        ),
        (FAR, {"remote": 'key_env = "K"', "more": "[limits]\nmax_usd = 1.0"}, "", "max_usd needs", "usd_per_million ="),
        (FAR, {"remote": 'key_env = "K"', "more": '[remote."a b"]\nmodel = "x"'}, "[remote]", "no name", "letters"),
    ],
)
def test_a_mistake_about_a_remote_model_is_told_and_a_key_is_not_shown(
    tmp_path: Path, base_url: str, more: dict[str, str], place: str, what: str, fix: str
) -> None:
    error = refused(tmp_path, base_url, **more)
    assert error.where == "luthier.toml" + (f", {place}" if place else "")
    assert what in error.what
    assert fix in error.fix
    assert KEY not in str(error)


@pytest.mark.parametrize("role", ["student", "embedder"])
def test_a_remote_model_is_only_prompted(tmp_path: Path, role: str) -> None:
    path = task_at(tmp_path, "http://localhost:1/v1")
    path.write_text(path.read_text().replace("prompted =", f"{role} ="))
    with pytest.raises(SpecError, match=f"{role} = 'served' is a remote model"):
        luthier.load_task(path)


# ---------------------------------------------------------------- no socket but loopback

BLOCKED = """
import socket, sys
from pathlib import Path
sys.path[:0] = {path!r}

tried = []

def loopback(address):
    return not isinstance(address, tuple) or str(address[0]) in ("127.0.0.1", "::1", "localhost")

def guard(method):
    def guarded(self, address, *rest):
        if not loopback(address):
            tried.append(address)
            raise OSError(f"blocked: {{address}}")
        return method(self, address, *rest)
    return guarded

def resolve(host, *rest, known=socket.getaddrinfo, **more):
    if host not in ("127.0.0.1", "::1", "localhost", None):
        tried.append(host)
        raise OSError(f"blocked: {{host}}")
    return known(host, *rest, **more)

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, guard(getattr(socket.socket, name)))
socket.getaddrinfo = resolve
away = ("192.0.2.1", 80)
for attempt in (socket.create_connection, socket.socket().connect):
    try:
        attempt(away)
    except OSError as error:
        assert "blocked" in str(error)
assert tried == ["192.0.2.1", away]
tried.clear()

import luthier
from luthier.models.embed import HashEmbedder
verdict = luthier.run(sys.argv[1], models={{"embedder": HashEmbedder()}}, options=luthier.Options(all_rungs=True))
assert not tried, tried
Path(sys.argv[2]).write_text(verdict.to_json())
"""


def test_a_whole_ladder_runs_with_every_socket_but_loopback_blocked(tmp_path: Path) -> None:
    """`local_only = true`, and a proxy in the environment that would carry the examples away."""
    rungs = ("majority", "tfidf", "embedding", "zero-shot", "calibrated", "few-shot", "retrieved-shots")
    away = {"HTTP_PROXY": "http://192.0.2.1:9", "HTTPS_PROXY": "http://192.0.2.1:9", "ALL_PROXY": "http://192.0.2.1:9"}
    code = textwrap.dedent(BLOCKED).format(path=[str(Path(__file__).parent)])
    with FaultServer(colour).running() as server:
        path = task_at(tmp_path, server.base_url, rungs=rungs, more="[constraints]\nlocal_only = true")
        call = [sys.executable, "-c", code, str(path), str(tmp_path / "verdict.json")]
        done = subprocess.run(call, env={**os.environ, **away}, capture_output=True, timeout=300, text=True)
    assert done.returncode == 0, done.stderr
    import json

    verdict = json.loads((tmp_path / "verdict.json").read_text())
    measured = {each["rung"]: each["outcome"] for each in verdict["candidates"]}
    assert measured["zero-shot"] == measured["few-shot"] == measured["retrieved-shots"] == "MEETS"
    assert measured["calibrated"] == "NOT MEASURED"
    assert len(server.bodies) > 50
