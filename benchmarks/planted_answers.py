"""Answers: a form is demanded that solved examples do not show, or references are those of another class."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from planted import (
    AGE_OR_PIN,
    ASK_SIZE,
    ASK_TEXT,
    ASK_TOPIC,
    DELETE_OR_PIN,
    TEST,
    Prompt,
    Row,
    Variant,
    drawn,
    sorting,
    with_text,
)
from planted_data import YEAR, sentences, sizes, topics

# ---------------------------------------------------------------- format demanded


def formats(folder: Path) -> list[Variant]:
    return [
        formatted(folder, "json", lambda text: json.dumps({"people": text}), 'Answer as JSON: {"people": "..."}', 1),
        formatted(folder, "brackets", lambda text: f"[{text}]", "Put the answer in square brackets.", 2),
        formatted(folder, "prefix", lambda text: f"Answer: {text}", 'Begin with "Answer:".', 3),
        formatted(folder, "tags", lambda text: f"<year>{text}</year>", "Put the answer in <year> tags.", 4, YEAR),
        formatted(folder, "sentence", lambda text: f"A table for {text} people.", "Answer in a whole sentence.", 5),
        formatted(folder, "full-stop", lambda text: f"{text}.", "End with a full stop.", 6),
    ]


def formatted(
    folder: Path, name: str, wanted: Callable[[str], str], rule: str, seed: int, source: str = "sizes"
) -> Variant:
    """The prompt demands a form that its solved examples, older than the demand, do not show."""
    if source == "sizes":
        pairs, solved = drawn(sizes(folder), seed, 100, 4)
        ask = ASK_SIZE
    else:
        known = [(with_text(text, asked), answer) for text, asked, answer in sentences(folder, source)]
        pairs, solved = drawn(known, seed, 70, 4)
        ask = ASK_TEXT
    rows = tuple(Row(text, wanted(answer), text, answer) for text, answer in pairs)
    return Variant(
        f"format-{name}",
        "format",
        f"answers have to look like {wanted('5')}",
        rows,
        Prompt(f"{ask} {rule}", shots=tuple(solved)),
        Prompt(ask, shots=tuple(solved)),
        dev=min(34, len(rows) - TEST - 10),
        max_tokens=16,
    )


# ---------------------------------------------------------------- references flipped

CLEAR = {"exchange_rate": "exchange rate", "lost_or_stolen_card": "stolen card"}


def references(folder: Path) -> list[Variant]:
    """Candidates that do well by the true references: a fault of theirs would not be the planted one."""
    made = [
        ("age-or-pin", AGE_OR_PIN, 0, 0.30),
        ("delete-or-pin", DELETE_OR_PIN, 0, 0.35),
        ("rate-or-stolen", CLEAR, 6, 0.30),
        ("age-or-pin", AGE_OR_PIN, 0, 0.40),
        ("delete-or-pin", DELETE_OR_PIN, 0, 0.25),
        ("rate-or-stolen", CLEAR, 6, 0.40),
    ]
    return [
        flipped(
            sorting(topics(folder, names, 70), ASK_TOPIC, seed, shots=shots, calibrated=False),
            f"{name}-{share:.2f}",
            share,
            seed,
        )
        for seed, (name, names, shots, share) in enumerate(made, 1)
    ]


def flipped(variant: Variant, name: str, share: float, seed: int) -> Variant:
    """A share of the references are those of another class."""
    rng = random.Random(seed)
    answers = sorted({row.reference for row in variant.rows})
    chosen = set(rng.sample(range(len(variant.rows)), round(share * len(variant.rows))))
    rows = tuple(
        replace(row, reference=rng.choice([each for each in answers if each != row.reference])) if at in chosen else row
        for at, row in enumerate(variant.rows)
    )
    return replace(
        variant,
        name=f"references-{name}",
        cause="references",
        planted=f"{share:.0%} of the references are of another class",
        rows=rows,
    )
