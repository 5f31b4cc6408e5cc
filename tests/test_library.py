"""The library: passages found by words, by meaning and fused; an index that follows its files, and survives a kill."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import bm25s
import pytest

from luthier.documents import BYS, Library, open_library, passages
from luthier.documents.index import STATE
from luthier.documents.library import holds
from luthier.errors import DataError
from luthier.evaluate.retrieval import retrieval
from luthier.models.embed import HashEmbedder
from luthier.types import Documents, Event, Example

pytest.importorskip("lancedb", reason="needs the extra 'rag'")

TEXTS = {
    "leave.md": "# Leave\n\nEveryone has 30 days of leave a year.\n",
    "cards/lost.md": "# Lost cards\n\nA lost card is blocked in the app, and a new one takes five days.\n",
    "cards/brian's.txt": "Brian keeps the spare cards in the blue drawer.\n",
    "pay.html": "<h1>Pay</h1><p>Pay day is the 25th of each month.</p>",
}


class Counting(HashEmbedder):
    """Counts what it is asked to embed."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> Any:
        self.texts += texts
        return super().embed(texts)


def write(folder: Path, texts: dict[str, str]) -> Documents:
    for name, text in texts.items():
        path = folder / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Documents((str(folder / "docs"),), str(folder), chunk_chars=(120, 400))


def opened(folder: Path, documents: Documents, index: str = "index", embedder: Any = None) -> Library:
    return open_library(documents, folder / index, embedder or HashEmbedder())


def answers(library: Library) -> list[Any]:
    """What it says to some questions in every way, scores included."""
    queries = ["How many days of leave?", "lost card", "when is pay day", "Brian's drawer", "the", "?"]
    return [
        [(hit.chunk, round(hit.score, 5)) for hits in library.search(queries, 20, by=by, size=size) for hit in hits]
        for by in BYS
        for size in library.sizes
    ]


# ---------------------------------------------------------------- searching


def test_a_passage_is_found_by_words_by_meaning_and_by_both(tmp_path: Path) -> None:
    library = opened(tmp_path, write(tmp_path, TEXTS))
    for by in BYS:
        (hits,) = library.search(["How many days of leave do I have?"], 2, by=by)
        assert hits[0].chunk.id == "docs/leave.md:0-46"
        assert len(hits) == 2
    assert library.search(["?!"], 3, by="bm25") == [()]
    assert library.search([], 3) == []


def test_the_order_by_words_is_that_of_plain_bm25(tmp_path: Path) -> None:
    """Checked against another implementation, on texts of different lengths with repeated words."""
    words = "card lost leave pay day month app drawer blue spare year five".split(" ")  # noqa: SIM905
    texts = {
        f"{at:02}.txt": " ".join(words[(at * 7 + step * (at % 5 + 1)) % len(words)] for step in range(3 + at % 9))
        for at in range(40)
    }
    library = opened(tmp_path, write(tmp_path, texts))
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)  # the constants of LanceDB, which cannot be set
    index.index([text.split() for text in texts.values()], show_progress=False)
    for query in ("lost card", "pay day month", "blue", "spare leave year app"):
        scores = dict(zip(texts, index.get_scores(query.split()), strict=True))
        expected = {f"docs/{name}": score for name, score in scores.items() if score > 0}
        (hits,) = library.search([query], 20, by="bm25")
        assert hits
        ours = [hit.chunk.document for hit in hits]
        assert all(expected[one] >= expected[other] - 1e-4 for one, other in pairwise(ours))
        ratios = [hit.score / expected[hit.chunk.document] for hit in hits]
        assert ratios == pytest.approx([ratios[0]] * len(hits), rel=1e-3), "but for a constant factor, the same scores"


def test_the_same_passage_in_two_files_counts_once(tmp_path: Path) -> None:
    documents = write(tmp_path, {"a.txt": "Pay day is the 25th.\n", "b.txt": "Pay day is  the 25th.", "c.txt": "No."})
    (hits,) = opened(tmp_path, documents).search(["pay day"], 5, by="bm25")
    assert [hit.chunk.document for hit in hits] == ["docs/a.txt"]


def test_an_answer_is_held_word_by_word_and_not_letter_by_letter() -> None:
    assert holds("It cost 30 dollars.", "30 Dollars")
    assert not holds("It cost 130 dollars.", "30 dollars")
    assert not holds("anything", "")


# ---------------------------------------------------------------- how well passages are found


def test_retrieval_is_scored_by_what_the_data_name_else_by_the_answer(tmp_path: Path) -> None:
    documents = write(tmp_path, TEXTS)
    examples = [
        Example("a", "days of leave", ("30 days",)),
        Example("b", "when is pay day", ("the 25th",)),
        Example("c", "who is the king", ("not in the documents",)),
    ]
    queries = [str(each.input) for each in examples]
    by_answer = retrieval(opened(tmp_path, documents), examples, queries, kind="generation", by="bm25")
    assert by_answer is not None
    assert by_answer.places == (1, 1)
    assert by_answer.known == "by the answer in the passage"
    assert retrieval(opened(tmp_path, documents), examples, queries, kind="classification", by="bm25") is None
    passage = "Pay\n\nPay day is the 25th of each month."
    named = replace(documents, oracles={"a": ("docs/pay.html",), "b": (passage,)})
    by_data = retrieval(opened(tmp_path, named), examples, queries, kind="classification", by="bm25")
    assert by_data is not None
    assert by_data.known == "as the data say"
    assert by_data.places[0] != 1
    assert by_data.places[1] == 1
    assert by_data.recall(1).mean == 0.5


def test_the_right_passages_of_an_example_are_known_where_the_data_name_them(tmp_path: Path) -> None:
    named = replace(write(tmp_path, TEXTS), oracles={"a": ("docs/leave.md",), "b": ("Said elsewhere.",)})
    library = opened(tmp_path, named)
    assert [each.document for each in library.oracle(Example("a", "q", ("30 days",)))] == ["docs/leave.md"]
    assert [each.text for each in library.oracle(Example("b", "q", ("x",)))] == ["Said elsewhere."]
    assert library.oracle(Example("c", "q", ("x",))) == ()


# ---------------------------------------------------------------- documents change


def test_only_what_changed_is_read_and_the_index_is_as_a_new_one(tmp_path: Path) -> None:
    documents = write(tmp_path, TEXTS)
    first = opened(tmp_path, documents)
    before = answers(first)
    embedder = Counting()
    again = opened(tmp_path, documents, embedder=embedder)
    assert embedder.texts == []
    assert again.fingerprint == first.fingerprint

    write(tmp_path, {"leave.md": "# Leave\n\nEveryone has 28 days of leave.\n", "cards/new.txt": "New cards are red."})
    (tmp_path / "docs" / "cards" / "brian's.txt").unlink()
    changed = opened(tmp_path, documents, embedder=embedder)
    assert all("28 days" in text or "red" in text for text in embedder.texts)
    assert changed.fingerprint != first.fingerprint
    assert sorted(each.id for each in passages(documents)) == sorted(key for key, _ in changed.texts())
    names = {each.document for each in changed.chunks()}
    assert names == {"docs/leave.md", "docs/cards/lost.md", "docs/cards/new.txt", "docs/pay.html"}
    anew = opened(tmp_path, documents, index="another")
    assert answers(changed) == answers(anew), "what is found must not depend on what was there before"
    assert changed.fingerprint == anew.fingerprint
    assert answers(first) == before, "who opened the old index still reads the old one"


def test_a_file_that_can_no_longer_be_read_leaves_the_old_index(tmp_path: Path) -> None:
    documents = write(tmp_path, {**TEXTS, "faq.jsonl": '{"text": "Call 112."}'})
    before = answers(opened(tmp_path, documents))
    kept = next((tmp_path / "index").glob(f"*/{STATE}")).read_bytes()
    write(tmp_path, {"faq.jsonl": '{"text": "Call', "leave.md": "Other."})
    with pytest.raises(DataError, match="line 1 is not JSON"):
        opened(tmp_path, documents)
    assert next((tmp_path / "index").glob(f"*/{STATE}")).read_bytes() == kept
    write(tmp_path, {"faq.jsonl": '{"text": "Call 112."}', "leave.md": TEXTS["leave.md"]})
    assert answers(opened(tmp_path, documents)) == before


def test_a_file_that_changes_while_it_is_indexed_counts_as_what_was_read(tmp_path: Path) -> None:
    documents = write(tmp_path, TEXTS)

    def edits(event: Event) -> None:
        if event.text == "reading documents":
            write(tmp_path, {"leave.md": "# Leave\n\nEveryone has 28 days of leave.\n"})

    first = open_library(documents, tmp_path / "index", HashEmbedder(), edits)
    assert any("28 days" in text for _, text in first.texts())
    write(tmp_path, {"leave.md": TEXTS["leave.md"]})
    assert answers(opened(tmp_path, documents)) == answers(opened(tmp_path, documents, index="another"))


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from luthier.documents import open_library
    from luthier.models.embed import HashEmbedder
    from luthier.types import Documents

    class Fatal(HashEmbedder):
        calls = 0

        def embed(self, texts):
            Fatal.calls += 1
            if any("28 days" in text for text in texts) and Fatal.calls >= int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            return super().embed(texts)

    home = Path(sys.argv[1])
    documents = Documents((str(home / "docs"),), str(home), chunk_chars=(120, 400))
    open_library(documents, home / "index", Fatal())
"""


def killed(folder: Path, call: int) -> None:
    script = textwrap.dedent(KILLED)
    done = subprocess.run([sys.executable, "-c", script, str(folder), str(call)], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_process_killed_in_the_middle_of_an_update_leaves_the_old_index(tmp_path: Path) -> None:
    documents = write(tmp_path, TEXTS)
    before = answers(opened(tmp_path, documents))
    write(tmp_path, {"leave.md": "# Leave\n\nEveryone has 28 days of leave.\n"})
    # the passages of one size are written by then, those of the other are not
    killed(tmp_path, 2)
    (folder,) = (tmp_path / "index").iterdir()
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    import lancedb

    latest = lancedb.connect(str(folder)).open_table("passages_120")
    assert latest.version > state["versions"]["120"], "it was killed too early to show anything"
    write(tmp_path, {"leave.md": TEXTS["leave.md"]})
    assert answers(opened(tmp_path, documents)) == before
    # what the killed update left behind is of another file than the next one changes
    write(tmp_path, {"pay.html": "<h1>Pay</h1><p>Pay day is the 20th.</p>"})
    assert answers(opened(tmp_path, documents)) == answers(opened(tmp_path, documents, index="another"))


def test_a_process_killed_in_the_first_build_leaves_no_index_and_the_next_one_builds_it(tmp_path: Path) -> None:
    documents = write(tmp_path, {**TEXTS, "leave.md": "# Leave\n\nEveryone has 28 days of leave.\n"})
    killed(tmp_path, 2)
    assert not list((tmp_path / "index").glob(f"*/{STATE}"))
    assert answers(opened(tmp_path, documents)) == answers(opened(tmp_path, documents, index="another"))


def test_a_damaged_index_is_built_anew(tmp_path: Path) -> None:
    documents = write(tmp_path, TEXTS)
    before = answers(opened(tmp_path, documents))
    (folder,) = (tmp_path / "index").iterdir()
    shutil.rmtree(folder / "passages_120.lance" / "data")
    assert answers(opened(tmp_path, documents)) == before
    (folder / STATE).write_text("{", encoding="utf-8")
    assert answers(opened(tmp_path, documents)) == before


def test_another_embedder_or_another_size_is_another_index(tmp_path: Path) -> None:
    documents = write(tmp_path, TEXTS)
    known = opened(tmp_path, documents).fingerprint
    assert opened(tmp_path, documents, embedder=HashEmbedder(64)).fingerprint != known
    assert opened(tmp_path, replace(documents, chunk_chars=(120,))).fingerprint != known
    assert opened(tmp_path, replace(documents, no_answer="unknown")).fingerprint != known
    assert opened(tmp_path, documents).fingerprint == known


def test_what_cannot_be_read_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    documents = write(tmp_path, {**TEXTS, "empty.txt": "\n", "old.txt": "x"})
    (tmp_path / "docs" / "old.txt").write_bytes("Straße".encode("cp1252"))
    told = opened(tmp_path, documents).describe()
    assert told["files"] == len(TEXTS) + 2
    assert told["skipped"] == ["docs/empty.txt: it is empty"]
    assert told["encoding guessed"] == ["docs/old.txt: cp1252"]
    (tmp_path / "other").mkdir()
    nothing = write(tmp_path / "other", {"empty.txt": " "})
    with pytest.raises(DataError, match=r"nothing of the documents can be read: docs/empty.txt: it is empty"):
        opened(tmp_path / "other", nothing)
