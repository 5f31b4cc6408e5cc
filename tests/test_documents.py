"""Documents: files read, cut along their structure, indexed file by file; what is wrong with one is named."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.documents.chunk import chunks_of
from luthier.documents.hypertext import page_of
from luthier.documents.read import Document, Reading, Unreadable, markdown_marks, read_documents
from luthier.errors import DataError
from luthier.task.documents import document_files
from luthier.types import Documents

HANDBOOK = """\
Before any heading.

# Leave

Everyone has 30 days of leave. Days that are left at the end of the year are lost.

## Notice

Tell us two weeks before.

```
# no heading, but a comment
```

Pay
===

Pay day is the 25th.
"""


def read(path: Path, **settings: Any) -> list[Document]:
    return list(read_documents(path, path.name, Documents((), **settings), Reading()))


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


# ---------------------------------------------------------------- reading


def test_a_markdown_file_knows_under_which_heading_each_part_stands(tmp_path: Path) -> None:
    (document,) = read(written(tmp_path, "handbook.md", HANDBOOK))
    assert document.text == HANDBOOK
    at = {headings: document.text[offset:].split("\n")[0] for offset, headings in document.marks}
    assert at == {("Leave",): "# Leave", ("Leave", "Notice"): "## Notice", ("Pay",): "Pay"}


def test_lists_rules_and_tables_are_no_headings() -> None:
    assert markdown_marks("- a point\n---\n\n---\n\n| a | b |\n| - | - |\n\ntext\nmore\n---\n") == ()


def test_html_is_what_a_browser_shows(tmp_path: Path) -> None:
    page = "<html><head><title>T</title><style>p{}</style></head><body><nav>Menu</nav><h1>Pay</h1><p>Pay&nbsp;day"
    page += " is\nthe <b>25th</b>.<script>alert('no')</script><h2>Cards</h2><table><tr><td>a<td>b</table></body>"
    (document,) = read(written(tmp_path, "page.html", page))
    assert "alert" not in document.text
    assert "p{}" not in document.text
    assert "Pay\xa0day is the 25th." in document.text
    assert "a | b" in document.text
    assert [(document.text[at:].split("\n")[0], path) for at, path in document.marks] == [
        ("Pay", ("Pay",)),
        ("Cards", ("Pay", "Cards")),
    ]


@given(st.text(alphabet="<>/abhp1 ol&;\"'=-!", max_size=60))
@settings(max_examples=100, deadline=None)
def test_html_of_any_kind_is_read_without_an_error(page: str) -> None:
    text, marks = page_of(page)
    assert all(0 <= at <= len(text) for at, _ in marks)


@pytest.mark.parametrize(
    ("codec", "guess"), [("utf-8", None), ("utf-8-sig", None), ("utf-16", None), ("utf-16-le", "utf-16-le")]
)
def test_texts_are_read_in_their_own_encoding(tmp_path: Path, codec: str, guess: str | None) -> None:
    found = Reading()
    path = written(tmp_path, "a.txt", "Die Straße heißt nach Zoë.\r\nUnd weiter.\r\n".encode(codec))
    (document,) = read_documents(path, "a.txt", Documents(()), found)
    assert document.text == "Die Straße heißt nach Zoë.\nUnd weiter.\n"
    assert found.guessed == guess


def test_what_is_neither_utf_8_nor_utf_16_is_windows_1252_and_counted(tmp_path: Path) -> None:
    found = Reading()
    path = written(tmp_path, "a.txt", "Die Straße – „gut“".encode("cp1252"))
    (document,) = read_documents(path, "a.txt", Documents(()), found)
    assert document.text == "Die Straße – „gut“"
    assert found.guessed == "cp1252"
    page = written(tmp_path, "a.html", '<meta charset="iso-8859-2"><p>Łódź'.encode("iso-8859-2"))
    assert read(page)[0].text == "Łódź"


@pytest.mark.parametrize(
    "named", ["hex", "rot13", "undefined", "idna", "utf-7", "unicode_escape", "utf-16", "nonsense"]
)
def test_a_page_that_names_no_encoding_of_pages_is_read_all_the_same(tmp_path: Path, named: str) -> None:
    page = b'<html><head><meta charset="%s"></head><body>The caf\xe9 opens \\x at 8 +a-</body></html>' % named.encode()
    (tmp_path / "a.html").write_bytes(page)
    found = Reading()
    (document,) = read_documents(tmp_path / "a.html", "a.html", Documents(("a",)), found)
    assert document.text.strip() == "The caf\xe9 opens \\x at 8 +a-"
    assert found.guessed == "cp1252"


def test_an_encoding_that_is_named_and_wrong_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "Straße".encode("cp1252"))
    with pytest.raises(DataError, match="it is not utf-8"):
        read(path, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", b"", "empty"),
        ("a.md", b" \n\n", "empty"),
        ("a.txt", b"text \x00 with \x00 this", "NUL"),
        ("a.html", b"<script>only()</script>", "no text"),
        ("a.pdf", b"%PDF-1.4 and then nothing", "cannot be read as a PDF"),
    ],
)
def test_what_holds_no_text_is_skipped_with_the_reason(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    if name.endswith(".pdf"):
        pytest.importorskip("pypdf", reason="needs the extra 'rag'")
    with pytest.raises(Unreadable, match=why):
        read(written(tmp_path, name, content))


def test_a_pdf_gives_its_pages_and_a_scan_is_named_as_one(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf", reason="needs the extra 'rag'")
    (document,) = read(written(tmp_path, "a.pdf", pdf_of(["Leave is 30 days.", "Pay day is the 25th."])))
    assert [(document.text[at:].split("\n")[0], path) for at, path in document.marks] == [
        ("Leave is 30 days.", ("page 1",)),
        ("Pay day is the 25th.", ("page 2",)),
    ]
    blank = pypdf.PdfWriter()
    blank.add_blank_page(width=72, height=72)
    blank.write(tmp_path / "scan.pdf")
    with pytest.raises(Unreadable, match="1 pages hold no text: perhaps a scan"):
        read(tmp_path / "scan.pdf")
    blank.encrypt("secret")
    blank.write(tmp_path / "locked.pdf")
    with pytest.raises(Unreadable, match="password|cannot be read"):
        read(tmp_path / "locked.pdf")


def pdf_of(pages: list[str]) -> bytes:
    """A PDF with one line of text a page, as small as they come."""
    kids = " ".join(f"{4 + 2 * at} 0 R" for at in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for at, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents {5 + 2 * at} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    body, places = "%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n{each}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return f"{body}{end}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n".encode()


def test_each_line_of_jsonl_is_a_document(tmp_path: Path) -> None:
    rows = [{"body": "Everyone has 30 days.", "about": "Leave", "key": "a"}, {"body": " ", "about": "", "key": "b"}]
    path = written(tmp_path, "faq.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    (document,) = read(path, text="body", title="about", id="key")
    assert document == Document("faq.jsonl#a", "Everyone has 30 days.", ((0, ("Leave",)),))
    assert [each.name for each in read(path, text="body")] == ["faq.jsonl#1"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "line 2 is not JSON"),
        ('["a"]', "line 2 is no object"),
        ('{"body": "a"}', "no text under 'text'"),
    ],
)
def test_a_line_that_is_no_document_is_an_error_that_names_it(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path, "faq.jsonl", f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(DataError, match=message):
        read(path)


# ---------------------------------------------------------------- cutting


def test_small_sections_stand_together_and_large_ones_are_cut_between_sentences() -> None:
    sentences = [f"Sentence {at} says that something is the case." for at in range(12)]
    text = f"# A\n\n## One\n\nShort.\n\n## Two\n\nShort too.\n\n## Three\n\n{' '.join(sentences)}\n"
    chunks = list(chunks_of(Document("d.md", text, markdown_marks(text)), 200))
    assert "## One" in chunks[0].text
    assert "## Two" in chunks[0].text
    assert chunks[0].headings == ("A",)
    assert all(chunk.text.endswith(".") for chunk in chunks)
    assert chunks[-1].headings == ("A", "Three")
    assert chunks[-1].searched.startswith("A > Three\n")


@given(
    st.text(alphabet="ab .\n!。#", max_size=400),
    st.integers(5, 60),
)
@settings(max_examples=200, deadline=None)
def test_passages_are_parts_of_their_document_in_order_and_leave_nothing_out(text: str, most: int) -> None:
    document = Document("d", text)
    chunks = list(chunks_of(document, most))
    end = 0
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert 0 < len(chunk.text) <= most
        assert chunk.start >= end
        assert not text[end : chunk.start].strip()
        end = chunk.end
    assert not text[end:].strip()


# ---------------------------------------------------------------- which files


def files(folder: Path, *paths: str, **settings: Any) -> list[str]:
    named = tuple(str(folder / path) for path in paths)
    return list(document_files(Documents(named, str(folder), **settings)))


def test_folders_files_and_patterns_name_documents(tmp_path: Path) -> None:
    for name in ("a/one.md", "a/b/two.TXT", "a/b/.hidden.md", "a/.git/three.md", "a/picture.png", "four.md"):
        written(tmp_path, name, "text")
    assert files(tmp_path, "a") == ["a/b/two.TXT", "a/one.md"]
    assert files(tmp_path, "a/**/*.md", "four.md") == ["a/one.md", "four.md"]
    assert files(tmp_path, "a", leave_out=(str((tmp_path / "a" / "one.md").resolve()),)) == ["a/b/two.TXT"]


def test_a_folder_outside_of_the_task_is_named_from_there_and_its_hidden_files_stay_so(tmp_path: Path) -> None:
    written(tmp_path, "shared/.git/a.md", "text")
    written(tmp_path, "shared/b.md", "text")
    (tmp_path / ".task").mkdir()
    named = Documents((str(tmp_path / ".task" / ".." / "shared"),), str(tmp_path / ".task"))
    assert list(document_files(named)) == ["../shared/b.md"]


def test_a_name_that_is_no_text_is_read_all_the_same(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    Path(os.fsdecode(path)).write_text("text")
    assert files(tmp_path, ".") == ["caf\ufffd.txt"]


@pytest.mark.parametrize("text", ["# " + " " * 300_000 + "x", " " * 300_000 + "x\n", "#" * 300_000, "[" * 300_000])
def test_a_strange_text_takes_no_longer_than_its_length(text: str) -> None:
    """A pattern that tries again from each sign would take minutes."""
    started = time.process_time()
    list(chunks_of(Document("d", text, markdown_marks(text)), 500))
    page_of(text)
    assert time.process_time() - started < 2


def test_what_names_no_document_is_an_error(tmp_path: Path) -> None:
    written(tmp_path, "a/picture.png", "no")
    (tmp_path / "empty").mkdir()
    for paths, message in ((("empty",), "no documents"), (("a",), ".png"), (("b",), "no such"), (("*.md",), "no file")):
        with pytest.raises(DataError, match=message):
            files(tmp_path, *paths)


def test_a_file_that_is_named_and_cannot_be_read_is_not_left_out_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text", encoding="utf-8")
    (tmp_path / "b.docx").write_bytes(b"PK")
    folder = str(tmp_path)
    assert list(document_files(Documents((folder,), folder))) == ["a.md"]
    with pytest.raises(DataError, match=r"b\.docx: its kind of file"):
        document_files(Documents((folder, str(tmp_path / "b.docx")), folder))


def test_a_file_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(200_000_000)  # takes no room on disk
    with pytest.raises(DataError, match=r"large.txt: it has 200 MB, and \[documents\] max_file_mb = 50") as caught:
        files(tmp_path, "large.txt")
    assert "max_file_mb" in caught.value.fix
