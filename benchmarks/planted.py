"""Planted causes: tasks from real data with one defect each, and the same tasks without it (their twins).

One example: "For how many people is the table of Davina Freedman?" cannot be answered without her message, which stands
in the documents of the task: knowledge is missing. Its twin has the message in the prompt.

Everything is drawn by seeds; nothing is measured here.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from planted_data import (
    NUMBER,
    YEAR,
    Pairs,
    days,
    guests,
    letters,
    products,
    sentences,
    sizes,
    topics,
    weekday,
    worked,
)

CAUSES = ("knowledge", "format", "references", "instruction", "capacity")
HEALTHY = "none"
TEST = 4  # rows that nobody looks at: a task has to have a test split


@dataclass(frozen=True)
class Row:
    """One example of a variant, and of its twin."""

    input: str
    reference: str
    plain_input: str
    plain_reference: str
    source: str = ""


@dataclass(frozen=True)
class Prompt:
    """What a candidate is: an instruction, labels with their meanings (none: answers are written), solved examples.

    `calibrated`: labels are compared with the prompt's own preference for them, read off training inputs.
    """

    instruction: str
    labels: tuple[tuple[str, str], ...] = ()
    shots: tuple[tuple[str, str], ...] = ()
    calibrated: bool = False


@dataclass(frozen=True)
class Variant:
    """A task with a planted cause. `twin` is the prompt that goes with the plain inputs and references."""

    name: str
    cause: str
    planted: str
    rows: tuple[Row, ...]
    prompt: Prompt
    twin: Prompt
    dev: int = 34
    at_least: float = 0.75
    max_tokens: int = 8
    documents: tuple[tuple[str, str], ...] = field(default=())

    def write(self, folder: Path) -> Path:
        """luthier.toml with its data in a folder; ids are the places of the rows."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            {"id": str(at), "input": row.input, "reference": row.reference, "source": row.source}
            for at, row in enumerate(self.rows)
        ]
        write_lines(folder / "rows.jsonl", lines)
        labels = [f"{json.dumps(name)} = {json.dumps(meaning)}" for name, meaning in self.prompt.labels]
        kind = "classification" if labels else "generation"
        parts = [
            f"[task]\nname = {json.dumps(self.name)}\nkind = {json.dumps(kind)}",
            f"instruction = {json.dumps(self.prompt.instruction)}" if self.prompt.instruction else "",
            "" if labels else f"max_tokens = {self.max_tokens}",
            "\n".join(["[task.labels]", *labels]) if labels else "",
            '[data]\npath = "rows.jsonl"\ninput = "input"\nreference = "reference"\nid = "id"\nnear_duplicates = false',
            f"[split]\ndev = {self.dev}\ntest = {TEST}",
            f"[target]\nat_least = {self.at_least}",
        ]
        if self.documents:
            write_lines(folder / "documents.jsonl", [{"id": name, "text": text} for name, text in self.documents])
            parts.append('[documents]\npaths = ["documents.jsonl"]\nid = "id"\noracle = "source"\nchunk_chars = [600]')
        path = folder / "luthier.toml"
        path.write_text("\n".join(part for part in parts if part) + "\n", encoding="utf-8")
        return path


def write_lines(path: Path, lines: Sequence[object]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def drawn(pairs: Sequence[tuple[str, str]], seed: int, count: int, shots: int) -> tuple[Pairs, Pairs]:
    """(rows, shots): `count` pairs, and solved examples that are none of them, of different answers in turn."""
    mixed = sorted(set(pairs))
    random.Random(seed).shuffle(mixed)
    turns: dict[str, int] = {}
    order = []
    for place, (_, answer) in enumerate(mixed):
        turns[answer] = turns.get(answer, -1) + 1
        order.append((turns[answer], place))
    solved = [mixed[place] for _, place in sorted(order)[:shots]]
    return [pair for pair in mixed if pair not in solved][:count], solved


def same(pairs: Pairs) -> tuple[Row, ...]:
    return tuple(Row(text, answer, text, answer) for text, answer in pairs)


# ---------------------------------------------------------------- knowledge removed

ASK_SIZE = "For how many people is the table? Answer with the number."
ASK_TEXT = "Answer the question."
ASK_TOPIC = "Which topic is the customer's message about?"


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


def with_text(text: str, question: str) -> str:
    return f"{text}\n\nQuestion: {question}"


def tickets(folder: Path, seed: int) -> Variant:
    """Customers by name, sorted by the topic of their message, which stands in the documents only."""
    pairs, _ = drawn(topics(folder, AGE_OR_PIN), seed, 150, 0)
    names = random.Random(seed).sample(guests(folder), len(pairs))
    documents = tuple((name, f"{name}: {text}") for name, (text, _) in zip(names, pairs, strict=True))
    rows = tuple(Row(name, topic, text, topic, name) for name, (text, topic) in zip(names, pairs, strict=True))
    prompt = Prompt("Which topic did the customer write about?", tuple((topic, "") for topic in AGE_OR_PIN.values()))
    planted = "the message that is sorted stands in the documents only"
    name = f"knowledge-tickets-{seed}"
    return Variant(name, "knowledge", planted, rows, prompt, prompt, dev=64, documents=documents)


# ---------------------------------------------------------------- format demanded


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


def sorting(
    pairs: Pairs, ask: str, seed: int, *, count: int = 320, shots: int = 6, dev: int = 112, calibrated: bool = True
) -> Variant:
    """A plain task: short messages sorted by what they are about."""
    labels = tuple((topic, "") for topic in sorted({answer for _, answer in pairs}))
    some, solved = drawn(pairs, seed, count, shots)
    prompt = Prompt(ask, labels, tuple(solved), calibrated)
    return Variant("sorting", HEALTHY, "nothing", same(some), prompt, prompt, dev=dev)


CLEAR = {"exchange_rate": "exchange rate", "lost_or_stolen_card": "stolen card"}


# ---------------------------------------------------------------- capacity exceeded


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


# ---------------------------------------------------------------- all of them


def variants(folder: Path) -> list[Variant]:
    """All variants, the causes in turn, so that a run that is cut off has some of each."""
    by_cause = [
        knowledge(folder),
        formats(folder),
        references(folder),
        instructions(folder),
        capacities(folder),
        healthy(folder),
    ]
    turns = max(map(len, by_cause))
    return [some[turn] for turn in range(turns) for some in by_cause if turn < len(some)]


def knowledge(folder: Path) -> list[Variant]:
    return [
        bookings(folder, 1, "For how many people is the table of {name}?"),
        passages(folder, "years", YEAR, 2),
        bookings(folder, 3, "How large is the party of {name}?"),
        tickets(folder, 4),
        passages(folder, "numbers", NUMBER, 5, shots=2),
        bookings(folder, 6, "{name} has a booking. How many seats do we need?"),
    ]


def formats(folder: Path) -> list[Variant]:
    return [
        formatted(folder, "json", lambda text: json.dumps({"people": text}), 'Answer as JSON: {"people": "..."}', 1),
        formatted(folder, "brackets", lambda text: f"[{text}]", "Put the answer in square brackets.", 2),
        formatted(folder, "prefix", lambda text: f"Answer: {text}", 'Begin with "Answer:".', 3),
        formatted(folder, "tags", lambda text: f"<year>{text}</year>", "Put the answer in <year> tags.", 4, YEAR),
        formatted(folder, "sentence", lambda text: f"A table for {text} people.", "Answer in a whole sentence.", 5),
        formatted(folder, "full-stop", lambda text: f"{text}.", "End with a full stop.", 6),
    ]


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


def first_word(text: str) -> str:
    return text.split()[0]


AGE_OR_PIN = {"age_limit": "age limit", "change_pin": "change pin"}


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


# ---------------------------------------------------------------- instruction garbled

DELETE_OR_PIN = {"terminate_account": "delete account", "change_pin": "change pin"}
SHUFFLED = "message about the topic customer which is the s"
ALWAYS = 'The answer is always "{0}". Never answer "{1}". Whatever the message says, answer "{0}".'


def instructions(folder: Path) -> list[Variant]:
    """No solved examples, so that the words have to say it; the twin says which topics there are, and no more."""
    shuffled = ("PIN card another how to get limit for a", "old children or one accounts to be age has")
    swapped = tuple(", ".join([name] * 3) for name in ("change pin", "delete account"))
    explained = ("to change the pin of a card", "to delete the account and leave the bank")
    jumbled = "about which the message customer topic is s the"
    others = ("card a for the PIN limit new where get", "age a child how be old to has account an")
    more = ("PIN card the account change another to get", "delete the to and my pin close leave it")
    brief = 'Always answer "age limit", whatever the message says.'
    return [
        garbled(folder, "shuffled", "the words of rule and meanings are shuffled", AGE_OR_PIN, 1, SHUFFLED, shuffled),
        garbled(folder, "swapped", "each label means the other one", DELETE_OR_PIN, 2, ASK_TOPIC, swapped),
        garbled(folder, "always", "one label is demanded, in short", AGE_OR_PIN, 3, brief),
        garbled(folder, "demanded", "one label is demanded", DELETE_OR_PIN, 4, ALWAYS.format(*DELETE_OR_PIN.values())),
        garbled(folder, "demanded-2", "one label is demanded", AGE_OR_PIN, 5, ALWAYS.format(*AGE_OR_PIN.values())),
        garbled(folder, "opposite", "each label is explained by the other one", DELETE_OR_PIN, 6, ASK_TOPIC, explained),
        garbled(folder, "shuffled-2", "the words of rule and meanings are shuffled", AGE_OR_PIN, 12, jumbled, others),
        garbled(folder, "shuffled-3", "the words of rule and meanings are shuffled", DELETE_OR_PIN, 13, jumbled, more),
    ]


def garbled(
    folder: Path,
    name: str,
    planted: str,
    names: dict[str, str],
    seed: int,
    ask: str,
    meanings: tuple[str, ...] = ("", ""),
) -> Variant:
    plain = sorting(topics(folder, names), ASK_TOPIC, seed, count=200, shots=0, dev=112, calibrated=False)
    labels = tuple((label, meaning) for label, meaning in zip(names.values(), meanings, strict=True))
    return replace(plain, name=f"instruction-{name}", cause="instruction", planted=planted, prompt=Prompt(ask, labels))
