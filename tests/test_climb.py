"""The climb, end to end on small tasks: verdicts, replay, the alpha ledger, kill and resume."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import colour_rows, write_task

import luthier
from luthier.climb import Options, plan
from luthier.errors import ModelError, PowerError, SpecError
from luthier.models.embed import HashEmbedder
from luthier.models.scripted import ScriptedModel
from luthier.report.verdict import Verdict
from luthier.store import Store
from luthier.types import Event, Message, Outcome

TOML = """
[task]
name = "colours"
instruction = "Is the colour warm or cold?"
[task.labels]
warm = "red, orange or yellow"
cold = "blue, green or violet"
[data]
path = "data.csv"
input = "text"
reference = "label"
near_duplicates = false
[split]
train = 200
dev = 60
test = 300
[target]
metric = "accuracy"
at_least = {at_least}
[ladder]
rungs = {rungs}
"""

WARM = ("red", "orange", "yellow")


def script(messages: tuple[Message, ...]) -> str:
    return "warm" if any(colour in messages[-1].content for colour in WARM) else "cold"


def models() -> dict[str, Any]:
    return {"prompted": ScriptedModel(script, name="oracle"), "embedder": HashEmbedder()}


def task_at(
    folder: Path, *, rungs: tuple[str, ...] = ("majority", "tfidf"), at_least: float = 0.85, noise: int = 0
) -> Path:
    toml = TOML.format(rungs=json.dumps(list(rungs)), at_least=at_least)
    return write_task(folder, colour_rows(600, noise=noise), toml)


def timeless(verdict: Verdict) -> dict[str, Any]:
    """The verdict's JSON without what may differ between an interrupted and an uninterrupted run."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            dropped = ("seconds", "fit_seconds", "usage", "measured", "test_accesses", "started_at", "finished_at")
            return {key: clean(item) for key, item in value.items() if key not in dropped}
        return [clean(item) for item in value] if isinstance(value, list) else value

    found = clean(verdict.to_dict())
    assert isinstance(found, dict)
    return found


def test_the_simplest_candidate_that_meets_the_target_is_chosen_and_the_climb_stops(tmp_path: Path) -> None:
    path = task_at(tmp_path, rungs=("majority", "tfidf", "zero-shot"))
    verdict = luthier.run(path, models=models())
    outcomes = {result.candidate.name: result.outcome for result in verdict.candidates}
    assert outcomes == {
        "majority": Outcome.DOES_NOT_MEET,
        "tfidf": Outcome.MEETS,
        "zero-shot@oracle": Outcome.NOT_MEASURED,
    }
    assert verdict.chosen == "tfidf"
    assert verdict.candidates[2].reasons == ("tfidf already meets the target, and it is simpler",)
    assert verdict.spend["examples_scored"] < verdict.spend["examples_available"] == 600


def test_all_rungs_climbs_on_and_exhaustive_scores_everything(tmp_path: Path) -> None:
    path = task_at(tmp_path, rungs=("majority", "tfidf", "zero-shot"))
    short = luthier.run(path, models=models())
    whole = luthier.run(path, models=models(), options=Options(all_rungs=True, exhaustive=True))
    assert [len(run.rows) for run in whole.runs] == [300, 300, 300]
    assert whole.chosen == short.chosen
    for before, after in zip(short.candidates[:2], whole.candidates[:2], strict=True):
        assert before.outcome is after.outcome
        assert before.alpha == after.alpha, "an unchanged predictor keeps its share"


def test_the_error_budget_is_shared_among_the_candidates(tmp_path: Path) -> None:
    path = task_at(tmp_path, rungs=("majority", "zero-shot", "calibrated", "few-shot", "retrieved-shots"))
    verdict = luthier.run(path, models=models(), options=Options(all_rungs=True))
    shares = [result.alpha for result in verdict.candidates]
    assert len({round(share, 12) for share in shares}) == 1
    assert sum(shares) <= 0.05


def test_a_rerun_replays_for_free(tmp_path: Path) -> None:
    path = task_at(tmp_path, rungs=("majority", "zero-shot"))
    first = luthier.run(path, models=models())
    again = models()
    second = luthier.run(path, models=again)
    assert again["prompted"].calls == 0
    assert timeless(first) == timeless(second)
    assert first.spend["test_accesses"] == second.spend["test_accesses"]


def test_a_changed_predictor_spends_from_what_is_left(tmp_path: Path) -> None:
    path = task_at(tmp_path, rungs=("zero-shot",))
    first = luthier.run(path, models=models())
    changed = luthier.run(path, models={"prompted": ScriptedModel(script, name="oracle", version="2")})
    assert changed.candidates[0].alpha == pytest.approx(first.candidates[0].alpha / 4)
    assert len(changed.provenance["alpha_ledger"]) == 2


def test_no_rung_sees_the_test_split_before_its_race(tmp_path: Path) -> None:
    path = task_at(tmp_path, rungs=("few-shot",))
    task = luthier.load_task(path)
    sealed = {example.input for example in task.test.order}
    model = ScriptedModel(script, name="oracle")
    seen_while_fitting: list[str] = []

    def listen(event: Event) -> None:
        if event.kind == "racing" and not seen_while_fitting:
            store = sqlite3.connect(tmp_path / ".luthier" / "luthier.db")
            shares = store.execute("select count(*) from shares").fetchone()[0]
            assert shares == 1, "the share of alpha is set before the first look"
            asked = [message.content for request in model.requests for message in request.messages]
            seen_while_fitting.extend(asked)

    verdict = luthier.run(task, models={"prompted": model}, listen=listen)
    fitted_with = [text for text, _ in verdict.runs[0].fit.get("shots", [])]
    assert not sealed & set(fitted_with)
    raced = {row.example.input for row in verdict.runs[0].rows}
    assert raced <= sealed
    assert not (set(seen_while_fitting) - raced) & sealed


def test_a_split_too_small_to_decide_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    path = task_at(tmp_path, at_least=0.999)
    with pytest.raises(PowerError, match="cannot prove 0.999.* that takes"):
        luthier.run(path, models=models())
    store = sqlite3.connect(tmp_path / ".luthier" / "luthier.db")
    assert store.execute("select count(*) from test_accesses").fetchone() == (0,)
    assert store.execute("select count(*) from shares").fetchone() == (0,)


def test_what_the_split_can_decide_is_said_first(tmp_path: Path) -> None:
    events: list[Event] = []
    luthier.run(task_at(tmp_path), models=models(), listen=events.append)
    notes = [event.text for event in events if event.kind == "note"]
    assert any("300 test examples about accuracy prove MEETS from a true" in note for note in notes)


def test_another_template_is_no_fresh_test_split(tmp_path: Path) -> None:
    shares = []
    for at in range(3):
        path = task_at(tmp_path, rungs=("majority",))
        text = path.read_text().replace('input = "text"', f'template = "v{at}: {{text}}"')
        path.write_text(text)
        shares.append(luthier.run(path, models=models()).candidates[0].alpha)
    assert shares[0] / shares[1] == pytest.approx(4)
    assert shares[0] / shares[2] == pytest.approx(9)


def test_a_finished_run_is_repeated_even_if_a_new_one_could_no_longer_decide(tmp_path: Path) -> None:
    path = task_at(tmp_path, rungs=("zero-shot",))
    path.write_text(path.read_text().replace("test = 300", "test = 27"))
    first = luthier.run(path, models=models())
    assert first.chosen == "zero-shot@oracle"
    assert timeless(luthier.run(path, models=models())) == timeless(first)
    with pytest.raises(PowerError):
        luthier.run(path, models={"prompted": ScriptedModel(script, name="other")})


def test_a_damaged_predictor_is_fitted_again_and_not_raced(tmp_path: Path) -> None:
    path = task_at(tmp_path)
    first = luthier.run(path)
    for saved in (tmp_path / ".luthier" / "predictors").glob("*/predictor.json"):
        saved.write_text(saved.read_text().replace("warm", "cold"))
    for saved in (tmp_path / ".luthier" / "predictors").glob("*/*.npz"):
        saved.write_bytes(saved.read_bytes()[:100])
    notes: list[str] = []
    again = luthier.run(path, options=Options(exhaustive=True), listen=lambda event: notes.append(event.text))
    assert any("changed or damaged" in note for note in notes)
    assert [run.fingerprint for run in again.runs] == [run.fingerprint for run in first.runs]
    assert [result.outcome for result in again.candidates] == [result.outcome for result in first.candidates]


def test_a_failing_model_leaves_unscored_rows_not_zeros(tmp_path: Path) -> None:
    path = task_at(tmp_path, rungs=("zero-shot",))
    model = ScriptedModel(script, name="oracle", failing=range(0, 400, 10))
    verdict = luthier.run(path, models={"prompted": model})
    result = verdict.candidates[0]
    assert result.unscored >= 1
    assert result.estimate is not None
    assert result.estimate.mean == 1.0


def test_what_failed_is_asked_again_and_what_was_answered_is_not(tmp_path: Path) -> None:
    """A passing failure must not become a measurement, neither in the race nor in what is measured beside it."""
    path = task_at(tmp_path, rungs=("zero-shot",))
    first = luthier.run(path, models={"prompted": ScriptedModel(script, name="oracle", failing=range(0, 400, 10))})
    failed = first.candidates[0].unscored
    assert first.candidates[0].consistency["failed"] > 0
    assert first.candidates[0].consistency["reworded"]["mean"] == 1.0, "a failure is no other answer"
    healthy = ScriptedModel(script, name="oracle")
    again = luthier.run(path, models={"prompted": healthy})
    assert again.candidates[0].unscored == 0
    raced = len(again.runs[0].rows)
    assert raced <= len(first.runs[0].rows)
    beside = 4 * 24  # dev inputs, as they are and in three rewordings
    assert 0 < len(healthy.requests) <= failed + beside
    third = ScriptedModel(script, name="oracle")
    luthier.run(path, models={"prompted": third})
    assert third.requests == []


def test_a_rung_that_cannot_be_fitted_leaves_the_others_to_be_measured(tmp_path: Path) -> None:
    path = task_at(tmp_path, rungs=("majority", "zero-shot", "lora"), at_least=0.97, noise=6)
    given = models() | {"student": ScriptedModel(script, name="oracle")}
    verdict = luthier.run(path, models=given)
    assert [result.outcome for result in verdict.candidates] == [
        Outcome.DOES_NOT_MEET,
        Outcome.DOES_NOT_MEET,
        Outcome.NOT_MEASURED,
    ]
    assert "its weights cannot be trained here" in verdict.candidates[2].reasons[0]


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the end of the disk."""
    path = task_at(tmp_path, rungs=("majority", "zero-shot"))
    code = textwrap.dedent(CLIMB).format(path=[str(Path(__file__).parent)])
    limit = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, 80_000))\n"
    )
    call = [sys.executable, "-B", "-c", limit + code, str(path), str(tmp_path / "verdict.json")]
    full = subprocess.run(call, capture_output=True, timeout=180)
    assert b"StoreError" in full.stderr.splitlines()[-2]
    assert not (tmp_path / "verdict.json").exists()
    verdict = luthier.run(path, models={"prompted": ScriptedModel(script, name="oracle")})
    assert verdict.chosen == "zero-shot@oracle"


def test_the_plan_names_candidates_by_rung_and_model(tmp_path: Path) -> None:
    task = luthier.load_task(task_at(tmp_path, rungs=("majority", "zero-shot", "lora")))
    assert [candidate.name for candidate in plan(task)] == [
        "majority",
        "zero-shot@smollm2-135m",
        "lora@smollm2-135m",
    ]


CLIMB = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored
sys.path[:0] = {path!r}
from test_climb import script
import luthier
from luthier.models.scripted import ScriptedModel
verdict = luthier.run(sys.argv[1], models={{"prompted": ScriptedModel(script, name="oracle", latency_s=0.15)}})
Path(sys.argv[2]).write_text(verdict.to_json())
"""


Start = Callable[[Path, Path], subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts climbs in processes of their own; none outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def launch(path: Path, out: Path) -> subprocess.Popen[bytes]:
        code = textwrap.dedent(CLIMB).format(path=[str(Path(__file__).parent)])
        process = subprocess.Popen([sys.executable, "-c", code, str(path), str(out)], stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield launch
    for process in started:
        process.kill()
        process.communicate()


def blocks_stored(folder: Path) -> int:
    database = folder / ".luthier" / "luthier.db"
    if not database.exists():
        return 0
    try:
        with sqlite3.connect(database, timeout=5) as store:
            return int(store.execute("select count(*) from test_accesses").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def wait_for_blocks(folder: Path, count: int) -> None:
    until = time.monotonic() + 180
    while blocks_stored(folder) < count:
        assert time.monotonic() < until, "the climb did not get that far"
        time.sleep(0.02)


def killed(start: Start, folder: Path, number: signal.Signals, blocks: int) -> int:
    """Start a climb, send it a signal after some blocks; its exit code."""
    process = start(folder / "luthier.toml", folder / "verdict.json")
    wait_for_blocks(folder, blocks)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert not (folder / "verdict.json").exists(), "it was over before it could be stopped"
    if number is signal.SIGINT:
        assert b"Stopped: interrupted" in errors
    return process.returncode


def test_a_killed_run_goes_on_where_it_was_and_ends_in_the_same_verdict(tmp_path: Path, start: Start) -> None:
    rungs = ("majority", "zero-shot", "calibrated")
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        task_at(folder, rungs=rungs, at_least=0.97, noise=14)
    assert killed(start, one, signal.SIGKILL, blocks=4) == -signal.SIGKILL
    assert killed(start, one, signal.SIGINT, blocks=6) != 0
    before = blocks_stored(one)
    resumed = start(one / "luthier.toml", one / "verdict.json")
    straight = start(other / "luthier.toml", other / "verdict.json")
    for process in (resumed, straight):
        assert process.wait(180) == 0
    assert before >= 6
    assert blocks_stored(one) <= blocks_stored(other) + 2, "a killed run repeats at most one block"

    def load(folder: Path) -> Any:
        class Loaded:
            def to_dict(self) -> Any:
                return json.loads((folder / "verdict.json").read_text())

        return timeless(Loaded())  # type: ignore[arg-type]

    assert load(one) == load(other)
    ledger = Store(one / ".luthier").ledger(load(one)["provenance"]["split_hash"])
    assert len(ledger) == len(rungs), "no share is spent twice"


def test_two_climbs_in_one_folder_do_not_corrupt_it(tmp_path: Path, start: Start) -> None:
    path = task_at(tmp_path, rungs=("majority", "zero-shot"))
    with Store(tmp_path / ".luthier").lock():  # as a climb holds it
        second = start(path, tmp_path / "second.json")
        _, errors = second.communicate(timeout=180)
    assert b"another luthier run is at work" in errors
    assert start(path, tmp_path / "first.json").wait(180) == 0
    with sqlite3.connect(tmp_path / ".luthier" / "luthier.db") as store:
        assert store.execute("pragma integrity_check").fetchone() == ("ok",)


def test_every_prompt_rung_races_and_the_best_prompt_tells_how_steady_it_is(tmp_path: Path) -> None:
    """A model that is never sure enough: each prompt rung is fitted, raced and judged, and resumed from the store."""
    rungs = (
        "zero-shot",
        "calibrated",
        "instructed",
        "few-shot",
        "many-shot",
        "retrieved-shots",
        "reasoned",
        "combined",
    )

    def shaky(messages: tuple[Message, ...]) -> str:
        said = script(messages)
        return said if len(messages[-1].content) % 3 else ("cold" if said == "warm" else "warm")

    given = {"prompted": ScriptedModel(shaky, name="shaky"), "embedder": HashEmbedder()}
    path = task_at(tmp_path, rungs=rungs, at_least=0.97)
    verdict = luthier.run(path, models=given)
    assert {result.candidate.rung: result.outcome for result in verdict.candidates} == dict.fromkeys(
        rungs, Outcome.DOES_NOT_MEET
    )
    steady = [result for result in verdict.candidates if result.consistency]
    assert len(steady) == 1
    assert steady[0].consistency["inputs"] == 24
    assert steady[0].consistency["reworded"]["mean"] == 1.0, "the script never looks at the instruction"
    again = luthier.run(path, models=given)
    assert timeless(again)["candidates"] == timeless(verdict)["candidates"]


def test_a_teacher_elsewhere_is_said_to_have_seen_examples(tmp_path: Path) -> None:
    """Only training examples go to the teacher, but they leave this machine all the same."""

    class Elsewhere(ScriptedModel):
        remote = True

    teacher = Elsewhere(lambda messages: "```\nIs the colour warm or cold?\n```", name="teacher")
    verdict = luthier.run(
        task_at(tmp_path, rungs=("zero-shot", "instructed"), at_least=0.97, noise=7),
        models={**models(), "teacher": teacher},
    )
    assert teacher.requests
    assert {run.candidate.rung: run.remote for run in verdict.runs} == {"zero-shot": False, "instructed": True}


def test_a_model_for_a_role_that_there_is_not_is_an_error_and_not_left_aside(tmp_path: Path) -> None:
    path = write_task(tmp_path, colour_rows(560), TOML.format(at_least=0.3, rungs='["majority"]'))
    with pytest.raises(SpecError, match="no role 'promted'") as caught:
        luthier.run(path, models={"promted": ScriptedModel(script)})
    assert "prompted, student, embedder, teacher, judge" in str(caught.value)


@pytest.mark.parametrize("name", ["smollm2-130m", "Qwen/Qwen2.5-0.5B"])
def test_a_model_that_nobody_knows_is_told_before_anything_is_spent(name: str, tmp_path: Path) -> None:
    path = task_at(tmp_path, rungs=("majority", "zero-shot", "lora"))
    path.write_text(path.read_text() + f'\n[models]\nstudent = "{name}"\n')
    model, events = ScriptedModel(script), []
    with pytest.raises(ModelError, match=r"use one of: smollm2-135m|one of: smollm2-135m.*no model hub is asked"):
        luthier.run(path, models={"prompted": model}, listen=events.append)
    assert not model.requests
    assert not [event for event in events if event.kind == "finished"]
