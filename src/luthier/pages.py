"""Pages: a report as files beside the task, which never take the place of somebody's data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from luthier.errors import StoreError
from luthier.report import render


def write_reports(folder: Path, summary: dict[str, Any], html: Path | None, markdown: Path | None) -> list[Path]:
    """Write the report as HTML, Markdown and JSON beside the task; the paths written."""
    stem = f"{file_name(summary['verdict']['task'])}-report"
    texts = {
        html or folder / f"{stem}.html": render.html(summary),
        markdown or folder / f"{stem}.md": render.markdown(summary),
        folder / f"{stem}.json": json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False),
    }
    for path, text in texts.items():
        write_page(path, text, "luthier report --html elsewhere.html")
    return list(texts)


def write_page(path: Path, text: str, fix: str = "choose another path") -> None:
    """Write a page. Raises StoreError, also where something else than a page is there: it may be somebody's data."""
    try:
        if path.is_file() and path.stat().st_size and not _is_page(path):
            raise StoreError("it is there already, and no page", where=str(path), fix="choose another name")
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write: {error}", where=str(path), fix=fix) from error


def file_name(task: str) -> str:
    """A task's name as the beginning of a file name, whatever it holds.

    >>> file_name("question-routing"), file_name("../a b/c"), file_name("//")
    ('question-routing', 'a-b-c', 'task')
    """
    return re.sub(r"[^\w.-]+", "-", task)[:80].strip(".-") or "task"


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(200).lstrip().lower()
    return head.startswith((b"<!doctype html", b'{\n "report"')) or path.suffix.lower() == ".md"
