"""Documents with real weights: a fine-tuned reader keeps the rungs' contract, and SmolLM2 reads what it cannot know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_model

from luthier.documents import open_library
from luthier.models.catalog import open_embedder, open_model
from luthier.models.embed import HashEmbedder
from luthier.rungs.base import Writing
from luthier.rungs.prompted import PromptPredictor
from luthier.rungs.rag_lora import RagLora, TunedReadingPredictor
from luthier.rungs.reading import Look, ReadingPredictor
from luthier.rungs.repair import Scalable
from luthier.rungs.shots import FixedShots
from luthier.testing import RungContract
from luthier.train.guard import Tuned
from luthier.train.recipe import Recipe
from luthier.types import Documents, Kind, Rung

pytest.importorskip("lancedb", reason="needs the extra 'rag'")
pytestmark = pytest.mark.slow

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


class TestRagLoraWrites(Reading):
    kind: Kind = "generation"

    def test_the_guard_and_the_repair_know_it_for_a_fine_tune(self, tmp_path: Path) -> None:
        predictor = self.fitted(tmp_path / "fit", self.make_models())
        assert isinstance(predictor, TunedReadingPredictor)
        assert isinstance(predictor, Tuned)
        assert isinstance(predictor, Scalable)
        half = predictor.scaled(0.5, tmp_path / "half")
        assert isinstance(half, TunedReadingPredictor)
        assert half.look == predictor.look
        assert half.describe()["strength"] == 0.5


SECRETS = {
    "Who keeps the keys of the archive?": ("Mrs Abernathy", "The keys of the archive are kept by Mrs Abernathy."),
    "Which colour has the badge of a visitor?": ("purple", "The badge of a visitor is purple."),
    "Where does the shuttle to the plant leave?": ("gate 7", "The shuttle to the plant leaves from gate 7."),
    "What is the name of the canteen?": ("Halibut", "The canteen is called the Halibut."),
}


def test_the_embedded_model_reads_what_it_cannot_know_and_says_where_it_stands(tmp_path: Path) -> None:
    for at, (_, fact) in enumerate(SECRETS.values()):
        (tmp_path / f"{at}.md").write_text(f"# House rules {at}\n\n{fact}\n", encoding="utf-8")
    library = open_library(
        Documents((str(tmp_path),), str(tmp_path)), tmp_path / ".index", open_embedder("all-minilm-l6-v2")
    )
    for by in ("both", "embedding", "bm25"):
        hits = library.search(list(SECRETS), 1, by=by)
        assert [found[0].chunk.document for found in hits] == [f"{at}.md" for at in range(4)]
    prompt = PromptPredictor(
        open_model("smollm2-135m"), "Answer the question from the passage.", FixedShots(), (), writing=Writing(24)
    )
    alone = prompt.predict(list(SECRETS))
    reading = ReadingPredictor(prompt, Look(library, "both", 500, 1)).predict(list(SECRETS))
    answers = [answer for answer, _ in SECRETS.values()]
    right = [answer in str(found.output) for answer, found in zip(answers, reading, strict=True)]
    assert sum(right) >= 3, [found.output for found in reading]
    assert not any(answer in str(found.output) for answer, found in zip(answers, alone, strict=True))
    cited = [found.citations[:1] for found in reading]
    # an answer that is mostly other words than the passage's cites nothing
    assert sum(map(bool, cited)) >= 3
    assert all(passage.startswith(f"{at}.md:") for at, some in enumerate(cited) for passage in some)
