"""Shelf: the models of a task by role, opened when they are first needed, and asked through the response cache."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from luthier.documents import open_library
from luthier.errors import SpecError
from luthier.models import budget, cache, catalog
from luthier.models.budget import Budget
from luthier.models.cache import CachedModel, ResponseCache
from luthier.models.embed import CachedEmbedder
from luthier.models.licence import chain_of
from luthier.models.remote import RemoteModel
from luthier.task.licences import BASE_OF
from luthier.task.spec import ModelsSection
from luthier.types import Listener, Task

DOCUMENTS = "documents"  # asked like a model: the passages nearest to an input
ROLES = (*ModelsSection.model_fields, DOCUMENTS)
ASKED_ROLES = ("prompted", "teacher", "judge")  # whose replies are kept


class Shelf:
    """Models by role, each opened when a rung first needs it, and asked through the response cache.

    The student is not: training changes its weights, and what its adapters answer is replayed by the store.
    """

    def __init__(self, task: Task, given: Mapping[str, Any], folder: Path, listen: Listener) -> None:
        _check_roles(given)
        self._task, self.given, self._listen, self._folder = task, given, listen, folder
        self._open: dict[str, Any] = {}
        self._roles: dict[str, Any] = {}
        self._remote: dict[str, RemoteModel] = {}
        self._budget = Budget(task.limits, folder / budget.FILE_NAME)
        self._cache = ResponseCache(folder / cache.FILE_NAME) if task.cached else None
        if task.spec.constraints.local_only:
            self._check_local()

    def has(self, role: str) -> bool:
        named = self._task.documents is not None if role == DOCUMENTS else role in self._task.spec.models
        return role in self.given or named

    def model(self, role: str) -> Any:
        if role not in self._roles:
            found = self.given[role] if role in self.given else self._opened(role)
            if self._cache is not None and role in ASKED_ROLES and not isinstance(found, CachedModel):
                found = CachedModel(found, self._cache)
            self._roles[role] = found
        return self._roles[role]

    def check(self, roles: Iterable[str]) -> None:
        """ModelError where a local model that is named for a role is not to be found; nothing is fetched or loaded."""
        for role in roles:
            name = self._task.spec.models.get(role)
            if name is not None and role not in self.given and name not in self._task.remote:
                catalog.check(name, "embedder" if role == "embedder" else "model")

    def fresh(self, role: str) -> Any:
        """The same model, answering anew whatever was kept: for whoever measures time."""
        if role == DOCUMENTS and role not in self.given:
            return self._library(self.fresh("embedder"))
        found = self.model(role)
        return found.model if isinstance(found, CachedModel | CachedEmbedder) else found

    def licence(self, role: str) -> dict[str, str | None]:
        """The licences of the local model in this role and of what it was made from, by name; None: nobody knows it.

        A base's name says of what it is one. Nothing for a model behind an endpoint, which has terms instead, or one
        that somebody made in memory.
        """
        name = self._task.spec.models.get(role, "")
        if role in self.given or name in self._task.remote:
            return {}
        listed = {entry.name: entry.licence for entry in catalog.entries()}
        if name in listed:
            return {name: listed[name]}
        if not Path(name).is_dir():
            return {}
        links = chain_of(Path(name), Path(name).name)
        return {f"{link.name}{BASE_OF}{link.under}" if link.under else link.name: link.licence for link in links}

    def clock(self) -> float:
        """Seconds that also pass for what is replayed from the cache: figures are those of a cold run."""
        return time.perf_counter() + sum(getattr(model, "replayed_s", 0.0) for model in self._roles.values())

    def close(self) -> None:
        for model in self._remote.values():
            model.close()
        self._budget.close()
        if self._cache is not None:
            self._cache.close()

    def _opened(self, role: str) -> Any:
        if role == DOCUMENTS:
            return self._library(self.model("embedder"))
        name = self._task.spec.models[role]
        if name in self._task.remote:
            if name not in self._remote:
                self._remote[name] = RemoteModel(self._task.remote[name], self._budget)
            return self._remote[name]
        if name not in self._open:  # the prompted model and the student are one by default
            if role == "embedder":
                self._open[name] = CachedEmbedder(
                    catalog.open_embedder(name, self._listen), self._folder / "embeddings", self._listen
                )
            else:
                self._open[name] = catalog.open_model(name, self._listen)
        return self._open[name]

    def _library(self, embedder: Any) -> Any:
        """The documents as they are when they are first asked for in a run; a change during the run is for the next."""
        if self._task.documents is None:
            raise SpecError(
                "no documents are named", where="luthier.toml", fix='add [documents] with paths = ["a folder"]'
            )
        return open_library(self._task.documents, self._folder / DOCUMENTS, embedder, self._listen)

    def _check_local(self) -> None:
        away = [role for role, model in self.given.items() if getattr(model, "remote", False)]
        if away:
            raise SpecError(
                f"local_only = true, and the {away[0]} model {self.given[away[0]].name} is on another machine",
                where="luthier.toml, [constraints] local_only",
                fix="give a local model, or take local_only out if examples may leave this machine",
            )

    def fingerprints(self) -> dict[str, str]:
        return {role: f"{model.name} {model.fingerprint}" for role, model in self._roles.items()}


def _check_roles(given: Mapping[str, Any]) -> None:
    unknown = [role for role in given if role not in ROLES]
    if unknown:
        raise SpecError(
            f"there is no role '{unknown[0]}' for a model to play",
            where="models=",
            fix=f"the roles are {', '.join(ROLES)}",
        )
