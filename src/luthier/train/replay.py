"""Replay: what a model says by itself before it is fine-tuned, learned again beside the task so that it is kept.

One example: begun with the word " Another", the base model writes "Another day begins in the valley ..."; each step of
the fine-tune, besides its examples, draws the tuned model back to the probabilities that the base model had for each
word of two such texts. None of the forgetting guard's texts or prompts is among them.

Texts that a model writes itself stand in for data that it was trained on and nobody has: self-synthesized rehearsal
(Huang et al. 2024, arXiv 2403.01244), begun with a token drawn at random (Liu et al. 2023, arXiv 2305.17888). To learn
the old model's probabilities beside the new task is learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import DataError, ModelError
from luthier.train.distil import Soft, soft_labels
from luthier.train.rows import TrainRow, train_row
from luthier.types import Message, Request, digest

VERSION = 1  # changes whenever the same model could be given other rows
REPLAY = 1  # rows a step, beside 16 examples, where nobody says otherwise
FEWEST_TEXTS, MOST_TEXTS, TEXT_TOKENS = 24, 128, 32
ANSWER_TOKENS = 48
SHORTEST = 20  # letters of a text that is asked about
# no prompt of `train.general` is among these
QUESTIONS = (
    "What is a good way to learn the names of trees?",
    "How do I clean a wooden table?",
    "Who painted the Mona Lisa?",
    "What is the largest ocean?",
    "Write a friendly message to a new colleague.",
    "Why do leaves change colour?",
    "List four kinds of weather.",
    "What is the plural of 'mouse'?",
    "Tell me something about Saturn.",
    "How long does it take to cook rice?",
    "What does an architect do?",
    "Give me a title for a book about the sea.",
    "What is 9 times 6?",
    "Explain what a map is for.",
    "Is a tomato a fruit?",
    "How can I sleep better?",
)
FRAMES = ("Sum this up in one sentence: {}", "Turn this into a question: {}", "Go on from here: {}", "Is this true? {}")

Working = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Replay:
    """Rows of which each token but a text's first, or a prompt's, is learned: `soft` is what the base model gave it."""

    soft: Mapping[TrainRow, Soft]

    def of_step(self, step: int, count: int, *, seed: int) -> list[TrainRow]:
        """The rows of a step: all in turn, in another order each round. A function of seed and step alone."""
        rows = list(self.soft)
        chosen = []
        for place in range(step * count, (step + 1) * count):
            turn, at = divmod(place, len(rows))
            chosen.append(rows[int(np.random.default_rng([seed, turn]).permutation(len(rows))[at])])
        return chosen


def replay_of(
    base: Any,
    *,
    draws: int = 0,
    seed: int,
    folder: Path | None = None,
    working: Working = lambda _text, _done, _total: None,
) -> Replay:
    """What a local model says by itself: texts of its own and answers to general prompts, with its probabilities.

    `base` has what `train.guard.Tuned` says of a model, and `continued`. `draws`: how many rows a training will take;
    it gets a fifth as many texts, within bounds, and as many answers about them: where texts prevailed, the words of
    plain text stayed as they were, while chats moved and ended later. The same arguments give the same rows, within a
    process the same object; with `folder` they are kept there, and read by whoever comes back after an interruption.
    """
    texts = min(MOST_TEXTS, max(FEWEST_TEXTS, draws // 5))
    key = digest("replay", VERSION, base.fingerprint, texts, seed)
    kept = None if folder is None else folder / f"replay-{key}.json"
    known = _made.get(key) or _read(kept)
    found = known or _written(base, texts, seed, working)
    if kept is not None and (known is None or not kept.exists()):
        _keep(found, kept)
    _made.clear()  # one is enough: the fits of a forecast follow each other
    _made[key] = found
    return found


_made: dict[str, Replay] = {}


def _keep(replay: Replay, path: Path) -> None:
    """Written whole or not at all."""
    rows = [[row.input_ids, row.labels_from, labels.ids, labels.probabilities] for row, labels in replay.soft.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(rows), encoding="utf-8")
    os.replace(fresh, path)


def _read(path: Path | None) -> Replay | None:
    """What `_keep` wrote; None where there is nothing whole."""
    if path is None:
        return None
    try:
        soft = {
            TrainRow(tuple(ids), labels_from): Soft(tuple(map(tuple, likeliest)), tuple(map(tuple, probabilities)))
            for ids, labels_from, likeliest, probabilities in json.loads(path.read_text("utf-8"))
        }
    except (OSError, ValueError, TypeError):
        return None
    return Replay(soft)


def _written(base: Any, count: int, seed: int, working: Working) -> Replay:
    what = "replay: writing down what the model says by itself"
    working(what, 0, 3)
    texts = _texts(base, count, seed)
    working(what, 1, 3)
    rows = list(dict.fromkeys([*texts, *_answers(base, texts, seed)]))
    working(what, 2, 3)
    return Replay(dict(zip(rows, soft_labels(base.module, rows), strict=True)))


def _texts(base: Any, count: int, seed: int) -> list[TrainRow]:
    first = _beginnings(base.tokenizer)
    begun = np.random.default_rng(seed).choice(len(first), count)
    tokens = min(TEXT_TOKENS, base.context_tokens) - 1
    written = base.continued([(first[int(at)],) for at in begun], max_tokens=tokens, seed=seed)
    return [TrainRow(ids, 1) for ids in written if len(ids) > 1]


def _beginnings(tokenizer: Any) -> Sequence[int]:
    """The tokens that a text can begin with: whole or beginning words with a capital letter."""
    found = [
        token
        for token in range(len(tokenizer))
        if token not in tokenizer.all_special_ids and _begins(tokenizer.decode([token]))
    ]
    return found or [token for token in range(len(tokenizer)) if token not in tokenizer.all_special_ids]


def _begins(word: str) -> bool:
    """
    >>> [_begins(word) for word in (" Another", "The", "ing", "42", "")]
    [True, True, False, False, False]
    """
    word = word.strip()
    return word.isalpha() and word.isascii() and word[0].isupper()


def _answers(base: Any, texts: Sequence[TrainRow], seed: int) -> list[TrainRow]:
    """Answers to the questions, and to what is asked about the texts."""
    written = [base.tokenizer.decode(row.input_ids).strip() for row in texts]
    about = [text for text in written if len(text) >= SHORTEST]
    asked = [*QUESTIONS, *(FRAMES[at % len(FRAMES)].format(text) for at, text in enumerate(about))]
    prompts = [(Message("user", prompt),) for prompt in asked]
    requests = [Request(prompt, max_tokens=ANSWER_TOKENS, temperature=1.0, seed=seed) for prompt in prompts]
    rows = []
    for prompt, reply in zip(prompts, base.complete(requests), strict=True):
        try:
            answer = "".join(reply.texts).strip()
            row = train_row(base.chat, prompt, answer, context_tokens=base.context_tokens, example_id="a prompt")
        except (DataError, ModelError):  # too long a prompt, or a first token that is another one behind this prompt
            continue
        if reply.finish_reason == "stop":
            rows.append(row)
        elif row.labelled > 1:  # an answer that the limit cut has no end of turn to learn
            rows.append(TrainRow(row.input_ids[:-1], row.labels_from))
    return rows
