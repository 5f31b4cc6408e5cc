"""Slices: the [slices] section of luthier.toml, and which slices of the inputs a task has.

From a column `channel` with 300 times "web" and 90 times "phone" to two slices of 300 and 90 test examples, each
compared with the rest, and a target of its own for one of them where [[slices.target]] names it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field, field_validator, model_validator

from luthier.errors import DataError, SpecError
from luthier.task.section import Section, problem
from luthier.task.spelling import suggest
from luthier.types import Example, Input, Label, Slice, SliceRules, SliceTarget, Target

QUANTILES = 4  # a length, or a column of numbers, is cut into quarters of the test examples
MOST_VALUES = 20  # more values of one column than this are not told apart
NUMBERS_FROM = 8  # different numbers from which on a column is an amount and no code
FEWEST = 5
# how programs write that a number is missing; none of them is a value beside amounts
MISSING = frozenset(("", "nan", "na", "n/a", "null", "none", "nil", "<na>", "#n/a", "-", "?"))
_DEFAULT = SliceRules()


class SliceTargetSection(Section):
    """A bar for one slice alone: `column` with `value`, or `class`, or `shorter_than` and `longer_than`.

    A candidate that meets the task's target and is proven to miss one of these is not chosen; where it is not shown
    either way, it can be, and the verdict says what is open.
    """

    column: str | None = Field(default=None, min_length=1, description="A column of the data file; needs `value`.")
    value: str | None = Field(default=None, description='What stands in the column, as text; `""` is an empty field.')
    class_: str | None = Field(
        default=None, alias="class", min_length=1, description="Classification only: the label that is right."
    )
    shorter_than: int | None = Field(default=None, ge=2, description="Inputs of fewer characters than this.")
    longer_than: int | None = Field(default=None, ge=0, description="Inputs of more characters than this.")
    at_least: float = Field(
        allow_inf_nan=False,
        description=(
            "The bar for this slice, in the task's metric; with `macro_f1` and `f1`, which are no means, in accuracy."
        ),
    )

    @field_validator("at_least")
    @classmethod
    def _proportion(cls, value: float) -> float:
        if not 0 < value < 1:
            meant = f"did you mean {value / 100:g}?" if 10 <= value < 100 else "choose for example 0.8"
            raise problem(f"{value:g} is not between 0 and 1", meant)
        return value

    @model_validator(mode="after")
    def _one_slice(self) -> SliceTargetSection:
        by_length = self.shorter_than is not None or self.longer_than is not None
        ways = (self.column is not None or self.value is not None, self.class_ is not None, by_length)
        if sum(ways) != 1:
            raise problem(
                "a slice is named by several things" if sum(ways) else "no slice is named",
                'give one of: column = "..." with value = "...", class = "...", shorter_than, longer_than',
            )
        if (self.column is None) != (self.value is None):
            raise problem("`column` and `value` go together", 'add the other: column = "channel", value = "phone"')
        if self.shorter_than is not None and self.longer_than is not None and self.shorter_than <= self.longer_than + 1:
            raise problem(
                f"no input is shorter than {self.shorter_than} and longer than {self.longer_than} characters",
                "choose a larger `shorter_than`",
            )
        return self

    def noun(self) -> SliceTarget:
        if self.column is not None:
            return SliceTarget(Slice("column", self.column, (self.value or "",)), self.at_least)
        if self.class_ is not None:
            return SliceTarget(Slice("class", None, (self.class_,)), self.at_least)
        low = None if self.longer_than is None else self.longer_than + 1.0
        high = None if self.shorter_than is None else self.shorter_than - 1.0
        return SliceTarget(Slice("length", low=low, high=high), self.at_least)


class SlicesSection(Section):
    """Where a candidate is looked at apart: by class, by length of the input, and by columns of the data file.

    The report compares each slice with the rest, the worst first. Nothing here changes what a rung learns.
    """

    columns: list[str] = Field(
        default=[],
        description=(
            "Columns of the data file by which inputs are told apart, such as a channel or a country. No rung sees "
            "them. A column of numbers is cut into quarters."
        ),
        json_schema_extra={"values": "list of text"},
    )
    least: int = Field(
        default=_DEFAULT.least,
        ge=FEWEST,
        description="How many scored examples a slice, and the rest, need to be compared.",
    )
    confidence: float = Field(
        default=_DEFAULT.confidence,
        ge=0.5,
        le=0.9999,
        allow_inf_nan=False,
        description=(
            "How sure it has to be that no slice is named worse by chance, all slices of a report together; and, apart "
            "from that, that no candidate is wrongly said to miss or to meet a slice's target."
        ),
    )
    target: list[SliceTargetSection] = Field(
        default=[],
        description="The bars of single slices, each a table `[[slices.target]]` of the keys below.",
        json_schema_extra={"values": "tables"},
    )

    @field_validator("columns")
    @classmethod
    def _columns(cls, value: list[str]) -> list[str]:
        if not all(name.strip() for name in value) or len(set(value)) < len(value):
            raise problem("a column is empty or stands in the list twice", 'write columns = ["channel", "country"]')
        return value

    def noun(self) -> SliceRules:
        targets = tuple(target.noun() for target in self.target)
        named = (each.slice.column for each in targets if each.slice.column is not None)
        return SliceRules(self.confidence, self.least, tuple(dict.fromkeys((*self.columns, *named))), targets)


# ---------------------------------------------------------------- what belongs to a slice


def length_of(given: Input) -> int:
    """How many characters an input has; of a chat, all its turns but the system's."""
    if isinstance(given, str):
        return len(given)
    return sum(len(turn.content) for turn in given if turn.role != "system")


def belongs(example: Example, part: Slice) -> bool:
    """Whether the example is in the slice.

    >>> belongs(Example("1", "abc", ("x",), columns=(("age", "7"),)), Slice("column", "age", low=5, high=9))
    True
    """
    return members([part], [example])[0][0]


def members(parts: Sequence[Slice], examples: Sequence[Example]) -> list[list[bool]]:
    """For each slice, which of the examples are in it; what it is judged by is looked up once for all slices."""
    found: dict[tuple[str, str | None, bool], list[Any]] = {}
    masks = []
    for part in parts:
        key = (part.by, part.column, bool(part.values))
        if key not in found:
            found[key] = [_looked_up(example, part) for example in examples]
        if part.values:
            wanted = set(part.values)
            masks.append([value in wanted for value in found[key]])
        else:
            low = -math.inf if part.low is None else part.low
            high = math.inf if part.high is None else part.high
            masks.append([value is not None and low <= value <= high for value in found[key]])
    return masks


def _looked_up(example: Example, part: Slice) -> str | float | None:
    if part.by == "class":
        return example.reference
    if part.by == "length":
        return length_of(example.input)
    value = next((value for name, value in example.columns if name == part.column), "")
    return value if part.values else _number(value)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_missing(text: str) -> bool:
    return text.strip().casefold() in MISSING


def name_of(part: Slice) -> str:
    """The slice as people read it.

    >>> name_of(Slice("column", "channel", ("phone",))), name_of(Slice("length", low=35, high=48))
    ('channel = phone', 'inputs of 35 to 48 characters')
    >>> name_of(Slice("class", values=("HUM",))), name_of(Slice("column", "age", low=40))
    ('class HUM', 'age 40 and more')
    """
    if part.by == "class":
        return f"class {part.values[0]}"
    if part.values:
        if len(part.values) > 1 and all(map(_is_missing, part.values)):
            return f"{part.column} is missing"
        if len(part.values) > 1:
            return f"{part.column}: any of {len(part.values)} rarer values"
        return f"{part.column} = {part.values[0]}" if part.values[0] else f"{part.column} is empty"
    if part.low is None:
        span = f"up to {part.high:g}"
    elif part.high is None:
        span = f"{part.low:g} and more"
    else:
        span = f"{part.low:g} to {part.high:g}" if part.low < part.high else f"{part.low:g}"
    return f"inputs of {span} characters" if part.by == "length" else f"{part.column} {span}"


# ---------------------------------------------------------------- the slices of a task


def settled(
    rules: SliceRules,
    test: Sequence[Example],
    others: Iterable[Example],
    labels: Sequence[Label],
    target: Target,
    *,
    where: str,
) -> SliceRules:
    """The rules with all slices of this test split, and with how much of it each of them has.

    Only inputs, columns and right answers are looked at, never an answer. Raises SpecError and DataError for a target
    that is about nothing in the data.
    """  # fmt: skip
    _check_metric(rules, labels, target, where)
    names = [label.name for label in labels]
    known = (*test, *others)
    for each in rules.targets:
        _check_occurs(each.slice, known, names, where)
    classes = [] if target.label is not None else [Slice("class", values=(name,)) for name in names]
    lengths = [Slice("length", low=low, high=high) for low, high in _parts([length_of(each.input) for each in test])]
    columns = [part for name in rules.columns for part in _of_column(name, test, rules.least)]
    found = [*classes, *lengths, *columns]
    about = [example for example in test if target.metric != "recall" or example.reference == target.label]
    return replace(
        rules,
        targets=tuple(
            SliceTarget(part, each.at_least)
            for part, each in zip(_counted([each.slice for each in rules.targets], about), rules.targets, strict=True)
        ),
        slices=tuple(part for part in _counted(found, about) if part.population < len(about)),
    )


def useless_columns(rules: SliceRules) -> list[str]:
    """The columns that tell no inputs apart: one value, or none that is frequent enough, as sentences."""
    told = {part.column for part in rules.slices}
    return [
        f"[slices] columns: '{name}' tells no test examples apart: it has one value, or none that {rules.least} share"
        for name in rules.columns
        if name not in told
    ]


def _counted(parts: Sequence[Slice], test: Sequence[Example]) -> tuple[Slice, ...]:
    """The slices, each with how many examples and groups of the test split it has."""
    groups = [example.group or example.id for example in test]
    inside = [[name for name, is_in in zip(groups, mask, strict=True) if is_in] for mask in members(parts, test)]
    return tuple(
        replace(part, population=len(names), groups=len(set(names))) for part, names in zip(parts, inside, strict=True)
    )


def _of_column(name: str, test: Sequence[Example], least: int) -> list[Slice]:
    """A slice for each value that is frequent enough, and one for the rest; quarters, where the values are amounts."""
    counts = Counter(dict(example.columns).get(name, "") for example in test)
    absent = tuple(sorted(filter(_is_missing, counts)))
    numbers = [_number(value) for value in counts if value not in absent]
    if len(numbers) > NUMBERS_FROM and None not in numbers:
        amounts = [float(value) for value in counts.elements() if value not in absent]
        empty = [Slice("column", name, absent)] if absent else []
        return [*(Slice("column", name, low=low, high=high) for low, high in _parts(amounts)), *empty]
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    apart = [value for value in ranked[:MOST_VALUES] if counts[value] >= least]
    rest = tuple(value for value in ranked if value not in apart)
    return [Slice("column", name, values) for values in [*((value,) for value in apart), *([rest] if rest else [])]]


def _parts(values: Sequence[float]) -> list[tuple[float | None, float | None]]:
    """Where the values are cut into quarters: (first, last) of each part, open at both ends; equal ones stay together.

    >>> _parts([1, 2, 3, 4, 5, 6, 7, 8])
    [(None, 2), (3, 4), (5, 6), (7, None)]
    >>> _parts([3, 3, 3])
    [(None, None)]
    """
    ranked = sorted(values)
    cuts = {ranked[len(ranked) * part // QUANTILES - 1] for part in range(1, QUANTILES) if len(ranked) >= QUANTILES}
    ends = sorted(cuts - {*ranked[-1:]})
    lows: list[float | None] = [None, *(next(value for value in ranked if value > end) for end in ends)]
    return list(zip(lows, [*ends, None], strict=True))


# ---------------------------------------------------------------- targets that cannot be meant


def _check_metric(rules: SliceRules, labels: Sequence[Label], target: Target, where: str) -> None:
    for each in rules.targets:
        if target.metric == "bleu":
            what, fix = "BLEU is a figure of all texts together, and a slice has none", "use chrf or rouge_l"
        elif each.slice.by == "class" and not labels:
            what, fix = "a class is named, and this task has no labels", "name a column, or a length"
        elif each.slice.by == "class" and target.label is not None:
            what, fix = f"{target.metric_name} is about one class already", "name a column, or a length"
        else:
            continue
        raise SpecError(what, where=f"{where}, [[slices.target]]", fix=f"{fix}, or remove the target")


def _check_occurs(part: Slice, examples: Sequence[Example], labels: Sequence[str], where: str) -> None:
    """That the slice is not empty by mistake. Raises SpecError for a class, DataError for what the file never holds."""
    if any(members([part], examples)[0]):
        return
    place = f"{where}, [[slices.target]]"
    if part.by == "class":
        wanted = part.values[0]
        if wanted not in labels:
            fix = f"{suggest(wanted, labels)}the labels are {_some(labels)}"
            raise SpecError(f"{wanted!r} is not a label", where=place, fix=fix)
        raise DataError(f"no example has the label {wanted!r}", where=place, fix="add examples, or remove the target")
    if part.by == "length":
        longest = max((length_of(example.input) for example in examples), default=0)
        fix = f"the longest input has {longest:,} characters"
        raise DataError(f"there are no {name_of(part)}", where=place, fix=fix)
    counts = Counter(dict(example.columns).get(part.column or "", "") for example in examples)
    values = sorted(counts, key=lambda value: (-counts[value], value))
    raise DataError(
        f"{part.values[0]!r} never occurs in the column '{part.column}'",
        where=place,
        fix=f"{suggest(part.values[0], values)}the values are {_some([value or '(empty)' for value in values])}",
    )


def _some(names: Sequence[str], most: int = 12) -> str:
    """
    >>> _some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def without_copies(rows: Sequence[tuple[tuple[str, str], ...]]) -> tuple[tuple[str, str], ...]:
    """The columns of an input that stands in several rows: of each the most frequent value, of equals the first.

    >>> without_copies([(("channel", "web"),), (("channel", "phone"),), (("channel", "phone"),)])
    (('channel', 'phone'),)
    """
    if len(rows) == 1 or not rows[0]:
        return rows[0]
    found = []
    for name, _ in rows[0]:
        counts = Counter(dict(row)[name] for row in rows)
        found.append((name, min(counts, key=lambda value: (-counts[value], value))))
    return tuple(found)
