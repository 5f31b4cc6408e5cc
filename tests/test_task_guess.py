"""`luthier init` proposes a luthier.toml that loads, says why, and asks where it would have to toss a coin."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from luthier.errors import DataError
from luthier.task import load_task
from luthier.task.guess import Proposal, propose
from luthier.types import Task

OPENINGS = ["where is", "i have lost", "please cancel", "how do i change", "why was i charged for", "can you send me"]
THINGS = ["my card", "the last transfer", "a refund", "my password", "this fee", "the new app", "an invoice", "my pin"]
ENDS = ["today", "since monday", "in spain", "twice", "with my phone", "for my son", "again", "by post", "at once"]


def messages(n: int) -> list[str]:
    rng = random.Random(0)
    every = [f"{opening} {thing} {end}?" for opening in OPENINGS for thing in THINGS for end in ENDS]
    return rng.sample(every, n)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]], delimiter: str = ",") -> Path:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerows([header, *rows])
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def accept(proposal: Proposal, folder: Path) -> Task:
    """The proposal written down and loaded, as a user would."""
    (folder / "luthier.toml").write_text(proposal.text, encoding="utf-8")
    return load_task(folder)


def test_an_intent_file(tmp_path: Path) -> None:
    """The shape of banking77: text,category."""
    rows = [(text, f"intent_{i % 20}") for i, text in enumerate(messages(200))]
    proposal = propose(write_csv(tmp_path / "train.csv", ["text", "category"], rows), folder=tmp_path)
    assert (proposal.inputs, proposal.reference, len(proposal.labels)) == (("text",), "category", 20)
    assert proposal.warnings == ()
    task = accept(proposal, tmp_path)
    assert task.spec.name == "train"
    assert set(task.spec.label_names) == {f"intent_{i}" for i in range(20)}
    assert task.spec.target.at_least == 0.85
    assert "at_least = 0.85  # choose this" in proposal.text
    assert '"intent_0" = ""  # 10 rows' in proposal.text


def test_a_data_frame_with_an_unnamed_index(tmp_path: Path) -> None:
    """The shape of the spam file: ,spam,text."""
    rows = [(i, int(i % 5 == 0), text) for i, text in enumerate(messages(150))]
    proposal = propose(write_csv(tmp_path / "sms.csv", ["", "spam", "text"], rows), folder=tmp_path)
    assert (proposal.inputs, proposal.reference, proposal.labels) == (("text",), "spam", ("0", "1"))
    assert accept(proposal, tmp_path).spec.label_names == ("0", "1")


def test_a_jsonl_file_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    lines = [{"uid": f"q{i}", "utterance": text, "intent": "ab"[i % 2]} for i, text in enumerate(messages(60))]
    path = tmp_path / "raw" / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    proposal = propose(path, folder=tmp_path)
    assert 'path = "raw/q.jsonl"' in proposal.text
    assert (proposal.inputs, proposal.reference, proposal.format) == (("utterance",), "intent", "jsonl")
    assert len(accept(proposal, tmp_path).test) == 21


def test_several_texts_make_a_template_and_ids_and_groups_are_seen(tmp_path: Path) -> None:
    texts = messages(120)
    rows = [(1000 + i, f"u{i % 9}", texts[i], texts[i + 60], "ab"[i % 2]) for i in range(60)]
    header = ["ticket_id", "user_id", "subject", "body", "queue"]
    proposal = propose(write_csv(tmp_path / "t.csv", header, rows), folder=tmp_path, reference="queue")
    assert proposal.inputs == ("subject", "body")
    assert 'id = "ticket_id"' in proposal.text
    assert '# group = "user_id"' in proposal.text
    assert any("take out of the template" in warning for warning in proposal.warnings)
    task = accept(proposal, tmp_path)
    assert all("\n\n" in str(example.input) for example in task.train)
    assert task.train[0].id.startswith("1")


@pytest.mark.parametrize(
    ("delimiter", "name"), [(";", "d.csv"), ("\t", "d.csv"), ("|", "d.txt"), ("\t", "d.tsv"), (",", "d")]
)
def test_the_delimiter_is_seen(tmp_path: Path, delimiter: str, name: str) -> None:
    rows = [(f"{text}, please", "ab"[i % 2]) for i, text in enumerate(messages(40))]
    proposal = propose(write_csv(tmp_path / name, ["text", "label"], rows, delimiter), folder=tmp_path)
    assert len(accept(proposal, tmp_path).test) == 14


@pytest.mark.parametrize(("encoding", "extra"), [("latin-1", "café"), ("cp1252", "“café” – 5 €"), ("utf-16", "café")])
def test_the_encoding_is_seen_and_said(tmp_path: Path, encoding: str, extra: str) -> None:
    lines = ["text,label", *(f"{text} {extra},{'ab'[i % 2]}" for i, text in enumerate(messages(40)))]
    (tmp_path / "d.csv").write_bytes("\n".join(lines).encode(encoding))
    proposal = propose(tmp_path / "d.csv", folder=tmp_path)
    assert proposal.encoding == encoding
    assert any(f"read as {encoding}" in warning for warning in proposal.warnings) == (encoding != "utf-16")
    assert all(extra in str(example.input) for example in accept(proposal, tmp_path).train)


def test_flaws_are_worked_around_and_said(tmp_path: Path) -> None:
    rows: list[tuple[str, str]] = [(text, "ab"[i % 2]) for i, text in enumerate(messages(60))]
    rows += [("", "a"), ("a text without label", ""), ("one more text", "A "), ('an "open quote', "b")]
    lines = ["text\tlabel", *("\t".join(row) for row in rows), '"never closed\ta']
    (tmp_path / "d.tsv").write_text("\n".join(lines))
    proposal = propose(tmp_path / "d.tsv", folder=tmp_path)
    for part in ('on_empty = "drop"', "normalise_labels = true", "quotes are never closed"):
        assert any(part in warning for warning in proposal.warnings), part
    task = accept(proposal, tmp_path)
    assert (task.findings["empty_dropped"], task.findings["labels_normalised"]) == (2, 1)
    assert task.spec.label_names == ("a", "b")


def test_strange_names_survive_the_round_trip(tmp_path: Path) -> None:
    rows = [
        (text, ['so-called "spam"\\', "it's fine \u2028#\x7f", "a.b = [c]"][i % 3])
        for i, text in enumerate(messages(60))
    ]
    path = write_csv(tmp_path / 'my "data" # 1.csv', ["the {text}", "label = x"], rows)
    task = accept(propose(path, folder=tmp_path), tmp_path)
    assert set(task.spec.label_names) == {row[1] for row in rows}


def test_a_coin_is_not_tossed(tmp_path: Path) -> None:
    rows = [(text, "ab"[i % 2], "xyz"[i % 3]) for i, text in enumerate(messages(60))]
    path = write_csv(tmp_path / "d.csv", ["text", "queue", "office"], rows)
    with pytest.raises(DataError, match="more than one column could be the reference: 'queue', 'office'") as caught:
        propose(path)
    assert "--reference COLUMN" in caught.value.fix
    assert propose(path, reference="office").labels == ("x", "y", "z")
    with pytest.raises(DataError, match="did you mean 'office'"):
        propose(path, reference="ofice")
    with pytest.raises(DataError, match="60 different values in 60 rows"):
        propose(path, reference="text")


def test_a_file_without_texts_or_labels_is_told_so(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["text", "when"], [(text, i) for i, text in enumerate(messages(40))])
    with pytest.raises(DataError, match="no column looks like a label"):
        propose(path)
    path = write_csv(tmp_path / "b.csv", ["size", "label"], [(i * 7 % 40, "ab"[i % 2]) for i in range(40)])
    with pytest.raises(DataError, match="no column looks like a text"):
        propose(path)
    assert propose(path, input="size").inputs == ("size",), "who says so may do so"
    (tmp_path / "c.csv").write_text("just one column\nof text\n")
    with pytest.raises(DataError, match="two columns or more"):
        propose(tmp_path / "c.csv")
    with pytest.raises(DataError, match="no such file"):
        propose(tmp_path / "no.csv")


def test_a_defective_row_is_named(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [(text, "ab"[i % 2]) for i, text in enumerate(messages(40))]
    with pytest.raises(DataError, match="line 42 has 3 fields"):
        propose(write_csv(tmp_path / "d.csv", ["text", "label"], [*rows, ("a", "b", "c")]))


def test_dates_are_neither_labels_nor_texts_and_few_rows_are_said(tmp_path: Path) -> None:
    rows = [(f"2024-03-{1 + i % 9:02d}", text, "ab"[i % 2]) for i, text in enumerate(messages(60))]
    proposal = propose(write_csv(tmp_path / "d.csv", ["day", "text", "queue"], rows))
    assert (proposal.reference, proposal.inputs) == ("queue", ("text",))
    assert any("only 60 rows" in warning for warning in proposal.warnings)
