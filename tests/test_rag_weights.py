"""What a fine-tuned reader of documents learns from, and a cross-encoder that puts passages in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_tokenizer
from transformers import BertConfig, BertForSequenceClassification

from luthier.documents import open_library
from luthier.documents.rerank import CrossEncoder
from luthier.errors import SpecError
from luthier.models.embed import HashEmbedder
from luthier.rungs.rag_lora import lessons
from luthier.rungs.reading import Look, ReadingPredictor
from luthier.types import Documents, Example

pytest.importorskip("lancedb", reason="needs the extra 'rag'")

THINGS = ("door", "lamp", "sofa", "desk", "bed", "rug")
FACTS = [f"The {thing} of the house is number {at}." for at, thing in enumerate(THINGS)]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    for at, fact in enumerate(FACTS):
        (folder / f"{at}.txt").write_text(fact, encoding="utf-8")
    return folder


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


# ---------------------------------------------------------------- a reranker


def test_a_cross_encoder_in_a_folder_puts_the_found_passages_in_order(shelf: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForSequenceClassification(BertConfig(vocab_size=400, pad_token_id=0, num_labels=1, **shape))
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.5)  # as initialised, all passages score alike
    model.save_pretrained(tmp_path / "encoder")
    tiny_tokenizer().save_pretrained(tmp_path / "encoder")
    plain = Documents((str(shelf),), str(shelf), chunk_chars=(120,))
    ordered = replace(plain, reranker=str(tmp_path / "encoder"))
    before, after = (open_library(each, shelf / ".index", HashEmbedder()) for each in (plain, ordered))
    (found,), (again,) = (library.search(["the number of the lamp"], 6) for library in (before, after))
    assert {hit.chunk for hit in found} == {hit.chunk for hit in again}
    encoder = CrossEncoder(tmp_path / "encoder")
    scores = encoder.score("the number of the lamp", [hit.chunk.searched for hit in again])
    assert scores == sorted(scores, reverse=True)
    assert [hit.chunk for hit in found] != [hit.chunk for hit in again]
    assert before.fingerprint != after.fingerprint
    with pytest.raises(SpecError, match="there is no model in this folder"):
        open_library(replace(plain, reranker=str(tmp_path)), shelf / ".index", HashEmbedder())
