"""Guarding: what a fine-tune forgot, asked once for each predictor, and only where the answer decides something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from luthier.climb.workshop import Workshop
from luthier.evaluate.race import judge
from luthier.evaluate.slices import judged
from luthier.report.verdict import eligibility, may_be_chosen
from luthier.task import load_task
from luthier.train.general import general
from luthier.train.pairs import read_pairs
from luthier.types import EvalRun, Event, Message, Predictor, Task, digest

TASK_PROMPTS = 16  # of the task itself: how far its answers moved is reported, not judged


def guarded_against(task: Task) -> list[Task]:
    """The other tasks that the guard asks about, loaded. What `[guard]` names is read before anything is spent.

    Errors: DataError and SpecError of those files.
    """
    rules = task.spec.guard
    if rules.probe is not None:
        read_pairs(Path(rules.probe))
    if rules.text is not None:
        general("certificate", documents=rules.documents, prompts=rules.prompts, text=rules.text)
    return [load_task(Path(other)) for other in rules.tasks]


def guarded(shop: Workshop, others: Sequence[Task], predictor: Predictor, run: EvalRun) -> EvalRun:
    """The run with the guard's certificate, from the store where it is known; as it is where nothing depends on it."""
    spec = shop.task.spec
    outcome = judge(run, spec.target, spec.label_names).outcome
    if not run.guarded or not may_be_chosen(
        outcome, eligibility(run, spec.constraints, slices=judged(run, spec)).answer
    ):
        return run
    from luthier.rungs.own_tasks import OwnTask
    from luthier.train.guard import Guard, Tuned, certify

    if not isinstance(predictor, Tuned):
        return run
    guard = Guard.of(spec.guard, *(OwnTask(other, spec.guard) for other in others))
    key = digest("guard", run.fingerprint, guard.fingerprint)
    known = shop.store.measurement(key)
    if known is None:
        inputs = [example.input for example in shop.task.dev[:TASK_PROMPTS]]
        asked: list[tuple[Message, ...]] = getattr(predictor, "prompts", lambda _inputs: [])(inputs)

        def working(text: str, done: int, total: int) -> None:
            shop.listen(Event("working", run.candidate.name, f"certifying what was forgotten: {text}", done, total))

        known = certify(guard, predictor, task_prompts=asked, kept=shop.store, working=working).describe()
        shop.store.keep_measurement(key, known)
    return replace(run, guard=known)
