"""Hub: a data set of a hub, `hf://owner/dataset/split`, read from the Parquet files that the hub keeps of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.errors import DataError, MissingExtra
from luthier.task.data import Table, parquet_table

PREFIX = "hf://"
# where the hub puts what it converted: config/split/0000.parquet, 0001.parquet, ...
CONVERTED = "refs/convert/parquet"


@dataclass(frozen=True, slots=True)
class HubPath:
    """`hf://owner/dataset`, with `/split` or `/config/split`; `config` None: the only one there is."""

    repository: str
    config: str | None
    split: str

    @classmethod
    def read(cls, path: str) -> HubPath:
        parts = path.removeprefix(PREFIX).split("/")
        if not 2 <= len(parts) <= 4 or not all(parts):
            raise DataError(
                "this names no data set of a hub",
                where=path,
                fix='write "hf://owner/dataset/split" or "hf://owner/dataset/config/split"',
            )
        owner, name, *rest = parts
        return cls(f"{owner}/{name}", rest[0] if len(rest) == 2 else None, rest[-1] if rest else "train")


def hub_table(path: str, *, endpoint: str | None = None) -> Table:
    """The rows of a hub's data set, downloaded once for each of its revisions. Raises DataError, MissingExtra.

    `endpoint` is the hub's address; None: what HF_ENDPOINT says, else the public one. A token is only read from the
    environment, by the huggingface_hub library, in whose cache the files are kept. The hub is asked for the newest
    revision each time, so that this needs a connection even where the files are in the cache. It does not cover data
    sets that the hub has not converted to Parquet.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingExtra("hub", f"the data set {path}") from error
    wanted = HubPath.read(path)
    api = HfApi(endpoint=endpoint or os.environ.get("HF_ENDPOINT"))
    files, revision = _listed(api, wanted, path)
    chosen = _chosen(files, wanted, path)
    raw = []
    for file in chosen:
        try:
            local = api.hf_hub_download(wanted.repository, file, repo_type="dataset", revision=revision)
        except Exception as mistake:  # the library passes on errors of three HTTP stacks
            raise _unreachable(mistake, path) from mistake
        raw.append(Path(str(local)).read_bytes())
    return parquet_table(raw, path)


def _listed(api: Any, wanted: HubPath, path: str) -> tuple[list[str], str]:
    """The converted files of the data set, and their revision."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = api.dataset_info(wanted.repository, revision=CONVERTED)
    except RevisionNotFoundError as mistake:
        raise DataError(
            "the hub has not converted this data set to Parquet",
            where=path,
            fix="download it, and set [data] path to the file",
        ) from mistake
    except RepositoryNotFoundError as mistake:
        raise DataError(
            "the hub has no such data set, or it needs a token",
            where=path,
            fix="check owner and name, or set HF_TOKEN",
        ) from mistake
    except Exception as mistake:
        raise _unreachable(mistake, path) from mistake
    names = [str(sibling.rfilename) for sibling in info.siblings or ()]
    return sorted(name for name in names if name.endswith(".parquet")), str(info.sha)


def _chosen(files: Sequence[str], wanted: HubPath, path: str) -> list[str]:
    places = sorted({tuple(file.split("/")[:2]) for file in files if file.count("/") == 2})
    fitting = [place for place in places if place[1] == wanted.split and wanted.config in (None, place[0])]
    if len(fitting) != 1:
        shown = ", ".join(f"{PREFIX}{wanted.repository}/{'/'.join(place)}" for place in places[:20])
        raise DataError(
            "it has several configurations" if fitting else f"it has no split '{wanted.split}' there",
            where=path,
            fix=f"use one of {shown or 'another data set: this one has no Parquet files'}",
        )
    return [file for file in files if tuple(file.split("/")[:2]) == fitting[0]]


def _unreachable(mistake: Exception, path: str) -> DataError:
    said = str(mistake).strip().splitlines() or [type(mistake).__name__]
    return DataError(
        f"the hub cannot be reached: {said[0][:200]}",
        where=path,
        fix="connect and run the same command again; or download the data set's Parquet files elsewhere and set "
        "[data] path to one of them",
    )
