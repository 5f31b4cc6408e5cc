"""A remote model against a server on loopback that fails as it is told: nothing lost, nothing counted twice."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from fault_server import Fault, FaultServer, Plan, in_turn, words

from luthier.errors import ModelError, Stopped
from luthier.models.budget import Budget
from luthier.models.limits import Pace, backoff, retry_after
from luthier.models.remote import RemoteModel
from luthier.models.wire import prompt_bound
from luthier.testing import ModelContract
from luthier.types import Endpoint, Limits, Message, Model, Prices, Reply, Request, Usage

LABELS = ("animal", "number", "number of animals")
KEY = "sk-a-key-that-nobody-may-see-1234567890"


def said(body: dict[str, Any]) -> str:
    text = body["messages"][-1]["content"]
    return "animal" if "dog" in text else "number of animals" if "many" in text else "number"


def ask(*texts: str, choices: tuple[str, ...] | None = LABELS, **more: Any) -> list[Request]:
    system = Message("system", "Say which kind of thing this is about.")
    return [Request((system, Message("user", text)), choices=choices, **more) for text in texts]


def endpoint(server: FaultServer, **more: Any) -> Endpoint:
    known: dict[str, Any] = {"api": "openai", "key_env": "", "retries": 4, "timeout_s": 5.0}
    return Endpoint("served", server.base_url, "m", **{**known, **more}, on_this_machine=True)


@contextmanager
def served(plan: Plan = lambda number, body: None, **more: Any) -> Iterator[FaultServer]:
    with FaultServer(more.pop("say", said), plan, **more).running() as server:
        yield server


class _ServedContract(ModelContract):
    api = "openai"

    @pytest.fixture(autouse=True)
    def server(self) -> Iterator[None]:
        with served(caching=True) as server:
            self._server = server
            yield

    def make_model(self) -> Model:
        return RemoteModel(endpoint(self._server, api=self.api))

    def make_other_model(self) -> Model:
        return RemoteModel(endpoint(self._server, api=self.api, parameters={"top_p": 0.5}))

    def prompt_tokens(self, request: Request) -> int:
        return words(message.content for message in request.messages)


class TestContract(_ServedContract):
    pass


class TestContractAnthropic(_ServedContract):
    api = "anthropic"


# ---------------------------------------------------------------- asking and reading


def test_a_choice_is_asked_for_as_json_of_an_enum_and_read_back() -> None:
    with served() as server:
        (reply,) = RemoteModel(endpoint(server)).complete(ask("a dog"))
    assert reply.texts == ("animal",)
    assert reply.choice_logprobs is None
    schema = server.bodies[0]["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["properties"] == {"answer": {"type": "string", "enum": list(LABELS)}}
    assert server.bodies[0]["temperature"] == 0.0
    assert server.bodies[0]["seed"] == 0


def test_solved_examples_show_the_form_that_the_schema_forces() -> None:
    shots = (Message("system", "s"), Message("user", "a cat"), Message("assistant", "animal"), Message("user", "a dog"))
    with served() as server:
        for structured in (True, False):
            RemoteModel(endpoint(server, structured=structured)).complete([Request(shots, choices=LABELS)])
    forced, free = (body["messages"][2]["content"] for body in server.bodies)
    assert forced == '{"answer": "animal"}'
    assert free == "animal"
    assert "response_format" not in server.bodies[1]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("animal", "animal"),
        (" number\n", "number"),
        ("Animal", "Animal"),
        ("animal.", "animal."),
        ("I think it is an animal", "I think it is an animal"),
        ("", ""),
        ('{"answer": "number"}', "number"),
        ('{"answer": "plant"}', '{"answer": "plant"}'),
        ('{"answer": "number", "why": "x"}', '{"answer": "number", "why": "x"}'),
        ('{"answer": ["number"]}', '{"answer": ["number"]}'),
        ('{"answer": "num', '{"answer": "num'),
    ],
)
def test_what_is_not_exactly_a_label_stands_as_it_was_said(text: str, read: str) -> None:
    with served(say=lambda body: text) as server:
        model = RemoteModel(endpoint(server, structured=text.startswith("{")))
        (reply,) = model.complete(ask("a dog"))
    assert reply.error is None
    assert reply.texts == (read,)


def test_cached_tokens_are_inside_the_prompt_tokens_of_one_api_and_beside_them_in_the_other() -> None:
    for api in ("openai", "anthropic"):
        with served(caching=True) as server:
            model = RemoteModel(endpoint(server, api=api))
            first, second = (model.complete(ask("a dog"))[0].usage for _ in range(2))
        assert first == Usage(10, 0, 0, 2)
        assert second == Usage(1, 9, 0, 2)


def test_anthropic_gets_the_system_message_apart_and_no_sampling_settings_unless_told() -> None:
    with served() as server:
        for send in ((), ("temperature",)):
            RemoteModel(endpoint(server, api="anthropic", send=send)).complete(ask("a dog"))
    plain, told = server.bodies
    assert plain["system"] == "Say which kind of thing this is about."
    assert [turn["role"] for turn in plain["messages"]] == ["user"]
    assert "temperature" not in plain
    assert told["temperature"] == 0.0
    assert plain["output_config"]["format"]["schema"]["properties"]["answer"]["enum"] == list(LABELS)


def test_a_schema_is_forced_or_asked_for_in_words() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string"}}}
    with served(say=lambda body: '{"x": "y"}') as server:
        for structured in (True, False):
            (reply,) = RemoteModel(endpoint(server, structured=structured)).complete(
                ask("a dog", choices=None, schema=schema)
            )
            assert reply.texts == ('{"x": "y"}',)
    assert server.bodies[0]["response_format"]["json_schema"]["schema"] == schema
    assert json.dumps(schema) in server.bodies[1]["messages"][0]["content"]


def test_samples_are_asked_for_until_there_are_enough_and_at_temperature_0_once() -> None:
    with served() as server:
        model = RemoteModel(endpoint(server))
        (warm,) = model.complete(ask("a dog", choices=None, temperature=0.7, n=3, seed=5))
        (cold,) = model.complete(ask("a dog", choices=None, n=3))
        other = RemoteModel(endpoint(server, api="anthropic"))
        (single,) = other.complete(ask("a dog", choices=None, temperature=0.7, n=3))
    assert warm.texts == cold.texts == single.texts == ("animal",) * 3
    assert [body.get("n") for body in server.bodies] == [3, None, None, None, None]
    assert single.usage.fresh_tokens == 3 * cold.usage.fresh_tokens


def test_settings_that_some_endpoints_refuse_can_be_left_out_and_others_put_in() -> None:
    with served() as server:
        settings = {"send": (), "limit_key": "max_completion_tokens", "parameters": {"reasoning_effort": "low"}}
        RemoteModel(endpoint(server, thinking_tokens=1000, **settings)).complete(ask("a dog", choices=None))
    body = server.bodies[0]
    assert not {"temperature", "seed", "max_tokens"} & set(body)
    assert body["max_completion_tokens"] == 64 + 1000
    assert body["reasoning_effort"] == "low"


def test_the_fingerprint_holds_what_can_change_an_answer_and_nothing_else() -> None:
    with served() as server:
        base = endpoint(server)
        changed = [
            replace(base, **change)
            for change in (
                {"base_url": "http://127.0.0.1:1/v1"},
                {"model": "n"},
                {"api": "anthropic"},
                {"structured": False},
                {"thinking_tokens": 5},
                {"send": ()},
                {"parameters": {"top_p": 0.5}},
                {"limit_key": "max_completion_tokens"},
            )
        ]
        prints = [RemoteModel(each).fingerprint for each in (base, *changed)]
        assert len(set(prints)) == len(prints)
        same = replace(base, concurrency=1, requests_per_minute=3, timeout_s=1.0, prices=Prices(1, 1, 1, 1), retries=0)
        assert RemoteModel(same).fingerprint == prints[0]


# ---------------------------------------------------------------- faults


FAULTS = [
    Fault("status", 429, {"Retry-After": "0.05"}),
    Fault("status", 500),
    Fault("status", 503),
    Fault("status", 529),
    Fault("truncated"),
    Fault("malformed"),
    Fault("no-usage"),
    Fault("slow", seconds=1.0),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.status}")
@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_fault_that_passes_changes_nothing_but_the_time(fault: Fault, api: str) -> None:
    texts = ("a dog", "how many", "when")
    with served() as calm, served(in_turn([fault])) as rough:
        model = RemoteModel(endpoint(rough, api=api, concurrency=1, timeout_s=0.5))
        expected = RemoteModel(endpoint(calm, api=api, concurrency=1)).complete(ask(*texts))
        found = model.complete(ask(*texts))
    timeless = [replace(reply, latency_s=0.0) for reply in found]
    assert timeless == [replace(reply, latency_s=0.0) for reply in expected]
    assert len(rough.bodies) == len(texts) + 1, "one retry, and none by the client"


def test_a_request_that_fails_for_good_is_a_reply_with_an_error_and_the_others_stand() -> None:
    def plan(number: int, body: dict[str, Any]) -> Fault | None:
        return Fault("status", 500, message="out of order") if "many" in str(body["messages"]) else None

    with served(plan) as server:
        replies = RemoteModel(endpoint(server, retries=1)).complete(ask("a dog", "how many", "when"))
    assert [reply.error for reply in replies] == [None, "the endpoint answered 500: out of order", None]
    assert replies[1].texts == ()
    assert replies[1].usage == Usage()
    assert len(server.bodies) == 4


def test_what_the_endpoint_rejects_is_not_tried_again() -> None:
    with served(lambda number, body: Fault("status", 400, message="too long")) as server:
        (reply,) = RemoteModel(endpoint(server)).complete(ask("a dog"))
    assert reply.error == "the endpoint answered 400: too long"
    assert len(server.bodies) == 1


def test_an_endpoint_that_rejects_everything_is_an_error_that_names_the_settings() -> None:
    with (
        served(lambda number, body: Fault("status", 400, message="no such parameter: seed")) as server,
        pytest.raises(ModelError, match=r"\d+ requests in a row") as caught,
    ):
        RemoteModel(endpoint(server)).complete(ask(*(f"dog {at}" for at in range(20))))
    assert "send" in caught.value.fix


def test_an_endpoint_that_is_down_stops_the_run_and_not_each_row() -> None:
    with (
        served(lambda number, body: Fault("status", 503)) as server,
        pytest.raises(Stopped, match=r"\d+ requests in a row"),
    ):
        RemoteModel(endpoint(server, retries=0)).complete(ask(*(f"dog {at}" for at in range(20))))


def test_an_endpoint_that_is_not_there_cannot_be_reached() -> None:
    with served() as server:
        gone = endpoint(server, retries=1)
    began = time.monotonic()
    (reply,) = RemoteModel(gone).complete(ask("a dog"))
    assert reply.error == "the endpoint cannot be reached"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_a_refused_key_or_a_wrong_address_ends_the_run_at_once(status: int) -> None:
    headers = {"Location": "http://127.0.0.1:1/elsewhere"} if status == 302 else {}
    with served(lambda number, body: Fault("status", status, headers)) as server, pytest.raises(ModelError) as caught:
        RemoteModel(endpoint(server, concurrency=1)).complete(ask("a dog", "b"))
    assert f"answered {status}" in str(caught.value)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("fault", [Fault("status", 402), Fault("status", 429, code="insufficient_quota")])
def test_an_account_that_is_empty_stops_the_run(fault: Fault) -> None:
    with served(lambda number, body: fault) as server, pytest.raises(Stopped, match="answered"):
        RemoteModel(endpoint(server, concurrency=1)).complete(ask("a dog", "b"))
    assert len(server.bodies) == 1


def test_retry_after_is_waited_for_by_all_in_seconds_and_as_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    for value, least in (("0.6", 0.6), (soon, 0.5)):
        with served(in_turn([Fault("status", 429, {"Retry-After": value})])) as server:
            began = time.monotonic()
            model = RemoteModel(endpoint(server, concurrency=1))
            replies = model.complete(ask("a dog", "b"))
            assert time.monotonic() - began >= least
        assert all(reply.error is None for reply in replies)
        assert max(reply.latency_s for reply in replies) < 0.5, "latency is the answer's, not the waiting's"


def test_what_one_request_is_told_to_wait_all_of_them_wait() -> None:
    sent: list[float] = []

    def plan(number: int, body: dict[str, Any]) -> Fault | None:
        sent.append(time.monotonic())
        return {0: Fault("status", 429, {"Retry-After": "0.8"}), 1: Fault("slow", seconds=0.2)}.get(number)

    with served(plan) as server:
        RemoteModel(endpoint(server, concurrency=2)).complete(ask("a dog", "b", "c", "d"))
    assert len(sent) == 5
    assert sent[2] - sent[0] >= 0.8, "the other thread waits too, though nobody refused it"


def test_the_client_itself_never_tries_again() -> None:
    with served(lambda number, body: Fault("status", 500)) as server:
        for api in ("openai", "anthropic"):
            (reply,) = RemoteModel(endpoint(server, api=api, retries=0)).complete(ask("a dog"))
            assert reply.error is not None
    assert len(server.bodies) == 2


def test_an_endpoint_that_asks_for_an_hour_is_not_waited_for() -> None:
    with served(lambda number, body: Fault("status", 429, {"Retry-After": "3600"})) as server:
        (reply,) = RemoteModel(endpoint(server)).complete(ask("a dog"))
    assert reply.error is not None
    assert len(server.bodies) == 1


def test_no_more_requests_are_in_flight_than_allowed_and_some_are() -> None:
    with served(delay_s=0.05) as server:
        RemoteModel(endpoint(server, concurrency=3)).complete(ask(*(f"dog {at}" for at in range(12))))
    assert server.most_at_once == 3


def test_replies_are_told_as_they_arrive_and_in_flight_ones_are_kept_when_the_batch_ends_early() -> None:
    kept: dict[int, Reply] = {}

    def plan(number: int, body: dict[str, Any]) -> Fault | None:
        return Fault("status", 401) if "bad" in str(body["messages"]) else Fault("slow", seconds=0.3)

    with served(plan) as server:
        model = RemoteModel(endpoint(server, concurrency=4))
        with pytest.raises(ModelError):
            model.complete_each(ask("dog 0", "dog 1", "bad", "dog 3", *["later"] * 20), kept.__setitem__)
    # on a busy machine the refusal may come before the last of the four is sent
    assert {0} <= set(kept) <= {0, 1, 3}, "what was not in flight is not sent"
    assert len(server.bodies) == len(kept) + 1, "what was in flight is waited for"


# ---------------------------------------------------------------- the key


def test_a_key_is_sent_and_shows_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    caplog.set_level(logging.DEBUG)

    def plan(number: int, body: dict[str, Any]) -> Fault | None:
        return Fault("status", 400, message=f"I do not like {KEY} nor {'x' * 400}") if number == 0 else None

    with served(plan) as server:
        budget = Budget(path=tmp_path / "spending.db")
        model = RemoteModel(endpoint(server, key_env="THE_KEY", concurrency=1), budget)
        replies = model.complete(ask("a dog", "b"))
        budget.close()
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    refusal = Fault("status", 401, message=f"wrong key {KEY[:9]}***")
    with served(lambda number, body: refusal) as strict, pytest.raises(ModelError) as caught:
        RemoteModel(endpoint(strict, key_env="THE_KEY")).complete(ask("a dog"))
    seen = [repr(model), model.fingerprint, repr(model.endpoint), repr(replies), str(caught.value), caplog.text]
    assert "[key]" in str(replies[0].error)
    assert all(KEY[:9] not in text for text in seen)
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_key_that_is_not_set_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    far = Endpoint("far", "https://example.invalid/v1", "m", "openai", "THE_KEY")
    with pytest.raises(ModelError, match="THE_KEY is not set"):
        RemoteModel(far)


def test_a_key_of_the_environment_is_not_sent_to_a_server_that_was_given_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with served() as server:
        RemoteModel(endpoint(server)).complete(ask("a dog"))
    assert KEY not in str(server.headers)


# ---------------------------------------------------------------- pace


class Hand:
    """A clock that is moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_no_window_of_a_minute_holds_more_requests_or_tokens_than_allowed() -> None:
    clock = Hand()
    pace = Pace(requests_per_minute=3, tokens_per_minute=100, clock=clock)
    sent: list[tuple[float, int]] = []
    for tokens in (10, 10, 10, 10, 60, 60, 500, 5):
        while True:
            place, delay = pace.try_take(tokens)
            if place is not None:
                break
            assert delay > 0
            clock.now += delay
        sent.append((clock.now, tokens))
    for at, _ in sent:
        window = [tokens for when, tokens in sent if at - 60 < when <= at]
        assert len(window) <= 3
        assert sum(window) <= 100 or window == [500], "what is larger than a window goes alone"
    assert sent[3][0] == 1060.0, "and no longer than needed is waited"


def test_a_correction_gives_back_what_was_not_used_and_hold_stops_everybody() -> None:
    clock = Hand()
    pace = Pace(tokens_per_minute=100, clock=clock)
    place, _ = pace.try_take(90)
    assert place is not None
    assert pace.try_take(50)[0] is None
    pace.correct(place, 20)
    assert pace.try_take(50)[0] is not None
    pace.hold(7.0)
    assert pace.try_take(1) == (None, 7.0)


def test_a_stopped_pace_is_not_waited_for() -> None:
    pace = Pace(requests_per_minute=1)
    stopped = threading.Event()
    assert pace.take(1, stopped) is not None
    stopped.set()
    assert pace.take(1, stopped) is None


def test_waiting_times_double_with_jitter_and_have_an_end() -> None:
    import random

    rng = random.Random(0)
    for attempt, ceiling in ((0, 0.5), (1, 1.0), (3, 4.0), (10, 30.0), (1000, 30.0)):
        waits = {backoff(attempt, rng) for _ in range(50)}
        assert min(waits) >= ceiling / 2
        assert max(waits) <= ceiling
        assert len(waits) > 40


def test_a_date_that_has_passed_is_no_wait() -> None:
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({"retry-after": "-5"}) is None
    assert retry_after({"retry-after": "nan"}) is None
    assert retry_after({}) is None


# ---------------------------------------------------------------- budget


def tokens_of(reply: Reply) -> int:
    return reply.usage.fresh_tokens + reply.usage.cached_tokens + reply.usage.output_tokens


@pytest.mark.parametrize("concurrency", [1, 6])
@pytest.mark.parametrize("limits", [Limits(max_tokens=3000), Limits(max_usd=0.03)], ids=["tokens", "usd"])
def test_a_budget_stops_before_it_is_exceeded_and_keeps_what_was_paid_for(
    limits: Limits, concurrency: int, tmp_path: Path
) -> None:
    kept: dict[int, Reply] = {}
    with served(delay_s=0.005) as server:
        prices = Prices(input=10.0, cached_input=1.0, cache_write=10.0, output=10.0)
        where = endpoint(server, concurrency=concurrency, prices=prices)
        budget = Budget(limits, tmp_path / "spending.db")
        model = RemoteModel(where, budget)
        with pytest.raises(Stopped, match="out of budget") as caught:
            model.complete_each(ask(*(f"dog {at}" for at in range(400))), kept.__setitem__)
    spent = budget.spent()
    assert len(kept) == server.answered == len(server.bodies) > 100
    assert spent.tokens == sum(map(tokens_of, kept.values())) <= 3000
    assert spent.usd == pytest.approx(spent.tokens * 10 / 1e6)
    assert spent.usd <= 0.03
    assert spent.open_tokens == 0
    worst = prompt_bound(ask("dog 399")[0], where) + 64
    assert spent.tokens > 3000 - worst - 8, "and not long before"
    assert caught.value.exit_code == 3
    assert "raise" in caught.value.fix


def test_a_budget_is_one_for_all_runs_of_the_folder(tmp_path: Path) -> None:
    with served() as server:
        for _ in range(2):
            budget = Budget(Limits(max_tokens=2000), tmp_path / "spending.db")
            RemoteModel(endpoint(server), budget).complete(ask("a dog", "b"))
            budget.close()
        assert Budget(Limits(), tmp_path / "spending.db").spent().tokens == 4 * 12 - 2
        tight = Budget(Limits(max_tokens=50), tmp_path / "spending.db")
        with pytest.raises(Stopped):
            RemoteModel(endpoint(server), tight).complete(ask("c"))
    assert len(server.bodies) == 4


def test_an_attempt_whose_answer_was_lost_counts_at_its_worst_and_a_refused_one_nothing() -> None:
    worst = 0
    for fault, charged in ((Fault("truncated"), True), (Fault("status", 500), False)):
        with served(in_turn([fault])) as server:
            where, budget = endpoint(server), Budget()
            (reply,) = RemoteModel(where, budget).complete(ask("a dog"))
            worst = prompt_bound(ask("a dog")[0], where) + server.bodies[0]["max_tokens"]
        spent = budget.spent()
        assert spent.tokens == tokens_of(reply) + (worst if charged else 0)
        assert spent.open_tokens == (worst if charged else 0)
        assert reply.usage == Usage(10, 0, 0, 2), "a reply tells only what its answer took"


def test_a_prompt_never_has_more_tokens_than_its_bound() -> None:
    from tiny_models import tiny_model  # a byte-level tokenizer: the most tokens there can be

    model = tiny_model("llama")
    where = Endpoint("x", "http://localhost", "m", "openai", "")
    for text in ("a dog", "日本語の文章", "𝔘𝔫𝔦", "", "a" * 500):
        request = ask(text)[0]
        assert len(model.chat.prompt_ids(request.messages)) <= prompt_bound(request, where)


# ---------------------------------------------------------------- hostile surroundings


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_nothing_of_the_environment_but_the_named_key_goes_to_another_makers_address(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("API_KEY", "ORG_ID", "PROJECT_ID", "AUTH_TOKEN", "ADMIN_KEY")
    for maker in ("OPENAI", "ANTHROPIC"):
        for name in names:
            monkeypatch.setenv(f"{maker}_{name}", f"SECRET-{name}")
        lines = "x-gateway: SECRET-1\nAuthorization: Bearer SECRET-2\nUser-Agent: SECRET-3\nx-api-key: SECRET-4"
        monkeypatch.setenv(f"{maker}_CUSTOM_HEADERS", lines)
    monkeypatch.setenv("THE_KEY", KEY)
    for key_env in ("THE_KEY", ""):
        with served() as server:
            (reply,) = RemoteModel(endpoint(server, api=api, key_env=key_env)).complete(ask("a dog"))
        assert reply.texts == ("animal",)
        assert "SECRET" not in str(server.headers)
        sent = server.headers[0]
        assert sent.get("authorization") == (f"Bearer {KEY}" if key_env else None)
        assert sent.get("x-api-key") == (KEY if key_env and api == "anthropic" else None)
        assert ("anthropic-version" in sent) == (api == "anthropic")


def test_the_makers_own_address_gets_what_its_client_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    from luthier.models.wire import at_home

    for api, address in (("openai", "https://api.openai.com/v1"), ("anthropic", "https://api.anthropic.com")):
        there = Endpoint("x", address, "m", api, "K")
        assert at_home(there)
        assert not at_home(replace(there, base_url=address.replace("api.", "api.x.")))


@pytest.mark.parametrize("key", ["sk-schlüssel", "sk-a\u200bb", "sk-a\nb"])
def test_a_key_that_no_header_can_hold_is_refused_before_anything_is_spent(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", key)
    with served() as server, pytest.raises(ModelError, match="THE_KEY holds a character") as caught:
        RemoteModel(endpoint(server, key_env="THE_KEY"))
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"parameters": {"a": float("inf")}}, "parameters"),
        ({"parameters": {"a": datetime(2026, 1, 1, tzinfo=UTC)}}, "parameters"),
        ({"base_url": "http://127.0.0.1:abc/v1"}, "base_url"),
        ({"base_url": "http://127.0.0.1\n:80/v1"}, "base_url"),
        ({"timeout_s": 1e300}, "timeout_s"),
        ({"thinking_tokens": 2**63 - 1}, "thinking_tokens"),
    ],
)
def test_an_endpoint_that_could_only_fail_is_refused(change: dict[str, Any], what: str) -> None:
    good = Endpoint("x", "http://127.0.0.1:1/v1", "m", "openai", "", on_this_machine=True)
    with pytest.raises(ModelError, match=what):
        RemoteModel(replace(good, **change))


def test_what_a_mask_leaves_of_a_key_is_hidden_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    refusal = Fault("status", 400, message=f"bad key {KEY[:20]}** and {KEY[:8]} and {KEY} and {KEY[:7]}")
    with served(lambda number, body: refusal) as server:
        (reply,) = RemoteModel(endpoint(server, key_env="THE_KEY")).complete(ask("a dog"))
    shown = f"bad key [key]** and [key] and [key] and {KEY[:7]}"
    assert reply.error == f"the endpoint answered 400: {shown}"


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_half_a_surrogate_pair_is_replaced_and_the_answer_kept(api: str) -> None:
    with served(say=lambda body: "LOC \ud83d \ud83dx \ud83d\ude00") as server:
        (reply,) = RemoteModel(endpoint(server, api=api, structured=False)).complete(ask("a dog", choices=None))
    assert reply.texts == ("LOC \ufffd \ufffdx \U0001f600",)


def test_half_a_surrogate_pair_in_a_request_or_a_refusal_costs_nothing() -> None:
    budget = Budget()
    with served(lambda number, body: Fault("status", 400, message="no \ud83d")) as server:
        model = RemoteModel(endpoint(server), budget)
        (asked,) = model.complete(ask("a \ud83d"))
        (refused,) = model.complete(ask("a dog"))
    assert "surrogate" in str(asked.error)
    assert refused.error == "the endpoint answered 400: no \ufffd"
    assert len(server.bodies) == 1
    assert budget.spent().tokens == 0


def test_deeply_nested_json_is_no_choice_and_no_fault() -> None:
    deep = '{"answer":' + "[" * 100_000
    with served(say=lambda body: deep) as server:
        (reply,) = RemoteModel(endpoint(server)).complete(ask("a dog"))
    assert reply.texts == (deep,)


class _Body(FaultServer):
    """Answers with this body, whatever was asked."""

    raw = b""

    def write(self, http: Any, status: int, text: bytes, headers: Any) -> None:
        super().write(http, status, self.raw, headers)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b'{"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1%s}}'
        % (b"0" * 30),
    ],
    ids=["deep", "large"],
)
def test_a_body_that_cannot_be_true_is_an_answer_that_cannot_be_read(raw: bytes) -> None:
    server = _Body(said)
    server.raw = raw
    with server.running():
        (reply,) = RemoteModel(endpoint(server, retries=0)).complete(ask("a dog"))
    assert str(reply.error).startswith("the answer cannot be read")
