"""Suites: what the forgetting guard asks of one model, unit by unit, so that two models can be compared in pairs.

One example: of "The ring buffer is bounded by the" the true next word is " length", and in another text " number"
follows "the"; a model that finds " length" likelier scores 1 on this item of the probe "continuations".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from luthier.errors import MissingExtra, ModelError
from luthier.train.general import General
from luthier.train.pairs import read_pairs
from luthier.types import GuardRules, Message, Request, digest

try:
    import torch
except ImportError as error:
    raise MissingExtra("local", "the forgetting guard") from error

VERSION = 1  # changes with what is asked or how it is scored: older readings are not used then
PASS_TOKENS = 512
CONTEXT = 8  # tokens of a text before its first item
REPLY_TOKENS = 48
GENERAL_TEXT = "general text"
CONTINUATIONS = "continuations"
STOPS = "ends by itself"

Better = Literal["higher", "lower"]
Working = Callable[[int, int], None]


@dataclass(frozen=True)
class Reading:
    """What one model scored in one suite: a value for each unit, in an order that all models share.

    `clusters` names where a unit comes from, when several come from one place; a base model at or below
    `floor` can lose nothing that would be seen, as where guessing scores as much. `texts` are what was written.
    """

    suite: str
    values: tuple[float, ...]
    margin: float
    unit: str
    better: Better = "higher"
    floor: float | None = None
    clusters: tuple[int, ...] | None = None
    texts: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Reading:
        """What `plain` gave, also after a way through JSON."""
        clusters = plain["clusters"]
        return cls(
            **{
                **plain,
                "values": tuple(plain["values"]),
                "clusters": None if clusters is None else tuple(clusters),
                "texts": tuple(plain["texts"]),
            }
        )


class Source(Protocol):
    """Something that is asked of a model once and read in one or several suites. Same fingerprint, same questions."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...

    def read(self, model: Any, working: Working) -> list[Reading]: ...


# ---------------------------------------------------------------- text


@dataclass(frozen=True)
class Texts:
    """General text: its negative log-likelihood, and a probe whose items cost nothing beside it.

    An item of "continuations" is a place in a text: its true next token against one that follows the same token in
    another text. Which items there are depends on the tokenizer, so that only models that share one are compared.
    """

    general: General
    rules: GuardRules

    name = "general text"

    @property
    def fingerprint(self) -> str:
        said = (self.rules.document_tokens, self.rules.items, self.rules.nll_margin, self.rules.accuracy_margin)
        return digest(VERSION, self.name, self.general.documents, *said)

    def read(self, model: Any, working: Working) -> list[Reading]:
        rows = self._rows(model)
        items = self._items(model, rows)
        nll = np.zeros(len(rows))
        right: dict[tuple[int, int], float] = {}
        done = 0
        for indices, logits in _passes(model.module, rows):
            for index, of_row in zip(indices, logits, strict=True):
                ids = torch.tensor(rows[index][1:], device=of_row.device)
                of_row = of_row[: len(ids)]
                true = of_row.gather(1, ids[:, None])[:, 0]
                nll[index] = float((torch.logsumexp(of_row, dim=-1) - true).mean())
                for at, other in items.get(index, {}).items():
                    gap = float(true[at - 1] - of_row[at - 1, other])
                    right[index, at] = float(np.heaviside(gap, 0.5))
            done += len(indices)
            working(done, len(rows))
        places = [(index, at) for index in sorted(items) for at in sorted(items[index])]
        return [
            Reading(GENERAL_TEXT, tuple(nll.tolist()), self.rules.nll_margin, "nats a token", "lower"),
            Reading(
                CONTINUATIONS,
                tuple(right[place] for place in places),
                self.rules.accuracy_margin,
                "share right",
                floor=0.5,
                clusters=tuple(index for index, _ in places),
            ),
        ]

    def _rows(self, model: Any) -> list[list[int]]:
        limit = min(self.rules.document_tokens, model.context_tokens)
        rows = [model.tokenizer(text)["input_ids"][:limit] for text in self.general.documents]
        return [row for row in rows if len(row) > CONTEXT]

    def _items(self, model: Any, rows: Sequence[Sequence[int]]) -> dict[int, dict[int, int]]:
        """By row and place the token of another text that follows the same token; a seeded choice of at most `items`.

        Only whole or beginning words are asked for: which of two brackets comes next says little.
        """
        wordlike = {token: model.tokenizer.decode([token]).strip().isalpha() for row in rows for token in set(row)}
        after: dict[int, dict[int, set[int]]] = {}
        for index, row in enumerate(rows):
            for before, token in pairwise(row):
                if wordlike[token]:
                    after.setdefault(before, {}).setdefault(token, set()).add(index)
        rng = np.random.default_rng(VERSION)
        found = []
        for index, row in enumerate(rows):
            for at in range(CONTEXT, len(row)):
                if not wordlike[row[at]]:
                    continue
                rivals = after[row[at - 1]]
                others = sorted(t for t, homes in rivals.items() if t != row[at] and homes != {index})
                if others:
                    found.append((index, at, others[int(rng.integers(len(others)))]))
        if len(found) > self.rules.items:
            found = [found[at] for at in sorted(rng.choice(len(found), self.rules.items, replace=False))]
        items: dict[int, dict[int, int]] = {}
        for index, at, other in found:
            items.setdefault(index, {})[at] = other
        return items


def _passes(module: Any, rows: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Any]]:
    """Each row's logits, rows of like length together: padding on the right, which no causal model looks at."""
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    while order:
        longest = len(rows[order[-1]])
        part, order = order[-max(1, PASS_TOKENS // longest) :], order[: -max(1, PASS_TOKENS // longest)]
        padded = [[*rows[at], *[0] * (longest - len(rows[at]))] for at in part]
        with torch.inference_mode():  # and not while others run: two of these may take turns
            logits = module(input_ids=torch.tensor(padded, device=module.device), use_cache=False).logits.float()
        yield part, logits


# ---------------------------------------------------------------- two choices


@dataclass(frozen=True)
class Pairs:
    """A probe of two choices from a file, such as PIQA: which ending of a prompt is likelier, all tokens together."""

    path: str
    rules: GuardRules

    @property
    def name(self) -> str:
        return Path(self.path).stem

    @cached_property
    def items(self) -> list[tuple[str, str, str, int]]:
        """Goal, both solutions, and which is right: a seeded choice of at most `items`."""
        found = read_pairs(Path(self.path))
        if len(found) <= self.rules.items:
            return found
        rng = np.random.default_rng(VERSION)
        return [found[at] for at in sorted(rng.choice(len(found), self.rules.items, replace=False))]

    @property
    def fingerprint(self) -> str:
        return digest(VERSION, "pairs", self.name, self.items, self.rules.accuracy_margin)

    def read(self, model: Any, working: Working) -> list[Reading]:
        rows, starts = [], []
        for goal, *solutions, _label in self.items:
            prompt = f"Question: {goal}\nAnswer:"
            start = len(model.tokenizer(prompt)["input_ids"])
            for solution in solutions:
                ids = model.tokenizer(f"{prompt} {solution}")["input_ids"][: model.context_tokens]
                rows.append(ids)
                starts.append(min(start, len(ids) - 1))
        scores, done = np.zeros(len(rows)), 0
        for indices, logits in _passes(model.module, rows):
            for index, of_row in zip(indices, logits, strict=True):
                start = starts[index]
                ids = torch.tensor(rows[index][start:], device=of_row.device)
                of_row = of_row[start - 1 : len(rows[index]) - 1]
                true = of_row.gather(1, ids[:, None])[:, 0]
                scores[index] = float((true - torch.logsumexp(of_row, dim=-1)).sum())
            done += len(indices)
            working(done, len(rows))
        gaps = (scores[0::2] - scores[1::2]) * [1 if label == 0 else -1 for *_, label in self.items]
        right = tuple(np.heaviside(gaps, 0.5).tolist())
        return [Reading(self.name, right, self.rules.accuracy_margin, "share right", floor=0.5)]


# ---------------------------------------------------------------- free answers


@dataclass(frozen=True)
class Replies:
    """General prompts answered freely, the likeliest token each time: does the answer end by itself?"""

    general: General
    rules: GuardRules

    name = "general prompts"

    @property
    def fingerprint(self) -> str:
        return digest(VERSION, self.name, REPLY_TOKENS, self.general.prompts, self.rules.stop_margin)

    def read(self, model: Any, working: Working) -> list[Reading]:
        working(0, 1)
        replies = model.complete([Request(prompt, max_tokens=REPLY_TOKENS) for prompt in self.general.prompts])
        stopped = tuple(float(reply.error is None and reply.finish_reason == "stop") for reply in replies)
        texts = tuple(reply.texts[0] if reply.texts else "" for reply in replies)
        working(1, 1)
        return [Reading(STOPS, stopped, self.rules.stop_margin, "share", floor=self.rules.stop_margin, texts=texts)]


# ---------------------------------------------------------------- how far the words moved


def divergence(base: Any, tuned: Any, prompts: Sequence[tuple[Message, ...]], answers: Reading) -> list[float]:
    """KL(base || tuned), in nats a token of the base model's own answers: a mean for each prompt.

    An answer that a limit cut has no end of turn to look at. Prompts without an answer are left out.
    """
    rows: list[tuple[list[int], int]] = []
    for prompt, answer, stopped in zip(prompts, answers.texts, answers.values, strict=True):
        ids = base.chat.prompt_ids(prompt)
        try:
            row = [*ids, *base.chat.answer_ids(prompt, answer.strip(), prompt=ids)]
        except ModelError:  # an answer whose first token would be another one behind this prompt
            continue
        row = row if stopped else row[:-1]
        if len(row) > len(ids):
            rows.append((row, len(ids)))
    return _kl(base, tuned, rows)


def first_word_divergence(base: Any, tuned: Any, prompts: Sequence[tuple[Message, ...]]) -> list[float]:
    """KL(base || tuned) of the first token of an answer, in nats, for each prompt."""
    rows = [base.chat.prompt_ids(prompt) for prompt in prompts]
    return _kl(base, tuned, [([*row, row[-1]], len(row)) for row in rows if len(row) < base.context_tokens])


def _kl(base: Any, tuned: Any, rows: Sequence[tuple[Sequence[int], int]]) -> list[float]:
    """For each row the mean over its tokens from a place on; each is looked at where it is predicted."""
    found = [0.0] * len(rows)
    asked = [list(row[:-1]) for row, _ in rows]
    for (indices, before), (_, after) in zip(_passes(base.module, asked), _passes(tuned.module, asked), strict=True):
        for index, of_base, of_tuned in zip(indices, before, after, strict=True):
            some = slice(rows[index][1] - 1, len(asked[index]))
            one, other = (torch.log_softmax(logits[some], dim=-1) for logits in (of_base, of_tuned))
            found[index] = float((one.exp() * (one - other)).sum(-1).mean())
    return found
