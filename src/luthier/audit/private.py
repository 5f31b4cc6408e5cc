"""Private: which rows hold personal data. Lines and kinds are named, the values never."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from luthier.audit.finding import Evidence, Finding, Place, rows_of
from luthier.audit.material import Material, Row
from luthier.audit.personal import find
from luthier.audit.shape import text_of


def personal_data(material: Material) -> list[Finding]:
    """The rows whose input or right answers hold e-mail addresses, phones, IBANs, cards or IP addresses."""
    kinds: Counter[str] = Counter()
    evidence = []
    for row in material.rows:
        found = [hit.kind for text in _texts(row) for hit in find(text)]
        if found:
            kinds.update(found)
            evidence.append(Evidence((row.place,), note=", ".join(sorted(set(found)))))
    if not evidence:
        return []
    remote = material.settings is not None and bool(material.settings.remote)
    return [_finding(evidence, kinds, len(material.rows), remote=remote)]


def _texts(row: Row) -> list[str]:
    return [text_of(row.input), *row.references]


def _finding(evidence: Sequence[Evidence], kinds: Counter[str], rows: int, *, remote: bool) -> Finding:
    told = ", ".join(f"{name} {count:,}" for name, count in kinds.most_common())
    lines: list[Place] = [each.places[0] for each in evidence]
    return Finding(
        kind="personal_data",
        severity="warning",
        what=f"{rows_of(len(lines))} {'holds' if len(lines) == 1 else 'hold'} personal data: {told}",
        count=len(lines),
        of=rows,
        effect="none on the scores. "
        + (
            "This task sends inputs to a remote model, and fine-tuned weights can repeat what they were trained on."
            if remote
            else "Nothing leaves this machine in this task, but fine-tuned weights can repeat what they were trained "
            "on, and the report shows inputs."
        ),
        advice="luthier audit --mask masked.csv writes a copy with [EMAIL], [PHONE] and so on in their places: train "
        "and test on that. Names and postal addresses have no fixed form and are not found.",
        evidence=tuple(evidence),
        figures={"kinds": dict(kinds)},
    )
