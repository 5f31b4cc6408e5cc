"""Enough: whether the task can be used as it is, whether its test split can decide, and what there is to learn from."""

from __future__ import annotations

import math
from collections import Counter

from luthier import stats
from luthier.audit.finding import Evidence, Finding, rows_of
from luthier.audit.labels import FEW_EXAMPLES
from luthier.audit.material import Material
from luthier.evaluate.outlook import POWER, units_available
from luthier.evaluate.scorers import Mean, metric
from luthier.rungs import ladder

# below it a fine-tune seldom beats what is simpler: a prior, which `luthier forecast` replaces by a measurement
FINE_TUNE_PRIOR = 500


def usable(material: Material) -> list[Finding]:
    """Rows that cannot be used, and the error with which the task cannot be loaded."""
    found = []
    if material.refused is not None:
        error = material.refused
        found.append(
            Finding(
                kind="unusable",
                severity="error",
                what=f"luthier run refuses this task: {error.where + ': ' if error.where else ''}{error.what}",
                count=1,
                of=1,
                effect="there is no verdict until it is mended. What is said here about splits, power and leakage is "
                "less than could be said then.",
                advice=error.fix,
            )
        )
    if material.defects:
        total = len(material.rows) + len(material.defects)
        why = Counter(defect.why for defect in material.defects).most_common(3)
        found.append(
            Finding(
                kind="unusable",
                severity="note" if material.refused is None else "error",
                what=f"{rows_of(len(material.defects))} cannot be used: "
                + "; ".join(f"{what} ({times:,})" for what, times in why),
                count=len(material.defects),
                of=total,
                effect="they are left out." if material.refused is None else "luthier run stops at the first of them.",
                advice='correct them, or set [data] on_empty = "drop" where something is empty.',
                evidence=tuple(Evidence((defect.place,), note=defect.why) for defect in material.defects),
            )
        )
    return found


def power(material: Material) -> list[Finding]:
    """What the test split can prove about the target, before anything is spent."""
    task = material.task
    if task is None:
        return []
    target, size = task.spec.target, units_available(task)
    measured = metric(target, task.spec.label_names)
    if not isinstance(measured, Mean) or target.about == "split":
        return []
    # what the ledger gives each candidate of the first run on a test split; later runs have less
    alpha = target.alpha * 6 / math.pi**2 / max(1, len(ladder(task.spec.rungs, task.spec.kind)))
    fewest = stats.fewest_to_prove(target.at_least, alpha)
    if fewest is None or fewest > size:
        return [
            Finding(
                kind="power",
                severity="error",
                what=f"{size:,} test examples cannot prove {target.metric_name} of {target.at_least:.1%} at "
                f"{target.confidence:.0%} confidence, even if every answer is right",
                count=size,
                of=size,
                effect="no candidate can be called MEETS.",
                advice=(f"it takes {fewest:,} test examples at least: " if fewest is not None else "")
                + "give the test split more, lower [target] at_least, or race fewer rungs.",
                figures={"fewest_to_prove": fewest},
            )
        ]
    low, high = stats.smallest_detectable_effect(target.at_least, alpha, size, POWER)
    told = [f"MEETS from a true {high:.1%} on" if high is not None else "MEETS for no value"]
    told.append(f"DOES NOT MEET up to {low:.1%}" if low is not None else "DOES NOT MEET for none")
    return [
        Finding(
            kind="power",
            severity="note" if high is not None else "warning",
            what=f"{size:,} test examples prove {' and '.join(told)}, {POWER:.0%} of the time (target "
            f"{target.at_least:.1%})",
            count=size,
            of=size,
            effect="a candidate that lies between will mostly stay INCONCLUSIVE.",
            advice="to tell smaller differences from the target, give the test split more examples: a quarter of the "
            "distance takes sixteen times as many.",
            figures={"meets_from": high, "fails_up_to": low, "power": POWER, "alpha": alpha, "fewest_to_prove": fewest},
        )
    ]


def rows_per_rung(material: Material) -> list[Finding]:
    """Whether train has what the rungs of the ladder usually take."""
    task = material.task
    if task is None:
        return []
    train = len(task.train)
    tuned = [rung.name for rung in ladder(task.spec.rungs, task.spec.kind) if rung.guarded]
    found = []
    if tuned and train < FINE_TUNE_PRIOR:
        found.append(
            Finding(
                kind="rows_per_rung",
                severity="note",
                what=f"{train:,} training examples are few for {', '.join(tuned)}",
                count=train,
                of=FINE_TUNE_PRIOR,
                effect="a fine-tune seldom beats examples in a prompt with fewer than about "
                f"{FINE_TUNE_PRIOR}: that is experience, not a measurement of this task.",
                advice="run it all the same, and ask luthier forecast what more labels would bring: the forecast "
                "decides, not the rule.",
            )
        )
    classes = len(task.spec.label_names)
    if classes and train < FEW_EXAMPLES * classes:
        found.append(
            Finding(
                kind="rows_per_rung",
                severity="warning",
                what=f"{train:,} training examples for {classes:,} classes: fewer than {FEW_EXAMPLES} a class",
                count=train,
                of=FEW_EXAMPLES * classes,
                effect="classifiers and fine-tunes will guess at most classes; prompts that name the labels do better.",
                advice="label more, or give each label a description in [task.labels].",
            )
        )
    return found
