"""Chats, several references, records and Parquet: what is read, what is refused, and what counts as the same."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from test_task_data import texts

from luthier.errors import DataError, SpecError
from luthier.task import load_task
from luthier.task.duplicates import form_of, likeness_of
from luthier.task.json_record import NotARecord, ordered, read_record, same
from luthier.task.schema import Schema
from luthier.types import Example, Message, Task

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def project(folder: Path, data: bytes, about: str, *, task: str = "", name: str = "d.jsonl", target: str = "") -> Path:
    (folder / name).write_bytes(data)
    toml = f'[task]\nname = "t"\nkind = "generation"\n{task}\n[data]\npath = "{name}"\n{about}\n'
    path = folder / "luthier.toml"
    path.write_text(f"{toml}\n[target]\nat_least = 0.5\n{target}", encoding="utf-8")
    return path


def every(task: Task) -> dict[Any, Example]:
    return {each.input: each for each in (*task.train, *task.dev, *task.test.order)}


def chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def chats(n: int = 40) -> list[dict[str, Any]]:
    return [{"chat": chat(("user", text), ("assistant", f"answer {i}"))} for i, text in enumerate(texts(n))]


def test_a_chat_without_a_reference_column_ends_with_its_right_answer(tmp_path: Path) -> None:
    task = load_task(project(tmp_path, lines(chats()), 'messages = "chat"'))
    found = every(task)[(Message("user", texts(40)[3]),)]
    assert found.references == ("answer 3",)
    assert (task.spec.kind, task.spec.labels, task.spec.target.metric) == ("generation", (), "exact_match")
    assert len(task.test) == 14


def test_a_chat_with_a_reference_column_ends_with_the_user(tmp_path: Path) -> None:
    rows = [
        {"chat": chat(("system", "Be kind."), ("user", text)), "answer": [f"a {i}", f"b {i}", f"a {i}"]}
        for i, text in enumerate(texts(40))
    ]
    task = load_task(project(tmp_path, lines(rows), 'messages = "chat"\nreference = "answer"'))
    found = every(task)[(Message("system", "Be kind."), Message("user", texts(40)[3]))]
    assert found.references == ("a 3", "b 3")
    assert task.findings["several_references"] == 40


USER = ("user", "Hi")
BAD_CHATS: list[tuple[Any, str]] = [
    (chat(("robot", "Hi"), ("assistant", "a")), "turn 1 has the role 'robot'"),
    (chat(("user", "  "), ("assistant", "a")), "turn 1 is empty"),
    (chat(USER), "the last turn is the user's, and there is no"),
    (chat(("assistant", "a")), "the last turn is the assistant's"),
    (chat(USER, ("system", "x"), ("assistant", "a")), "turn 2 is the system's"),
    (chat(("system", "x"), ("assistant", "a")), "the last turn before the answer is the system's"),
    ([{"from": "human", "value": "Hi"}], "turn 1 has no text as its role"),
    ([{"role": "user", "content": 5}], "turn 1 has no text as its content"),
    ([{"role": "user", "content": "x", "tool_calls": []}], "the key 'tool_calls'"),
    (["Hi"], "turn 1 is no object"),
    ({"role": "user"}, "no list of turns"),
    ("Hi", "no list of turns"),
    ([], "no turn"),
]


@pytest.mark.parametrize(("bad", "what"), BAD_CHATS, ids=lambda value: str(value)[:30])
def test_a_bad_chat_is_told_with_its_line(tmp_path: Path, bad: Any, what: str) -> None:
    rows = chats()
    rows[6]["chat"] = bad
    with pytest.raises(DataError) as caught:
        load_task(project(tmp_path, lines(rows), 'messages = "chat"'))
    assert caught.value.where == "d.jsonl, line 7"
    assert what in caught.value.what


def test_a_trailing_answer_beside_a_reference_is_an_error(tmp_path: Path) -> None:
    rows = [{**row, "answer": "x"} for row in chats()]
    with pytest.raises(DataError, match="line 1: the last turn is the assistant's, and \\[data\\] reference"):
        load_task(project(tmp_path, lines(rows), 'messages = "chat"\nreference = "answer"'))


def test_copies_of_a_chat_are_one_example_with_all_their_answers(tmp_path: Path) -> None:
    rows = chats()
    again = {"chat": chat(("user", texts(40)[3].upper()), ("assistant", "another"))}
    task = load_task(project(tmp_path, lines([*rows, again, again]), 'messages = "chat"'))
    (found,) = [each for each in every(task).values() if "another" in each.references]
    assert found.references == ("another", "answer 3"), "the most frequent one first"
    assert found.weight == 3
    assert (task.findings["exact_duplicates_merged"], task.findings["distinct"]) == (2, 40)


def test_who_said_it_tells_two_chats_apart_and_the_systems_turn_does_not_make_them_alike() -> None:
    one, other = (Message("user", "a"), Message("user", "b")), (Message("user", "a"), Message("assistant", "b"))
    assert form_of(one) != form_of(other)
    long = "You are the assistant of a bank and never talk about anything else. " * 5
    first, second = ((Message("system", long), Message("user", text)) for text in ("my card", "the weather"))
    assert (likeness_of(first), likeness_of(second)) == ("my card", "the weather")


def test_near_copies_of_chats_stay_on_one_side(tmp_path: Path) -> None:
    rows = chats(60)
    near = [
        {"chat": chat(("system", "S"), ("user", f"{text} !"), ("assistant", f"answer {i}"))}
        for i, text in enumerate(texts(20))
    ]
    task = load_task(project(tmp_path, lines(rows + near), 'messages = "chat"\nnear_duplicates = 0.6'))
    assert task.findings["near_duplicate_groups"] == 20
    sides = [{each.group for each in part} for part in (task.train, task.dev, task.test.order)]
    assert not any(one & other - {None} for one, other in combinations(sides, 2))


def test_the_fingerprint_of_a_chat_task_knows_its_content_and_not_its_order(tmp_path: Path) -> None:
    def fingerprint(rows: list[dict[str, Any]], **more: str) -> str:
        return load_task(project(tmp_path, lines(rows), 'messages = "chat"', **more)).fingerprint

    rows = chats()
    assert fingerprint(rows) == fingerprint(rows[::-1])
    assert fingerprint(rows) != fingerprint(rows, task="max_tokens = 7")
    changed = [*rows[:-1], {"chat": chat(("user", texts(40)[-1]), ("assistant", "else"))}]
    assert fingerprint(rows) != fingerprint(changed)


def test_one_field_of_a_csv_holds_several_answers_parted_by_a_separator(tmp_path: Path) -> None:
    data = "text,answer\n" + "".join(f"{text},one {i} | two\n" for i, text in enumerate(texts(40)))
    about = 'input = "text"\nreference = "answer"\n'
    parted = load_task(project(tmp_path, data.encode(), about + 'reference_separator = " | "', name="d.csv"))
    assert every(parted)[texts(40)[5]].references == ("one 5", "two")
    whole = load_task(project(tmp_path, data.encode(), about, name="d.csv"))
    assert every(whole)[texts(40)[5]].references == ("one 5 | two",)


def test_an_empty_answer_is_an_error_or_left_out(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": text, "answer": "x"} for text in texts(40)]
    rows[4]["answer"] = []
    rows[5]["answer"] = ["", None]
    about = 'input = "text"\nreference = "answer"\n'
    with pytest.raises(DataError, match="2 empty references \\(lines 5, 6\\)"):
        load_task(project(tmp_path, lines(rows), about))
    assert load_task(project(tmp_path, lines(rows), about + 'on_empty = "drop"')).findings["empty_dropped"] == 2


# ---------------------------------------------------------------- records


def records(n: int = 40) -> list[dict[str, Any]]:
    return [{"text": text, "out": {"count": i, "city": f"c{i % 7}"}} for i, text in enumerate(texts(n))]


def extraction(folder: Path, rows: list[dict[str, Any]], schema: dict[str, Any] = SCHEMA) -> Path:
    (folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    path = project(folder, lines(rows), 'input = "text"\nreference = "out"', task='schema = "schema.json"')
    path.write_text(path.read_text(encoding="utf-8").replace("generation", "extraction"), encoding="utf-8")
    return path


def test_a_record_is_read_by_value_with_its_keys_in_the_order_of_the_schema(tmp_path: Path) -> None:
    rows = records()
    rows[3]["out"] = json.dumps(rows[3]["out"])  # as a text
    task = load_task(extraction(tmp_path, rows))
    found = every(task)
    assert found[texts(40)[2]].references == ('{"city": "c2", "count": 2}',)
    assert found[texts(40)[3]].references == ('{"city": "c3", "count": 3}',)
    assert task.spec.schema == SCHEMA
    assert task.spec.target.metric == "record_exact"


BAD_RECORDS: list[tuple[Any, str]] = [
    ({"count": 1}, "does not fit the schema: 'city' is a required property"),
    ({"city": "x", "count": "1"}, "does not fit the schema: count: '1' is not of type 'integer'"),
    ({"city": "x", "size": 1}, "does not fit the schema: Additional properties"),
    ('{"city": "x", "city": "y"}', "the key 'city' stands twice"),
    ('{"city": "x"} and more', "Extra data"),
    ('{"city": "x", "count": NaN}', "NaN is no JSON number"),
    ("Oslo", "no JSON record"),
    (3, "JSON, but no object"),
]


@pytest.mark.parametrize(("bad", "what"), BAD_RECORDS, ids=lambda value: str(value)[:30])
def test_a_bad_record_is_told_with_its_line(tmp_path: Path, bad: Any, what: str) -> None:
    rows = records()
    rows[8]["out"] = bad
    with pytest.raises(DataError) as caught:
        load_task(extraction(tmp_path, rows))
    assert caught.value.where == "d.jsonl, line 9"
    assert what in caught.value.what


def test_copies_that_disagree_about_the_record_follow_the_majority_whatever_the_order_of_keys(tmp_path: Path) -> None:
    rows = records()
    text = texts(40)[0]
    again = [{"text": text, "out": {"city": "new", "count": 1}}, {"text": text, "out": {"count": 1, "city": "new"}}]
    task = load_task(extraction(tmp_path, [*rows, *again]))
    assert every(task)[text].references == ('{"city": "new", "count": 1}',)
    assert task.findings["conflicts_resolved"] == 1


BAD_SCHEMAS: list[tuple[dict[str, Any], str]] = [
    ({"type": "array"}, "does not describe an object"),
    ({"type": "object", "properties": {"a": {"type": "strin"}}}, "not a JSON schema"),
    ({"type": "object", "required": ["a"], "$ref": "https://example.org/x.json"}, "is not in it"),
    ({"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}, "/\\$defs/b', which is not in it"),
    ({"type": "object", "properties": {"a": {"items": {"$ref": "#/x"}}}, "x": {"$ref": "#b"}}, "b', which is not in"),
    ({"type": "object", "properties": {"a": {"maximum": float("inf")}}}, "what JSON cannot say"),
]


@pytest.mark.parametrize(("schema", "what"), BAD_SCHEMAS, ids=lambda value: str(value)[:40])
def test_a_bad_schema_is_told_before_any_data_is_read(tmp_path: Path, schema: dict[str, Any], what: str) -> None:
    with pytest.raises(SpecError, match=what):
        load_task(extraction(tmp_path, [], schema))


def test_a_schema_may_refer_to_itself_and_to_a_meta_schema_and_have_a_property_called_ref(tmp_path: Path) -> None:
    properties = {"child": {"$ref": "#"}, "$ref": {"type": "string"}, "b": {"$ref": "#/$defs/b"}}
    meta = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
    schema = {"type": "object", "properties": properties, "$defs": {"b": {"const": {"$ref": "#no"}}, "m": meta}}
    with pytest.raises(DataError):  # the schema is taken: what is missing is data
        load_task(extraction(tmp_path, [], schema))


def test_a_number_too_large_to_be_divided_is_a_flaw_and_so_is_a_reference_to_nowhere() -> None:
    assert "too large" in str(Schema({"properties": {"a": {"multipleOf": 0.01}}}).flaw({"a": 10**400}))
    assert "/no', which is not in it" in str(Schema({"properties": {"a": {"$ref": "#/no"}}}).flaw({"a": 1}))


def test_a_date_in_a_table_of_a_schema_is_told(tmp_path: Path) -> None:
    table = '[task.schema]\ntype = "object"\nproperties = {a = {const = 2026-01-01}}'
    toml = project(tmp_path, b"", 'input = "text"\nreference = "out"', target=table)
    toml.write_text(toml.read_text(encoding="utf-8").replace("generation", "extraction"), encoding="utf-8")
    with pytest.raises(SpecError, match="what JSON cannot say"):
        load_task(toml)


NOT_JSON = (
    '{"a": 1, "a": 2}',
    '{"a": {"b": 1, "b": 1}}',
    '{"a": NaN}',
    '{"a": -Infinity}',
    '{"a": 1e999}',
    '{"a": 1} Done.',
    '```json\n{"a": 1}\n```',
    '{"a": 1,}',
    "{'a': 1}",
    '["a"]',
    '{"a": "\\ud800"}',
    '{"a": ' + "9" * 5000 + "}",
    '{"a": ' * 100_000,
    "",
)


@pytest.mark.parametrize("text", NOT_JSON, ids=lambda text: str(text)[:20])
def test_what_is_not_one_json_object_is_refused(text: str) -> None:
    with pytest.raises(NotARecord):
        read_record(text)


def test_values_are_the_same_by_value() -> None:
    assert same(read_record('{"a": 1, "b": [1.50]}'), read_record(' {"b": [1.5], "a": 1.0}\n'))
    for other in ('{"a": true}', '{"a": "1"}', '{"a": [1]}', '{"a": null}', "{}", '{"a": 1, "b": null}'):
        assert not same({"a": 1}, read_record(other)), other


def test_keys_follow_the_schema_to_the_bottom() -> None:
    schema = {"properties": {"b": {"items": {"properties": {"y": {}, "x": {}}}}, "a": {}}}
    assert json.dumps(ordered({"z": 0, "a": 1, "b": [{"x": 1, "y": 2}]}, schema)) == (
        '{"b": [{"y": 2, "x": 1}], "a": 1, "z": 0}'
    )


# ---------------------------------------------------------------- Parquet


def test_parquet_gives_the_same_task_as_jsonl(tmp_path: Path) -> None:
    rows = [{"chat": row["chat"], "answer": [f"a {i}", "b"], "n": i / 2} for i, row in enumerate(chats())]
    rows = [{**row, "chat": row["chat"][:1]} for row in rows]
    about = 'messages = "chat"\nreference = "answer"'
    written = load_task(project(tmp_path, lines(rows), about))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    task = load_task(project(tmp_path, (tmp_path / "d.parquet").read_bytes(), about, name="d.parquet"))
    assert task.fingerprint == written.fingerprint
    assert every(task)[(Message("user", texts(40)[9]),)].id == "line 10"


def test_parquet_serves_labels_too(tmp_path: Path) -> None:
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(texts(40))]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    path = project(tmp_path, (tmp_path / "d.parquet").read_bytes(), 'input = "text"\nreference = "label"')
    path.write_text(
        path.read_text(encoding="utf-8").replace("generation", "classification").replace("d.jsonl", "d.parquet"),
        encoding="utf-8",
    )
    assert load_task(path).spec.label_names == ("0", "1")


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a Parquet file"):
        load_task(project(tmp_path, b"PAR1 no", 'input = "text"\nreference = "x"', name="d.parquet"))


# ---------------------------------------------------------------- the spec

MISTAKES = [
    ("", 'input = "t"\nreference = "r"', 'metric = "accuracy"', "accuracy is no metric of a generation task"),
    ("", 'input = "t"\nreference = "r"', 'metric = "judge"', "no model is"),
    ("", 'input = "t"\nreference = "r"', 'rubric = "x"', "says nothing without a judge"),
    ("", 'input = "t"\nreference = "r"', '[ladder]\nrungs = ["tfidf"]', "'tfidf' does not serve a generation task"),
    ("", 'input = "t"\nreference = "r"\ngroup = "g"', 'metric = "bleu"', "knows no groups"),
    ("", 'input = "t"\nreference = "r"\nnormalise_labels = true', "", "has no labels"),
    ("max_tokens = 0", 'input = "t"\nreference = "r"', "", "no length of an answer"),
    ('schema = "s.json"', 'input = "t"\nreference = "r"', "", "has no schema"),
    ('labels = ["a", "b"]', 'input = "t"\nreference = "r"', "", "has no labels"),
]


@pytest.mark.parametrize(("task", "about", "target", "what"), MISTAKES, ids=lambda value: value[-30:])
def test_what_does_not_suit_the_kind_is_an_error(tmp_path: Path, task: str, about: str, target: str, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        load_task(project(tmp_path, b"", about, task=task, target=target))


def test_extraction_needs_a_schema(tmp_path: Path) -> None:
    path = project(tmp_path, b"", 'input = "t"\nreference = "r"')
    path.write_text(path.read_text(encoding="utf-8").replace("generation", "extraction"), encoding="utf-8")
    with pytest.raises(SpecError, match="extraction needs a schema"):
        load_task(path)


def test_a_classification_task_has_the_fingerprint_it_always_had(tmp_path: Path) -> None:
    """A changed fingerprint would make every measurement in every store unusable."""
    from builders import colour_rows, write_task

    toml = '[task]\nname="colours"\n[data]\npath="data.csv"\ninput="text"\nreference="label"\n[target]\nat_least=0.85\n'
    toml += '[ladder]\nrungs=["majority","tfidf","zero-shot","few-shot","retrieved-shots"]\n'
    task = load_task(write_task(tmp_path, colour_rows(300, noise=40), toml))
    assert (task.fingerprint, task.test.hash) == (
        "0e0c3f74c022afd9f5a10aef3e2ed4bc",
        "53a1e06a799de163c3c53db7110a6248",
    )


def test_two_columns_of_one_name_are_told(tmp_path: Path) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 3, names=["x", "y", "x"])
    parquet.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(DataError, match="two columns are called 'x'"):
        load_task(
            project(tmp_path, (tmp_path / "d.parquet").read_bytes(), 'input = "y"\nreference = "x"', name="d.parquet")
        )


def test_a_path_with_a_nul_is_an_error(tmp_path: Path) -> None:
    path = project(tmp_path, b"x", 'input = "y"\nreference = "x"')
    path.write_text(path.read_text(encoding="utf-8").replace("d.jsonl", "d\\u0000.jsonl"), encoding="utf-8")
    with pytest.raises(DataError, match="NUL"):
        load_task(path)
