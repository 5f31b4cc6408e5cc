"""Rungs and predictors: how a candidate is fitted, and what it tells while it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from luthier.types.data import Example, Input, Kind
from luthier.types.runs import Estimate, EvalRun, Prediction
from luthier.types.task import Extra, TaskSpec


class Predictor(Protocol):
    """A fitted rung: a batch of inputs in, a batch of predictions out, in the same order.

    What is raced, released, routed and served. `save` writes a folder from which `luthier.rungs.load_predictor` makes
    an equal predictor in a fresh process; `describe` tells, in plain words by key, what fitting chose.
    """

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]: ...
    def save(self, folder: Path) -> None: ...
    def describe(self) -> Mapping[str, Any]: ...


class Rung(Protocol):
    """One way to customize, unfitted. `roles` name the models it needs ("prompted", "student", "embedder").

    `kinds` are the kinds of task it can answer. `guarded` says that fitting changes the model's weights, so that the
    forgetting guard has to pass it. A rung may also have `optional_roles`, models that it uses where the task names
    them, `builds_on`, the rungs whose fitted predictors it starts from, and `learns_from`, the fields of Extra that it
    reads.
    """

    @property
    def name(self) -> str: ...
    @property
    def rank(self) -> int: ...
    @property
    def roles(self) -> tuple[str, ...]: ...
    @property
    def kinds(self) -> tuple[Kind, ...]: ...
    @property
    def guarded(self) -> bool: ...
    @property
    def version(self) -> str: ...

    def fit(
        self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext
    ) -> Predictor: ...


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person who waits wants to see. `kind` says which of the fields are set."""

    kind: Literal["note", "working", "racing", "finished"]
    candidate: str | None = None
    text: str = ""
    done: int = 0
    total: int = 0
    run: EvalRun | None = None
    outcome: str | None = None
    estimate: Estimate | None = None


Listener = Callable[[Event], None]


def silent(_event: Event) -> None:
    """The listener of those who do not want to watch."""


@dataclass(frozen=True)
class FitContext:
    """What a rung may use while it is fitted: models and embedders by role, a seed, a folder for its checkpoints.

    `fitted` holds the predictors of the rungs that this one says it builds on, by rung, where they were fitted; `extra`
    what there is to learn from besides examples; `terms` by role what the task says about training on a model's
    outputs.
    """

    models: Mapping[str, Any]
    seed: int
    workdir: Path
    candidate: str = ""
    listen: Listener = silent
    fitted: Mapping[str, Predictor] = field(default_factory=dict)
    extra: Extra = Extra()
    terms: Mapping[str, str] = field(default_factory=dict)

    def working(self, text: str, done: int = 0, total: int = 0) -> None:
        self.listen(Event("working", candidate=self.candidate, text=text, done=done, total=total))
