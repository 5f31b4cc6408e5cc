"""A remote model against a server nobody here wrote: llama.cpp's, from the xllamacpp wheel, with SmolLM2 as F16."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import luthier
from luthier import demo
from luthier.models import catalog
from luthier.models.cache import ResponseCache
from luthier.models.remote import RemoteModel
from luthier.testing import ModelContract
from luthier.types import Endpoint, Message, Model, Outcome, Request, silent

pytestmark = pytest.mark.slow

SERVER = Path(__file__).parent.parent / "llama_server.py"


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("xllamacpp")
    call = [sys.executable, str(SERVER), str(tmp_path_factory.mktemp("f16"))]
    with subprocess.Popen(
        call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        address = next((line.strip() for line in process.stdout if line.startswith("http")), "")
        assert address, f"the server did not start: {process.wait()}"
        yield f"{address}/v1"
        process.kill()


def served(base_url: str, **more: Any) -> Endpoint:
    return Endpoint("llama.cpp", base_url, "smollm2", "openai", "", on_this_machine=True, concurrency=2, **more)


class TestContract(ModelContract):
    """No counts of ours: the server's own cache decides what is cached, the contract that all is counted once."""

    @pytest.fixture(autouse=True)
    def _server(self, base_url: str) -> None:
        self.base_url = base_url

    def make_model(self) -> Model:
        return RemoteModel(served(self.base_url))

    def requests(self) -> list[Request]:
        # so small a model may give one answer to everything: choices of their own tell the replies apart
        asked = {
            "a dog or a cat?": ("dog", "cat"),
            "three or four?": ("three", "four"),
            "red or blue?": ("red", "blue"),
        }
        return [Request((Message("user", f"Choose: {text}"),), choices=choices) for text, choices in asked.items()]


def test_a_chat_is_answered_and_counted(base_url: str) -> None:
    question = (Message("user", "What is the capital of France?"),)
    model = RemoteModel(served(base_url))
    (first,) = model.complete([Request(question, max_tokens=16)])
    (again,) = model.complete([Request(question, max_tokens=16)])
    assert "Paris" in first.texts[0]
    assert again.texts == first.texts
    # the same template and tokenizer as here: both count the same prompt, but for the token that begins a text
    own = len(catalog.open_model("smollm2-135m").chat.prompt_ids(question))  # type: ignore[attr-defined]
    for reply in (first, again):
        assert abs(reply.usage.fresh_tokens + reply.usage.cached_tokens - own) <= 1
        assert 0 < reply.usage.output_tokens <= 16
        assert reply.latency_s > 0
    # an earlier prompt may have left the beginning of the first one in the server's cache
    assert again.usage.cached_tokens >= max(1, first.usage.cached_tokens)


def test_a_schema_is_kept_and_an_unknown_answer_cannot_occur(base_url: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["city", "people"],
        "additionalProperties": False,
    }
    model = RemoteModel(served(base_url))
    asked = (Message("user", "Name a city in France and how many people live there, as JSON."),)
    (reply,) = model.complete([Request(asked, schema=schema, max_tokens=60)])
    assert reply.error is None
    found = json.loads(reply.texts[0])
    assert set(found) == {"city", "people"}
    assert isinstance(found["people"], int)
    labels = ("abbreviation", "human being", "place")
    questions = [
        (Message("user", f"What does this ask for? {text}"),) for text in ("Who wrote Hamlet?", "Where is Oslo?")
    ]
    for reply in model.complete([Request(question, choices=labels) for question in questions]):
        assert reply.texts[0] in labels


TOML = """
[task]
name = "spam"
instruction = "Is this text message spam, or ham (an ordinary message)?"
[data]
path = "demo/messages.csv"
input = "message"
reference = "label"
near_duplicates = false
[split]
train = 40
dev = 8
test = 32
[target]
at_least = 0.7
[constraints]
local_only = true
[ladder]
rungs = ["zero-shot", "few-shot"]
consistency = 2
[models]
prompted = "served"
[remote.served]
base_url = "{base_url}"
model = "smollm2"
concurrency = 2
[limits]
max_tokens = 2_000_000
"""


@pytest.mark.timeout(1800)
def test_a_short_ladder_ends_in_a_verdict_and_replays_without_the_server(base_url: str, tmp_path: Path) -> None:
    demo.prepare("spam", tmp_path / "demo", silent)
    path = tmp_path / "luthier.toml"
    path.write_text(TOML.format(base_url=base_url), encoding="utf-8")
    verdict = luthier.run(path, options=luthier.Options(all_rungs=True))
    for run, result in zip(verdict.runs, verdict.candidates, strict=True):
        assert run.rows
        assert result.outcome is not Outcome.NOT_MEASURED
        assert result.unscored == 0
        # the server's grammar lets the model write white space for ever: then the answer is cut, and no label
        assert result.off_label <= 0.2 * len(run.rows)
        assert run.usage.output_tokens > 0
        assert run.remote is False
    cache = ResponseCache(tmp_path / ".luthier" / "responses.db")
    (kept,) = cache.contents()
    cache.close()
    assert kept.model == "served"
    assert kept.entries > sum(len(run.rows) for run in verdict.runs)
    again = luthier.run(path, options=luthier.Options(all_rungs=True))
    assert [run.rows for run in again.runs] == [run.rows for run in verdict.runs]
