"""Copies: rows that repeat each other, exactly or nearly, and what of the test split also stands in the training data.

Equal and nearly equal are the same here as in the split (luthier.task.duplicates), which keeps them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.audit.finding import Evidence, Finding, rows_of, shown
from luthier.audit.material import Material, Row
from luthier.errors import LuthierError
from luthier.task.duplicates import likeness_of, normal_form
from luthier.types import Example

# copies above this share of the rows: what was measured on them elsewhere was measured on what had been learned
_MANY = 0.1
# a shorter input, such as "yes", may stand in any text by chance
SHORTEST_HELD = 20


def copies(material: Material) -> list[Finding]:
    """Exact repeats and sets of near-copies."""
    found = []
    repeated = [rows for rows in material.distinct if len(rows) > 1]
    extra = sum(len(rows) - 1 for rows in repeated)
    if extra:
        found.append(_exact(repeated, extra, len(material.rows)))
    members = sum(map(len, material.clusters))
    if members:
        found.append(_near(material, members))
    return found


def _exact(repeated: Sequence[tuple[Row, ...]], extra: int, rows: int) -> Finding:
    return Finding(
        kind="exact_duplicates",
        severity="warning" if extra > _MANY * rows else "note",
        what=f"{rows_of(extra)} of {rows:,} {'repeats' if extra == 1 else 'repeat'} an input that stands in the data "
        "already",
        count=extra,
        of=rows,
        effect="none on the verdict: luthier merges copies before it splits, and each input counts once. A score "
        "that was measured on a random split of these rows is too high.",
        advice="nothing has to be done here; where other programs use the file, take the copies out of it. If real "
        "traffic repeats itself like that, say so when you read the scores: they count each input once.",
        evidence=tuple(Evidence(tuple(row.place for row in same), shown(same[0].input)) for same in repeated),
        figures={"inputs_with_copies": len(repeated)},
    )


def _near(material: Material, members: int) -> Finding:
    rows = len(material.distinct)
    clusters = sorted(material.clusters, key=len, reverse=True)
    evidence = [
        Evidence(tuple(material.distinct[at][0].place for at in cluster), shown(material.distinct[cluster[0]][0].input))
        for cluster in clusters
    ]
    return Finding(
        kind="near_duplicates",
        severity="warning" if members > _MANY * rows else "note",
        what=f"{members:,} different inputs are near-copies of others, in {len(clusters):,} "
        f"{'set' if len(clusters) == 1 else 'sets'}",
        count=members,
        of=rows,
        effect="none on what a score means: a set never spans two splits, and dev and test take one input of each. "
        "The test split is smaller for it.",
        advice="look at the largest sets: where they are texts from one template, more of them add little; where they "
        "are different after all, raise [data] near_duplicates.",
        evidence=tuple(evidence),
        figures={"sets": len(clusters), "largest": len(clusters[0]), "threshold": material.threshold},
    )


def leakage(material: Material) -> list[Finding]:
    """Inputs of the test file that, or near-copies of which, also stand in the other file."""
    if not any(row.source == "test" for row in material.rows):
        return []
    same = [rows for rows in material.distinct if len({row.source for row in rows}) > 1]
    evidence = [Evidence(tuple(row.place for row in rows), shown(rows[0].input), "equal") for rows in same]
    pairs = zip(material.pairs.left.tolist(), material.pairs.right.tolist(), strict=True)
    for left, right in pairs:
        one, other = material.distinct[left], material.distinct[right]
        if {row.source for row in one} != {row.source for row in other} or len({row.source for row in one}) > 1:
            evidence.append(Evidence((one[0].place, other[0].place), shown(one[0].input), "nearly equal"))
    tested = {row.form for row in material.rows if row.source == "test"}
    return [_leaked(evidence, len(tested))] if evidence else []


def _leaked(evidence: Sequence[Evidence], tested: int) -> Finding:
    leaked = {place for each in evidence for place in each.places if str(place).startswith("test line")}
    return Finding(
        kind="leakage",
        severity="warning",
        what=f"{len(leaked):,} {'row' if len(leaked) == 1 else 'rows'} of the test file also stand in the training "
        "data, equal or nearly equal",
        count=len(leaked),
        of=tested,
        effect="none on this verdict: luthier takes them out of train and dev before anything is fitted. Whatever was "
        "measured on these files elsewhere is too high.",
        advice="take them out of the training file for good, and find out how they got there: by time, by customer or "
        "by thread is a better way to split than by chance.",
        evidence=tuple(evidence),
    )


# ---------------------------------------------------------------- texts that hold what is tested


@dataclass(frozen=True, slots=True)
class Held:
    """A text, by its name, that holds the input of an example."""

    name: str
    example: Example


def held_in(texts: Sequence[tuple[str, str]], examples: Sequence[Example]) -> list[Held]:
    """Which of the texts (name, text) hold the input of which examples, word for word.

    Words for any text a model may be shown: prompts, examples in prompts, chunks of documents. Inputs of fewer than 20
    characters are not looked for: "yes" stands anywhere. Near-copies inside longer texts are not found.

    >>> asked = Example("7", "where is my new card?", ("cards",))
    >>> [each.name for each in held_in([("prompt", "Like: Where IS my  new card? -> cards")], [asked])]
    ['prompt']
    """
    starting: dict[str, list[tuple[str, Example]]] = {}
    for example in examples:
        form = normal_form(likeness_of(example.input))
        if len(form) >= SHORTEST_HELD:
            starting.setdefault(form[:SHORTEST_HELD], []).append((form, example))
    found: dict[tuple[str, str], Held] = {}
    for name, whole_text in texts if starting else ():
        text = normal_form(whole_text)
        for at in range(len(text) - SHORTEST_HELD + 1):
            for form, example in starting.get(text[at : at + SHORTEST_HELD], ()):
                if text.startswith(form, at):
                    found.setdefault((name, example.id), Held(name, example))
    return list(found.values())


def leaked_texts(texts: Sequence[tuple[str, str]], examples: Sequence[Example]) -> list[Finding]:
    """The texts that a model is shown (name, text) and that hold inputs of these examples: of dev and test, say."""
    held = held_in(texts, examples)
    if not held:
        return []
    names = list(dict.fromkeys(each.name for each in held))
    return [
        Finding(
            kind="leaked_texts",
            severity="error",
            what=f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''} "
            f"{'holds' if len(names) == 1 else 'hold'} {len({each.example.id for each in held}):,} inputs that are "
            "held back for dev and test",
            count=len({each.example.id for each in held}),
            of=len(examples),
            effect="the verdict would be too good: a model is shown, with the question, what it is tested on.",
            advice="take these examples out of the text; luthier chooses examples from train by itself.",
            evidence=tuple(Evidence((each.example.id,), shown(each.example.input), each.name) for each in held),
        )
    ]


def texts_of(material: Material) -> list[tuple[str, str]]:
    """The texts that models are shown: those of luthier.toml, and passages of [documents]."""
    settings = material.settings
    if settings is None:
        return []
    return [
        ("[task] instruction", settings.instruction),
        *((f"[task.labels] {label.name}", label.description) for label in settings.labels),
        ("[target] rubric", settings.rubric),
        *_passages(material),
    ]


def _passages(material: Material) -> list[tuple[str, str]]:
    """Those of [documents], each under its document's name; none where a file cannot be read: a run says so."""
    if material.task is None or material.task.documents is None:
        return []
    from luthier.documents import passages  # what reads PDFs is an optional extra

    try:
        return [(f"document {chunk.document}", chunk.text) for chunk in passages(material.task.documents)]
    except LuthierError:
        return []
