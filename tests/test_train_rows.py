"""Rows for training: the answer and one end of turn are labelled, nothing is doubled, nothing is cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from tiny_models import LINES, TEMPLATES, tiny_tokenizer

from luthier.errors import DataError
from luthier.models.chat import Chat
from luthier.train.recipe import Recipe
from luthier.train.rows import TrainRow, answer_rows, train_row
from luthier.types import Example, Message

LABELS = ("LOC", "location", "human", "a place by the sea")
ENDS = {"chatml": "<|im_end|>", "turns": "</turn>", "brackets": "</s>", "plain": "</s>"}
EVERY_TEMPLATE = pytest.mark.parametrize("template", TEMPLATES)


def rows_of(chat: Chat, context_tokens: int = 512) -> list[TrainRow]:
    return [
        train_row(chat, [Message("user", line)], label, context_tokens=context_tokens, example_id=f"e{at}")
        for at, (line, label) in enumerate(zip(LINES, LABELS, strict=True))
    ]


@EVERY_TEMPLATE
def test_each_row_has_exactly_one_labelled_end_of_turn_token_and_it_is_the_templates(template: str) -> None:
    """Traps 1 and 2."""
    tokenizer = tiny_tokenizer(template)
    chat = Chat(tokenizer)
    end = tokenizer.convert_tokens_to_ids(ENDS[template])
    for row, label in zip(rows_of(chat), LABELS, strict=True):
        labelled = row.input_ids[row.labels_from :]
        assert labelled.count(end) == 1
        assert labelled[-1] == end
        assert tokenizer.decode(labelled[:-1]).strip() == label


@EVERY_TEMPLATE
def test_a_row_begins_with_the_prompt_that_is_asked_later(template: str) -> None:
    """Trap 3."""
    chat = Chat(tiny_tokenizer(template))
    for row, line in zip(rows_of(chat), LINES, strict=True):
        assert list(row.input_ids[: row.labels_from]) == chat.prompt_ids([Message("user", line)])


@EVERY_TEMPLATE
def test_no_row_begins_or_ends_twice(template: str) -> None:
    """Trap 5."""
    tokenizer = tiny_tokenizer(template)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    for row in rows_of(Chat(tokenizer)):
        assert row.input_ids.count(begin) <= 1
        assert row.input_ids.count(end) <= 1


def test_the_ids_of_a_row_are_these() -> None:
    """Trap 6. Golden: how apply_chat_template returns ids has changed between versions of transformers."""
    tokenizer = tiny_tokenizer("chatml")
    row = train_row(
        Chat(tokenizer),
        [Message("system", "Sort."), Message("user", "a dog")],
        "human",
        context_tokens=64,
        example_id="e0",
    )
    assert tokenizer.decode(row.input_ids) == (
        "<|im_start|>system\nSort.<|im_end|>\n<|im_start|>user\na dog<|im_end|>\n<|im_start|>assistant\nhuman<|im_end|>"
    )
    assert row.labels_from == 26
    prompt = (
        3,
        344,
        383,
        205,
        57,
        85,
        88,
        90,
        20,
        4,
        205,
        3,
        348,
        88,
        205,
        71,
        305,
        77,
        4,
        205,
        3,
        71,
        343,
        329,
        90,
        205,
    )
    assert row.input_ids == (*prompt, 78, 91, 277, 4)


def test_a_row_longer_than_the_context_is_an_error_that_names_the_example_and_none_is_cut() -> None:
    """Trap 7."""
    chat = Chat(tiny_tokenizer())
    longest = max(len(row.input_ids) for row in rows_of(chat))
    assert len(rows_of(chat, context_tokens=longest)) == len(LINES)
    with pytest.raises(DataError, match=rf"example 'e\d'.*{longest} tokens, more than the {longest - 1}"):
        rows_of(chat, context_tokens=longest - 1)


def test_all_answers_to_a_prompt_have_rows_in_their_order() -> None:
    chat = Chat(tiny_tokenizer())
    prompt = [Message("user", LINES[0])]
    rows = answer_rows(chat, prompt, LABELS, context_tokens=512, example_id="e0")
    assert [chat.text(row.input_ids[row.labels_from :]) for row in rows] == list(LABELS)


def test_the_rate_rises_then_falls_to_zero() -> None:
    recipe = Recipe(learning_rate=0.5)
    rates = [recipe.rate_at(step, 100) for step in range(100)]
    assert rates[9] == max(rates) == 0.5
    assert rates[:10] == pytest.approx([0.05 * step for step in range(1, 11)])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001


@pytest.mark.parametrize("examples", [1, 15, 16, 17, 48, 1000])
@pytest.mark.parametrize("checks", [1, 2, 4])
def test_dev_is_checked_at_each_epochs_end(examples: int, checks: int) -> None:
    recipe = replace(Recipe(), dev_checks_per_epoch=checks, epochs=3)
    ends = {epoch * recipe.steps_per_epoch(examples) for epoch in (1, 2, 3)}
    steps = recipe.check_steps(examples)
    assert ends <= set(steps)
    assert len(steps) == 3 * min(checks, recipe.steps_per_epoch(examples))
    assert max(steps) == max(ends)


def test_of_many_epochs_some_are_checked_and_always_the_last() -> None:
    for epochs in (1, 6, 7, 12, 16, 100):
        steps = Recipe(epochs=epochs).check_steps(100)
        assert steps[-1] == epochs * 7
        assert min(epochs, 4) <= len(steps) <= 6
        assert len({later - step for step, later in pairwise(steps)}) <= 1, "evenly spaced"


def test_the_checked_dev_examples_are_a_seeded_choice_in_their_order() -> None:
    dev = [Example(f"e{at:02}", "text", ("a",)) for at in range(50)]
    recipe = Recipe(dev_examples=20)
    chosen = [example.id for example in recipe.dev_sample(dev, answers=6, seed=1)]
    assert len(set(chosen)) == 20
    assert chosen == sorted(chosen) == [example.id for example in recipe.dev_sample(dev, answers=6, seed=1)]
    assert chosen != [example.id for example in recipe.dev_sample(dev, answers=6, seed=2)]
    assert recipe.dev_sample(dev[:20], answers=6, seed=1) == dev[:20]


def test_where_there_are_many_answers_fewer_examples_are_checked_but_never_too_few() -> None:
    dev = [Example(f"e{at:03}", "text", ("a",)) for at in range(300)]
    checked = {answers: len(Recipe().dev_sample(dev, answers=answers, seed=0)) for answers in (0, 2, 20, 77, 1000)}
    assert checked == {0: 200, 2: 200, 20: 200, 77: 53, 1000: 32}
