"""Shape: how long inputs are, and whether inputs and answers are written in one way."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from luthier.audit.finding import Evidence, Finding, Severity, rows_of, shown
from luthier.audit.material import Material, Row
from luthier.task.json_record import NotARecord, read_record
from luthier.types import Input

# an English token has about four characters; with three, what is said to fit fits
CHARACTERS_PER_TOKEN = 3
# of the models that come with luthier, the smallest; a remote model's is in luthier.toml
CONTEXT_TOKENS = 8192
# how far beyond the upper quartile, in logarithms, an input is an outlier, and how much longer than the median
_FENCE, _TIMES = 3.0, 5.0

_BROKEN = re.compile("�|Ã[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€[™œ\x9d“”¦]|Â[ £°»«]")
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069]")
_MARKUP = re.compile(
    r"</?(?:p|br|div|span|a|b|i|em|strong|ul|li|td|tr|table|html|body|font)\b[^<>]{0,200}>|&(?:amp|lt|gt|quot|nbsp|#\d{2,5});",
    re.I,
)


def text_of(given: Input) -> str:
    return given if isinstance(given, str) else "\n".join(turn.content for turn in given)


# ---------------------------------------------------------------- length


def length(material: Material) -> list[Finding]:
    """Inputs that hardly fit into a model's context, inputs far longer than the others, and inputs that say nothing."""
    rows = [same[0] for same in material.distinct]
    sizes = np.array([len(text_of(row.input)) for row in rows])
    found = []
    context = _context(material)
    over = np.flatnonzero(sizes > context * CHARACTERS_PER_TOKEN)
    if len(over):
        found.append(_too_long([(rows[at], int(sizes[at])) for at in over.tolist()], len(rows), context))
    logs = np.log(np.maximum(sizes, 1))
    low, middle, high = np.quantile(logs, (0.25, 0.5, 0.75))
    fence = max(np.exp(high + _FENCE * (high - low)), _TIMES * np.exp(middle))
    outliers = [at for at in np.flatnonzero(sizes > fence).tolist() if at not in set(over.tolist())]
    if outliers:
        found.append(_outliers([(rows[at], int(sizes[at])) for at in outliers], sizes))
    empty = [row for row in rows if not any(map(str.isalnum, text_of(row.input)))]
    if empty:
        found.append(_says_nothing(empty, len(rows)))
    return found


def _context(material: Material) -> int:
    sizes = [CONTEXT_TOKENS]
    if material.settings is not None:
        remote = [each.context_tokens for each in material.settings.remote.values()]
        sizes += [size for size in remote if size is not None]
    return min(sizes)


def _measured(rows: Sequence[tuple[Row, int]]) -> tuple[Evidence, ...]:
    longest = sorted(rows, key=lambda each: -each[1])
    return tuple(Evidence((row.place,), shown(row.input), f"{size:,} characters") for row, size in longest)


def _too_long(rows: Sequence[tuple[Row, int]], of: int, context: int) -> Finding:
    return Finding(
        kind="length",
        severity="warning",
        what=f"{len(rows):,} {'input is' if len(rows) == 1 else 'inputs are'} too long for a context of "
        f"{context:,} tokens, at {CHARACTERS_PER_TOKEN} characters a token",
        count=len(rows),
        of=of,
        effect="a prompt that does not fit is an error, and counts against the rung; a fine-tune reads the beginning "
        "only.",
        advice="shorten them to what decides the answer, or use a model with a longer context.",
        evidence=_measured(rows),
        figures={"context_tokens": context},
    )


def _outliers(rows: Sequence[tuple[Row, int]], sizes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Finding:
    median = int(np.median(sizes))
    return Finding(
        kind="length",
        severity="note",
        what=f"{len(rows):,} {'input is' if len(rows) == 1 else 'inputs are'} far longer than the others "
        f"(half of all have at most {median:,} characters)",
        count=len(rows),
        of=len(sizes),
        effect="they take most of the time and the tokens of a batch; often they are several rows run together, or "
        "whole threads.",
        advice="look at the longest: an unclosed quote in a CSV file makes such rows.",
        evidence=_measured(rows),
        figures={"median_characters": median, "longest_characters": int(sizes.max())},
    )


def _says_nothing(rows: Sequence[Row], of: int) -> Finding:
    return Finding(
        kind="length",
        severity="warning",
        what=f"{len(rows):,} {'input has' if len(rows) == 1 else 'inputs have'} not one letter or digit",
        count=len(rows),
        of=of,
        effect="nobody can answer them but by chance.",
        advice='leave them out, or give them a class of their own ("unclear").',
        evidence=tuple(Evidence((row.place,), shown(row.input)) for row in rows),
    )


# ---------------------------------------------------------------- format


def form(material: Material) -> list[Finding]:
    """Broken encodings, unseen signs and markup in inputs; answers that are written in several ways."""
    found = []
    for pattern, severity, what, effect, advice in _SIGNS:
        rows = [row for row in material.rows if pattern.search(text_of(row.input)) or pattern.search(row.written)]
        if rows:
            found.append(
                Finding(
                    kind="format",
                    severity=severity,
                    what=f"{rows_of(len(rows))} {'holds' if len(rows) == 1 else 'hold'} {what}",
                    count=len(rows),
                    of=len(material.rows),
                    effect=effect,
                    advice=advice,
                    evidence=tuple(Evidence((row.place,), shown(row.input)) for row in rows),
                )
            )
    if material.kind == "generation":
        found += _answers(material.rows)
    if material.kind == "extraction":
        found += _fields(material.rows)
    return found


_SIGNS: tuple[tuple[re.Pattern[str], Severity, str, str, str], ...] = (
    (
        _BROKEN, "warning", "signs of a broken encoding (such as Ã© for é)",
        "models read other words than people wrote, and answers with such signs cannot be met.",
        "set [data] encoding, or repair the file where it was made.",
    ),
    (
        _UNSEEN, "note", "signs that nobody sees (control or zero-width characters)",
        "none on copies and labels, which are compared without them; a prompt shows them to the model.",
        "take them out where the file is made.",
    ),
    (
        _MARKUP, "note", "HTML tags or entities",
        "tokens are spent on them, and a rung may learn where a text came from instead of what it says.",
        "take them out, unless real traffic has them too.",
    ),
)  # fmt: skip


def _share(rows: Sequence[Row], test: Callable[[str], bool]) -> tuple[list[Row], list[Row]]:
    yes = [row for row in rows if test(row.reference)]
    return yes, [row for row in rows if not test(row.reference)]


def _answers(rows: Sequence[Row]) -> list[Finding]:
    """Of written answers: a way of writing that almost all follow, and some do not."""
    found = []
    for test, what in (
        (_is_json, "JSON"),
        (lambda text: text[-1:] in ".!?", "ended by a full stop"),
        (lambda text: text[:1].isupper(), "begun with a capital letter"),
    ):
        yes, no = _share(rows, test)
        few, rule = (
            (no, f"are not {what}, and the others are")
            if len(yes) > len(no)
            else (yes, f"are {what}, and the others are not")
        )
        if few and len(few) <= 0.1 * len(rows):
            found.append(
                Finding(
                    kind="format",
                    severity="warning" if what == "JSON" else "note",
                    what=f"{len(few):,} of {len(rows):,} answers {rule}",
                    count=len(few),
                    of=len(rows),
                    effect="a scorer that compares texts may call a right answer wrong, and a fine-tune learns both.",
                    advice="write all answers in one way, or choose a metric that does not mind.",
                    evidence=tuple(Evidence((row.place,), shown(row.reference)) for row in few),
                )
            )
    return found


def _is_json(text: str) -> bool:
    if text[:1] not in "{[":
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _fields(rows: Sequence[Row]) -> list[Finding]:
    """Of records: fields that are of one type almost always, and of another one sometimes."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    places: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        try:
            record = read_record(row.reference)
        except NotARecord:
            continue
        for name, value in record.items():
            kind = _TYPES.get(type(value), "number")
            kinds[name][kind] += value is not None
            if value is not None:
                places[name, kind].append(row)
    found = []
    for name, counts in kinds.items():
        for kind, count in counts.most_common()[1:]:
            if count and count <= 0.1 * counts.total():
                usual = counts.most_common(1)[0][0]
                found.append(
                    Finding(
                        kind="format",
                        severity="warning",
                        what=f"the field {name!r} is a {kind} in {count:,} of {counts.total():,} records, and a "
                        f"{usual} in the others",
                        count=count,
                        of=counts.total(),
                        effect='a record is right only if each value is: 2 is not "2".',
                        advice="write the field in one way, and say so in the schema.",
                        evidence=tuple(Evidence((row.place,), shown(row.reference)) for row in places[name, kind]),
                    )
                )
    return found


_TYPES = {str: "text", bool: "truth value", list: "list", dict: "record"}
