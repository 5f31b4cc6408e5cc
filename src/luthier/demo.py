"""Demo: write a project that can be run at once, with real data from the catalog.

Each demo is one TOML in `demos/` (its first line says what it is about) and one small reader here.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from luthier.errors import SpecError, StoreError
from luthier.models import catalog
from luthier.types import Event, Listener, silent

Rows = Iterator[tuple[str, str]]
REVIEWS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


@dataclass(frozen=True, slots=True)
class _Demo:
    """Which file of which data entry becomes which CSV, and how its lines are read."""

    data: str
    source: str
    target: str
    columns: tuple[str, str]
    read: Callable[[str], Rows]


def _questions(text: str) -> Rows:
    """Lines such as `DESC:manner How did serfdom develop ?`: the coarse class, a fine one, the question.

    >>> list(_questions("DESC:manner How did serfdom develop ?"))
    [('How did serfdom develop ?', 'DESC')]
    """
    for line in text.splitlines():
        kind, _, question = line.partition(" ")
        if question.strip():
            yield question.strip(), kind.partition(":")[0]


def _messages(text: str) -> Rows:
    """A CSV with the columns "", spam (0 or 1) and text.

    Eight of its texts begin with a lone quotation mark in the original, and have swallowed the lines that follow there,
    labels and all: 737 messages. They are given back.

    >>> list(_messages(',spam,text\\n0,0,"See you"\\n1,0,"Hi\\nspam\\tWIN now\\nham\\tOk"\\n'))
    [('See you', 'ham'), ('Hi', 'ham'), ('WIN now', 'spam'), ('Ok', 'ham')]
    """
    for row in csv.DictReader(io.StringIO(text, newline="")):
        first, *rest = re.split(r"\n(ham|spam)\t", row["text"])
        yield first, "spam" if row["spam"] == "1" else "ham"
        yield from zip(rest[1::2], rest[0::2], strict=True)


CLEAR = 1.5  # of 4: reviews that the raters put nearer to zero are hardly positive or negative


def _reviews(text: str) -> Rows:
    """Lines such as `3\\t-1.6\\tEffective but too tepid biopic`: an id, the mean rating from -4 to 4, the snippet.

    >>> list(_reviews("id\\tsentiment\\ttext\\n1\\t2.3\\tSplendid .\\n2\\t-0.6\\tSo-so .\\n3\\t-2.0\\tDreadful ."))
    [('Splendid .', 'positive'), ('Dreadful .', 'negative')]
    """
    for line in text.splitlines()[1:]:
        _, rating, snippet = line.split("\t", 2)
        if abs(float(rating)) >= CLEAR:
            yield snippet.strip(), "positive" if float(rating) > 0 else "negative"


_DEMOS = {
    "question-routing": _Demo("demo-data", "question_labels.txt", "questions.csv", ("question", "label"), _questions),
    "spam": _Demo("demo-data", "sms-spam.csv", "messages.csv", ("message", "label"), _messages),
    "sentiment": _Demo("demo-data", REVIEWS, "reviews.csv", ("review", "sentiment"), _reviews),
}


def demos() -> dict[str, str]:
    """Each demo's name with one line about it.

    >>> list(demos())
    ['question-routing', 'spam', 'sentiment']
    """
    return {name: _spec(name).split("\n", 1)[0].removeprefix("# ") for name in _DEMOS}


def prepare(name: str, folder: Path, listen: Listener = silent) -> Path:
    """The path of a luthier.toml in `folder`, with the data beside it; the data is fetched if needed.

    What is there already is kept, and where it differs from the demo's own, a note says so. Raises SpecError for an
    unknown demo, StoreError for a folder that cannot be written, and what fetching raises.
    """
    if name not in _DEMOS:
        close = difflib.get_close_matches(name, _DEMOS, n=1)
        meant = f"did you mean '{close[0]}'? " if close else ""
        raise SpecError(f"there is no demo '{name}'", where="demo", fix=f"{meant}use one of: {', '.join(_DEMOS)}")
    demo = _DEMOS[name]
    source = catalog.data_folder(demo.data, listen) / demo.source
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(demo.columns)
    writer.writerows(demo.read(source.read_text(encoding="utf-8")))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / demo.target, text.getvalue(), listen)
        return _write(folder / "luthier.toml", _spec(name), listen)
    except OSError as error:
        raise StoreError(
            f"the demo cannot be written: {error.strerror or error}",
            where=str(error.filename or folder),
            fix="give a folder that can be written",
        ) from error


def _spec(name: str) -> str:
    return resources.files("luthier").joinpath("demos", f"{name}.toml").read_text(encoding="utf-8")


def _write(path: Path, text: str, listen: Listener) -> Path:
    """The file with this text, whole or not at all; one that is there is never overwritten."""
    if path.exists():
        if path.read_bytes() != text.encode("utf-8"):
            listen(Event("note", text=f"{path} is kept as it is: it differs from the demo's own"))
        return path
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(fresh, 0o644)
        os.replace(fresh, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(fresh)
    return path
