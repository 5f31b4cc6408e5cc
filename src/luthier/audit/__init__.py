"""Audit: can this data decide anything? What is wrong with a task's rows, before anything is spent on them.

finding.py has the nouns; material.py reads the rows; copies.py, conflicts.py, labels.py, mislabelled.py, shape.py,
private.py (with personal.py) and enough.py each look for something; review.py writes what a person edits, and what is
corrected or masked; this file goes through them in order.

    material -> [usable, copies, leakage, texts, conflicts, labels, label errors, shape, personal data, power] -> Audit
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from luthier.audit.conflicts import conflicts
from luthier.audit.copies import copies, leakage, leaked_texts, texts_of
from luthier.audit.enough import power, rows_per_rung, usable
from luthier.audit.finding import KINDS, SEVERITIES, Audit, Evidence, Finding, in_order
from luthier.audit.labels import balance, spelling
from luthier.audit.material import Material, material_at, material_of
from luthier.audit.mislabelled import Suspects, label_errors, suspects
from luthier.audit.private import personal_data
from luthier.audit.shape import form, length
from luthier.errors import MissingExtra
from luthier.types import Task

__all__ = [
    "KINDS",
    "SEVERITIES",
    "Audit",
    "Evidence",
    "Finding",
    "Material",
    "Suspects",
    "audit",
    "audit_of",
    "audit_task",
    "material_at",
    "material_of",
]

VERSION = 1  # goes up when the same data may show other findings
CHECKS: tuple[Callable[[Material], list[Finding]], ...] = (
    usable,
    copies,
    leakage,
    conflicts,
    spelling,
    balance,
    length,
    form,
    personal_data,
    power,
    rows_per_rung,
)


@dataclass(frozen=True)
class Effort:
    """What an audit may cost: `label_work` bounds rows times classes where label errors are looked for (0: don't)."""

    label_work: int = 4_000_000


# as the first stage of a run: two seconds at most for label errors, well below one for the rest on 5,000 rows
QUICK = Effort(label_work=400_000)


def audit(path: Path, effort: Effort = Effort(), note: Callable[[str], None] = lambda text: None) -> Audit:
    """What the data of a luthier.toml, or of the folder that holds it, shows. `note` is told what is being done.

    Nothing is written. A task that cannot be loaded is a finding; an Audit is made wherever rows can be read. Raises
    SpecError where luthier.toml cannot be understood, DataError where a file is no table or has no usable row.
    """
    note("reading")
    return audit_of(material_at(path), effort, note)[0]


def audit_task(task: Task, effort: Effort = QUICK, note: Callable[[str], None] = lambda text: None) -> Audit:
    """The same for a loaded task. Raises SpecError and DataError where its files have changed since."""
    return audit_of(material_of(task), effort, note)[0]


def audit_of(
    material: Material, effort: Effort = Effort(), note: Callable[[str], None] = lambda text: None
) -> tuple[Audit, Suspects]:
    """(audit, suspects): the findings, and the probably wrong labels of which one of them tells."""
    started = time.perf_counter()
    findings: list[Finding] = []
    for check in CHECKS:
        note(check.__name__.replace("_", " "))
        findings += check(material)
    findings += leaked_texts(texts_of(material), [*material.split("dev"), *material.split("test")])
    found = Suspects((), 0, 0)
    skipped = []
    if not material.closed:
        skipped.append("wrong answers and balance: the answers are no classes")
    elif effort.label_work:
        note("label errors")
        try:
            found = suspects(material, effort.label_work)
        except MissingExtra as missing:
            found = Suspects((), 0, 0, str(missing).replace("\n  fix: ", ": "))
        findings += label_errors(found)
        skipped += [found.skipped] if found.skipped else []
    if not material.threshold:
        skipped.append("near-copies: [data] near_duplicates is false")
    if material.task is None:
        skipped.append("power, and what holds test inputs: the task cannot be loaded")
    result = Audit(
        task=material.name,
        rows=len(material.rows) + len(material.defects),
        splits={name: len(material.split(name)) for name in ("train", "dev", "test")} if material.task else {},
        findings=in_order(findings),
        reads=_reads(material),
        skipped=tuple(skipped),
        seconds=time.perf_counter() - started,
    )
    return result, found


def _reads(material: Material) -> tuple[str, ...]:
    """What of the sealed test split is looked at, in plain words."""
    reads = [
        "inputs of all rows, test included: copies, leakage, length, format, personal data",
        "right answers of all rows, test included: conflicts, spelling, class counts, format, personal data",
    ]
    if material.closed:
        reads.append("right answers of train and dev only: label errors")
    reads.append("no more than that: nothing found here changes what a rung learns or chooses")
    return tuple(reads)
