"""Bad data gets a clear error, and odd but good data is read as it is; the file is never touched."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luthier.errors import DataError, LuthierError, SpecError
from luthier.task import load_task
from luthier.types import Task

PLAIN = (
    "amber basil cedar delta ember fjord grape hazel indigo jasmine kettle lemon maple nectar olive pepper quartz "
    "raven saffron tulip umber violet walnut xenon yarrow zephyr anchor bridge candle dolphin engine falcon"
)
WORDS = PLAIN.split()


def texts(n: int) -> list[str]:
    """n short texts, no two of them near-copies."""
    return [
        f"{WORDS[i % 32]} {WORDS[i // 32 % 32]} {WORDS[(7 * i + 3) % 32]} {WORDS[(11 * i + 5) % 32]}" for i in range(n)
    ]


def rows(n: int = 40) -> list[str]:
    return [f"{text},{'ab'[i % 2]}" for i, text in enumerate(texts(n))]


def csv_of(*lines: str, header: str = "text,label") -> bytes:
    return "\n".join([header, *lines, ""]).encode()


GOOD = csv_of(*rows())


def project(folder: Path, data: bytes, extra: str = "", name: str = "d.csv", head: str = "") -> Path:
    (folder / name).write_bytes(data)
    toml = f'[task]\nname = "t"\n{head}\n[data]\npath = "{name}"\nreference = "label"\n'
    toml += extra if "input =" in extra or "template =" in extra else f'input = "text"\n{extra}'
    (folder / "luthier.toml").write_text(toml + "\n[target]\nat_least = 0.85\n", encoding="utf-8")
    return folder / "luthier.toml"


def load(folder: Path, data: bytes, extra: str = "", name: str = "d.csv", head: str = "") -> Task:
    path = project(folder, data, extra, name, head)
    task = load_task(path)
    assert (folder / name).read_bytes() == data, "the user's file is only read"
    return task


def all_examples(task: Task) -> dict[str, str]:
    return {str(each.input): each.reference for each in (*task.train, *task.dev, *task.test.order)}


LABELS = "[task.labels]\na = ''\nb = ''\n"
DATA_DEFECTS: list[tuple[str, bytes, dict[str, str], str, str]] = [
    # (name, the file, what else the project says, what the error says, the fix)
    ("empty file", b"", {}, "the file is empty", "labelled examples"),
    ("only spaces", b" \n \n", {}, "the file is empty", "labelled examples"),
    ("header only", b"text,label\n", {}, "no row below", "add labelled examples"),
    ("no such column", GOOD.replace(b"text,", b"texts,"), {}, "no column 'text'", "did you mean 'texts'"),
    ("wrong case", GOOD.replace(b"text,", b"Text,"), {}, "no column 'text'", "did you mean 'Text'"),
    ("two alike", csv_of("x,y,a", header="text, Text,label"), {}, "'text' is ambiguous", "rename one"),
    ("header twice", csv_of("x,y,a", header="text,text,label"), {}, "'text' is ambiguous", "rename one"),
    ("too many fields", csv_of(*rows(3), "one, two, three,a"), {}, "line 5 has 4 fields", "quotes around"),
    ("too few fields", csv_of(*rows(3), "one"), {}, "line 5 has 1 fields", "delimiter"),
    ("fields after a long one", csv_of('"one\n\n\ntwo",a', "x"), {}, "line 6 has 1 fields", "delimiter"),
    ("open quote", csv_of(*rows(2), '"one,a', *rows(2)), {}, "line 4 opens a quote", 'quote = ""'),
    ("text after a quote", csv_of(*rows(2), '"one" two,a'), {}, "line 4", 'quote = ""'),
    ("not utf-8", GOOD + "café,a\n".encode("latin-1"), {}, "line 42, byte 4 (0xe9)", 'encoding = "latin-1"'),
    ("utf-16", GOOD.decode().encode("utf-16"), {}, "line 1, byte 1 (0xff)", 'encoding = "utf-16"'),
    ("NUL", GOOD + b"a\x00b,a\n", {}, "line 42 holds a NUL", "utf-16"),
    ("empty input", csv_of(*rows(4), ",a", "  ,b"), {}, "2 empty inputs (lines 6, 7)", 'on_empty = "drop"'),
    ("empty label", csv_of(*rows(4), "one,"), {}, "1 empty label (line 6)", 'on_empty = "drop"'),
    ("NaN", csv_of(*rows(4), "nan,a", "one,NaN"), {}, "1 empty input (line 6) and 1 empty label (line 7)", "drop"),
    ("all empty", csv_of("one,", "two,"), {}, "every row has an empty label", "columns"),
    ("all empty, drop", csv_of("one,", "two,"), {"extra": 'on_empty = "drop"'}, "every row has an empty", "columns"),
    (
        "duplicate ids",
        csv_of("one,a,7", "two,b,8", "three,a,7", header="text,label,id"),
        {"extra": 'id = "id"'},
        "'7' in lines 2, 4",
        "make ids unique",
    ),
    (
        "empty id",
        csv_of("one,a,7", "two,b, ", header="text,label,id"),
        {"extra": 'id = "id"'},
        "empty id in line 3",
        "remove [data] id",
    ),
    ("one class", csv_of("one,a", "two,a"), {}, "every row has the label 'a'", "another class"),
    ("free text", csv_of(*(f"{text},{text}" for text in texts(30))), {}, "free text", "[data] reference"),
    ("label unknown", csv_of(*rows(4), "one,c"), {"head": LABELS}, "'c' in line 6 is not in [task.labels]", "add it"),
    ("stray space", csv_of(*rows(4), "one,a "), {}, "'a ' in line 6 (1 row) beside 'a' (2 rows)", "normalise_labels"),
    ("case twin", csv_of(*rows(4), "one,A"), {}, "'A' in line 6", "normalise_labels = true"),
    ("case twin of a declared label", csv_of(*rows(4), "one,A"), {"head": LABELS}, "'A' in line 6", "normalise_labels"),
    ("column of the template", GOOD, {"extra": 'template = "{text} {txt}"'}, "[data] template: there is no", "'text'"),
    ("column of the id", GOOD, {"extra": 'id = "nr"'}, "[data] id: there is no column 'nr'", "'text', 'label'"),
    ("column of the group", GOOD, {"extra": 'group = "g"'}, "[data] group: there is no column 'g'", "'text', 'label'"),
    ("every copy disputed", csv_of("one,a", "one,b", "two,a"), {}, "fewer than two classes", "distinct examples"),
    (
        "bad JSON",
        b'{"text": "one", "label": "a"}\n{"text": \n',
        {"name": "d.jsonl"},
        "not valid JSON",
        "one JSON object",
    ),
    ("JSON array", b'[{"text": "one", "label": "a"},\n]', {"name": "d.jsonl"}, "not valid JSON", "one object a line"),
    ("JSON list", b'["one", "a"]\n', {"name": "d.jsonl"}, "not a JSON object", "one object a line"),
    ("JSON key twice", b'{"text": "x", "text": "y"}\n', {"name": "d.jsonl"}, "'text' stands twice", "keep one"),
    ("JSON nested", b'{"text": ["x"], "label": "a"}\n', {"name": "d.jsonl"}, "line 1: 'text' is a list", "one text"),
    ("JSON too deep", b"[" * 100_000, {"name": "d.jsonl"}, "nested too deeply", "flat JSON object"),
    ("JSON surrogate", b'{"text": "\\ud800", "label": "a"}\n', {"name": "d.jsonl"}, "surrogate", "remove"),
    ("JSON null", b'{"text": null, "label": "a"}\n{"text": "x", "label": "b"}', {"name": "d.jsonl"}, "1 empty", "drop"),
    ("JSON NaN", b'{"text": "y", "label": NaN}\n{"text": "x", "label": "b"}', {"name": "d.jsonl"}, "1 empty", "drop"),
    ("JSON no key", b'{"label": "a"}\n{"text": "x", "label": "b"}', {"name": "d.jsonl"}, "(line 1)", "drop"),
]


@pytest.mark.parametrize(
    ("data", "how", "what", "fix"), [row[1:] for row in DATA_DEFECTS], ids=[r[0] for r in DATA_DEFECTS]
)
def test_bad_data_is_told_with_its_line_and_its_fix(
    tmp_path: Path, data: bytes, how: dict[str, str], what: str, fix: str
) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, data, **how)
    assert what in str(caught.value)
    assert fix in caught.value.fix
    assert caught.value.where.startswith(how.get("name", "d.csv")), "the error names the file"
    assert (tmp_path / how.get("name", "d.csv")).read_bytes() == data


def test_a_missing_file_is_told_with_the_names_that_are_close(tmp_path: Path) -> None:
    (tmp_path / "question.csv").write_bytes(GOOD)
    path = project(tmp_path, GOOD)
    path.write_text(path.read_text().replace("d.csv", "questions.csv"))
    with pytest.raises(DataError, match="did you mean question.csv"):
        load_task(path)
    path.write_text(path.read_text().replace("questions.csv", "far/away.csv"))
    with pytest.raises(DataError, match="does not exist either"):
        load_task(path)


def test_a_missing_toml_points_to_init(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="luthier init"):
        load_task(tmp_path)
    (tmp_path / "luthier.tml").write_text("")
    with pytest.raises(SpecError, match=r"did you mean luthier\.tml"):
        load_task(tmp_path / "luthier.toml")


def test_an_ending_that_says_nothing_needs_a_format(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match='add format = "csv"'):
        load(tmp_path, GOOD, name="d.txt")
    assert len(load(tmp_path, GOOD, 'format = "csv"', name="d.txt").test) == 14


def test_the_class_of_the_target_has_to_be_a_label(tmp_path: Path) -> None:
    path = project(tmp_path, GOOD.replace(b",a\n", b",spam\n"))
    path.write_text(path.read_text() + 'metric = "f1"\nclass = "Spam"\n')
    with pytest.raises(SpecError) as caught:
        load_task(path)
    assert caught.value.where == "luthier.toml, [target] class"
    assert "did you mean 'spam'" in caught.value.fix


CELLS = st.sampled_from(
    ["text", "label", "a", "b", "one two", ",", ";", '"', "\n", "\r\n", "\t", "{", "}", ":", " ", "nan", "\x00"]
)


@given(
    st.lists(CELLS, max_size=30).map("".join).map(str.encode) | st.binary(max_size=60),
    st.sampled_from(["csv", "tsv", "jsonl"]),
)
@example(b"\xef\xbb\xbf", "csv")
@example(b"text,label\r", "csv")
@example(b'{"text": 1e999, "label": -0}', "jsonl")
@settings(max_examples=150, deadline=None)
def test_whatever_a_file_holds_the_error_is_one_that_a_person_can_mend(data: bytes, form: str) -> None:
    with TemporaryDirectory() as name:
        try:
            load(Path(name), data, name=f"d.{form}")
        except LuthierError as mistake:
            told = mistake
        else:
            return
    assert told.where
    assert told.fix


# ---------------------------------------------------------------- odd, but good


def test_formats_agree(tmp_path: Path) -> None:
    """The same examples as CSV (with BOM, CRLF or ;), TSV and JSONL are the same task."""
    plain = load(tmp_path, GOOD)
    pairs = [line.split(",") for line in rows()]
    jsonl = "\n".join(json.dumps({"text": text, "label": label}) for text, label in pairs).encode()
    for data, extra, name in [
        (b"\xef\xbb\xbf" + GOOD, "", "d.csv"),
        (GOOD.replace(b"\n", b"\r\n"), "", "d.csv"),
        (GOOD.replace(b"\n", b"\r"), "", "d.csv"),
        (GOOD.replace(b",", b";"), 'delimiter = ";"', "d.csv"),
        (GOOD.replace(b",", b"\t"), "", "d.tsv"),
        (GOOD.decode().encode("utf-16"), 'encoding = "utf-16"', "d.csv"),
        (jsonl, "", "d.jsonl"),
        (b"\xef\xbb\xbf" + jsonl.replace(b"\n", b"\r\n\r\n"), "", "d.jsonl"),
        (b"\n".join([GOOD.split(b"\n")[0], *reversed(GOOD.split(b"\n")[1:])]), "", "d.csv"),
    ]:
        other = load(tmp_path, data, extra, name)
        assert other.fingerprint == plain.fingerprint, f"{name} {data[:30]!r}"


def test_latin_1_on_request(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD + "un café noir,a\n".encode("latin-1"), 'encoding = "latin-1"')
    assert all_examples(task)["un café noir"] == "a"


def test_quoted_line_breaks_and_long_fields(tmp_path: Path) -> None:
    long = "word " * 50_000
    task = load(tmp_path, GOOD + f'"two\nlines, and ""more""",a\n"{long}",b\nlast one,a\n'.encode())
    examples = {example.id: example for example in (*task.train, *task.dev, *task.test.order)}
    assert examples["line 42"].input == 'two\nlines, and "more"'
    assert examples["line 44"].input == long
    assert examples["line 45"].input == "last one", "the line break inside quotes counts"


def test_quotes_as_plain_text(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD.replace(b",", b"\t") + b'"hello he said\ta\n', 'quote = ""', "d.tsv")
    assert all_examples(task)['"hello he said'] == "a"


def test_json_values_become_their_text(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text, "label": i % 2 == 0}) for i, text in enumerate(texts(20))]
    task = load(tmp_path, "\n".join(lines).encode(), name="d.jsonl")
    assert set(task.spec.label_names) == {"true", "false"}
    lines = [f'{{"text": "{text}", "label": {(1.50, 20)[i % 2]}}}' for i, text in enumerate(texts(20))]
    task = load(tmp_path, "\n".join(lines).encode().replace(b"1.5", b"1.50"), name="d.jsonl")
    assert set(task.spec.label_names) == {"1.50", "20"}, "numbers stay as they are written"


def test_json_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text, "label": "ab"[i % 2]}) for i, text in enumerate(texts(20))]
    task = load(tmp_path, "\n".join([*lines, '{"text": "one\u2028line", "label": "a"}']).encode(), name="d.jsonl")
    assert all_examples(task)["one\u2028line"] == "a"


def test_numbers_in_csv_stay_text(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD.replace(b",a\n", b",0\n").replace(b",b\n", b",1\n"))
    assert set(task.spec.label_names) == {"0", "1"}


def test_empties_are_dropped_on_request_and_counted(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD + b",a\nx,\nnan,b\n", 'on_empty = "drop"')
    assert task.findings["empty_dropped"] == 3
    assert task.findings["lines"]["empty_dropped"] == [42, 43, 44]
    assert len(all_examples(task)) == 40


def test_labels_are_normalised_on_request_and_counted(tmp_path: Path) -> None:
    data = GOOD + b"one more,A\nand another, a \n"
    task = load(tmp_path, data, "normalise_labels = true")
    assert task.spec.label_names == ("a", "b"), "the most frequent spelling"
    assert task.findings["labels_normalised"] == 2
    assert task.findings["label_spellings"] == {"A": "a", " a ": "a"}
    declared = load(tmp_path, data, "normalise_labels = true", head="[task.labels]\nb = ''\nA = 'the a'\n")
    assert declared.spec.label_names == ("b", "A"), "a declared spelling wins"
    assert declared.spec.labels[1].description == "the a"


def test_labels_from_the_data_stand_by_name(tmp_path: Path) -> None:
    """By frequency, the order of the labels in a prompt would hold something about the test split's answers."""
    lines = [f"{text},{label}" for text, label in zip(texts(26), "cccccccccc" + "bbbbbbbb" + "aaaaaaaa", strict=True)]
    assert load(tmp_path, csv_of(*lines)).spec.label_names == ("a", "b", "c")


def test_a_template_fills_several_columns(tmp_path: Path) -> None:
    lines = [f"{text},body of {text},{'ab'[i % 2]}" for i, text in enumerate(texts(20))]
    data = csv_of(*lines, "only a subject,,a", header="subject,body,label")
    task = load(tmp_path, data, 'template = "{{S}} {subject}\\n\\n{body}"')
    assert f"{{S}} {texts(1)[0]}\n\nbody of {texts(1)[0]}" in all_examples(task)
    assert "{S} only a subject\n\n" in all_examples(task), "one empty column of two is no empty input"
    with pytest.raises(DataError, match=r"1 empty input \(line 22\)"):
        load(tmp_path, csv_of(*lines, ",,a", header="subject,body,label"), 'template = "{subject}{body}"')


def test_unused_columns_may_be_as_they_like(tmp_path: Path) -> None:
    data = csv_of(*(f"{i},,{row},x" for i, row in enumerate(rows())), header=",,text,label,Note")
    assert len(all_examples(load(tmp_path, data))) == 40


def test_ids_come_from_the_file(tmp_path: Path) -> None:
    data = csv_of(*(f"{row},q{i}" for i, row in enumerate(rows())), header="text,label,nr")
    task = load(tmp_path, data, 'id = "nr"')
    assert {each.id for each in (*task.train, *task.dev, *task.test.order)} == {f"q{i}" for i in range(40)}


def test_findings_are_plain_json(tmp_path: Path) -> None:
    findings: dict[str, Any] = dict(load(tmp_path, GOOD + GOOD.split(b"\n", 1)[1]).findings)
    assert json.loads(json.dumps(findings)) == findings
    assert findings["exact_duplicates_merged"] == 40
    assert findings["splits"]["test"]["labels"] == {"a": 7, "b": 7}
