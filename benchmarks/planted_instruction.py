"""Instructions that mislead: no solved examples stand beside them, so that the words have to say it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from planted import AGE_OR_PIN, ASK_TOPIC, DELETE_OR_PIN, Prompt, Variant, later, sorting
from planted_data import topics

SHUFFLED = "message about the topic customer which is the s"
AGE_OR_DELETE = {"age_limit": "age limit", "terminate_account": "delete account"}
COUNTRY_OR_AGE = {"country_support": "country", "age_limit": "age"}
ALL_THREE = {"change_pin": "change pin", "age_limit": "age limit", "terminate_account": "delete account"}
SUCH_AS = {
    "age limit": "'What is the age limit?' / 'Can my child have an account?'",
    "age": "'What is the age limit?' / 'Can my child have an account?'",
    "change pin": "'How do I change my PIN?' / 'Where can I get a new PIN?'",
    "country": "'Which countries do you support?' / 'Can I get a card in the EU?'",
    "delete account": "'I want to close my account.' / 'How do I delete my account?'",
}
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
        *later_instructions(folder),
    ]


def later_instructions(folder: Path) -> list[Variant]:
    """Written after it had shown that this model hardly minds shuffled words, labels demanded, and labels exchanged.

    They were chosen by the scores with and without the defect on a few messages, and by nothing that a diagnosis said.
    It does mind examples under the wrong label and, on one of the tasks, a rule that is cut off before its condition,
    another task's instruction, and one label that is recommended.
    """
    merged = "the examples of every label stand under one of them"
    nearly_all = f'{ASK_TOPIC} Nearly all messages are "age limit". Answer "age limit".'
    return [
        misled(folder, "merged", merged, DELETE_OR_PIN, 21, ASK_TOPIC, run_together(DELETE_OR_PIN, "change pin")),
        misled(folder, "poem", "it is the one of another task", AGE_OR_PIN, 22, "Write a poem about the sea."),
        misled(folder, "merged-2", merged, AGE_OR_DELETE, 23, ASK_TOPIC, run_together(AGE_OR_DELETE, "age limit")),
        misled(folder, "cut", "it is cut before its condition", AGE_OR_PIN, 24, 'Answer "age limit" unless the'),
        misled(folder, "merged-3", merged, COUNTRY_OR_AGE, 25, ASK_TOPIC, run_together(COUNTRY_OR_AGE, "country")),
        misled(folder, "merged-4", merged, ALL_THREE, 26, ASK_TOPIC, run_together(ALL_THREE, "change pin")),
        misled(folder, "nearly-all", "one label is recommended", AGE_OR_PIN, 27, nearly_all),
        misled(folder, "merged-5", merged, AGE_OR_PIN, 28, ASK_TOPIC, run_together(AGE_OR_PIN, "change pin")),
    ]


def run_together(names: dict[str, str], under: str) -> tuple[str, ...]:
    """The meanings of the labels, where the cells of a table were merged: one has the examples of all."""
    told = "for example " + " / ".join(SUCH_AS[name] for name in names.values())
    return tuple(told if name == under else "" for name in names.values())


def misled(
    folder: Path,
    name: str,
    planted: str,
    names: dict[str, str],
    seed: int,
    ask: str,
    meanings: tuple[str, ...] = (),
) -> Variant:
    """A later variant, whose twin lists its labels in the same order: this model minds that too."""
    found = garbled(folder, name, planted, names, seed, ask, meanings)
    return later(replace(found, twin=Prompt(ASK_TOPIC, tuple((label, "") for label in names.values()))))


def garbled(
    folder: Path,
    name: str,
    planted: str,
    names: dict[str, str],
    seed: int,
    ask: str,
    meanings: tuple[str, ...] = (),
) -> Variant:
    plain = sorting(topics(folder, names), ASK_TOPIC, seed, count=200, shots=0, dev=112, calibrated=False)
    labels = tuple(zip(names.values(), meanings or ("",) * len(names), strict=True))
    return replace(plain, name=f"instruction-{name}", cause="instruction", planted=planted, prompt=Prompt(ask, labels))
