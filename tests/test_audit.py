"""The audit: planted defects are found, real ones are told, nothing is overwritten, and no personal data is printed."""

from __future__ import annotations

import csv
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import colour_rows
from test_climb import task_at

from luthier.audit import Audit, Effort, audit, audit_of, audit_task, material_at
from luthier.audit.copies import held_in
from luthier.audit.mislabelled import suspects
from luthier.audit.review import apply_review, read_review, write_masked, write_review
from luthier.cli import main
from luthier.climb import run
from luthier.errors import DataError, LuthierError, SpecError, StoreError
from luthier.report.auditing import audit_html, audit_text
from luthier.task import load_task
from luthier.types import Example

NO_LABELS = Effort(label_work=0)
TOML = """
[task]
name = "colours"
kind = "classification"
[data]
path = "data.csv"
input = "text"
reference = "label"
{data}
[target]
at_least = {at_least}
[ladder]
rungs = ["majority", "tfidf"]
"""


def project(
    folder: Path,
    rows: Sequence[Sequence[str]],
    *,
    test: Sequence[Sequence[str]] = (),
    data: str = "",
    at_least: float = 0.7,
) -> Path:
    """A project folder with data.csv, and test.csv where there are test rows; the path of its luthier.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "data.csv", rows)
    if test:
        write_csv(folder / "test.csv", test)
        data += '\ntest = "test.csv"'
    path = folder / "luthier.toml"
    path.write_text(TOML.format(data=data, at_least=at_least), encoding="utf-8")
    return path


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("text", "label"), *rows])


def audited(folder: Path, rows: Sequence[Sequence[str]], **more: Any) -> Audit:
    return audit(project(folder, rows, **more), NO_LABELS)


def only(found: Audit, kind: str) -> Any:
    (finding,) = found.of_kind(kind)
    return finding


def call(*args: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(args)
    return int(end.value.code or 0)


# ---------------------------------------------------------------- copies and leakage


def test_clean_data_shows_nothing_but_its_power(tmp_path: Path) -> None:
    found = audited(tmp_path, colour_rows(400))
    assert {each.kind for each in found.findings} <= {"near_duplicates", "power"}
    assert found.passes()
    assert 0 < sum(found.splits.values()) <= 400


def test_copies_are_named_with_their_lines(tmp_path: Path) -> None:
    rows = colour_rows(200)
    rows += [(rows[3][0].upper(), rows[3][1]), (f" {rows[7][0]}  ", rows[7][1])]
    finding = only(audited(tmp_path, rows), "exact_duplicates")
    assert (finding.count, finding.severity) == (2, "note")
    assert [each.places for each in finding.evidence] == [(5, 202), (9, 203)]


def test_near_copies_are_named_together(tmp_path: Path) -> None:
    rows = [*colour_rows(100), ("A long sentence about the weather in the north of the country", "cold")]
    rows.append(("A long sentence about the weather in the north of the country!", "cold"))
    finding = only(audited(tmp_path, rows, data="near_duplicates = 0.95"), "near_duplicates")
    assert finding.evidence[0].places == (102, 103)
    assert finding.figures == {"sets": 1, "largest": 2, "threshold": 0.95}


def test_a_file_that_mostly_repeats_itself_is_worth_a_look(tmp_path: Path) -> None:
    rows = colour_rows(150)
    finding = only(audited(tmp_path, [*rows, *rows]), "exact_duplicates")
    assert (finding.count, finding.of, finding.severity) == (150, 300, "warning")


def test_leaked_test_rows_are_found_equal_and_edited(tmp_path: Path) -> None:
    rows = colour_rows(400)
    train, test = rows[:250], rows[250:]
    leaks = [(test[4][0].upper(), test[4][1]), (test[9][0] + "!", test[9][1])]
    finding = only(audited(tmp_path, [*train, *leaks], test=test, data="near_duplicates = 0.93"), "leakage")
    assert finding.count == 2
    assert {place for place in finding.places if str(place).startswith("test")} == {"test line 6", "test line 11"}
    assert {252, 253} <= set(finding.places)


def test_texts_that_hold_a_held_back_input_are_named() -> None:
    examples = [Example("a", "Where is my new card now?", ("x",)), Example("b", "yes", ("x",))]
    texts = [("prompt", "Example: WHERE is  my new card now? -> x"), ("other", "yes, where is my card?")]
    assert [(each.name, each.example.id) for each in held_in(texts, examples)] == [("prompt", "a")]


def test_an_instruction_that_quotes_a_test_input_stops_a_verdict(tmp_path: Path) -> None:
    path = project(tmp_path, colour_rows(300))
    quoted = str(load_task(path).test.order[0].input)
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("[data]", f'instruction = "Warm or cold? For example: {quoted}"\n[data]'), encoding="utf-8"
    )
    finding = only(audit(path, NO_LABELS), "leaked_texts")
    assert finding.severity == "error"
    assert finding.evidence[0].note == "[task] instruction"


def test_a_document_that_holds_a_test_input_stops_a_verdict(tmp_path: Path) -> None:
    path = project(tmp_path, colour_rows(300))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "plain.md").write_text("# Colours\n\nNothing that anybody asked.\n", encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8") + '\n[documents]\npaths = ["docs"]\n', encoding="utf-8")
    assert not audit(path, NO_LABELS).of_kind("leaked_texts")
    quoted = str(load_task(path).test.order[0].input)
    (tmp_path / "docs" / "solved.md").write_text(f"# Solved\n\nAsked: {quoted}\nAnswer: warm.\n", encoding="utf-8")
    finding = only(audit(path, NO_LABELS), "leaked_texts")
    assert finding.severity == "error"
    assert "solved.md" in finding.evidence[0].note


# ---------------------------------------------------------------- conflicts and the ceiling


def at_odds(count: int, agreeing: int) -> list[tuple[str, str]]:
    """`count` inputs in two spellings whose labels disagree, `agreeing` in two spellings whose labels agree."""
    rows = []
    for at, (text, label) in enumerate(colour_rows(count + agreeing)):
        other = {"warm": "cold", "cold": "warm"}[label]
        rows += [(text, label), (f"{text}!", label if at >= count else other)]
    return rows


def test_conflicting_answers_lower_the_ceiling(tmp_path: Path) -> None:
    found = audited(tmp_path, [*at_odds(20, 80)], at_least=0.6)
    finding = only(found, "ceiling")
    agreement, best = finding.figures["agreement"], finding.figures["ceiling"]
    assert agreement.n == 100
    assert agreement.mean == pytest.approx(0.8)
    assert agreement.low < 0.8 < agreement.high
    # every input was answered twice, so a majority judges it and nothing is known against a perfect score
    assert best.low == agreement.low
    assert best.high == 1.0
    equal = found.of_kind("conflicts")[0]
    assert (equal.count, equal.figures) == (20, {"tied": 20})
    assert equal.evidence[0].note in ("warm (1), cold (1)", "cold (1), warm (1)")


def test_a_target_above_the_ceiling_stops_a_verdict(tmp_path: Path) -> None:
    rows = [*at_odds(60, 20), *colour_rows(900)[80:]]
    finding = only(audited(tmp_path, rows, at_least=0.97), "ceiling")
    assert finding.severity == "error"
    assert finding.figures["ceiling"].high < 0.97
    lower = only(audited(tmp_path / "low", rows, at_least=0.5), "ceiling")
    assert lower.severity == "note"


def test_the_ceiling_covers_the_truth() -> None:
    """Inputs are right with a probability of their own; the interval has to hold the mean of the best chances."""
    from luthier.audit.conflicts import ceiling

    rng, held = random.Random(5), 0
    for _ in range(200):
        truth, asked = 0.0, []
        for at in range(400):
            p = rng.choice((1.0, 0.95, 0.7))
            truth += p / 400
            answers = ["a" if rng.random() < p else rng.choice("bc") for _ in range(2 if at % 4 == 0 else 1)]
            asked.append(answers)
        found = ceiling(asked)
        assert found is not None
        held += found[1].low <= truth <= found[1].high
    assert held >= 190


# ---------------------------------------------------------------- labels


def test_label_spellings_and_slips_are_named(tmp_path: Path) -> None:
    rows = [(text, f"{label}_town") for text, label in colour_rows(300)]
    rows[10] = (rows[10][0], rows[10][1].upper())
    rows[20] = (rows[20][0], rows[20][1].replace("_town", "_twon"))
    rows[30] = (rows[30][0], rows[30][1].replace("_", "-"))
    found = audited(tmp_path, rows)
    assert set(only(found, "label_spelling").places) == {12, 22, 32}
    assert only(found, "unusable").severity == "error", "luthier run refuses two spellings of one label"
    cleaned = audited(tmp_path / "clean", rows[:20], data="normalise_labels = true")
    assert cleaned.of_kind("label_spelling")[0].severity == "note"


def test_a_majority_that_meets_the_target_is_told(tmp_path: Path) -> None:
    rows = [(text, "ham" if at % 10 else "spam") for at, (text, _) in enumerate(colour_rows(300))]
    finding = only(audited(tmp_path, rows, at_least=0.85), "class_balance")
    assert "always answers 'ham'" in finding.effect
    higher = audited(tmp_path / "high", rows, at_least=0.95)
    assert not any("always answers" in each.effect for each in higher.of_kind("class_balance"))


def test_flipped_labels_are_found_in_train_and_dev_and_not_looked_for_in_test(tmp_path: Path) -> None:
    rows = colour_rows(600)
    flipped = set(random.Random(1).sample(range(600), 30))  # at random: a classifier would learn a pattern
    rows = [
        (text, {"warm": "cold", "cold": "warm"}[label] if at in flipped else label)
        for at, (text, label) in enumerate(rows)
    ]
    material = material_at(project(tmp_path, rows))
    found = suspects(material, 10_000)
    named = {each.place for each in found.suspects}
    split = {row.place: row.split for row in material.rows}
    assert {split[place] for place in named} <= {"train", "dev"}
    planted = {at + 2 for at in flipped if split[at + 2] in ("train", "dev")}
    assert len(named & planted) >= 0.6 * len(planted)
    assert len(named & planted) >= 0.5 * len(named)
    worst = found.suspects[0]
    assert worst.probability < worst.of_suggested
    assert worst.suggested != worst.row.reference


def test_near_copies_do_not_vouch_for_each_other(tmp_path: Path) -> None:
    """A wrong label in two near-copies: a fold that saw one would believe the other."""
    rows = colour_rows(300)
    wrong = {"warm": "cold", "cold": "warm"}[rows[50][1]]
    rows[50] = (rows[50][0], wrong)
    rows += [(f"{rows[50][0]} {mark}", wrong) for mark in ("ok", "so")]
    found = suspects(material_at(project(tmp_path, rows, data="near_duplicates = 0.85")), 10_000)
    assert found.looked_at >= 100
    material = material_at(tmp_path)
    family = {material.kin[at] for at, same in enumerate(material.distinct) if same[0].place in (52, 302, 303)}
    assert len(family) == 1


def test_without_cleanlab_the_audit_says_what_it_did_not_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)  # as where the extra is not installed
    found = audit(project(tmp_path, colour_rows(200)))
    assert any("pip install 'luthier[audit]'" in line for line in found.skipped)
    assert not found.of_kind("label_errors")


def test_the_work_on_label_errors_is_bounded(tmp_path: Path) -> None:
    material = material_at(project(tmp_path, colour_rows(500)))
    found = suspects(material, 200)
    assert found.looked_at <= 100
    assert found.of > 300


# ---------------------------------------------------------------- shape, power, rows


def test_lengths_and_empty_words_are_told(tmp_path: Path) -> None:
    rows = colour_rows(200)
    rows += [("word " * 6000, "cold"), ("a much longer text than the others " * 40, "warm"), ("?!", "cold")]
    found = {each.what: each for each in audited(tmp_path, rows).of_kind("length")}
    told = " ".join(found)
    assert "too long for a context of 8,192 tokens" in told
    assert "far longer" in told
    assert "not one letter or digit" in told
    assert {place for each in found.values() for place in each.places} == {202, 203, 204}


def test_broken_encodings_and_markup_are_told(tmp_path: Path) -> None:
    rows = colour_rows(100)
    rows += [
        ("The cafÃ© is cold", "cold"),
        ("<p>The stove &amp; the fire</p>", "warm"),
        ("zero\u200bwidth frost", "cold"),
    ]
    found = audited(tmp_path, rows).of_kind("format")
    assert [each.places for each in found] == [(102,), (104,), (103,)]
    assert [each.severity for each in found] == ["warning", "note", "note"]


def test_answers_that_are_not_written_like_the_others(tmp_path: Path) -> None:
    folder = tmp_path
    rows = [{"text": text, "label": f"The {label} one."} for text, label in colour_rows(100)]
    rows[5]["label"] = '{"a": 1}'
    (folder / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    toml = TOML.format(data="", at_least=0.7).replace("data.csv", "data.jsonl").replace("classification", "generation")
    (folder / "luthier.toml").write_text(toml.replace('"majority", "tfidf"', '"majority", "nearest"'), encoding="utf-8")
    found = audit(folder, NO_LABELS)
    told = [each.what for each in found.of_kind("format")]
    assert "1 of 100 answers are JSON, and the others are not" in told
    assert any("wrong answers" in line for line in found.skipped)


def written(folder: Path, rows: Sequence[dict[str, Any]], kind: str) -> Path:
    """A project of chats and JSON records."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    schema = '{type = "object", properties = {n = {}, town = {type = "string"}}}'
    (folder / "luthier.toml").write_text(
        f'[task]\nname = "w"\nkind = "{kind}"\nschema = {schema}\n[data]\npath = "data.jsonl"\nmessages = "chat"\n'
        'reference = "record"\n[target]\nat_least = 0.99\n[ladder]\nrungs = ["majority", "nearest"]\n',
        encoding="utf-8",
    )
    return folder


def test_records_that_disagree_or_differ_in_type(tmp_path: Path) -> None:
    def row(text: str, n: object) -> dict[str, Any]:
        return {"chat": [{"role": "user", "content": text}], "record": {"n": n, "town": "Ulm"}}

    rows = [row(text, at) for at, (text, _) in enumerate(colour_rows(150))]
    rows += [row("We saw a lamp and 4 doors, ada@example.org", "4"), row("Frost", 1), row("frost!", 2)]
    rows.append({"chat": [{"role": "user", "content": "broken"}], "record": "no record"})
    found = audit(written(tmp_path, rows, "extraction"))
    assert only(found, "format").what == "the field 'n' is a text in 1 of 153 records, and a number in the others"
    assert only(found, "conflicts").places == (152, 153)
    assert only(found, "personal_data").places == (151,)
    assert found.of_kind("unusable")[-1].places == (154,)
    assert any("wrong answers and balance" in line for line in found.skipped)


def test_power_and_rows(tmp_path: Path) -> None:
    found = audited(tmp_path, colour_rows(60), at_least=0.95)
    assert only(found, "power").severity == "error"
    assert only(audited(tmp_path / "more", colour_rows(700)), "power").severity == "note"


# ---------------------------------------------------------------- personal data


def private_rows() -> list[tuple[str, str]]:
    rows = colour_rows(120)
    rows[4] = (rows[4][0] + " ada.lovelace@example.org", rows[4][1])
    rows[8] = (rows[8][0] + " +44 20 7946 0958", rows[8][1])
    rows[12] = (rows[12][0] + " GB82 WEST 1234 5698 7654 32", rows[12][1])
    return rows


SECRETS = ("ada.lovelace", "7946", "WEST")


def test_personal_data_is_named_by_line_and_never_shown(tmp_path: Path) -> None:
    rows = [*private_rows(), *private_rows()]  # so that other findings have these texts as evidence
    found = audit(project(tmp_path, rows))
    finding = only(found, "personal_data")
    assert [(each.places, each.note) for each in finding.evidence[:3]] == [
        ((6,), "e-mail"),
        ((10,), "phone"),
        ((14,), "iban"),
    ]
    for shown in (audit_text(found.plain()), audit_html(found.plain()), json.dumps(found.plain())):
        assert not any(secret in shown for secret in SECRETS)
    assert "[EMAIL]" in json.dumps(found.plain())


def test_masking_makes_a_new_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    material = material_at(project(tmp_path, private_rows()))
    before = (tmp_path / "data.csv").read_bytes()
    (written,) = write_masked(material, tmp_path / "masked.csv")
    assert (written.rows, written.changed) == (120, 3)
    text = (tmp_path / "masked.csv").read_text(encoding="utf-8")
    assert not any(secret in text for secret in SECRETS)
    assert (
        text.replace("[EMAIL]", "ada.lovelace@example.org")
        .replace("[PHONE]", "+44 20 7946 0958")
        .replace("[IBAN]", "GB82 WEST 1234 5698 7654 32")
        == before.decode()
    )
    assert (tmp_path / "data.csv").read_bytes() == before
    with pytest.raises(StoreError, match="there already"):
        write_masked(material, tmp_path / "masked.csv")


def test_a_test_file_is_masked_beside_the_other(tmp_path: Path) -> None:
    rows = colour_rows(300)
    path = project(
        tmp_path, rows[:200], test=[*rows[200:], ("write to ada.lovelace@example.org about the frost", "cold")]
    )
    written = write_masked(material_at(path), tmp_path / "masked.csv")
    assert [(each.path.name, each.changed) for each in written] == [("masked.csv", 0), ("masked-test.csv", 1)]
    (tmp_path / "again-test.csv").write_text("somebody's work", encoding="utf-8")
    with pytest.raises(StoreError, match="there already"):
        write_masked(material_at(path), tmp_path / "again.csv")
    assert not (tmp_path / "again.csv").exists(), "none is written where one is taken"


# ---------------------------------------------------------------- review


def reviewed(folder: Path, edit: Any) -> tuple[Any, Path]:
    wrong = set(random.Random(2).sample(range(400), 20))
    other = {"warm": "cold", "cold": "warm"}
    rows = [(text, other[label] if at in wrong else label) for at, (text, label) in enumerate(colour_rows(400))]
    material = material_at(project(folder, rows))
    _, found = audit_of(material)
    path = folder / "review.csv"
    write_review(found, path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    edit(lines)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    return material, path


def test_a_review_is_edited_and_applied(tmp_path: Path) -> None:
    def accept(lines: list[dict[str, str]]) -> None:
        assert len(lines) >= 4
        lines[0]["correct"], lines[1]["correct"] = lines[0]["suggested"], lines[1]["label"]

    material, path = reviewed(tmp_path, accept)
    corrections = read_review(path, material)
    assert len(corrections) == 1, "an answer that was confirmed changes nothing"
    ((place, label),) = corrections.items()
    written = apply_review(material, corrections, tmp_path / "corrected.csv")
    assert (written.rows, written.changed) == (400, 1)
    before = (tmp_path / "data.csv").read_text(encoding="utf-8").split("\n")
    after = (tmp_path / "corrected.csv").read_text(encoding="utf-8").split("\n")
    assert [at + 1 for at in range(len(before)) if before[at] != after[at]] == [place]
    assert after[int(place) - 1].endswith(label)
    with pytest.raises(StoreError, match="there already"):
        write_review(suspects(material, 10_000), path)


@pytest.mark.parametrize("codec", ["utf-16", "cp1252", "utf-8-sig"])
def test_a_review_is_read_as_a_spreadsheet_saves_it(tmp_path: Path, codec: str) -> None:
    def accept(lines: list[dict[str, str]]) -> None:
        lines[0]["correct"], lines[0]["input"] = lines[0]["suggested"], "caf\u00e9"

    material, path = reviewed(tmp_path, accept)
    path.write_bytes(path.read_text(encoding="utf-8").replace(",", "\t").encode(codec))
    assert len(read_review(path, material)) == 1


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("correct", "lukewarm", "not a label"), ("label", "other", "not the one"), ("place", "9999", "no row")],
)
def test_a_review_that_does_not_fit_is_refused(tmp_path: Path, column: str, value: str, message: str) -> None:
    def spoil(lines: list[dict[str, str]]) -> None:
        lines[0]["correct"] = lines[0]["suggested"]
        lines[0][column] = value

    material, path = reviewed(tmp_path, spoil)
    with pytest.raises(DataError, match=message):
        read_review(path, material)


def test_a_correction_reaches_the_copies_of_its_row_and_is_not_outvoted_by_them(tmp_path: Path) -> None:
    wrong = set(random.Random(2).sample(range(400), 20))
    other = {"warm": "cold", "cold": "warm"}
    rows = [(text, other[label] if at in wrong else label) for at, (text, label) in enumerate(colour_rows(400))]
    rows = [*rows, *((text.upper(), label) for text, label in rows), *rows]
    material = material_at(project(tmp_path, rows))
    _, found = audit_of(material)
    review = tmp_path / "review.csv"
    write_review(found, review)
    text = review.read_text(encoding="utf-8-sig")
    with review.open("w", encoding="utf-8", newline="") as file:
        lines = [dict(line, correct=line["suggested"]) for line in csv.DictReader(text.splitlines())]
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    written = apply_review(material, read_review(review, material), tmp_path / "corrected.csv")
    assert written.changed == 3 * len(lines) >= 12
    (tmp_path / "corrected.csv").replace(tmp_path / "data.csv")
    assert not audit(tmp_path).of_kind("conflicts")
    doubled = "\n".join([*text.splitlines()[:2], text.splitlines()[1]]).replace(",\n", ",warm\n") + "cold\n"
    (tmp_path / "twice.csv").write_text(doubled, encoding="utf-8")
    with pytest.raises(DataError, match="above"):
        read_review(tmp_path / "twice.csv", material)


def test_a_corrected_or_masked_copy_of_numbers_can_be_written(tmp_path: Path) -> None:
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    rows = [
        {"text": text, "label": int(label == "warm"), "card": 4111111111111111 if at == 4 else at, "deep": [at]}
        for at, (text, label) in enumerate(colour_rows(200))
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "data.parquet")
    path = tmp_path / "luthier.toml"
    path.write_text(TOML.format(data="", at_least=0.7).replace("data.csv", "data.parquet"), encoding="utf-8")
    material = material_at(path)
    apply_review(material, {3: str(1 - rows[2]["label"])}, tmp_path / "corrected.parquet")
    corrected = parquet.read_table(tmp_path / "corrected.parquet")
    assert corrected.schema == parquet.read_table(tmp_path / "data.parquet").schema
    assert corrected.to_pylist()[2]["label"] == 1 - rows[2]["label"]
    write_masked(material, tmp_path / "masked.parquet")
    masked = parquet.read_table(tmp_path / "masked.parquet").to_pylist()
    assert (masked[4]["card"], masked[5]["card"], masked[5]["deep"]) == ("[CARD]", "5", [5])


def test_a_copy_keeps_its_format(tmp_path: Path) -> None:
    rows = [
        {"text": text, "label": label, "n": at, "deep": {"a": [1.0]}} for at, (text, label) in enumerate(private_rows())
    ]
    source = "\n".join(json.dumps(row) for row in rows) + "\n"
    (tmp_path / "data.jsonl").write_text(source, encoding="utf-8")
    path = tmp_path / "luthier.toml"
    path.write_text(TOML.format(data="", at_least=0.7).replace("data.csv", "data.jsonl"), encoding="utf-8")
    material = material_at(path)
    assert write_masked(material, tmp_path / "m.jsonl")[0].changed == 3
    after = (tmp_path / "m.jsonl").read_text(encoding="utf-8").split("\n")
    same = [one == other for one, other in zip(source.split("\n"), after, strict=True)]
    assert same.count(False) == 3
    with pytest.raises(SpecError, match="ending"):
        write_masked(material, tmp_path / "m.csv")


# ---------------------------------------------------------------- the command and the run


def test_the_command_tells_and_strict_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path, private_rows(), at_least=0.6)
    assert call("audit", str(path), "--html", str(tmp_path / "a.html"), "--json") == 0
    out, _ = capsys.readouterr()
    told = json.loads(out)
    assert (told["schema"], told["worst"], told["rows"]) == (1, "warning", 120)
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert call("audit", str(path), "--strict") == 1
    assert "LOOK AT THIS: 3 rows hold personal data" in capsys.readouterr().out
    assert call("audit", str(path), "--apply", "x.csv") == 2
    assert call("audit", str(path), "--mask", str(tmp_path / "data.csv")) == 2
    assert call("audit", str(project(tmp_path / "clean", colour_rows(300))), "--strict") == 0


def test_a_page_is_never_written_over_what_is_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path, colour_rows(200), at_least=0.6)
    page, data = tmp_path / "a.html", (tmp_path / "data.csv").read_bytes()
    for _ in range(2):
        assert call("audit", str(path), "--html", str(page)) == 0
    assert call("audit", str(path), "--html", str(tmp_path / "data.csv")) == 2
    assert "no page" in capsys.readouterr().err
    assert (tmp_path / "data.csv").read_bytes() == data
    for one, other in (("--mask", "--html"), ("--mask", "--review")):
        assert call("audit", str(path), one, str(tmp_path / "x.csv"), other, str(tmp_path / "y.html")) == 2
        assert "audit nothing" in capsys.readouterr().err
        assert not (tmp_path / "x.csv").exists()


def test_a_review_holds_no_formulas(tmp_path: Path) -> None:
    rows = [(f"=HYPERLINK({text})", label) for text, label in colour_rows(400)]
    rows[5:20] = [(text, "warm" if label == "cold" else "cold") for text, label in rows[5:20]]
    material = material_at(project(tmp_path, rows))
    write_review(audit_of(material)[1], tmp_path / "review.csv")
    with (tmp_path / "review.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines
    assert all(line["input"].startswith("'=") for line in lines)


def test_markup_in_the_data_stays_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> the red house by the river"
    found = audit(project(tmp_path, [*colour_rows(100), (evil, "warm"), (evil, "warm")]), NO_LABELS)
    assert "<script" not in audit_html(found.plain())


def test_a_run_begins_with_the_audit_and_its_report_tells(tmp_path: Path) -> None:
    path = task_at(tmp_path)
    lines = (tmp_path / "data.csv").read_text(encoding="utf-8").split("\n")
    lines[5] = lines[5].replace('",', ' ada@example.org",')
    (tmp_path / "data.csv").write_text("\n".join(lines), encoding="utf-8")
    notes: list[str] = []
    verdict = run(path, listen=lambda event: notes.append(event.text) if event.kind == "note" else None)
    assert notes[0] == "audit: 1 row holds personal data: e-mail 1"
    told = verdict.to_dict()["audit"]
    assert "personal_data" in [finding["kind"] for finding in told["findings"]]
    page = verdict.to_html(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Can this data decide it?" in page
    assert "1 row holds personal data" in verdict.to_markdown(tmp_path / "r.md").read_text(encoding="utf-8")
    again = run(path)
    assert again.to_dict()["audit"] == told, "what was found is kept"


def test_the_audit_of_a_run_is_that_of_the_file(tmp_path: Path) -> None:
    path = project(tmp_path, [*private_rows(), *colour_rows(120)[:7]])
    one, other = audit_task(load_task(path), NO_LABELS), audit(path, NO_LABELS)
    assert one.findings == other.findings


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("rows", "kinds"),
    [
        ([("only one", "a")], {"unusable"}),
        ([(f"text number {at} of the one class", "a") for at in range(50)], {"unusable"}),
        ([("the very same words", "a")] * 60, {"unusable", "exact_duplicates"}),
        (
            [("the very same words", "ab"[at % 2]) for at in range(60)],
            {"unusable", "exact_duplicates", "conflicts", "ceiling"},
        ),
        ([("", "a"), ("b", ""), *colour_rows(50)], {"unusable"}),
        ([(f"sentence {at} about the class {at // 2}", f"class {at // 2:02d}") for at in range(154)], {"unusable"}),
        ([(f"{at}" * 50_000, "ab"[at % 2]) for at in range(12)], {"length"}),
        ([("\u0001\ufffd" * 5, "a"), ("…", "b"), *colour_rows(80)], {"format", "length"}),
    ],
    ids=("one row", "one class", "all equal", "all equal, at odds", "empty cells", "two a class", "long", "no text"),
)
def test_bad_data_is_told_and_not_a_traceback(tmp_path: Path, rows: list[tuple[str, str]], kinds: set[str]) -> None:
    found = audit(project(tmp_path, rows))
    assert kinds <= {each.kind for each in found.findings} | (
        {"unusable"} if kinds == {"unusable"} and found.of_kind("power") else set()
    )
    assert audit_html(found.plain())
    assert audit_text(found.plain())
    json.dumps(found.plain(), allow_nan=False)


def test_files_that_are_no_table_are_errors_with_a_fix(tmp_path: Path) -> None:
    path = project(tmp_path, colour_rows(10))
    for content in (b"", b"text,label\n", b"\x00\x01\xff" * 50, b'text,label\n"open,a\n'):
        (tmp_path / "data.csv").write_bytes(content)
        with pytest.raises(LuthierError) as error:
            audit(path)
        assert error.value.fix
