"""Inputs without answers, preferences and documents: read, and never what dev or test holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_task_split import plain, sentence

from luthier.errors import DataError, SpecError
from luthier.task import load_task
from luthier.types import Message, Task


def make(folder: Path, data: str = "", *, rows: Any = None, head: str = 'input = "text"') -> Task:
    some = rows or plain(120)
    (folder / "d.jsonl").write_text("\n".join(json.dumps(row) for row in some), encoding="utf-8")
    text = f'[task]\nname = "t"\n[data]\npath = "d.jsonl"\n{head}\nreference = "label"\n{data}\n'
    (folder / "luthier.toml").write_text(f"{text}[target]\nat_least = 0.85\n", encoding="utf-8")
    return load_task(folder)


def lines(path: Path, rows: list[Any]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


def near(text: str) -> str:
    """A near-copy: one letter more at the end."""
    return text + "s"


def test_inputs_without_answers_are_fresh_ones(tmp_path: Path) -> None:
    """Trap 20: planted copies and near-copies of test and dev inputs, copies of training inputs and of each other."""
    task = make(tmp_path)
    tested, chosen, learned = task.test.order[0].input, task.dev[0].input, task.train[0].input
    fresh = [sentence(1000 + at) for at in range(5)]
    planted = [str(tested), near(str(tested)), str(chosen).upper(), near(str(chosen)), f" {learned} ", fresh[0], ""]
    lines(tmp_path / "more.jsonl", [{"text": text} for text in (*fresh, *planted)])
    found = make(tmp_path, 'unlabelled = "more.jsonl"')
    assert found.extra.unlabelled == tuple(fresh)
    assert found.findings["unlabelled_read"] == 11, "an empty one is none"
    assert found.findings["unlabelled_with_an_answer_elsewhere"] == 1
    assert found.findings["unlabelled_like_dev_or_test"] == 4
    assert found.train == task.train
    assert found.fingerprint != task.fingerprint


def test_near_copies_stay_where_nobody_looks_for_them(tmp_path: Path) -> None:
    task = make(tmp_path, "near_duplicates = false")
    tested = str(task.test.order[0].input)
    lines(tmp_path / "more.jsonl", [{"text": tested}, {"text": near(tested)}])
    found = make(tmp_path, 'near_duplicates = false\nunlabelled = "more.jsonl"')
    assert found.extra.unlabelled == (near(tested),)


def test_inputs_without_answers_are_made_of_the_same_columns(tmp_path: Path) -> None:
    rows = [{"a": row["text"], "b": "x", "label": row["label"]} for row in plain(120)]
    (tmp_path / "more.csv").write_text("b,a\nbody,subject\n", encoding="utf-8")
    task = make(tmp_path, 'unlabelled = "more.csv"', rows=rows, head='template = "{a}: {b}"')
    assert task.extra.unlabelled == ("subject: body",)
    (tmp_path / "more.csv").write_text("b\nbody\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"\[data\] unlabelled: there is no column 'a'"):
        make(tmp_path, 'unlabelled = "more.csv"', rows=rows, head='template = "{a}: {b}"')


def test_chats_without_answers_are_chats(tmp_path: Path) -> None:
    rows = [{"chat": [{"role": "user", "content": row["text"]}], "label": row["label"]} for row in plain(120)]
    lines(tmp_path / "more.jsonl", [{"chat": [{"role": "user", "content": sentence(5000)}]}])
    task = make(tmp_path, 'unlabelled = "more.jsonl"', rows=rows, head='messages = "chat"')
    assert task.extra.unlabelled == ((Message("user", sentence(5000)),),)


def test_preferences_are_read_and_those_about_test_inputs_left_out(tmp_path: Path) -> None:
    """Trap 20."""
    task = make(tmp_path)
    rows = [
        {"prompt": task.train[0].input, "chosen": " a ", "rejected": "b"},
        {"prompt": [{"role": "user", "content": "hello"}], "chosen": "b", "rejected": "a"},
        {"prompt": near(str(task.test.order[3].input)), "chosen": "b", "rejected": "a"},
    ]
    lines(tmp_path / "pairs.jsonl", rows)
    task = make(tmp_path, 'preferences = "pairs.jsonl"')
    assert [(pair.input, pair.chosen, pair.rejected) for pair in task.extra.preferences] == [
        (task.train[0].input, "a", "b"),
        ((Message("user", "hello"),), "b", "a"),
    ]
    assert task.findings["preferences_like_dev_or_test"] == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x", "chosen": "a", "rejected": "a "}, "line 1: the chosen and the rejected answer are the same"),
        ({"prompt": "x", "chosen": "", "rejected": "a"}, "line 1: 'chosen' is empty"),
        ({"prompt": "x", "chosen": "a"}, "there is no column 'rejected'"),
        ({"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"}, "turn 1 has no text as its content"),
    ],
)
def test_a_preference_that_prefers_nothing_is_an_error(tmp_path: Path, row: Any, message: str) -> None:
    lines(tmp_path / "pairs.jsonl", [row])
    with pytest.raises(DataError, match=message):
        make(tmp_path, 'preferences = "pairs.jsonl"')


def test_documents_come_without_the_paragraphs_that_hold_what_is_tested(tmp_path: Path) -> None:
    """Trap 20."""
    task = make(tmp_path)
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    planted = f"Question 7:  {str(task.test.order[0].input).upper()}\n(see page 3)"
    (folder / "b.md").write_text(f"First.\n\n{planted}\n\nLast.\r\n", encoding="utf-8")
    (folder / "deep" / "a.txt").write_text(f"About {task.train[0].input}", encoding="utf-8")
    (folder / "again.txt").write_text(f"About {task.train[0].input}", encoding="utf-8")
    (folder / "table.csv").write_text("no,text", encoding="utf-8")
    found = make(tmp_path, 'documents = "docs"')
    assert [name for name, _ in found.extra.documents] == ["again.txt", "b.md"], "the same text twice"
    assert found.extra.documents[1][1] == "First.\n\nLast.\n"
    assert found.findings["documents_read"] == 3
    assert found.findings["document_paragraphs_with_dev_or_test_inputs"] == 1


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        make(tmp_path, 'documents = "docs"')
    with pytest.raises(DataError, match="there is no such file"):
        make(tmp_path, 'unlabelled = "more.jsonl"')
    with pytest.raises(SpecError, match=r"\[data\] preferences: the ending of 'pairs.zip'"):
        make(tmp_path, 'preferences = "pairs.zip"')
