"""A fine-tuned reader of documents: the contract, the rows it learns from, and its strength."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_model

from luthier.documents import open_library
from luthier.models.embed import HashEmbedder
from luthier.rungs.rag_lora import RagLora, TunedReadingPredictor, lessons
from luthier.rungs.reading import Look, ReadingPredictor
from luthier.rungs.repair import Scalable
from luthier.testing import RungContract
from luthier.train.guard import Tuned
from luthier.train.recipe import Recipe
from luthier.types import Documents, Example, Kind, Rung

pytest.importorskip("lancedb", reason="needs the extra 'rag'")

SHORT = Recipe(epochs=1, step_examples=8, learning_rate=1e-2)
THINGS = ("door", "lamp", "sofa", "desk", "bed", "rug")
FACTS = [f"The {thing} of the house is number {at}." for at, thing in enumerate(THINGS)]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    for at, fact in enumerate(FACTS):
        (folder / f"{at}.txt").write_text(fact, encoding="utf-8")
    return folder


class Reading(RungContract):
    @pytest.fixture(autouse=True)
    def _placed(self, shelf: Path) -> None:
        self.shelf = shelf

    def make_rung(self) -> Rung:
        return RagLora(SHORT)

    def make_models(self) -> Mapping[str, Any]:
        documents = Documents((str(self.shelf),), str(self.shelf), chunk_chars=(120,))
        return {"student": tiny_model(), "documents": open_library(documents, self.shelf / ".index", HashEmbedder())}


class TestRagLora(Reading):
    def test_the_guard_and_the_repair_know_it_for_a_fine_tune(self, tmp_path: Path) -> None:
        predictor = self.fitted(tmp_path / "fit", self.make_models())
        assert isinstance(predictor, TunedReadingPredictor)
        assert isinstance(predictor, Tuned)
        assert isinstance(predictor, Scalable)
        half = predictor.scaled(0.5, tmp_path / "half")
        assert isinstance(half, TunedReadingPredictor)
        assert half.look == predictor.look
        assert half.describe()["strength"] == 0.5


class TestRagLoraWrites(Reading):
    kind: Kind = "generation"


class AsItIs:
    """A reader that is only asked how it would put a question."""

    labels, writing = (), None
    model = None


def taught(shelf: Path, answers: tuple[str, ...] = ()) -> tuple[list[Example], int]:
    documents = Documents((str(shelf),), str(shelf), chunk_chars=(120,))
    library = open_library(documents, shelf / ".index", HashEmbedder())
    asked = ReadingPredictor(AsItIs(), Look(library, "both", 120, 3))
    examples = [Example(f"{at}", THINGS[at % 6], (f"number {at % 6}",)) for at in range(60)]
    examples += [Example(f"none {at}", "the moon", (answer,)) for at, answer in enumerate(answers)]
    return lessons(asked, examples, seed=0)


def test_rows_show_the_right_passage_among_others_in_any_order_and_sometimes_leave_it_out(shelf: Path) -> None:
    rows, without = taught(shelf)
    shown = [str(row.input) for row in rows]
    right = [FACTS[at % 6] in text for at, text in enumerate(shown)]
    assert right.count(False) == without
    assert 5 <= without <= 20, "about a fifth"
    assert all(2 <= text.count("of the house") <= 3 for text in shown), "with passages beside the point"
    places = {text.split(FACTS[at % 6])[0].count("[") for at, text in enumerate(shown) if right[at]}
    assert len(places) > 1, "its place is no hint"
    assert [row.references for row in rows] == [(f"number {at % 6}",) for at in range(60)]


def test_where_some_examples_have_no_answer_a_row_without_the_right_passage_learns_to_say_so(shelf: Path) -> None:
    rows, without = taught(shelf, ("not in the documents",))
    said = [row.references[0] for at, row in enumerate(rows[:60]) if FACTS[at % 6] not in str(row.input)]
    assert said == ["not in the documents"] * without
    assert without
