"""Documents: the section of luthier.toml about where answers can be looked up, and the files that it names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator

from luthier.errors import DataError
from luthier.task.section import Section, problem
from luthier.types import Documents, digest, whole

ENDINGS = (".md", ".markdown", ".txt", ".text", ".html", ".htm", ".pdf", ".jsonl", ".ndjson")
SIZES = (100, 20_000)
MOST_SIZES = 4
_DEFAULT = Documents(())
_MEGABYTE = 1_000_000


class DocumentsSection(Section):
    """Where answers can be looked up: with this section, the rungs `rag` and `rag-shots` are climbed too.

    Documents are cut into passages ("chunks") along their headings, paragraphs and sentences, and kept in an index in
    `.luthier/documents/` (extra `rag`). Documents that change are read again, the others are not.
    """

    paths: list[str] = Field(
        description=(
            "Folders (with all that is in them), files, or patterns such as `handbook/**/*.md`, relative to "
            f"luthier.toml. Read are {', '.join(ENDINGS)}; hidden files and the files of [data] are not."
        ),
        json_schema_extra={"values": "list of text"},
    )
    chunk_chars: list[int] = Field(
        default=list(_DEFAULT.chunk_chars),
        description=(
            "How many characters a passage has at most: one size, or several to choose from on dev. Each size is "
            "indexed by itself."
        ),
        json_schema_extra={"values": "list of whole numbers"},
    )
    max_file_mb: float = Field(
        default=_DEFAULT.max_file_mb,
        gt=0,
        allow_inf_nan=False,
        description="A larger file is an error: a file is read into memory, and takes several times its size there.",
    )
    encoding: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "The character encoding of texts. Left out: each file is UTF-8 or UTF-16 if it can be, else what its HTML "
            "head says, else Windows-1252, and the report counts those."
        ),
    )
    text: str = Field(
        default=_DEFAULT.text, min_length=1, description="In JSONL, where each line is a document: the key of its text."
    )
    title: str | None = Field(default=None, min_length=1, description="In JSONL: the key of the title.")
    id: str | None = Field(
        default=None, min_length=1, description="In JSONL: the key that names a document. Left out: its line."
    )
    oracle: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A column of [data] that says where the answer stands: a document (by file name, or by `id`), or the "
            "passage itself. Only for measuring how well passages are found. Left out: a passage counts as found that "
            "holds a right answer."
        ),
    )
    no_answer: str = Field(
        default=_DEFAULT.no_answer,
        min_length=1,
        description=(
            "What to answer where the documents do not say it. Spell it as in the data, where that has such examples: "
            "then every prompt asks for it."
        ),
    )
    reranker: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A folder with a cross-encoder (sentence-transformers) that reads the question together with each found "
            "passage and puts them in order. Left out: none."
        ),
    )

    @field_validator("paths")
    @classmethod
    def _paths(cls, value: list[str]) -> list[str]:
        if not value or not all(path.strip() for path in value):
            raise problem("no path is named", 'write paths = ["handbook"], a folder of documents')
        return value

    @field_validator("chunk_chars")
    @classmethod
    def _sizes(cls, value: list[int]) -> list[int]:
        low, high = SIZES
        if not value or len(value) > MOST_SIZES or not all(low <= size <= high for size in value):
            raise problem(
                f"{value} are no sizes of a passage", f"write one to {MOST_SIZES} whole numbers from {low} to {high:,}"
            )
        return sorted(set(value))

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, value: str | None) -> str | None:
        try:
            "".encode(value or "utf-8")
        except LookupError:
            raise problem(f"{value!r} is no character encoding", 'use "utf-8", "cp1252" or "utf-16"') from None
        return value

    def noun(self, folder: Path, leave_out: Sequence[Path]) -> Documents:
        """The same with absolute paths; `leave_out` are files that are never a document: the examples themselves."""
        given = self.model_dump(exclude={"paths", "chunk_chars", "oracle", "reranker"})
        return Documents(
            paths=tuple(str(folder / path) for path in self.paths),
            folder=str(folder),
            chunk_chars=tuple(self.chunk_chars),
            leave_out=tuple(str(path.resolve()) for path in leave_out),
            reranker=None if self.reranker is None else str(folder / self.reranker),
            **given,
        )


def document_files(documents: Documents) -> dict[str, Path]:
    """Every file to read, by its name relative to the task's folder, in the order of the names.

    Raises DataError for a path that names nothing, for a file that is too large, and where there is nothing to read.
    """
    found: dict[str, Path] = {}
    left_out, unknown = set(documents.leave_out), set[str]()
    for path in map(Path, documents.paths):
        root, files = _named(path)
        for file in files:
            if _hidden(file, root) or str(file.resolve()) in left_out:
                continue
            if file.suffix.lower() not in ENDINGS:
                if file == path:  # left out without a word, it would be missed by nobody
                    raise DataError(
                        "its kind of file cannot be read",
                        where=_name(file, Path(documents.folder)),
                        fix=f"save it as one of {', '.join(ENDINGS)}, or leave it out of [documents] paths",
                    )
                unknown.add(file.suffix.lower() or file.name)
                continue
            found[_name(file, Path(documents.folder))] = file
    if not found:
        others = f" (there are files that cannot be read: {', '.join(sorted(unknown)[:5])})" if unknown else ""
        raise DataError(
            f"there are no documents{others}",
            where=", ".join(_name(Path(path), Path(documents.folder)) for path in documents.paths),
            fix=f"point [documents] paths to files with the endings {', '.join(ENDINGS)}",
        )
    for name, file in found.items():
        size = file.stat().st_size
        if size > documents.max_file_mb * _MEGABYTE:
            raise DataError(
                f"it has {size / _MEGABYTE:,.0f} MB, and [documents] max_file_mb = {documents.max_file_mb:g}",
                where=name,
                fix="split it, leave it out of [documents] paths, or raise max_file_mb: reading takes several times "
                "its size in memory",
            )
    return dict(sorted(found.items()))


def file_hashes(files: dict[str, Path]) -> dict[str, str]:
    """The SHA-256 of each file, read in pieces. Raises DataError for a file that cannot be read."""
    hashes = {}
    for name, path in files.items():
        try:
            with path.open("rb") as file:
                hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as mistake:
            raise DataError(
                f"cannot be read: {mistake.strerror}", where=name, fix="check its permissions, or leave it out"
            ) from None
    return hashes


def documents_content(documents: Documents) -> str:
    """A content address of what the documents say and how they are cut; the places of the files have no part in it."""
    hashes = file_hashes(document_files(documents))
    return digest("documents", hashes, settings_content(documents), documents.oracles, documents.no_answer)


def settings_content(documents: Documents) -> dict[str, object]:
    """What decides how a file becomes passages."""
    return {
        "chunk_chars": documents.chunk_chars,
        "encoding": documents.encoding,
        "text": documents.text,
        "title": documents.title,
        "id": documents.id,
    }


def _named(path: Path) -> tuple[Path, list[Path]]:
    """The files that a path or a pattern names, and the folder below which they were looked for."""
    if any(sign in str(path) for sign in "*?[") and not path.exists():
        first = next(at for at, part in enumerate(path.parts) if any(sign in part for sign in "*?["))
        root = Path(*path.parts[:first])
        matches = sorted(root.glob(str(Path(*path.parts[first:]))))
        files = [file for match in matches for file in (_inside(match) if match.is_dir() else [match])]
        if not files:
            raise DataError("no file matches", where=str(path), fix="check the pattern in [documents] paths")
        return root, files
    if path.is_dir():
        return path, _inside(path)
    if not path.is_file():
        raise DataError("there is no such file or folder", where=str(path), fix="check [documents] paths")
    return path.parent, [path]


def _inside(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _name(file: Path, folder: Path) -> str:
    """Relative to the task's folder where it lies in it, else below the folder's parents; always text."""
    return whole(Path(os.path.relpath(file, folder)).as_posix())
