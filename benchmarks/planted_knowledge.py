"""Knowledge removed: what is asked about stands in the documents of the task, and not in the prompt."""

from __future__ import annotations

import random
from pathlib import Path

from planted import AGE_OR_PIN, ASK_TEXT, DELETE_OR_PIN, TEST, Prompt, Row, Variant, drawn, later, with_text
from planted_data import NUMBER, YEAR, guests, sentences, sizes, topics


def knowledge(folder: Path) -> list[Variant]:
    return [
        bookings(folder, 1, "For how many people is the table of {name}?"),
        passages(folder, "years", YEAR, 2),
        bookings(folder, 3, "How large is the party of {name}?"),
        tickets(folder, 4),
        passages(folder, "numbers", NUMBER, 5, shots=2),
        bookings(folder, 6, "{name} has a booking. How many seats do we need?"),
        later(tickets(folder, 7, DELETE_OR_PIN)),
        later(bookings(folder, 8, "How many guests does {name} bring?")),
    ]


def bookings(folder: Path, seed: int, asked: str) -> Variant:
    """Bookings by the guest's name: the message stands in the documents only."""
    pairs, solved = drawn(sizes(folder), seed, 100, 4)
    who = dict(
        zip([*pairs, *solved], random.Random(seed).sample(guests(folder), len(pairs) + len(solved)), strict=True)
    )
    notes = {pair: f"{name}: {pair[0]}" for pair, name in who.items()}
    ask = {pair: asked.format(name=name) for pair, name in who.items()}
    rows = [Row(ask[pair], pair[1], f"{notes[pair]}\n\n{ask[pair]}", pair[1], who[pair]) for pair in pairs]
    return Variant(
        f"knowledge-bookings-{seed}",
        "knowledge",
        "the message that a question is about stands in the documents only",
        tuple(rows),
        Prompt(ASK_TEXT, shots=tuple((ask[pair], pair[1]) for pair in solved)),
        Prompt(ASK_TEXT, shots=tuple((f"{notes[pair]}\n\n{ask[pair]}", pair[1]) for pair in solved)),
        documents=tuple((who[pair], notes[pair]) for pair in who),
        max_tokens=5,
    )


def passages(folder: Path, name: str, pattern: str, seed: int, shots: int = 4) -> Variant:
    """XQuAD: the sentence in which the answer stands is in the documents only."""
    known = sentences(folder, pattern)
    by_question = {question: sentence for sentence, question, _ in known}
    pairs, solved = drawn([(question, answer) for _, question, answer in known], seed, 80, shots)
    texts = sorted(set(by_question.values()))
    rows = [
        Row(
            question,
            answer,
            with_text(by_question[question], question),
            answer,
            str(texts.index(by_question[question])),
        )
        for question, answer in pairs
    ]
    return Variant(
        f"knowledge-{name}-{seed}",
        "knowledge",
        "the sentence in which the answer stands is in the documents only",
        tuple(rows),
        Prompt(ASK_TEXT, shots=tuple(solved)),
        Prompt(ASK_TEXT, shots=tuple((with_text(by_question[text], text), answer) for text, answer in solved)),
        dev=min(34, len(rows) - TEST - 10),
        documents=tuple((str(at), text) for at, text in enumerate(texts)),
        max_tokens=7,
    )


def tickets(folder: Path, seed: int, names: dict[str, str] = AGE_OR_PIN) -> Variant:
    """Customers by name, sorted by the topic of their message, which stands in the documents only."""
    pairs, _ = drawn(topics(folder, names), seed, 150, 0)
    who = random.Random(seed).sample(guests(folder), len(pairs))
    documents = tuple((name, f"{name}: {text}") for name, (text, _) in zip(who, pairs, strict=True))
    rows = tuple(Row(name, topic, text, topic, name) for name, (text, topic) in zip(who, pairs, strict=True))
    prompt = Prompt("Which topic did the customer write about?", tuple((topic, "") for topic in names.values()))
    planted = "the message that is sorted stands in the documents only"
    name = f"knowledge-tickets-{seed}"
    return Variant(name, "knowledge", planted, rows, prompt, prompt, dev=64, documents=documents)
