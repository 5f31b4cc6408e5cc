"""Labels: how they are spelt, and whether there are enough examples of each."""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from luthier.audit.finding import Evidence, Finding, rows_of
from luthier.audit.material import Material, Row
from luthier.task.spelling import fold

# a label that may be a slip of the pen for another one has at most so many rows, and this share of the other's
_RARE, _RARE_SHARE = 5, 0.05
_ALIKE = 0.85
_MOST_LABELS = 300
FEW_EXAMPLES = 5
_SMALL_CLASS = 0.1


def spelling(material: Material) -> list[Finding]:
    """Labels that differ only in case, spaces or separators, and rare labels that look like a frequent one."""
    if not material.closed:
        return []
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in material.rows:
        rows[row.written].append(row)
    counts = {label: len(some) for label, some in rows.items()}
    twins = [(label, other, "differs only in case, spaces or unseen signs") for label, other in _twins(counts)]
    slips = [(label, other, "looks like a slip of the pen") for label, other in _slips(counts)]
    evidence = [
        Evidence(tuple(row.place for row in rows[label]), label, f"{why}: {other!r} has {rows_of(counts[other])}")
        for label, other, why in (*twins, *slips)
    ]
    if not evidence:
        return []
    count = len({place for each in evidence for place in each.places})
    merged = material.settings is not None and material.settings.data.normalise_labels and not slips
    return [
        Finding(
            kind="label_spelling",
            severity="note" if merged else "warning",
            what=f"{rows_of(count)} {'has' if count == 1 else 'have'} a label that is probably another one, "
            "spelt differently",
            count=count,
            of=len(material.rows),
            effect="[data] normalise_labels merges them."
            if merged
            else "two spellings are two classes: right answers count as wrong, and each class has fewer examples.",
            advice="nothing has to be done here."
            if merged
            else "correct the file, or set [data] normalise_labels = true where only case and spaces differ.",
            evidence=tuple(evidence),
        )
    ]


def _twins(counts: dict[str, int]) -> list[tuple[str, str]]:
    """(spelling, the more frequent one) of labels that are equal but for case and spaces."""
    forms: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts, key=lambda each: (-counts[each], each)):
        forms[fold(label)].append(label)
    return [(label, same[0]) for same in forms.values() for label in same[1:]]


def _slips(counts: dict[str, int]) -> list[tuple[str, str]]:
    total: Counter[str] = Counter()
    for label, count in counts.items():
        total[fold(label)] += count
    if len(total) > _MOST_LABELS:
        return []
    named = {fold(label): label for label in sorted(counts, key=lambda each: (counts[each], each))}
    found = []
    for label, count in total.items():
        bare = re.sub(r"[\W_]+", "", label)
        for other, more in total.items():
            rare = count <= _RARE and count <= _RARE_SHARE * more
            same = bare and bare == re.sub(r"[\W_]+", "", other) and (count, label) < (more, other)
            if label != other and (same or (rare and _alike(label, other))):
                found.append((named[label], named[other]))
                break
    return found


def _alike(one: str, other: str) -> bool:
    """Long enough to tell, and nearly equal; numbers that differ are no slip.

    >>> _alike("card_arival", "card_arrival"), _alike("class 1", "class 2"), _alike("yes", "yep")
    (True, False, False)
    """
    if min(len(one), len(other)) < 4 or re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return False
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() >= _ALIKE


def balance(material: Material) -> list[Finding]:
    """A class so large that naming it always is enough, and classes that are too small to be learned or judged."""
    if not material.closed:
        return []
    counts = Counter(rows[0].reference for rows in material.distinct)
    found = []
    label, most = counts.most_common(1)[0]
    share = most / counts.total()
    target = material.spec.target if material.spec is not None else None
    if target is not None and target.metric == "accuracy" and share >= target.at_least:
        found.append(_too_large(label, most, counts.total(), target.at_least))
    train = Counter(example.reference for example in material.split("train")) if material.task else counts
    small = sorted((name for name in counts if train[name] < FEW_EXAMPLES), key=lambda name: (train[name], name))
    if small:
        found.append(_too_small(small, train, counts))
    elif len(counts) > 1 and min(counts.values()) < _SMALL_CLASS * most:
        found.append(_uneven(counts, share))
    return found


def _too_large(label: str, most: int, total: int, at_least: float) -> Finding:
    return Finding(
        kind="class_balance",
        severity="warning",
        what=f"{most / total:.1%} of the inputs are of the class {label!r}, and the target is {at_least:.1%} accuracy",
        count=most,
        of=total,
        effect=f"whoever always answers {label!r} meets the target, and the verdict will say so.",
        advice='judge by the class that matters: [target] metric = "f1", "precision" or "recall" with class = "...", '
        'or "macro_f1"; or raise at_least.',
        figures={"classes": {label: most}},
    )


def _too_small(small: Sequence[str], train: Counter[str], counts: Counter[str]) -> Finding:
    told = ", ".join(f"{name!r} ({train[name]})" for name in small[:5])
    return Finding(
        kind="class_balance",
        severity="warning",
        what=f"{len(small):,} of {len(counts):,} classes "
        f"{'has' if len(small) == 1 else 'have'} fewer than {FEW_EXAMPLES} examples to learn from: {told}"
        + (", ..." if len(small) > 5 else ""),
        count=len(small),
        of=len(counts),
        effect="rungs that learn will hardly ever answer with them, and the verdict says next to nothing about them.",
        advice="label more of them, merge them into a neighbour, or leave them out and say so.",
        figures={"classes": {name: train[name] for name in small[:100]}},
    )


def _uneven(counts: Counter[str], share: float) -> Finding:
    (largest, most), (rarest, least) = counts.most_common()[0], counts.most_common()[-1]
    return Finding(
        kind="class_balance",
        severity="note",
        what=f"the classes are uneven: {largest!r} has {most:,} inputs ({share:.1%}), {rarest!r} has {least:,}",
        count=least,
        of=counts.total(),
        effect="accuracy is ruled by the large classes; a rung may fail a small one and still meet the target.",
        advice='where small classes matter, use [target] metric = "macro_f1", or "recall" with class = "...".',
        figures={"classes": dict(counts.most_common(100))},
    )
