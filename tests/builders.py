"""Small real parts that several tests need: runs with given scores, tasks on disk, a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier.types import Candidate, Constraints, EvalRun, Example, Label, Prediction, Row, Score, Target, TaskSpec

LABELS = ("a", "b")


def spec(target: Target, constraints: Constraints = Constraints()) -> TaskSpec:
    return TaskSpec(
        name="t",
        kind="classification",
        instruction="Say a or b.",
        labels=tuple(Label(name) for name in LABELS),
        target=target,
        constraints=constraints,
        rungs=("majority",),
        models={},
    )


def row(at: int, score: float | None, *, group: str | None = None, reference: str = "a") -> Row:
    other = "b" if reference == "a" else "a"
    output = None if score is None else reference if score == 1 else other
    prediction = Prediction(output, error="it failed" if score is None else None)
    return Row(Example(f"e{at}", f"input {at}", (reference,), group), prediction, Score(score, "for the test"))


def eval_run(
    scores: Sequence[float | None],
    *,
    name: str = "zero-shot",
    rank: int = 40,
    alpha: float = 0.05,
    population: int | None = None,
    groups: Sequence[str] | None = None,
    references: Sequence[str] | None = None,
    guarded: bool = False,
    remote: bool = False,
    not_measured: str | None = None,
    guard: Mapping[str, Any] | None = None,
) -> EvalRun:
    rows = tuple(
        row(at, score, group=groups[at] if groups else None, reference=references[at] if references else "a")
        for at, score in enumerate(scores)
    )
    size = population or len(rows)
    return EvalRun(
        candidate=Candidate(name, None, rank),
        split="test",
        rows=rows,
        fingerprint="f",
        alpha=alpha,
        population=size,
        groups=len(set(groups)) if groups else size,
        grouped=groups is not None,
        guarded=guarded,
        remote=remote,
        not_measured=not_measured,
        guard=guard,
    )


def guard_found(answer: str = "passed", *, required: bool = True, **status: str) -> dict[str, Any]:
    """What the forgetting guard keeps: general text, and one more suite for each given status."""
    suites = {"general_text": "passed", **status}
    rows = [
        {
            "suite": name.replace("_", " "),
            "unit": "nats a token" if name == "general_text" else "share right",
            "status": found,
            "reason": f"for the test: {found}",
            "margin": 0.05,
            "base": 3.31 if name == "general_text" else 0.68,
            "tuned": 3.33 if name == "general_text" else 0.66,
            "difference": None
            if found == "refused"
            else {"mean": 0.0214, "low": 0.017, "high": 0.0258, "n": 100, "method": "paired t"}
            if name == "general_text"
            else {"mean": -0.02, "low": -0.031, "high": -0.009, "n": 1000, "method": "Tango"},
            "units": 100,
            "better": "lower" if name == "general_text" else "higher",
        }
        for name, found in suites.items()
    ]
    return {"answer": answer, "suites": rows, "required": required, "alpha": 0.05, "seconds": 41.5, "fingerprint": "g"}


def write_task(folder: Path, rows: Sequence[tuple[str, str]], toml: str) -> Path:
    """A project folder with data.csv (columns text, label) and luthier.toml; returns the path of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["text,label", *(f'"{text}",{label}' for text, label in rows)]
    (folder / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "luthier.toml"
    path.write_text(toml, encoding="utf-8")
    return path


def colour_rows(count: int, *, noise: int = 0) -> list[tuple[str, str]]:
    """Easy, distinct, real enough sentences: the colour decides the label, every `noise`-th one is labelled wrong."""
    things = ("house", "car", "boat", "stone", "coat", "bird", "lamp", "door", "book", "shoe", "chair", "clock")
    places = ("river", "market", "station", "forest", "school", "harbour", "bridge", "garden", "tower", "museum")
    rows = []
    for at in range(count):
        thing, place = things[at % len(things)], places[(at // len(things)) % len(places)]
        warm = (at * 7 + at // 5) % 2 == 0
        colour = ("red", "orange", "yellow")[at % 3] if warm else ("blue", "green", "violet")[at % 3]
        label = "warm" if warm else "cold"
        if noise and at % noise == noise - 1:
            label = "cold" if warm else "warm"
        rows.append((f"We saw the {colour} {thing} number {at} near the {place} of town {at * 37 % 1009}", label))
    return rows
