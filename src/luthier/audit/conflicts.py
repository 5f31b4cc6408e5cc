"""Conflicts: equal inputs with different right answers, and what they say about the best score there can be.

Two rows ask the same where they have the same words (punctuation, case and spaces left out). From how often the answers
of such rows agree follows a ceiling: where a person gives an input the label k with probability p_k, two rows of it
agree with probability A = sum p_k^2, and the best rung there can be is right with probability max p_k, which lies
between A and the root of A (sum p_k^2 <= max p_k, and max p_k^2 <= sum p_k^2). Averaged over the inputs both ends hold,
the upper one by Jensen's inequality.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from luthier.audit.finding import Evidence, Finding, shown
from luthier.audit.material import Material, Row
from luthier.stats import clopper_pearson
from luthier.task.json_record import canonical
from luthier.types import Estimate

_WORD = re.compile(r"\w+")
CONFIDENCE = 0.95
# metrics whose best value is the chance of the most frequent answer
_CAPPED = ("accuracy", "record_exact")


def conflicts(material: Material) -> list[Finding]:
    """Equal and nearly equal inputs with different answers, and the ceiling that follows. Not where texts are written:
    an input may have several right answers there."""
    if material.kind == "generation":
        return []
    asked = _same_words(material.rows)
    at_odds = [rows for rows in asked if len({_answer(row, material) for row in rows}) > 1]
    found = []
    if at_odds:
        found.append(_equal(at_odds, material))
        found.append(_ceiling(asked, material))
    near = _near_at_odds(material)
    if near:
        found.append(near)
    return found


def _same_words(rows: Sequence[Row]) -> list[list[Row]]:
    same: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        same[" ".join(_WORD.findall(row.form)) or row.form].append(row)
    return list(same.values())


def _answer(row: Row, material: Material) -> str:
    return row.reference.casefold() if material.closed else canonical(row.reference)


def _answers(rows: Sequence[Row], material: Material) -> Counter[str]:
    return Counter(_answer(row, material) for row in rows)


def _equal(at_odds: Sequence[Sequence[Row]], material: Material) -> Finding:
    tied = sum(_is_tie(_answers(rows, material)) for rows in at_odds)
    inputs = f"{len(at_odds):,} {'input has' if len(at_odds) == 1 else 'inputs have'}"
    return Finding(
        kind="conflicts",
        severity="warning",
        what=f"{inputs} different right answers in rows with the same words",
        count=len(at_odds),
        of=len(material.distinct),
        effect="among exact copies luthier lets a strict majority decide, and leaves an input out where there is none "
        f"({tied:,} of these {'is' if tied == 1 else 'are'} tied). Rows that differ in punctuation stay as they are, "
        "and whoever answers both in one way is wrong once.",
        advice="decide which answer is right, row by row; where both are, the classes overlap: merge them, or say in "
        "the instruction where one ends.",
        evidence=tuple(
            Evidence(tuple(row.place for row in rows), shown(rows[0].input), _told(_answers(rows, material)))
            for rows in sorted(at_odds, key=len, reverse=True)
        ),
        figures={"tied": tied},
    )


def _is_tie(counts: Counter[str]) -> bool:
    first, second = counts.most_common(2)
    return first[1] == second[1]


def _told(counts: Counter[str]) -> str:
    return shown(", ".join(f"{answer} ({times})" for answer, times in counts.most_common(4)))


def ceiling(asked: Sequence[Sequence[str]]) -> tuple[Estimate, Estimate] | None:
    """(agreement, ceiling) from the answers of each different input; None where no input was answered twice.

    The agreement of two answers to one input is averaged over the inputs that have several, each with equal weight; its
    interval is Clopper's and Pearson's with the sum rounded outwards. The ceiling holds for inputs that were answered
    once: those that were answered several times are judged by their majority, and count as 1 at the upper end. Its mean
    is what errors that all inputs share equally would give. It supposes that answers were given independently: rows
    made by copying agree whatever they say.

    >>> agreement, best = ceiling([["a", "a"]] * 90 + [["a", "b"]] * 10 + [["a"]] * 900)
    >>> [round(value, 3) for value in (agreement.mean, best.low, best.mean, best.high)]
    [0.9, 0.824, 0.952, 0.978]
    """
    several = [Counter(answers) for answers in asked if len(answers) > 1]
    if not several:
        return None
    agreed = []
    for counts in several:
        n = counts.total()
        agreed.append(sum(times * (times - 1) for times in counts.values()) / (n * (n - 1)))
    total, n = math.fsum(agreed), len(several)
    low = clopper_pearson(math.floor(total), n, CONFIDENCE)[0]
    high = clopper_pearson(min(n, math.ceil(total - 1e-9)), n, CONFIDENCE)[1]
    mean = total / n
    once = 1.0 - n / len(asked)
    even = (1.0 + math.sqrt(max(0.0, 2.0 * mean - 1.0))) / 2.0
    best = once * max(even, mean) + (1.0 - once)
    return (
        Estimate(mean, low, high, n, "agreement of rows with the same words, Clopper-Pearson"),
        Estimate(best, low, once * math.sqrt(high) + (1.0 - once), n, "between the agreement and its root"),
    )


def _ceiling(asked: Sequence[Sequence[Row]], material: Material) -> Finding:
    found = ceiling([[_answer(row, material) for row in rows] for rows in asked])
    assert found is not None
    agreement, best = found
    target = material.settings.target if material.settings is not None else None
    if material.spec is not None:
        target = material.spec.target
    capped = target is not None and target.metric in _CAPPED
    over = capped and target is not None and target.at_least > best.high
    near = capped and target is not None and target.at_least > best.mean
    bar = f"the target asks for {target.at_least:.1%}" if target is not None and capped else ""
    return Finding(
        kind="ceiling",
        severity="error" if over else "warning" if near else "note",
        what=f"two rows with the same words have the same answer {agreement.mean:.1%} of the time "
        f"[{agreement.low:.1%}, {agreement.high:.1%}], so the best score to be expected is about {best.mean:.1%} "
        f"[{best.low:.1%}, {best.high:.1%}]" + (f"; {bar}" if bar else ""),
        count=agreement.n,
        of=len(asked),
        effect="no rung can be expected above the ceiling, however good it is"
        + (": this target cannot be met" if over else "")
        + ". The estimate supposes that other inputs are as unclear as those that were answered several times, and "
        "that their rows were answered independently: rows made by copying agree whatever they say.",
        advice="settle the conflicts first" if over or near else "nothing, as long as the target is well below it.",
        figures={"agreement": agreement, "ceiling": best},
    )


def _near_at_odds(material: Material) -> Finding | None:
    if not material.closed:
        return None
    evidence, inputs = [], 0
    for cluster in material.clusters:
        rows = [row for at in cluster for row in material.distinct[at]]
        counts = _answers(rows, material)
        if len(counts) > 1 and len({" ".join(_WORD.findall(row.form)) for row in rows}) > 1:
            evidence.append(Evidence(tuple(row.place for row in rows), shown(rows[0].input), _told(counts)))
            inputs += len(cluster)
    if not evidence:
        return None
    return Finding(
        kind="conflicts",
        severity="note",
        what=f"{len(evidence):,} {'set' if len(evidence) == 1 else 'sets'} of near-copies "
        f"{'has' if len(evidence) == 1 else 'have'} different right answers",
        count=len(evidence),
        of=len(material.distinct),
        effect="one word may make the difference, or one of the answers is wrong. Such inputs are hard for every rung.",
        advice="read some of them.",
        evidence=tuple(evidence),
        figures={"inputs": inputs},
    )
