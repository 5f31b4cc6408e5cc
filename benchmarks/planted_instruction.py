"""Instructions that mislead: no solved examples stand beside them, so that the words have to say it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from planted import AGE_OR_PIN, ASK_TOPIC, DELETE_OR_PIN, Prompt, Variant, sorting
from planted_data import topics

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
