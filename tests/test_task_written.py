"""`luthier init` on files whose answers are no labels: the proposal loads, and says what it saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from test_task_data import texts

from luthier.errors import DataError
from luthier.task import load_task
from luthier.task.guess import Proposal, propose
from luthier.task.written import schema_of
from luthier.types import Task


def accept(proposal: Proposal, folder: Path) -> Task:
    path = folder / "luthier.toml"
    path.write_text(proposal.text, encoding="utf-8")
    return load_task(path)


def jsonl(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "d.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def turns(*said: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]


def sentence(at: int) -> str:
    return f"the answer number {at} is written in more than six words"


def test_chats_that_end_with_an_answer_are_generation(tmp_path: Path) -> None:
    rows = [{"id": i, "messages": turns(text, sentence(i))} for i, text in enumerate(texts(60))]
    proposal = propose(jsonl(tmp_path, rows), folder=tmp_path)
    task = accept(proposal, tmp_path)
    assert (task.spec.kind, task.spec.target.metric, proposal.inputs) == ("generation", "rouge_l", ("messages",))
    assert "chats that end with the assistant's turn" in proposal.text


def test_chats_beside_an_answer_are_generation_too_and_parquet_is_read(tmp_path: Path) -> None:
    rows = [{"chat": turns(text), "expected": sentence(i)} for i, text in enumerate(texts(60))]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    proposal = propose(tmp_path / "d.parquet", folder=tmp_path)
    task = accept(proposal, tmp_path)
    assert (proposal.inputs, proposal.reference, task.spec.kind) == (("chat",), "expected", "generation")


def test_long_free_answers_are_generation_with_room_to_write_them(tmp_path: Path) -> None:
    rows = [{"question": text, "answer": "word " * 200 + str(i)} for i, text in enumerate(texts(60))]
    task = accept(propose(jsonl(tmp_path, rows), folder=tmp_path), tmp_path)
    assert (task.spec.kind, task.spec.max_tokens) == ("generation", 402)


def test_several_answers_in_a_list_are_generation(tmp_path: Path) -> None:
    rows = [{"question": text, "answers": [sentence(i), "x"]} for i, text in enumerate(texts(60))]
    task = accept(propose(jsonl(tmp_path, rows), folder=tmp_path), tmp_path)
    assert {len(example.references) for example in task.train} == {2}


def test_records_are_extraction_with_a_schema_drawn_from_them(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": text, "record": {"name": text, "size": i, "tags": ["a"], "by": {"who": None if i % 2 else "x"}}}
        for i, text in enumerate(texts(60))
    ]
    del rows[3]["record"]["size"]
    task = accept(propose(jsonl(tmp_path, rows), folder=tmp_path), tmp_path)
    assert task.spec.kind == "extraction"
    assert task.spec.schema == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "size": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "by": {
                "type": "object",
                "properties": {"who": {"type": ["null", "string"]}},
                "required": ["who"],
                "additionalProperties": False,
            },
        },
        "required": ["name", "tags", "by"],
        "additionalProperties": False,
    }


def test_records_as_text_in_a_csv_are_extraction(tmp_path: Path) -> None:
    lines = [f'{text},"{{""n"": {i}}}"' for i, text in enumerate(texts(60))]
    (tmp_path / "d.csv").write_text("\n".join(["text,output", *lines]), encoding="utf-8")
    assert accept(propose(tmp_path / "d.csv", folder=tmp_path), tmp_path).spec.kind == "extraction"


def test_labels_win_and_free_answers_beside_them_are_pointed_at(tmp_path: Path) -> None:
    rows = [{"text": text, "category": "ab"[i % 2], "answer": sentence(i)} for i, text in enumerate(texts(60))]
    path = jsonl(tmp_path, rows)
    proposal = propose(path, folder=tmp_path, input="text")
    assert proposal.labels == ("a", "b")
    assert any("--reference answer" in warning for warning in proposal.warnings)
    assert accept(propose(path, folder=tmp_path, reference="answer"), tmp_path).spec.kind == "generation"


def test_short_free_answers_are_generation_when_they_are_named(tmp_path: Path) -> None:
    rows = [{"question": text, "year": f"in {1000 + i}"} for i, text in enumerate(texts(60))]
    path = jsonl(tmp_path, rows)
    with pytest.raises(DataError, match="no column looks like a label"):
        propose(path)
    task = accept(propose(path, folder=tmp_path, reference="year"), tmp_path)
    assert (task.spec.kind, task.spec.target.metric) == ("generation", "exact_match")


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUE, max_size=3), min_size=1, max_size=5))
def test_a_drawn_schema_fits_all_it_was_drawn_from(records: list[dict[str, Any]]) -> None:
    schema = schema_of(records)
    jsonschema.Draft202012Validator.check_schema(schema)
    for record in records:
        jsonschema.validate(record, schema)
