"""Workshop: what every stage of a climb works with: the task, its models, the store, and what was fitted so far."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from luthier.evaluate.judge import Judge, control
from luthier.evaluate.scorers import FingerprintedScorer, scorer_of
from luthier.models.shelf import Shelf
from luthier.store import FitRecord, Store
from luthier.types import Event, Listener, Predictor, Rung, Task

STORE_FOLDER = ".luthier"

Clock = Callable[[], datetime]


def now() -> datetime:
    return datetime.now(UTC)


class Workshop:
    """One task being worked on. `fitted` holds, by rung, the predictors that this climb has fitted or loaded."""

    def __init__(self, task: Task, models: Mapping[str, Any], listen: Listener, clock: Clock = now) -> None:
        self.task, self.listen, self.clock = task, listen, clock
        self.store = Store(task.folder / STORE_FOLDER)
        self.shelf = Shelf(task, models, self.store.folder, listen)
        self.fitted: dict[str, tuple[Predictor, FitRecord]] = {}
        self.judged: dict[str, Any] = {}
        self._scorer: FingerprintedScorer | None = None

    def close(self) -> None:
        self.shelf.close()
        self.store.close()

    def time(self) -> str:
        return self.clock().isoformat(timespec="seconds")

    def note(self, text: str) -> None:
        self.listen(Event("note", text=text))

    @property
    def scorer(self) -> FingerprintedScorer:
        """The scorer of the task's metric."""
        return self.open_scorer()

    def open_scorer(self) -> FingerprintedScorer:
        """The scorer, opened: a judge has to tell right answers from constant ones first, on dev."""
        if self._scorer is None:
            self._scorer = self._opened_scorer()
        return self._scorer

    def _opened_scorer(self) -> FingerprintedScorer:
        spec = self.task.spec
        scorer = scorer_of(spec, self.shelf.model("judge") if spec.target.metric == "judge" else None)
        assert scorer.fingerprint  # a missing extra shows here, before anything is spent
        if isinstance(scorer, Judge):
            self.note(f"asking the judge {scorer.model.name} about right and constant answers, on dev")
            found = control(scorer, self.task.train, self.task.dev, seed=spec.seed)
            self.judged = {"control": found.plain()}
            if found.gap.low <= 0:
                self.note(
                    f"the judge prefers right answers to constant ones by {found.gap.mean:.2f} on {found.gap.n} dev "
                    "examples, which may be chance: read its scores with care"
                )
        return scorer

    def roles(self, rung: Rung) -> tuple[str, ...]:
        """The models that this rung uses here: those it needs, and those it can use and that the task names."""
        return (*rung.roles, *(role for role in getattr(rung, "optional_roles", ()) if self.shelf.has(role)))

    def models(self, rung: Rung) -> dict[str, Any]:
        """The models of this rung, opened, by role."""
        return {role: self.shelf.model(role) for role in self.roles(rung)}

    def licences(self, rung: Rung) -> dict[str, str | None]:
        """The licences of this rung's local models, by their names; None where nobody knows one."""
        return {name: found for role in self.roles(rung) for name, found in self.shelf.licence(role).items()}

    def below(self, rung: Rung) -> dict[str, tuple[Predictor, FitRecord]]:
        """What the rungs that this one builds on have fitted, by rung."""
        return {name: self.fitted[name] for name in getattr(rung, "builds_on", ()) if name in self.fitted}

    def leaves(self, rung: Rung) -> bool:
        """Whether examples leave this machine for this rung: to be answered, to learn from, or to be judged."""
        judge = ("judge",) if self.task.spec.target.metric == "judge" else ()
        return any(getattr(self.shelf.model(role), "remote", False) for role in (*self.roles(rung), *judge))

    def by_token(self, rung: Rung) -> bool:
        """Whether the model that answers stands on another machine; a teacher or a judge is not asked in production."""
        return bool(rung.roles) and bool(getattr(self.shelf.model(rung.roles[0]), "remote", False))


@contextmanager
def terminable() -> Iterator[None]:
    """Let a polite kill (SIGTERM) stop the climb like Ctrl-C does, where signals can be caught at all."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
