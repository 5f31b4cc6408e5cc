"""The response cache: sound, inspectable, and the same verdict with it as without."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer
from tiny_models import tiny_model
from typer.testing import CliRunner

from luthier.cli import app
from luthier.errors import ModelError, StoreError
from luthier.models.cache import CachedModel, ResponseCache, request_key
from luthier.models.remote import RemoteModel
from luthier.models.scripted import ScriptedModel
from luthier.testing import ModelContract
from luthier.types import Endpoint, Message, Model, Reply, Request, Usage, digest

LABELS = ("animal", "number", "number of animals")
SCRIPT = {"dog": "animal", "many": "number", "house": {"animal": -1.5}, "when": "number"}


def ask(*texts: str, choices: tuple[str, ...] | None = LABELS, **more: Any) -> list[Request]:
    system = Message("system", "Say which kind of thing this is about.")
    return [Request((system, Message("user", text)), choices=choices, **more) for text in texts]


def said(text: str) -> str:
    return "animal" if "dog" in text else "number of animals" if "many" in text else "number"


@pytest.fixture
def cache(tmp_path: Path) -> Any:
    made = ResponseCache(tmp_path / "responses.db")
    yield made
    made.close()


class _CachedContract(ModelContract):
    @pytest.fixture(autouse=True)
    def _cache(self, cache: ResponseCache) -> None:
        self.cache = cache


class TestContractScripted(_CachedContract):
    def make_model(self) -> Model:
        return CachedModel(ScriptedModel({**SCRIPT, "many": "number of animals"}), self.cache)

    def make_other_model(self) -> Model:
        return CachedModel(ScriptedModel(SCRIPT, version="2"), self.cache)


class TestContractLocal(_CachedContract):
    def make_model(self) -> Model:
        return CachedModel(tiny_model("llama"), self.cache)

    def make_other_model(self) -> Model:
        return CachedModel(tiny_model("llama", seed=1), self.cache)


class TestContractRemote(_CachedContract):
    """Around a model that answers one by one."""

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with FaultServer(lambda body: said(body["messages"][-1]["content"]), caching=True).running() as server:
            self.endpoint = Endpoint("served", server.base_url, "m", "openai", "", on_this_machine=True)
            yield

    def make_model(self) -> Model:
        return CachedModel(RemoteModel(self.endpoint), self.cache)

    def make_other_model(self) -> Model:
        return CachedModel(RemoteModel(replace(self.endpoint, model="n")), self.cache)


def test_what_was_answered_once_is_not_asked_again_and_is_the_very_same(cache: ResponseCache) -> None:
    inner = ScriptedModel(SCRIPT, latency_s=0.05)
    first = CachedModel(inner, cache).complete(ask("a dog", "when"))
    again = CachedModel(inner, ResponseCache(cache.path))
    second = again.complete(ask("when", "the house", "a dog"))
    again.cache.close()
    assert [second[2], second[0]] == first
    assert inner.requests == ask("a dog", "when", "the house")
    assert again.replayed_s >= 0.05, "and the seconds of then are told"


def test_log_probabilities_come_back_to_the_last_bit(cache: ResponseCache) -> None:
    model = tiny_model("llama")
    plain = model.complete(ask("a dog", "when"))
    CachedModel(model, cache).complete(ask("a dog", "when"))
    (kept,) = CachedModel(model, cache).complete(ask("a dog"))
    assert kept.choice_logprobs == plain[0].choice_logprobs


def test_a_request_that_stands_twice_in_a_batch_is_asked_once(cache: ResponseCache) -> None:
    inner = ScriptedModel(SCRIPT)
    replies = CachedModel(inner, cache).complete(ask("a dog", "when", "a dog"))
    assert replies[0] == replies[2]
    assert len(inner.requests) == 2


def test_errors_are_never_kept(cache: ResponseCache) -> None:
    inner = ScriptedModel(SCRIPT, failing=(1,))
    model = CachedModel(inner, cache)
    first, second = model.complete(ask("a dog", "when")), model.complete(ask("a dog", "when"))
    assert [reply.error is None for reply in first + second] == [True, False, True, True]
    assert len(inner.requests) == 3


CHANGES: list[dict[str, Any]] = [
    {"choices": LABELS[::-1]},
    {"choices": None},
    {"choices": None, "schema": {"type": "object"}},
    {"max_tokens": 65},
    {"temperature": 0.5},
    {"seed": 1},
    {"n": 2},
    {"messages": (Message("system", "Say which kind of thing this is about."), Message("assistant", "a dog"))},
    {"messages": (Message("user", "Say which kind of thing this is about."), Message("user", "a dog"))},
    {"messages": (Message("user", "a dog"),)},
]


def test_any_change_of_the_request_is_another_address() -> None:
    (base,) = ask("a dog")
    keys = {request_key("f", replace(base, **change)) for change in CHANGES}
    assert len(keys | {request_key("f", base), request_key("g", base)}) == len(CHANGES) + 2


def test_a_changed_weight_template_adapter_or_engine_never_hits(cache: ResponseCache, tmp_path: Path) -> None:
    from test_local import save_adapter

    from luthier.models.local import ENGINE, LocalModel
    from luthier.models.weights import weights_fingerprint

    def saved(name: str, *, seed: int = 0, template: str = "chatml") -> LocalModel:
        model = tiny_model("llama", seed=seed, template=template)
        model.module.save_pretrained(tmp_path / name)
        model.tokenizer.save_pretrained(tmp_path / name)
        return LocalModel.load(tmp_path / name, name="tiny")

    base = saved("base")
    CachedModel(base, cache).complete(ask("a dog"))
    keys = {request_key(base.fingerprint, ask("a dog")[0])}
    same = saved("same")
    assert request_key(same.fingerprint, ask("a dog")[0]) in keys, "the same weights in another folder hit"
    changed: dict[str, Any] = {"weights": saved("weights", seed=1), "template": saved("template", template="turns")}
    one_weight = saved("one weight")
    parameter = next(one_weight.module.parameters())
    parameter.data[0, 0] += 1e-3
    one_weight.module.save_pretrained(tmp_path / "one weight")
    changed["one weight"] = LocalModel.load(tmp_path / "one weight", name="tiny")
    assert weights_fingerprint(tmp_path / "one weight") != weights_fingerprint(tmp_path / "base")
    changed["adapter"] = base.with_adapter(save_adapter(tmp_path / "adapter"))
    changed["rows"] = LocalModel(
        base.module, base.tokenizer, name="tiny", fingerprint=base._weights, max_row_tokens=base.max_row_tokens + 1
    )
    for what, model in changed.items():
        key = request_key(model.fingerprint, ask("a dog")[0])
        assert key not in keys, what
        assert cache.get([key]) == {}, what
        keys.add(key)
    parts = (base.module.device.type, base.max_row_tokens, base.end, base._weights, base.chat.fingerprint)
    assert base.fingerprint == digest(ENGINE, *parts) != digest("another engine", *parts)


def test_a_model_that_drops_a_reply_is_found_out_and_nothing_is_kept(cache: ResponseCache) -> None:
    class Drops(ScriptedModel):
        def complete(self, requests: Sequence[Request]) -> list[Reply]:
            return super().complete(requests)[1:]

    with pytest.raises(ModelError, match="2 requests gave 1 replies"):
        CachedModel(Drops(SCRIPT), cache).complete(ask("a dog", "when"))
    assert cache.contents() == []


def test_a_batch_of_a_model_that_answers_together_is_kept_whole_or_not_at_all(cache: ResponseCache) -> None:
    """The rest of a half kept batch would run in other company, and could differ in its last bits."""
    key = request_key("f", ask("a dog")[0])
    bad: Any = replace(Reply(("x",)), usage=object())
    with pytest.raises(TypeError):
        cache.put("m", "f", {key: (Reply(("x",)), 0.1), "other": (bad, 0.1)})
    assert cache.get([key]) == {}


WRITER = """
import sys
from pathlib import Path
from luthier.models.cache import ResponseCache
from luthier.types import Reply
cache = ResponseCache(Path(sys.argv[1]))
for at in range(150):
    cache.put("m" + sys.argv[2], "f", {f"{sys.argv[2]}-{at}": (Reply((str(at),)), 0.0)})
    cache.put("shared", "f", {f"shared-{at}": (Reply((sys.argv[2],)), 0.0)})
"""


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    call = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*call, name], stderr=subprocess.PIPE) for name in ("a", "b")]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors.decode()
    cache = ResponseCache(path)
    assert [(each.model, each.entries) for each in cache.contents()] == [("ma", 150), ("mb", 150), ("shared", 150)]
    cache.close()
    with sqlite3.connect(path) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    db.close()


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    path.write_text("nonsense " * 1000)
    with pytest.raises(StoreError, match="cannot be used"):
        ResponseCache(path).get(["x"])


# ---------------------------------------------------------------- looking into it and emptying it


def filled(folder: Path) -> None:
    cache = ResponseCache(folder / ".luthier" / "responses.db")
    for name, version in (("one", "1"), ("one", "2"), ("two", "1")):
        CachedModel(ScriptedModel(SCRIPT, name=name, version=version), cache).complete(ask("a dog", "when"))
    cache.close()


def luthier(*args: str) -> Any:
    return CliRunner().invoke(app, list(args))


def test_the_cache_is_shown_per_model(tmp_path: Path) -> None:
    filled(tmp_path)
    text = luthier("cache", str(tmp_path)).stdout
    assert "one" in text
    assert "6 replies" in text
    shown = json.loads(luthier("cache", str(tmp_path), "--json").stdout)
    assert [(row["model"], row["entries"], row["fingerprints"]) for row in shown["models"]] == [
        ("one", 4, 2),
        ("two", 2, 1),
    ]
    assert shown["entries"] == 6
    assert shown["bytes"] == sum(row["bytes"] for row in shown["models"]) > 0
    assert Usage(**shown["models"][1]["usage"]).fresh_tokens == 19
    assert shown["spent"] == {"tokens": 0, "usd": 0.0, "open_tokens": 0}


def test_the_cache_is_purged_per_model_or_whole(tmp_path: Path) -> None:
    filled(tmp_path)
    assert json.loads(luthier("cache", str(tmp_path), "--purge", "--model", "one", "--json").stdout)["purged"] == 4
    assert json.loads(luthier("cache", str(tmp_path), "--json").stdout)["entries"] == 2
    assert "2 replies" in luthier("cache", str(tmp_path), "--purge").stdout
    assert json.loads(luthier("cache", str(tmp_path), "--json").stdout)["models"] == []


def test_an_unknown_model_or_a_model_without_purge_is_an_error(tmp_path: Path) -> None:
    filled(tmp_path)
    unknown = luthier("cache", str(tmp_path), "--purge", "--model", "three")
    assert "the cache knows one, two" in str(unknown.exception)
    assert "--purge" in str(luthier("cache", str(tmp_path), "--model", "one").exception)


def test_an_empty_folder_has_an_empty_cache_and_nothing_is_made_there(tmp_path: Path) -> None:
    assert json.loads(luthier("cache", str(tmp_path), "--json").stdout)["entries"] == 0
    assert json.loads(luthier("cache", str(tmp_path), "--purge", "--json").stdout)["purged"] == 0
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- in a climb


CLIMB = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_climb import script
import luthier
from luthier.models.scripted import ScriptedModel
model = ScriptedModel(script, name="oracle", latency_s=0.1)
verdict = luthier.run(sys.argv[1], models={{"prompted": model}})
Path(sys.argv[2]).write_text(verdict.to_json())
"""


def test_a_fit_that_was_killed_half_way_asks_only_what_it_had_not_asked_yet(tmp_path: Path) -> None:
    from test_climb import models, script, task_at, timeless

    import luthier as library

    one, other = tmp_path / "one", tmp_path / "other"
    paths = [task_at(folder, rungs=("few-shot",), at_least=0.9) for folder in (one, other)]
    code = textwrap.dedent(CLIMB).format(path=[str(Path(__file__).parent)])
    process = subprocess.Popen([sys.executable, "-c", code, str(paths[0]), str(one / "verdict.json")])
    cache = ResponseCache(one / ".luthier" / "responses.db")
    while sum(each.entries for each in cache.contents()) < 64:
        assert process.poll() is None
    process.kill()
    process.wait()
    kept = sum(each.entries for each in cache.contents())
    cache.close()
    resumed, straight = models(), models()
    found = library.run(paths[0], models=resumed)
    expected = library.run(paths[1], models=straight)
    assert timeless(found) == timeless(expected)
    assert len(resumed["prompted"].requests) == len(straight["prompted"].requests) - kept
    assert script is not None


def test_a_changed_test_order_asks_nothing_anew_and_figures_are_those_of_a_cold_run(tmp_path: Path) -> None:
    from test_climb import script, task_at

    import luthier as library

    path = task_at(tmp_path, rungs=("zero-shot",))
    options = library.Options(exhaustive=True)
    slow = ScriptedModel(script, name="oracle", latency_s=0.05)
    first = library.run(path, models={"prompted": slow}, options=options)
    path.write_text(path.read_text().replace("[split]", "[split]\nseed = 0").replace("dev = 60", "dev = 61"))
    asked = len(slow.requests)
    second = library.run(path, models={"prompted": slow}, options=options)
    known = {row.example.input for row in first.runs[0].rows}
    new = [row for row in second.runs[0].rows if row.example.input not in known]
    assert len(slow.requests) == asked + len(new)
    assert len(new) < 100
    assert second.runs[0].race_seconds > 0.5 * first.runs[0].race_seconds, "hits take the time they took"


def test_the_cache_can_be_switched_off(tmp_path: Path) -> None:
    from test_climb import models, task_at

    import luthier as library

    path = task_at(tmp_path, rungs=("zero-shot",))
    path.write_text(path.read_text() + "[cache]\nenabled = false\n")
    library.run(path, models=models())
    assert not (tmp_path / ".luthier" / "responses.db").exists()


def test_half_a_surrogate_pair_is_kept_as_it_came(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "responses.db")
    cache.put("m", "f", {"k": (Reply(("a \ud83d",)), 0.1)})
    assert cache.get(["k"])["k"][0].texts == ("a \ud83d",)
    assert [each.entries for each in cache.contents()] == [1]
