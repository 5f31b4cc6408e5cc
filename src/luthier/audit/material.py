"""Material: what is audited: every row of the task's files as it was read, forgivingly, and the split it went to.

Loading a task stops at the first defect; an audit goes on and tells them all. So it reads the rows again, keeps what
cannot be used as `Defect`s, and takes the splits from the loaded task, where one could be loaded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from luthier.audit.finding import Place
from luthier.errors import DataError, LuthierError
from luthier.task import load_task
from luthier.task.answers import Answers, is_nothing
from luthier.task.data import Table
from luthier.task.duplicates import Pairs, form_of, likeness_of, measure
from luthier.task.load import table_of
from luthier.task.parse import FILE_NAME, read_settings
from luthier.task.records import asked_and_answered
from luthier.task.schema import read_schema
from luthier.task.settings import Settings
from luthier.types import Example, Input, Task, TaskSpec

Source = Literal["data", "test"]
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Row:
    """One usable row. `form` is equal for equal inputs; `written` is the reference as the file spells it.

    `split` is the split that the input is in, also where this row was merged into a copy; "" where it is in none.
    """

    place: Place
    id: str
    source: Source
    input: Input
    references: tuple[str, ...]
    written: str
    form: str
    group: str | None = None
    split: str = ""

    @property
    def reference(self) -> str:
        return self.references[0]


@dataclass(frozen=True, slots=True)
class Defect:
    """A row that cannot be used, and why."""

    place: Place
    why: str


@dataclass(frozen=True)
class Material:
    """The rows of one task. `refused` is the error with which the task itself cannot be loaded.

    `threshold` is the similarity from which two inputs are near-copies, 0 where nobody wants to know; `settings` is
    None for a task that was built in a program.
    """

    name: str
    closed: bool
    kind: str
    rows: tuple[Row, ...]
    defects: tuple[Defect, ...]
    threshold: float
    seed: int
    settings: Settings | None = None
    task: Task | None = None
    refused: LuthierError | None = None
    where: str = ""
    folder: Path = Path(".")

    @cached_property
    def distinct(self) -> tuple[tuple[Row, ...], ...]:
        """The rows of each different input, in the order of the files."""
        same: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            same[row.form].append(row)
        return tuple(map(tuple, same.values()))

    @cached_property
    def pairs(self) -> Pairs:
        """The near-copies among `distinct`, at the task's threshold or above."""
        likeness = [
            likeness_of(rows[0].input) if not isinstance(rows[0].input, str) else rows[0].form for rows in self.distinct
        ]
        return measure(likeness if self.threshold else [], self.threshold or 1.0)

    @cached_property
    def clusters(self) -> tuple[tuple[int, ...], ...]:
        """The sets of near-copies, as positions in `distinct`."""
        return tuple(map(tuple, self.pairs.clusters()))

    @cached_property
    def kin(self) -> tuple[int, ...]:
        """For each of `distinct` the number of its set of near-copies: those that share one count as one."""
        found = list(range(len(self.distinct)))
        for cluster in self.clusters:
            for position in cluster:
                found[position] = cluster[0]
        return tuple(found)

    def split(self, name: str) -> tuple[Example, ...]:
        """The examples of a split; none where the task could not be loaded."""
        if self.task is None:
            return ()
        return self.task.test.order if name == "test" else getattr(self.task, name)

    @property
    def spec(self) -> TaskSpec | None:
        return None if self.task is None else self.task.spec


def material_at(path: Path) -> Material:
    """The rows of a luthier.toml (or the folder that holds it), read forgivingly; its splits, where it can be loaded.

    Raises SpecError where luthier.toml cannot be understood, DataError where a file is no table.
    """
    file = path / FILE_NAME if path.is_dir() else path
    settings = read_settings(file)
    try:
        task = load_task(file)
    except LuthierError as error:
        return _read(settings, file.parent, None, error)
    return _read(settings, file.parent, task, None)


def material_of(task: Task) -> Material:
    """The rows of a loaded task: of its files, or of its examples where it was not read from any.

    Raises what `material_at` raises: the files may have changed since.
    """
    if task.file is not None:
        return _read(read_settings(task.file), task.file.parent, task, None)
    rows = [
        Row(_place(example.id), example.id, "data", example.input, example.references, example.reference,
            form_of(example.input), example.group, split)
        for split, examples in zip(SPLITS, (task.train, task.dev, task.test.order), strict=True)
        for example in examples
    ]  # fmt: skip
    closed = task.spec.kind == "classification"
    return Material(task.spec.name, closed, task.spec.kind, tuple(rows), (), 0.8, task.spec.seed, task=task)


def _place(name: str) -> Place:
    """
    >>> _place("line 12"), _place("q7")
    (12, 'q7')
    """
    line = name.removeprefix("line ")
    return int(line) if line.isdecimal() and line != name else name


def _read(settings: Settings, folder: Path, task: Task | None, refused: LuthierError | None) -> Material:
    answers = Answers(settings, read_schema(settings, folder))
    rows: list[Row] = []
    defects: list[Defect] = []
    sources: tuple[tuple[str, str | None, Source], ...] = (
        ("path", settings.data.path, "data"),
        ("test", settings.data.test, "test"),
    )
    for key, name, source in sources:
        if name is not None:
            some, unusable = _rows(table_of(settings, folder, key, name), settings, answers, source)
            rows += some
            defects += unusable
    if not rows:
        raise DataError(
            "no row can be used" + (f": {defects[0].why}" if defects else ""),
            where=settings.data.path,
            fix="check the columns named in [data]",
        )
    return Material(
        name=settings.name,
        closed=settings.closed,
        kind=settings.kind,
        rows=_with_splits(rows, task),
        defects=tuple(defects),
        threshold=settings.data.near_duplicates,
        seed=settings.seed,
        settings=settings,
        task=task,
        refused=refused,
        where=settings.where,
        folder=folder,
    )


def _rows(table: Table, settings: Settings, answers: Answers, source: Source) -> tuple[list[Row], list[Defect]]:
    data = settings.data
    for name in data.columns:
        table.column(name, "[data]", lists=name == data.messages or answers.lists(name))
    rows, defects = [], []
    for raw in table.rows:
        place: Place = raw.line if source == "data" else f"test line {raw.line}"
        try:
            asked, references = asked_and_answered(raw, settings, answers, table.name)
        except DataError as error:
            defects.append(Defect(place, error.what))
            continue
        if not asked or not references or is_nothing(references[0]):
            defects.append(Defect(place, "an empty input" if not asked else "an empty right answer"))
            continue
        name = raw.values[data.id].strip() if data.id is not None else ""
        group = raw.values[data.group].strip() if data.group else ""
        written = raw.values[data.reference] if data.reference is not None else references[0]
        if settings.closed:
            references = (references[0].strip(),)
        rows.append(
            Row(place, name or f"line {raw.line}", source, asked, references, written, form_of(asked), group or None)
        )
    return rows, defects


def _with_splits(rows: Sequence[Row], task: Task | None) -> tuple[Row, ...]:
    """The rows with the split of their input. A copy in the file of the test split is of the test split."""
    if task is None:
        return tuple(rows)
    of: dict[str, str] = {}
    for split, examples in zip(SPLITS, (task.train, task.dev, task.test.order), strict=True):
        for example in examples:
            of[form_of(example.input)] = split
    return tuple(replace(row, split=of.get(row.form, "")) for row in rows)
