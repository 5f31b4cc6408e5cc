"""The dev check gives what scoring every answer gives, and runs far fewer of them."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import LINES, tiny_model

from luthier.models.local import LocalModel
from luthier.train.check import Check, dev_scores
from luthier.train.rows import DevRow, answer_rows
from luthier.types import Message, Request

LABELS = ("number", "number of animals", "num", "animal", "a", "a dog", "location", "seventy-two", "x")
WORDS = " ".join(LINES).split()
PROMPTS = [(Message("user", " ".join(WORDS[at : at + 4])),) for at in range(40)]
RIGHTS = [
    tuple(sorted({at % len(LABELS), at * at % len(LABELS)}, key=lambda i, at=at: (i * 7 + at) % 5)) for at in range(40)
]


def dev_rows(model: LocalModel) -> list[DevRow]:
    pairs = zip(PROMPTS, RIGHTS, strict=True)
    return [
        DevRow(answer_rows(model.chat, prompt, LABELS, context_tokens=512, example_id="e"), right)
        for prompt, right in pairs
    ]


def by_scoring_all(model: LocalModel, dev: list[DevRow]) -> tuple[float, float]:
    replies = model.complete([Request(prompt, choices=LABELS) for prompt in PROMPTS])
    right = sum(LABELS.index(reply.texts[0]) in item.right for reply, item in zip(replies, dev, strict=True))
    references = [(reply.choice_logprobs or ())[item.right[0]] for reply, item in zip(replies, dev, strict=True)]
    return right / len(dev), -sum(references) / sum(item.rows[item.right[0]].labelled for item in dev)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_scoring_every_answer_gives(seed: int) -> None:
    model = tiny_model(seed=seed)
    dev = dev_rows(model)
    expected = by_scoring_all(model, dev)
    assert 0 < expected[0] < 1, "the test shows nothing"
    assert dev_scores(model.module, dev, 96, shared=False) == pytest.approx(expected, rel=1e-5)


def test_answers_that_cannot_win_are_not_run() -> None:
    model = tiny_model()
    replies = model.complete([Request(prompt, choices=LABELS) for prompt in PROMPTS])
    pairs = zip(dev_rows(model), replies, strict=True)
    sure = [DevRow(item.rows, (LABELS.index(reply.texts[0]),)) for item, reply in pairs]
    run: list[int] = []
    handle = model.module.register_forward_pre_hook(lambda _module, _inputs: run.append(1))
    assert dev_scores(model.module, sure, 96, shared=False)[0] == 1
    handle.remove()
    # random weights make an unsure model; a tuned one runs hardly more than one answer a prompt
    assert len(sure) <= len(run) < 0.85 * len(sure) * len(LABELS)


def test_labels_that_a_template_renders_alike_are_no_rivals() -> None:
    model: Any = tiny_model(template="turns")
    rows = answer_rows(model.chat, PROMPTS[0], ("a dog", "a dog "), context_tokens=512, example_id="e")
    assert rows[0] == rows[1]
    accuracy, _ = dev_scores(model.module, [DevRow(rows, (0,))], 96, shared=False)
    assert accuracy == 1


def test_more_right_answers_are_better_and_among_equals_the_likelier_ones() -> None:
    check = Check(step=1, dev_accuracy=0.5, dev_nll=1.0, train_loss=2.0)
    assert Check(2, 0.6, 3.0, 2.0).better_than(check)
    assert Check(2, 0.5, 0.9, 2.0).better_than(check)
    assert not Check(2, 0.5, 1.0, 0.0).better_than(check)
    assert not Check(2, 0.4, 0.1, 0.0).better_than(check)
