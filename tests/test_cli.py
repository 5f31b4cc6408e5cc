"""The command line: answers on stdout, progress on stderr, exit codes, and nothing lost."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders import colour_rows, write_task
from rich.console import Console
from test_climb import task_at

from luthier.cli import app, main
from luthier.screen import final_table
from luthier.types import Candidate, CandidateResult, Estimate, Outcome, Target, Usage

ROOT = Path(__file__).parent.parent


def call(*args: str) -> int:
    """Run the command in this process; its exit code."""
    with pytest.raises(SystemExit) as end:
        main(args)
    return int(end.value.code or 0)


def test_run_prints_the_verdict_and_writes_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = task_at(tmp_path)
    assert call("run", str(path)) == 0
    out, err = capsys.readouterr()
    assert "You don't need an LLM for this: tfidf meets accuracy of at least 85 %" in out
    assert str(tmp_path / "colours-report.html") in out
    assert "300 test examples about accuracy prove MEETS" in err
    assert "majority: DOES NOT MEET" in err
    assert re.search(r"tfidf +[·━●│]{41} +100\.0 % \[[\d.]+, 100\.0\] +MEETS +32 ", out), "a pipe gets the whole table"
    assert "<!doctype html>" in (tmp_path / "colours-report.html").read_text(encoding="utf-8").lower()
    assert (tmp_path / "colours-report.md").exists()


def test_json_is_the_only_thing_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = task_at(tmp_path)
    assert call("run", str(path), "--json") == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["schema"], verdict["chosen"], verdict["outcome"]) == (1, "tfidf", "MEETS")
    main_code = call("report", str(path), "--json")
    again = json.loads(capsys.readouterr().out)
    assert main_code == 0
    assert again == verdict


def test_exit_code_one_when_no_candidate_meets_the_target(tmp_path: Path) -> None:
    assert call("run", str(task_at(tmp_path, rungs=("majority",)))) == 1


def test_a_user_error_is_one_message_and_exit_code_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", str(tmp_path / "nowhere.toml")) == 2
    err = capsys.readouterr().err
    assert err.startswith("luthier: ")
    assert "Traceback" not in err
    assert "fix:" in err
    assert call("run", "--no-such-option") == 2


def test_a_missing_extra_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    """The core alone: torch and its kin are hidden from a process of its own."""
    path = task_at(tmp_path, rungs=("majority", "zero-shot", "lora"))
    hidden = ["torch", "transformers", "peft", "sentence_transformers", "gguf", "safetensors"]
    code = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
from luthier.cli import main
main()
"""
    found = subprocess.run(
        [sys.executable, "-c", code, "run", str(path), "--json"], capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 1, found.stderr
    candidates = json.loads(found.stdout)["candidates"]
    assert [candidate["outcome"] for candidate in candidates] == ["DOES NOT MEET", "NOT MEASURED", "NOT MEASURED"]
    assert all("pip install 'luthier[" in candidate["reasons"][0] for candidate in candidates[1:])


def test_init_then_run_without_an_edit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_task(tmp_path, colour_rows(600), "")
    (tmp_path / "luthier.toml").unlink()
    monkeypatch.chdir(tmp_path)
    assert call("init", "data.csv") == 0
    assert "then run: luthier run" in capsys.readouterr().out
    text = Path("luthier.toml").read_text(encoding="utf-8")
    assert call("init", "data.csv") == 2, "an existing file is never overwritten unasked"
    assert Path("luthier.toml").read_text(encoding="utf-8") == text
    assert call("init", "data.csv", "--force") == 0
    assert call("run") == 0


def test_report_without_a_run_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", str(task_at(tmp_path))) == 2
    assert "there is no finished run" in capsys.readouterr().err
    assert not (tmp_path / ".luthier").exists()


def test_report_writes_where_it_is_told(tmp_path: Path) -> None:
    path = task_at(tmp_path)
    call("run", str(path))
    assert call("report", str(path), "--html", str(tmp_path / "x.html"), "--markdown", str(tmp_path / "x.md")) == 0
    assert (tmp_path / "x.html").exists()
    assert "tfidf" in (tmp_path / "x.md").read_text(encoding="utf-8")
    assert call("report", str(path), "--html", str(tmp_path / "no" / "folder.html")) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = task_at(tmp_path)
    tmp_path.chmod(0o500)
    try:
        assert call("run", str(path)) == 2
    finally:
        tmp_path.chmod(0o700)
    assert "cannot be used" in capsys.readouterr().err


def test_a_folder_that_holds_a_file_where_the_store_should_be_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = task_at(tmp_path)
    (tmp_path / ".luthier").write_text("in the way")
    assert call("run", str(path)) == 2
    assert ".luthier" in capsys.readouterr().err


def test_an_unknown_demo_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("demo", "sapm") == 2
    err = capsys.readouterr().err
    assert "spam" in err
    assert "question-routing" in err


def test_every_command_is_documented_word_for_word() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_commands.py")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    names = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    assert names == {
        *(
            "audit",
            "init",
            "run",
            "diagnose",
            "report",
            "forecast",
            "export",
            "keys",
            "cache",
            "demo",
            "cost",
            "prices",
        ),
    }
    assert all(f"## `luthier {name}`" in made.stdout for name in names)
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == made.stdout, "run: make docs"


def test_a_data_file_is_not_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task_at(tmp_path)
    assert call("run", str(tmp_path / "data.csv")) == 2
    assert "luthier init" in capsys.readouterr().err


def test_report_tells_two_tasks_of_one_name_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = task_at(tmp_path)
    other = tmp_path / "other.toml"
    other.write_text(path.read_text(encoding="utf-8").replace("0.85", "0.9"), encoding="utf-8")
    call("run", str(path))
    call("run", str(other))
    capsys.readouterr()
    assert call("report", str(path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["target"]["at_least"] == 0.85
    path.write_text(path.read_text(encoding="utf-8").replace("0.85", "0.8"), encoding="utf-8")
    assert call("report", str(path), "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["target"]["at_least"] == 0.9, "the last one of that name"
    assert "changed since" in err


def test_keys_prints_every_key_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("keys") == 0
    assert capsys.readouterr().out == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert call("keys", "--json") == 0
    keys = json.loads(capsys.readouterr().out)["keys"]
    assert {"section": "target", "name": "at_least"}.items() <= next(k for k in keys if k["name"] == "at_least").items()


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_the_final_table_keeps_names_figures_and_outcomes_whatever_the_width(tmp_path: Path, width: int) -> None:
    candidate = Candidate("retrieved-shots", "smollm2-135m", 60)
    estimate = Estimate(1.0, 0.9912, 1.0, 1000, "ppr")
    result = CandidateResult(
        candidate, Outcome.DOES_NOT_MEET, "yes", (), 0.01, estimate, 1000, (), Usage(), seconds=123.4
    )
    console = Console(width=width, record=True, file=io.StringIO(), highlight=False)
    console.print(final_table((result,), Target("accuracy", 0.85), candidate.name, width))
    lines = console.export_text().splitlines()
    assert all(len(line) <= width for line in lines)
    for part in ("retrieved-shots@smollm2-135m", "100.0 % [99.1, 100.0]", "DOES NOT MEET"):
        assert part in lines[1]
    assert ("●" in lines[1]) == (width >= 120)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out.startswith("luthier 0.")


def test_a_fault_of_ours_is_exit_code_seventy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store that was tampered with in a way no user error covers."""
    import sqlite3

    path = task_at(tmp_path)
    call("run", str(path))
    with sqlite3.connect(tmp_path / ".luthier" / "luthier.db") as store:
        store.execute("update predictions set usage = '[]'")
    capsys.readouterr()
    assert call("run", str(path)) == 70
    err = capsys.readouterr().err
    assert "a fault of luthier" in err
    assert "Traceback" in err
