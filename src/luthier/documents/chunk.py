"""Chunk: a document becomes passages, cut along its headings, its paragraphs, its sentences, and words at the worst.

One example: of a text with two short sections and a long one, the short ones make one passage, under the heading that
both stand below, and the long one is cut between two of its sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from luthier.documents.read import Document

VERSION = 1
ENOUGH = 1 / 3  # of a passage's size: from here on a new heading begins a new passage
_PARAGRAPH = re.compile(r"\n(?:[ \t]*\n)+")
# after the end of a sentence and the quote that closes it; East Asian full stops need no space
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’»)\]])\s+|(?<=[。！？])\s*")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: `text` is document.text[start:end], and `headings` stand above all of it, the outermost first.

    The id names document and offsets, `handbook/leave.md:120-640`: it is what answers cite.
    """

    document: str
    start: int
    end: int
    headings: tuple[str, ...]
    text: str

    @property
    def id(self) -> str:
        return f"{self.document}:{self.start}-{self.end}"

    @property
    def searched(self) -> str:
        """What is searched: the headings too, for a passage seldom says again what its section is about."""
        above = [title for title in self.headings if title not in self.text]
        return "\n".join([" > ".join(above), self.text]) if above else self.text


def chunks_of(document: Document, most: int) -> Iterator[Chunk]:
    """The passages of a document in its order, without overlap, each of at most `most` characters."""
    held: list[_Piece] = []
    for piece in _pieces(document, most):
        new_section = bool(held) and piece.headings != held[-1].headings and _length(held) >= ENOUGH * most
        if held and (new_section or piece.end - held[0].start > most):
            # a heading goes with what it is the heading of
            last = [held.pop()] if len(held) > 1 and held[-1].is_title else []
            yield from _chunk(document, held)
            held = last if last and piece.end - last[0].start <= most else []
        held.append(piece)
    yield from _chunk(document, held)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is never cut again: a paragraph, or a part of one that is too long."""

    start: int
    end: int
    headings: tuple[str, ...]
    is_title: bool


def _length(held: list[_Piece]) -> int:
    return held[-1].end - held[0].start


def _chunk(document: Document, held: list[_Piece]) -> Iterator[Chunk]:
    """The passage; none where it is a heading by itself, which stands above the next one anyway."""
    if not all(piece.is_title for piece in held):
        start, end = held[0].start, held[-1].end
        same = takewhile(lambda level: len(set(level)) == 1, zip(*(piece.headings for piece in held), strict=False))
        yield Chunk(document.name, start, end, tuple(level[0] for level in same), document.text[start:end])


def _pieces(document: Document, most: int) -> Iterator[_Piece]:
    text = document.text
    marks = [(0, ()), *document.marks] if not document.marks or document.marks[0][0] > 0 else list(document.marks)
    for (start, headings), (stop, _) in zip(marks, [*marks[1:], (len(text), ())], strict=True):
        for begin, end in _parted(text, start, stop, _PARAGRAPH):
            title = bool(headings) and text[begin:end].strip("#=- \t\n") == headings[-1]
            for one, other in _fitting(text, begin, end, most):
                yield _Piece(one, other, headings, title)


def _fitting(text: str, start: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """The span whole, else its sentences packed together, else its words, else cut."""
    if end - start <= most:
        yield start, end
        return
    begin, stop = start, start
    for one, other in _parted(text, start, end, _SENTENCE):
        if other - begin > most and stop > begin:
            yield begin, stop
            begin = one
        if other - one > most:
            yield from _by_words(text, one, other, most)
            begin = stop = other
            continue
        begin = one if stop == begin else begin
        stop = other
    if stop > begin:
        yield begin, stop


def _by_words(text: str, start: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    while end - start > most:
        space = max(text.rfind(sign, start + 1, start + most + 1) for sign in " \n\t")
        stop = space if space > start else start + most
        yield start, stop
        rest = _SPACE.match(text, stop)
        start = rest.end() if rest else stop
    if end > start:
        yield start, end


def _parted(text: str, start: int, end: int, between: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """The spans of text[start:end] that `between` parts, without white space around them; empty ones left out."""
    begin = start
    for found in between.finditer(text, start, end):
        yield from _stripped(text, begin, found.start())
        begin = found.end()
    yield from _stripped(text, begin, end)


def _stripped(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    part = text[start:end]
    left = len(part) - len(part.lstrip())
    right = len(part.rstrip())
    if right > left:
        yield start + left, start + right
