"""Read: a file becomes documents, texts that know under which headings each of their parts stands.

One example: the file `leave.md` with "# Leave\\n\\nEveryone has 30 days.\\n\\n## Notice\\n\\nTwo weeks." is one
document with its very text, under ("Leave",) from offset 0 on and under ("Leave", "Notice") from "## Notice" on.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.documents.hypertext import page_of
from luthier.errors import DataError, MissingExtra
from luthier.types import Documents, whole

VERSION = 1  # of how files are read: another version is another index
FALLBACK = "cp1252"  # of texts that are neither UTF-8 nor UTF-16
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.I)
_ASCII = '<meta charset="x"> +a- \\x'  # what codecs that are no encodings of web pages read as something else
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_LOOKED_AT = 4096  # bytes that tell what a file is

Marks = tuple[tuple[int, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A text by its name; `marks` are the offsets from which on other headings stand above it, the outermost first.

    The text is the file's own, but for line ends, where that is text; of HTML and PDF it is what was taken from them.
    """

    name: str
    text: str
    marks: Marks = ()


class Unreadable(Exception):
    """There is nothing in this file that could be looked up, and why: it is skipped, and named."""


@dataclass
class Reading:
    """What reading a file found besides documents: the encoding it was taken for, if a guess, and what was read."""

    guessed: str | None = None
    sha256: str | None = None


def read_documents(path: Path, name: str, settings: Documents, found: Reading) -> Iterator[Document]:
    """The documents of one file: one, or of JSONL one a line. One file at a time is in memory.

    Raises Unreadable for a file to skip; DataError for one that is not what it should be, which a person has to mend;
    MissingExtra.
    """
    ending = path.suffix.lower()
    raw = _bytes(path, name)
    found.sha256 = hashlib.sha256(raw).hexdigest()
    if not raw.strip():
        raise Unreadable("it is empty")
    if ending == ".pdf":
        yield _pdf(raw, name)
        return
    text = _text(raw, settings.encoding, name, found, html=ending in (".html", ".htm"))
    if ending in (".jsonl", ".ndjson"):
        yield from _rows(text, name, settings)
        return
    if ending in (".html", ".htm"):
        document = Document(name, *page_of(text))
    else:
        document = Document(name, text, markdown_marks(text) if ending in (".md", ".markdown") else ())
    if not document.text.strip():
        raise Unreadable("it holds no text")
    yield document


def _bytes(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as mistake:
        raise DataError(f"cannot be read: {mistake.strerror}", where=name, fix="check its permissions") from None


# ---------------------------------------------------------------- texts


def _text(raw: bytes, encoding: str | None, name: str, found: Reading, *, html: bool) -> str:
    text = _decoded(raw, encoding, name, found, html=html)
    if "\x00" in text:
        raise Unreadable("it is no text: it holds NUL characters")
    return whole(text.replace("\r\n", "\n").replace("\r", "\n"))


def _decoded(raw: bytes, encoding: str | None, name: str, found: Reading, *, html: bool) -> str:
    if encoding is not None:
        try:
            return raw.decode(encoding)
        except UnicodeError:
            raise DataError(
                f"it is not {encoding}",
                where=name,
                fix="leave [documents] encoding out: then each file is read by its own, or save the file anew",
            ) from None
    for mark, codec in _BOMS:
        if raw.startswith(mark):
            return raw.decode(codec, "replace")
    wide = _wide(raw[:_LOOKED_AT])
    if wide is not None:
        found.guessed = wide
        return raw.decode(wide, "replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    found.guessed = (_named_charset(raw) if html else None) or FALLBACK
    try:
        return raw.decode(found.guessed)
    except UnicodeDecodeError:  # the five bytes that Windows-1252 leaves open
        return raw.decode("latin-1" if found.guessed == FALLBACK else found.guessed, "replace")


def _wide(raw: bytes) -> str | None:
    """UTF-16 without its mark: every other byte of a western text is 0."""
    even, odd = raw[0::2].count(0), raw[1::2].count(0)
    half = len(raw) // 2
    if half < 4:
        return None
    if odd > 0.4 * half and even < 0.05 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 * half and odd < 0.05 * half else None


def _named_charset(raw: bytes) -> str | None:
    """What an HTML head says of its encoding, if that can be: its own name was read as ASCII, and has to stay that."""
    told = _CHARSET.search(raw[:_LOOKED_AT])
    if told is None:
        return None
    try:
        name = codecs.lookup(told.group(1).decode("ascii")).name
        return name if _ASCII.encode().decode(name, "replace") == _ASCII else None
    except (LookupError, UnicodeError):  # "hex" and "rot13" are codecs, and no encodings of texts
        return None


def markdown_marks(text: str) -> Marks:
    """Where the headings of a Markdown text stand (ATX and underlined ones), code blocks left out.

    >>> markdown_marks("# A\\n\\ntext\\n\\nB\\n---\\n")
    ((0, ('A',)), (11, ('A', 'B')))
    """
    marks: list[tuple[int, tuple[str, ...]]] = []
    path: list[tuple[int, str]] = []
    fence: str | None = None
    at, before, before_at = 0, "", 0  # the only line so far of a paragraph, and where it begins
    several = False  # whether the paragraph has more lines: what stands under it is a rule then
    for line in text.split("\n"):
        marker = _FENCE.match(line)
        if fence is not None:
            if marker and marker.group(1).startswith(fence) and not line.strip().strip(fence[0]):
                fence = None
            before = ""
        elif marker:
            fence, before = marker.group(1), ""
        else:
            heading, underline = _HEADING.match(line), _UNDERLINE.match(line)
            if heading:
                _enter(path, len(heading.group(1)), _title(line[heading.end() :]))
                marks.append((at, tuple(title for _, title in path)))
                before = ""
            elif (
                underline and before and not several and not before.lstrip().startswith(("-", "*", "+", ">", "|", "#"))
            ):
                _enter(path, 1 if underline.group(1)[0] == "=" else 2, before)
                marks.append((before_at, tuple(title for _, title in path)))
                before = ""
            elif not line.strip():
                before, several = "", False
            elif not before:
                before, before_at, several = line, at, False
            else:
                several = True
        at += len(line) + 1
    return tuple(marks)


def _title(rest: str) -> str:
    """What stands after the signs of a heading, without those that may close it."""
    title = rest.strip()
    bare = title.rstrip("#")
    return bare.rstrip() if not bare or bare[-1].isspace() else title


def _enter(path: list[tuple[int, str]], level: int, title: str) -> None:
    while path and path[-1][0] >= level:
        path.pop()
    path.append((level, " ".join(title.split())))


# ---------------------------------------------------------------- JSONL


def _rows(text: str, name: str, settings: Documents) -> Iterator[Document]:
    seen: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = _row(line, number, name)
        said = row.get(settings.text)
        if not isinstance(said, str):
            raise DataError(
                f"line {number} has no text under '{settings.text}': its keys are {', '.join(map(str, row)) or 'none'}",
                where=name,
                fix='name the key: [documents] text = "..."; or leave the file out of [documents] paths',
            )
        key = str(number) if settings.id is None else whole(str(row.get(settings.id, ""))).strip()
        if not key or key in seen:
            raise DataError(
                f"line {number} has {'the id of an earlier line' if key else 'no id'}: {settings.id} = {key!r}",
                where=name,
                fix="give each line an id of its own, or remove [documents] id: line numbers serve then",
            )
        seen.add(key)
        title = " ".join(whole(str(row.get(settings.title, ""))).split()) if settings.title is not None else ""
        if said.strip():
            clean = whole(said.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", ""))
            yield Document(f"{name}#{key}", clean, ((0, (title,)),) if title else ())


def _row(line: str, number: int, name: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as mistake:
        raise DataError(f"line {number} is not JSON: {mistake}", where=name, fix="write one object a line") from None
    if not isinstance(row, dict):
        raise DataError(f"line {number} is no object", where=name, fix='write {"text": "..."} on each line')
    return row


# ---------------------------------------------------------------- PDF


def _pdf(raw: bytes, name: str) -> Document:
    """The text of all pages, each page a mark. Whatever is wrong with a PDF, it is skipped and named."""
    try:
        from pypdf import PdfReader
    except ImportError:
        raise MissingExtra("rag", f"reading {name}") from None
    from io import BytesIO

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it tells of every oddity of a file that it can read
    try:
        reader = PdfReader(BytesIO(raw))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("it needs a password")
        pages = [whole(page.extract_text().replace("\x00", "")) for page in reader.pages]
    except Unreadable:
        raise
    except Exception as mistake:  # a parser of other people's files: it may raise anything
        raise Unreadable(f"it cannot be read as a PDF: {mistake or type(mistake).__name__}") from None
    if not any(page.strip() for page in pages):
        raise Unreadable(f"{len(pages)} pages hold no text: perhaps a scan, which needs text recognition (OCR) first")
    parts, marks, at = [], [], 0
    for number, page in enumerate(pages, 1):
        if page.strip():
            marks.append((at, (f"page {number}",)))
            parts.append(page.strip("\n"))
            at += len(parts[-1]) + 2
    return Document(name, "\n\n".join(parts), tuple(marks))
