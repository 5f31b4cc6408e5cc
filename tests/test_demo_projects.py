"""The demos' projects, from small files in the exact form of the real ones."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tomllib
from importlib import resources
from pathlib import Path

import pytest

import luthier
from luthier import demo
from luthier.errors import SpecError, StoreError
from luthier.models import catalog
from luthier.models.scripted import ScriptedModel
from luthier.task import load_task
from luthier.types import Event

QUESTIONS = """\
DESC:manner How did serfdom develop in and then leave Russia ?
ENTY:cremat What films featured the character Popeye Doyle ?
ABBR:exp What does "NASA" stand for , exactly ?
DESC:manner How did serfdom develop in and then leave Russia ?
"""
MESSAGES = """\
,spam,text
0,0,"Go until jurong point, crazy.."
1,1,Free entry. It's £1.50
2,0,"Keep-in-touch"" gdeve..
ham\tOk. I asked
spam\tWIN £200 now
ham\tbye"
"""


REVIEWS = "id\tsentiment\ttext\r\n1\t2.3\tSplendid .\r\n2\t-0.6\tSo-so .\r\n3\t-2.0\tDreadful .\r\n"


@pytest.fixture(autouse=True)
def warm_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared demo data, as a fetch leaves it: nothing is asked of a network."""
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    folder = catalog.prepared_folder("demo-data")
    folder.mkdir(parents=True)
    files = {
        "question_labels.txt": QUESTIONS.encode(),
        "sms-spam.csv": MESSAGES.encode(),
        "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt": REVIEWS.encode(),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "prepared.json").write_text(json.dumps({name: len(content) for name, content in files.items()}))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_questions_keep_every_line_with_the_coarse_class(tmp_path: Path) -> None:
    spec = demo.prepare("question-routing", tmp_path / "project")
    assert spec == tmp_path / "project" / "luthier.toml"
    data = rows(spec.parent / "questions.csv")
    assert [row["label"] for row in data] == ["DESC", "ENTY", "ABBR", "DESC"]
    assert data[0] == data[3]  # the repeat is luthier's to find
    assert data[2]["question"] == 'What does "NASA" stand for , exactly ?'


def test_messages_that_were_swallowed_are_given_back(tmp_path: Path) -> None:
    spec = demo.prepare("spam", tmp_path)
    assert [(row["message"], row["label"]) for row in rows(spec.parent / "messages.csv")] == [
        ("Go until jurong point, crazy..", "ham"),
        ("Free entry. It's £1.50", "spam"),
        ('Keep-in-touch" gdeve..', "ham"),
        ("Ok. I asked", "ham"),
        ("WIN £200 now", "spam"),
        ("bye", "ham"),
    ]


def test_only_clear_reviews_are_kept(tmp_path: Path) -> None:
    spec = demo.prepare("sentiment", tmp_path)
    assert [(row["review"], row["sentiment"]) for row in rows(spec.parent / "reviews.csv")] == [
        ("Splendid .", "positive"),
        ("Dreadful .", "negative"),
    ]


@pytest.mark.parametrize("name", list(demo.demos()))
def test_each_demo_describes_itself_and_is_read_as_a_task(name: str, tmp_path: Path) -> None:
    path = demo.prepare(name, tmp_path)
    assert path.read_text().startswith(f"# {demo.demos()[name]}\n")
    settings = tomllib.loads(path.read_text())
    assert settings["task"]["name"] == name
    data = rows(tmp_path / settings["data"]["path"])
    told = settings["data"]
    named = [told["input"]] if "input" in told else re.findall(r"{(\w+)}", told["template"])
    assert set(data[0]) == {*named, told["reference"]}
    assert {row[settings["data"]["reference"]] for row in data} <= set(settings["task"]["labels"])


def test_the_demo_shows_what_it_would_be_worth_and_measures_the_same_without(tmp_path: Path) -> None:
    path = demo.prepare("question-routing", tmp_path)
    starts = {
        "ABBR": "What does",
        "DESC": "Why did",
        "ENTY": "What animal",
        "HUM": "Who",
        "LOC": "Where",
        "NUM": "How many",
    }
    asked = [(f"{starts[kind]} {word} {at} ?", kind) for at in range(40) for kind in starts for word in ("shine", "go")]
    lines = ["question,label", *(f"{question},{kind}" for question, kind in asked)]
    (tmp_path / "questions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    for name, size in (("train = 1000 ", "train = 150 "), ("dev = 400 ", "dev = 30 "), ("test = 1000 ", "test = 300 ")):
        text = text.replace(name, size)
    text = re.sub(r"near_duplicates = 0.8", "near_duplicates = false", text)
    path.write_text(re.sub(r"rungs = \[.*\]", 'rungs = ["majority", "tfidf", "zero-shot"]', text), encoding="utf-8")
    without = tmp_path / "without"
    without.mkdir()
    shutil.copy(tmp_path / "questions.csv", without)
    told = path.read_text(encoding="utf-8").split("# What it would be worth")
    assert len(told) == 2
    (without / "luthier.toml").write_text(told[0], encoding="utf-8")
    assert load_task(path).fingerprint == load_task(without).fingerprint
    verdicts = [luthier.run(folder, models={"prompted": router()}) for folder in (tmp_path, without)]
    outcomes = [[(each.candidate.name, each.outcome, each.estimate) for each in v.candidates[:2]] for v in verdicts]
    assert outcomes[0] == outcomes[1]
    costs = verdicts[0].to_dict()["costs"]
    assert {"desk", "large-model", "tfidf", "do nothing"} <= {way["name"] for way in costs["ways"]}
    assert any(pair["today"] and pair["months"] is not None for pair in costs["break_even"])
    report = verdicts[0].to_html(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "What it costs" in report
    assert "Against today" in report
    assert verdicts[1].costs == {}


def router() -> ScriptedModel:
    return ScriptedModel(
        {"What does": "ABBR", "Why": "DESC", "What animal": "ENTY", "Who": "HUM", "Where": "LOC", "How": "NUM"}
    )


def test_every_file_of_a_demo_is_listed() -> None:
    files = {path.name.removesuffix(".toml") for path in resources.files("luthier").joinpath("demos").iterdir()}
    assert files == set(demo.demos())


def test_a_second_time_nothing_is_said_and_nothing_changes(tmp_path: Path) -> None:
    events: list[Event] = []
    first = demo.prepare("spam", tmp_path)
    before = first.stat().st_mtime_ns
    assert demo.prepare("spam", tmp_path, events.append).stat().st_mtime_ns == before
    assert events == []


def test_an_edited_spec_is_kept_and_it_is_said(tmp_path: Path) -> None:
    path = demo.prepare("spam", tmp_path)
    path.write_text(path.read_text().replace("0.95", "0.99"))
    events: list[Event] = []
    demo.prepare("spam", tmp_path, events.append)
    assert "at_least = 0.99" in path.read_text()
    assert [event.kind for event in events] == ["note"]
    assert str(path) in events[0].text
    assert "kept" in events[0].text


def test_an_unknown_demo_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no demo 'spm'") as caught:
        demo.prepare("spm", tmp_path / "new")
    assert caught.value.fix.startswith("did you mean 'spam'?")
    assert "question-routing" in caught.value.fix
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_an_error_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the demo cannot be written") as caught:
        demo.prepare("spam", tmp_path / "file")
    assert caught.value.fix
