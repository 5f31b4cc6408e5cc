"""Beyond the model: what it cannot work out however it is asked. And tasks that it does well, without a defect."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from planted import (
    AGE_OR_PIN,
    ASK_SIZE,
    ASK_TEXT,
    ASK_TOPIC,
    HEALTHY,
    Prompt,
    Row,
    Variant,
    drawn,
    same,
    sorting,
    with_text,
)
from planted_data import YEAR, days, letters, products, sentences, sizes, topics, weekday, worked


def capacities(folder: Path) -> list[Variant]:
    short = sorted(sizes(folder))
    random.Random(3).shuffle(short)
    size = dict(short[:90])  # how many people a message books for is easy
    texts = list(size)
    return [
        beyond(
            "products",
            "two numbers of two digits are multiplied",
            worked,
            lambda text: text.split()[0],
            "Work it out.",
            "Which is the first number?",
            products(1, 12, 98, 90),
        ),
        unlearnable(
            sorting(topics(folder, AGE_OR_PIN), ASK_TOPIC, 2, count=220),
            "coin",
            "the labels were drawn by a coin",
            coin(2),
        ),
        beyond(
            "letters",
            "the letters of a message are counted",
            lambda text: str(letters(text)),
            size.__getitem__,
            "How many letters does the message have?",
            ASK_SIZE,
            texts,
        ),
        beyond(
            "weekdays",
            "the weekday of a date",
            weekday,
            lambda text: text.split()[1],
            "Which weekday was this?",
            "Which month is this?",
            days(4, 90),
        ),
        unlearnable(
            sorting(topics(folder, AGE_OR_PIN), ASK_TOPIC, 5, count=220),
            "parity",
            "whether the number of letters is even",
            lambda text: ("even", "odd")[letters(text) % 2],
        ),
        beyond(
            "sums",
            "two numbers of six digits are added",
            worked,
            lambda text: text.split()[0],
            "Work it out.",
            "Which is the first number?",
            products(6, 100_000, 999_999, 90, "+"),
            tokens=10,
        ),
        beyond(
            "backwards",
            "the message's first three words backwards, letter by letter",
            lambda text: " ".join(text.split()[:3])[::-1],
            size.__getitem__,
            "Write the first three words of the message backwards, letter by letter.",
            ASK_SIZE,
            texts,
            tokens=16,
        ),
    ]


def beyond(
    name: str,
    planted: str,
    asked: Callable[[str], str],
    easy: Callable[[str], str],
    ask: str,
    ask_easy: str,
    texts: Sequence[str],
    *,
    tokens: int = 8,
) -> Variant:
    """A written answer that a small model cannot work out; the twin asks something easy about the same input."""
    rows = tuple(Row(text, asked(text), text, easy(text)) for text in texts[4:])
    return Variant(
        f"capacity-{name}",
        "capacity",
        planted,
        rows,
        Prompt(ask, shots=tuple((text, asked(text)) for text in texts[:4])),
        Prompt(ask_easy, shots=tuple((text, easy(text)) for text in texts[:4])),
        dev=34,
        max_tokens=tokens,
    )


def unlearnable(variant: Variant, name: str, planted: str, label: Callable[[str], str]) -> Variant:
    """Labels that follow from no pattern that a small model sees; the twin has the true ones."""
    rows = tuple(replace(row, reference=label(row.input)) for row in variant.rows)
    names = sorted({row.reference for row in rows})
    shots = tuple((text, label(text)) for text, _ in variant.prompt.shots)
    return replace(
        variant,
        name=f"capacity-{name}",
        cause="capacity",
        planted=planted,
        rows=rows,
        prompt=Prompt(f"Sort the message: {' or '.join(names)}?", tuple((each, "") for each in names), shots, True),
        dev=64,
    )


def coin(seed: int) -> Callable[[str], str]:
    return lambda text: random.Random(f"{seed} {text}").choice(("blue", "green"))


# ---------------------------------------------------------------- without a defect


def first_word(text: str) -> str:
    return text.split()[0]


def healthy(folder: Path) -> list[Variant]:
    """Tasks without a defect, which the candidate does well: nothing is to be named."""
    pairs, solved = drawn(sizes(folder), 21, 120, 4)
    texts, shown = drawn([(with_text(s, q), answer) for s, q, answer in sentences(folder, YEAR)], 22, 60, 4)
    numbers = products(23, 12, 98, 110)
    copied = tuple((text, first_word(text)) for text in numbers)
    plain = [
        ("sizes", same(pairs), Prompt(ASK_SIZE, shots=tuple(solved)), 80),
        ("years", same(texts), Prompt(ASK_TEXT, shots=tuple(shown)), 36),
        ("copies", same(list(copied[4:])), Prompt("Which is the first number?", shots=copied[:4]), 80),
    ]
    found = [
        Variant(f"none-{name}", HEALTHY, "nothing", rows, prompt, prompt, dev=dev) for name, rows, prompt, dev in plain
    ]
    topic = sorting(topics(folder, AGE_OR_PIN), ASK_TOPIC, 24, count=200, shots=0, dev=90, calibrated=False)
    return [*found, replace(topic, name="none-topics")]
