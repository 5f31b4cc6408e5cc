"""Planted causes: tasks from real data with one defect each, and the same tasks without it (their twins).

One example: "For how many people is the table of Davina Freedman?" cannot be answered without her message, which stands
in the documents of the task: knowledge is missing. Its twin has the message in the prompt.

Everything is drawn by seeds; nothing is measured here.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from planted_data import Pairs

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
    """A task with a planted cause. `twin` is the prompt that goes with the plain inputs and references.

    `dealt`: in which dealing it got its half; variants that were added later are dealt by themselves, so that no older
    one changes its half.
    """

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
    dealt: int = 1

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


def later(variant: Variant) -> Variant:
    """The same variant, dealt after the first ones."""
    return replace(variant, dealt=2)


def same(pairs: Pairs) -> tuple[Row, ...]:
    return tuple(Row(text, answer, text, answer) for text, answer in pairs)


ASK_SIZE = "For how many people is the table? Answer with the number."
ASK_TEXT = "Answer the question."
ASK_TOPIC = "Which topic is the customer's message about?"
AGE_OR_PIN = {"age_limit": "age limit", "change_pin": "change pin"}
DELETE_OR_PIN = {"terminate_account": "delete account", "change_pin": "change pin"}


def with_text(text: str, question: str) -> str:
    return f"{text}\n\nQuestion: {question}"


def sorting(
    pairs: Pairs, ask: str, seed: int, *, count: int = 320, shots: int = 6, dev: int = 112, calibrated: bool = True
) -> Variant:
    """A plain task: short messages sorted by what they are about."""
    labels = tuple((topic, "") for topic in sorted({answer for _, answer in pairs}))
    some, solved = drawn(pairs, seed, count, shots)
    prompt = Prompt(ask, labels, tuple(solved), calibrated)
    return Variant("sorting", HEALTHY, "nothing", same(some), prompt, prompt, dev=dev)
