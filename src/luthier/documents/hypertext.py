"""Hypertext: an HTML page as a text with its headings; what a browser would not show is left out."""

from __future__ import annotations

import re
from html.parser import HTMLParser

HIDDEN = frozenset({"script", "style", "template", "noscript", "svg", "iframe", "object", "head", "title"})
HEADINGS = {f"h{level}": level for level in range(1, 7)}
BLOCKS = frozenset(
    {
        *HEADINGS,
        *("address", "article", "aside", "blockquote", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption"),
        *("figure", "footer", "form", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "summary"),
        *("table", "tbody", "tfoot", "thead", "tr", "ul"),
    }
)


def page_of(html: str) -> tuple[str, tuple[tuple[int, tuple[str, ...]], ...]]:
    """The text of a page, blocks parted by empty lines, and the offsets of its headings.

    >>> page_of("<title>T</title><h1>A &amp; B</h1><p>one<br>two<script>no</script><ul><li>x<li>y</ul>")
    ('A & B\\n\\none\\ntwo\\n\\n- x\\n\\n- y', ((0, ('A & B',)),))
    """
    parser = _Page()
    parser.feed(html)
    parser.close()
    return parser.finished()


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[str] = []
        self.length = 0  # of the blocks, with what parts them
        self.block = ""
        self.hidden: list[str] = []
        self.raw = 0
        self.heading: int | None = None
        self.path: list[tuple[int, str]] = []
        self.marks: list[tuple[int, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.hidden:
            if tag in HIDDEN:
                self.hidden.append(tag)
            elif tag == "body" or (tag in BLOCKS and self.hidden == ["head"]):  # a head that was never closed
                self.hidden.clear()
            if self.hidden:
                return
        if tag in HIDDEN:
            self.hidden.append(tag)
            return
        if tag in BLOCKS:
            self._end_block()
        if tag == "br":
            self.block += "\n"
        elif tag == "li":
            self.block = "- "
        elif tag in ("td", "th") and self.block.strip():
            self.block += " | "
        elif tag == "pre":
            self.raw += 1
        elif tag in HEADINGS:
            self.heading = HEADINGS[tag]

    def handle_endtag(self, tag: str) -> None:
        if self.hidden:
            if tag in self.hidden:
                del self.hidden[len(self.hidden) - 1 - self.hidden[::-1].index(tag) :]
            return
        if tag in BLOCKS:
            self._end_block()
        if tag == "pre":
            self.raw = max(0, self.raw - 1)
        if tag in HEADINGS:
            self.heading = None

    def handle_data(self, data: str) -> None:
        if self.hidden:
            return
        if self.raw:
            self.block += data
            return
        words = re.sub(r"[ \t\r\n\f]+", " ", data)
        self.block += words.lstrip(" ") if not self.block or self.block[-1:] in "\n " else words

    def finished(self) -> tuple[str, tuple[tuple[int, tuple[str, ...]], ...]]:
        self._end_block()
        return "\n\n".join(self.blocks), tuple(self.marks)

    def _end_block(self) -> None:
        lines = self.block.strip("\n" if self.raw else None).split("\n")
        text, self.block = "\n".join(lines if self.raw else [line.strip() for line in lines]), ""
        if not text.strip() or text.strip() == "-":
            return
        if self.heading is not None:
            title = " ".join(text.split())
            while self.path and self.path[-1][0] >= self.heading:
                self.path.pop()
            self.path.append((self.heading, title))
            self.marks.append((self.length, tuple(part for _, part in self.path)))
        self.blocks.append(text)
        self.length += len(text) + 2
