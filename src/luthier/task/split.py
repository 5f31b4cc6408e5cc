"""Split: units that may not be parted go to train, dev and the sealed test; stratified, seeded, in exact numbers.

Chance comes from hashes of seed and content, not from a generator: the same examples get the same split on every
platform and in whatever order the file has them, and a file that grows keeps most of its test split.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from luthier.errors import SpecError
from luthier.task.records import Findings
from luthier.task.spec import SplitSection
from luthier.types import Example, SealedSplit, digest


@dataclass(frozen=True, slots=True)
class Member:
    """One example with the normal form of its input, which stands for its content; `fixed`: it is of the test file."""

    example: Example
    form: str
    fixed: bool = False


@dataclass(frozen=True)
class Unit:
    """Examples that have to stay on one side of the split.

    `whole`: they are a group of the user's, and dev and test take all of them. Otherwise they are near-copies: dev and
    test take one, chosen at random, and set the others aside; train takes all. `stratified`: its references are labels.
    """

    members: tuple[Member, ...]
    whole: bool = False
    stratified: bool = True

    @property
    def key(self) -> str:
        return min(member.form for member in self.members)

    def held_out(self, seed: int) -> tuple[Member, ...]:
        """What dev and test take of it."""
        if self.whole or len(self.members) == 1:
            return self.members
        return (min(self.members, key=lambda member: _chance(seed, "representative", member.form)),)

    def label(self, seed: int) -> str:
        """The label it is stratified by: the most frequent one of what dev and test would take; "" without labels."""
        if not self.stratified:
            return ""
        counts = Counter(member.example.reference for member in self.held_out(seed))
        return min(counts, key=lambda name: (-counts[name], name))


@dataclass(frozen=True)
class Splits:
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: SealedSplit


def split(
    units: Sequence[Unit],
    sizes: SplitSection,
    findings: Findings,
    *,
    where: str,
    fixed_test: Sequence[Unit] | None = None,
) -> Splits:
    """The units as train, dev and sealed test; no unit is in two of them.

    Counts are met exactly, except that a user's group is never cut: dev and test then stay below the count by less than
    the next group. `fixed_test` replaces the drawing of test. Raises SpecError when there are too few examples.
    """
    seed = sizes.seed
    distinct = sum(len(unit.members) for unit in units)
    have = sum(len(unit.held_out(seed)) for unit in units)
    wanted = {
        name: round(size * distinct) if isinstance(size, float) else size
        for name, size in (
            ("train", sizes.train),
            ("dev", sizes.dev),
            ("test", 0 if fixed_test is not None else sizes.test),
        )
    }
    train_size, dev_size, test_size = wanted["train"], wanted["dev"] or 0, wanted["test"] or 0
    if (train_size or 1) + dev_size + test_size > distinct or dev_size + test_size >= have:
        raise _too_few(sizes, distinct, have, where, fixed=fixed_test is not None)

    def held_out(unit: Unit) -> int:
        return len(unit.held_out(seed))

    drawn, rest = _draw(units, test_size, seed, held_out)
    test_units = list(fixed_test) if fixed_test is not None else drawn
    dev_units, rest = _draw(rest, dev_size, seed, held_out)
    train = _train(rest, train_size, seed, findings)
    dev = _held_out(dev_units, seed, "dev", findings)
    test = _held_out(test_units, seed, "test", findings)
    for name, examples in (("train", train), ("dev", dev), ("test", test)):
        if not examples:
            raise SpecError(
                f"no example is left for {name}: {distinct} distinct examples in {len(units)} groups",
                where=f"{where}, [split] {name}",
                fix="choose a larger size, or smaller groups",
            )
    if isinstance(sizes.train, int) and len(train) < sizes.train:
        raise SpecError(
            f"{len(train)} of {distinct} distinct examples are left after dev and test, which set near-copies aside",
            where=f"{where}, [split] train",
            fix=f"ask for at most {len(train)}, or for fewer in dev and test, or add examples",
        )
    return Splits(train, tuple(dev), seal(test))


def seal(order: Sequence[Example]) -> SealedSplit:
    """The examples as a sealed split; the hash is of their content alone: no order, no seed, no ids."""
    return SealedSplit(tuple(order), content_hash(order))


def content_hash(examples: Sequence[Example]) -> str:
    """A digest of inputs and references, whatever their order."""
    return digest(sorted([str(example.input), *example.references] for example in examples))


def summary(examples: Sequence[Example], labels: Sequence[str]) -> dict[str, object]:
    """A split in numbers: its examples, its groups, and the examples of each label."""
    counts = Counter(example.reference for example in examples)
    return {
        "examples": len(examples),
        "groups": len({example.group or example.id for example in examples}),
        "labels": {name: counts[name] for name in labels},
    }


def _chance(seed: int, purpose: str, text: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{purpose}\0{text}".encode("utf-8", "surrogatepass")).digest()


def _draw(units: Sequence[Unit], want: int, seed: int, cost: Callable[[Unit], int]) -> tuple[list[Unit], list[Unit]]:
    """(drawn, rest) for dev or test: where groups have several examples, a number of groups, whatever their sizes.

    Filling up to a number of examples would pass over large groups for small ones that still fit, and the mean over the
    groups of such a test split is not that of the groups to come.
    """
    total = sum(cost(unit) for unit in units)
    if total == len(units):
        return _take(units, want, seed, cost)
    groups = min(len(units), max(1, round(len(units) * want / max(total, 1)))) if want else 0
    return _take(units, groups, seed, lambda unit: 1)


def _take(units: Sequence[Unit], want: int, seed: int, cost: Callable[[Unit], int]) -> tuple[list[Unit], list[Unit]]:
    """(taken, rest): whole units that cost `want` in all, or as close below as they come; each label has its share."""
    strata: dict[str, list[Unit]] = defaultdict(list)
    for unit in sorted(units, key=lambda unit: _chance(seed, "split", unit.key)):
        strata[unit.label(seed)].append(unit)
    quotas = _quotas({label: sum(cost(unit) for unit in group) for label, group in strata.items()}, want)
    taken: list[Unit] = []
    passed: list[Unit] = []
    rest: list[Unit] = []
    for label in sorted(strata):
        left = quotas[label]
        for unit in strata[label]:
            fits = cost(unit) <= left
            left -= cost(unit) if fits else 0
            (taken if fits else passed).append(unit)
    left = want - sum(cost(unit) for unit in taken)
    # what the quotas left open because a group did not fit into its label's share
    for unit in sorted(passed, key=lambda unit: _chance(seed, "split", unit.key)):
        fits = cost(unit) <= left
        left -= cost(unit) if fits else 0
        (taken if fits else rest).append(unit)
    return taken, rest


def _quotas(sizes: Mapping[str, int], want: int) -> dict[str, int]:
    """`want` shared out in proportion to the sizes, in whole numbers (largest remainder; ties by name).

    >>> _quotas({"a": 6, "b": 3, "c": 1}, 5)
    {'a': 3, 'b': 2, 'c': 0}
    """
    total = max(sum(sizes.values()), 1)
    quotas = {name: size * want // total for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(sizes[name] * want % total), name))
    for name in by_remainder[: max(want - sum(quotas.values()), 0)]:
        quotas[name] += 1
    return quotas


def _train(units: Sequence[Unit], want: int | None, seed: int, findings: Findings) -> tuple[Example, ...]:
    """All of the units, or exactly `want` examples of them; in random order, so that a head of it is a fair sample."""
    everything = sum(len(unit.members) for unit in units)
    if want is None:
        taken = list(units)
    else:
        taken, rest = _take(units, want, seed, lambda unit: len(unit.members))
        short = want - sum(len(unit.members) for unit in taken)
        if short and rest:
            # train may part a unit: what it leaves is in no other split
            taken.append(replace(rest[0], members=rest[0].members[:short]))
    members = [member for unit in taken for member in unit.members]
    findings.note("unused", everything - len(members))
    return tuple(member.example for member in sorted(members, key=lambda each: _chance(seed, "train", each.form)))


def _held_out(units: Sequence[Unit], seed: int, purpose: str, findings: Findings) -> list[Example]:
    """The order of a held-out split: units shuffled, the members of one after each other."""
    order = []
    for unit in sorted(units, key=lambda unit: _chance(seed, purpose, unit.key)):
        held = unit.held_out(seed)
        aside = [member.example.id for member in unit.members if member not in held]
        findings.note("set_aside", len(aside), aside)
        order += [member.example for member in sorted(held, key=lambda each: _chance(seed, purpose, each.form))]
    return order


def _too_few(sizes: SplitSection, distinct: int, have: int, where: str, *, fixed: bool) -> SpecError:
    asked = [("train", sizes.train), ("dev", sizes.dev), *([] if fixed else [("test", sizes.test)])]
    shown = ", ".join(f"{name} {'the rest' if size is None else size}" for name, size in asked)
    groups = f" in {have} groups, of which dev and test take one example each" if have < distinct else ""
    return SpecError(
        f"{shown}: the data has {distinct} distinct examples{groups}",
        where=f"{where}, [split]",
        fix="ask for fewer, or add examples (copies and near-copies count once)",
    )
