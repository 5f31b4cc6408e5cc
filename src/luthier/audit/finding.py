"""Finding: one thing the audit has to say about the data: its evidence, what it does to the verdict, what to do.

From the rows 3 and 17 of a file, "Where is my card?" and "where is my  card?", to Finding("exact_duplicates", "note",
"1 row repeats another one", ..., evidence=(Evidence((3, 17), "Where is my card?"),)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from luthier.audit.personal import masked
from luthier.types import Estimate, Input

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
Place = int | str  # a line of the data file, or "test line 4"

# each kind of finding, in the order in which they are told, and the question it answers
KINDS: Mapping[str, str] = {
    "unusable": "Can luthier use the task and every row?",
    "exact_duplicates": "Do rows repeat each other?",
    "near_duplicates": "Are rows nearly the same?",
    "leakage": "Does training see what is tested?",
    "leaked_texts": "Do prompts, examples in prompts or documents hold test inputs?",
    "conflicts": "Do equal inputs have different right answers?",
    "ceiling": "How good can any rung be, given such answers?",
    "label_errors": "Which labels are probably wrong?",
    "label_spelling": "Is each label spelt in one way?",
    "class_balance": "Are there enough examples of each class?",
    "length": "Are there inputs that are far too long or too short?",
    "format": "Are inputs and answers written in one way?",
    "personal_data": "Is there personal data?",
    "power": "Can the test split decide the target?",
    "rows_per_rung": "Are there enough examples to learn from?",
}
# what JSON, the report and the page show of long lists of evidence
MOST_EVIDENCE = 1000
LONGEST_TEXT = 160


@dataclass(frozen=True, slots=True)
class Evidence:
    """Rows that show a finding, by their places; a text of theirs without personal data; what there is to say."""

    places: tuple[Place, ...] = ()
    text: str = ""
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """`count` of `of` rows (or what `what` says) show it. `figures` hold estimates and further counts, by name.

    `severity`: "error", the verdict would be wrong or can't be reached; "warning", look at it before you trust a
    verdict; "note", luthier deals with it, or it is good to know. `effect`: what it does to the verdict; `advice`: what
    to do.
    """

    kind: str
    severity: Severity
    what: str
    count: int
    of: int
    effect: str
    advice: str
    evidence: tuple[Evidence, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.kind in KINDS

    @property
    def places(self) -> tuple[Place, ...]:
        """The rows of all evidence, each once, in its order."""
        return tuple(dict.fromkeys(place for each in self.evidence for place in each.places))

    def plain(self, most: int = MOST_EVIDENCE) -> dict[str, Any]:
        """As one dict that JSON can hold, with at most `most` pieces of evidence, and without personal data."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "what": masked(self.what),
            "count": self.count,
            "of": self.of,
            "effect": self.effect,
            "advice": self.advice,
            "figures": {
                name: asdict(value) if isinstance(value, Estimate) else value for name, value in self.figures.items()
            },
            "evidence": [
                {"places": list(each.places), "text": masked(each.text), "note": masked(each.note)}
                for each in self.evidence[:most]
            ],
            "evidence_left_out": max(0, len(self.evidence) - most),
        }


@dataclass(frozen=True)
class Audit:
    """What the data of one task shows. `reads` says what was looked at, `skipped` what was not, and why."""

    task: str
    rows: int
    splits: Mapping[str, int]
    findings: tuple[Finding, ...]
    reads: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0

    def worst(self) -> Severity | None:
        """The most serious severity there is; None without findings."""
        return next((each for each in SEVERITIES if any(one.severity == each for one in self.findings)), None)

    def passes(self) -> bool:
        """Whether nothing is worse than a note: what `--strict` asks."""
        return self.worst() in (None, "note")

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        assert kind in KINDS
        return tuple(each for each in self.findings if each.kind == kind)

    def plain(self, most: int = MOST_EVIDENCE) -> dict[str, Any]:
        """As one dict that JSON can hold; `most` bounds the evidence of each finding."""
        return {
            "schema": 1,
            "task": self.task,
            "rows": self.rows,
            "splits": dict(self.splits),
            "worst": self.worst(),
            "counts": {name: sum(one.severity == name for one in self.findings) for name in SEVERITIES},
            "findings": [each.plain(most) for each in self.findings],
            "reads": list(self.reads),
            "skipped": list(self.skipped),
            "seconds": round(self.seconds, 3),
        }


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The most serious first, and among those in the order of KINDS."""
    kinds = list(KINDS)
    return tuple(sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), kinds.index(one.kind))))


def shown(given: Input) -> str:
    """A beginning of an input for a person to see: on one line, without personal data.

    >>> shown("Mail me:\\n ada@example.org")
    'Mail me: [EMAIL]'
    """
    text = given if isinstance(given, str) else " / ".join(turn.content for turn in given if turn.role != "system")
    # cut before it is searched, but not so near that a cut number goes unseen
    flat = masked(" ".join(text[: 4 * LONGEST_TEXT].split()))
    return flat if len(flat) <= LONGEST_TEXT else flat[: LONGEST_TEXT - 1].rstrip() + "…"


def rows_of(count: int) -> str:
    """
    >>> rows_of(1), rows_of(1200)
    ('1 row', '1,200 rows')
    """
    return f"{count:,} row{'' if count == 1 else 's'}"
