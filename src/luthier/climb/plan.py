"""Plan: the candidates of a task, in the order of the climb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.rungs import ladder
from luthier.types import Candidate, Task


def plan(task: Task, models: Mapping[str, Any] | None = None) -> list[Candidate]:
    """The candidates of a task in ladder order: each rung with the model of its first role."""
    given = models or {}

    def name(role: str) -> str:
        return str(given[role].name) if role in given else task.spec.models[role]

    return [
        Candidate(rung.name, name(rung.roles[0]) if rung.roles else None, rung.rank)
        for rung in ladder(task.spec.rungs, task.spec.kind)
    ]
