"""The rungs that look answers up: the contract, a run from a folder of Markdown to a verdict, citations, no answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import luthier
from luthier.climb import Options
from luthier.documents import open_library
from luthier.models.embed import HashEmbedder
from luthier.models.scripted import ScriptedModel
from luthier.report.verdict import Verdict
from luthier.rungs.rag import Rag
from luthier.rungs.rag_shots import RagShots
from luthier.testing import RungContract
from luthier.types import Documents, Kind, Message, Rung

pytest.importorskip("lancedb", reason="needs the extra 'rag'")

CITIES = ("Oslo", "Rome", "Paris", "Bern", "Cairo", "Lima", "Quito", "Delhi", "Hanoi", "Seoul", "Tokyo", "Perth")
ASKED = (
    "When was the bridge of {} built",
    "What year saw the bridge in {} done",
    "Tell me the building year of the {} bridge",
    "In which year did {} get its bridge",
    "Who is the mayor of {}",
    "Name the mayor in {}",
    "The mayor of {} is called how",
    "{} has which mayor",
)


def year(city: str) -> str:
    return str(1800 + 7 * CITIES.index(city))


def mayor(city: str) -> str:
    return f"Mr {city[::-1].title()}son"


def write_city(folder: Path, city: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = f"# {city}\n\nThe bridge of {city} was built in {year(city)}.\n\n## People\n\nThe mayor is {mayor(city)}.\n"
    (folder / f"{city.lower()}.md").write_text(text, encoding="utf-8")


def reads(messages: tuple[Message, ...]) -> str:
    """Answers from the passages of its last turn alone, as a model would that knows nothing by itself."""
    passages, _, question = messages[-1].content.rpartition("\n\n")
    city = next((city for city in CITIES if city in question), "?")
    about = r"bridge of {} was built in (\d+)" if "bridge" in question else r"# {}\n(?:.|\n)*?mayor is (Mr \w+)"
    found = re.search(about.format(city), passages)
    return found.group(1) if found else "I do not know"


TOML = """
[task]
name = "cities"
kind = "generation"
max_tokens = 8
[data]
path = "data.jsonl"
input = "question"
reference = "answer"
near_duplicates = false
[split]
dev = 24
test = 48
[target]
at_least = 0.6
[documents]
paths = ["docs"]
chunk_chars = [400]
{documents}
[ladder]
rungs = {rungs}
"""


def write_cities(folder: Path, *, rungs: tuple[str, ...] = ("zero-shot", "rag"), documents: str = "") -> Path:
    for city in CITIES:
        write_city(folder / "docs", city)
    rows = [
        {
            "question": f"{asked.format(city)}?",
            "answer": year(city) if "bridge" in asked else mayor(city),
            "where": f"docs/{city.lower()}.md",
        }
        for asked in ASKED
        for city in CITIES
    ]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    path = folder / "luthier.toml"
    path.write_text(TOML.format(rungs=json.dumps(list(rungs)), documents=documents), encoding="utf-8")
    return path


def models() -> dict[str, Any]:
    return {"prompted": ScriptedModel(reads, name="reader"), "embedder": HashEmbedder()}


def run(path: Path, **options: bool) -> Verdict:
    return luthier.run(path, models=models(), options=Options(**options))


def by_rung(verdict: Verdict) -> dict[str, Any]:
    return {run.candidate.rung: run for run in verdict.runs}


# ---------------------------------------------------------------- from a folder to a verdict


def test_a_folder_of_markdown_answers_what_the_model_alone_cannot(tmp_path: Path) -> None:
    verdict = run(write_cities(tmp_path, documents='oracle = "where"'))
    assert verdict.chosen == "rag@reader"
    found = by_rung(verdict)
    assert all(row.score.value == 0.0 for row in found["zero-shot"].rows)
    for row in found["rag"].rows:
        city = next(city for city in CITIES if city in str(row.example.input))
        assert row.prediction.citations, "an answer cites the passage it stands in"
        assert all(each.startswith(f"docs/{city.lower()}.md:") for each in row.prediction.citations)
    fit = found["rag"].fit
    assert fit["a right passage is known"] == "as the data say"
    assert "recall@1" in fit["retrieval on dev"]
    assert "MRR" in fit["retrieval on dev"]


def test_a_rerun_replays_answers_and_citations_and_a_changed_document_is_measured_anew(tmp_path: Path) -> None:
    path = write_cities(tmp_path)
    first = by_rung(run(path))["rag"]
    again = by_rung(run(path))["rag"]
    assert [row.prediction.citations for row in again.rows] == [row.prediction.citations for row in first.rows]
    assert again.fingerprint == first.fingerprint
    (tmp_path / "docs" / "oslo.md").write_text("# Oslo\n\nThere is no bridge.\n", encoding="utf-8")
    changed = by_rung(run(path))
    assert changed["rag"].fingerprint != first.fingerprint
    assert changed["rag"].fit["documents"]["files"] == len(CITIES)


# ---------------------------------------------------------------- the contract


NUMBERS = ("two", "seven", "ninety", "many")


def knows_numbers(messages: tuple[Message, ...]) -> str:
    asked = messages[-1].content.rpartition("\n\n")[2]
    return "number" if any(word in asked for word in NUMBERS) else "animal"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "docs").mkdir()
    (folder / "docs" / "animals.md").write_text("# Animals\n\nThe dog, the cat, the horse and the cow are animals.\n")
    (folder / "docs" / "numbers.txt").write_text("Two, seven, ninety and many are about the number of things.\n")
    return folder


class Looking(RungContract):
    rung: Rung

    @pytest.fixture(autouse=True)
    def _placed(self, shelf: Path) -> None:
        self.shelf = shelf

    def make_rung(self) -> Rung:
        return self.rung

    def make_models(self) -> Mapping[str, Any]:
        documents = Documents((str(self.shelf / "docs"),), str(self.shelf), chunk_chars=(120,))
        library = open_library(documents, self.shelf / "index", HashEmbedder())
        return {"prompted": ScriptedModel(knows_numbers), "embedder": HashEmbedder(), "documents": library}


class TestRag(Looking):
    rung = Rag()


class TestRagShots(Looking):
    rung = RagShots()


class Written(Looking):
    kind: Kind = "generation"

    def make_models(self) -> Mapping[str, Any]:
        said = ScriptedModel(lambda messages: f"about the {knows_numbers(messages)}")
        return {**super().make_models(), "prompted": said}


class TestRagWritten(Written):
    rung = Rag()


class TestRagShotsWritten(Written):
    rung = RagShots()


class TestRagRecords(Looking):
    kind: Kind = "extraction"
    rung = Rag()

    def make_models(self) -> Mapping[str, Any]:
        said = ScriptedModel(lambda messages: json.dumps({"kind": knows_numbers(messages)}))
        return {**super().make_models(), "prompted": said}
