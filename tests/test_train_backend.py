"""Where a fine-tune runs: the setting reaches the trainer, and what cannot teach anything is told before."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_lora import QUICK, TestLora
from test_train_loop import RECIPE, data, same_bits, tune
from tiny_models import TEMPLATES, tiny_model, tiny_module, tiny_tokenizer

from luthier.errors import DataError, SpecError
from luthier.models.local import LocalModel
from luthier.rungs.tuned import Student
from luthier.task import load_task
from luthier.train import backend
from luthier.train.job import Job
from luthier.train.loop import Tuned
from luthier.types import Event, Example, FitContext, Request, Training


def run(workdir: Path, **more: Any) -> Tuned:
    rows, dev = data()
    given = {"rows": rows, "dev": dev, "recipe": RECIPE, "training": Training()} | more
    job = Job(given["recipe"], given["dev"], 0, workdir, "tiny")
    return backend.fine_tune(tiny_module(), given["rows"], job, given["training"])


def test_on_a_cpu_the_loop_trains_unless_trl_is_asked_for(tmp_path: Path) -> None:
    loops = tune(tmp_path / "loop")
    assert same_bits(run(tmp_path / "auto"), loops)
    other = run(tmp_path / "trl", training=Training("trl"))
    assert (tmp_path / "trl").glob("trl-*")
    assert other.losses == pytest.approx(loops.losses, rel=1e-3)
    assert not same_bits(other, loops)


def test_a_rung_trains_where_the_task_says(tmp_path: Path) -> None:
    spec, train, dev = TestLora().make_task()
    student = tiny_model()
    told, texts = {}, {}
    for name in ("loop", "trl"):
        events: list[Event] = []
        task = replace(spec, training=Training(name, replay=0))  # type: ignore[arg-type]
        context = FitContext({"student": student}, 0, tmp_path / name, "lora@tiny", listen=events.append)
        predictor = QUICK.fit(task, train, dev, context)
        told[name] = predictor.describe()
        texts[name] = [event.text.split(",")[0] for event in events]
        assert [p.output for p in predictor.predict([e.input for e in train])] == [e.reference for e in train]
    assert told["trl"]["loss by step"] == pytest.approx(told["loop"]["loss by step"], rel=1e-2, abs=1e-2)
    assert texts["trl"] == texts["loop"]


def test_the_section_reads_as_it_is_written(tmp_path: Path) -> None:
    toml = '[task]\nname = "t"\n[data]\npath = "d.csv"\ninput = "x"\nreference = "y"\n[target]\nat_least = 0.5\n'
    rows = "".join(f"text number {at} of {at * at},{'ab'[at % 2]}\n" for at in range(60))
    (tmp_path / "d.csv").write_text("x,y\n" + rows)
    path = tmp_path / "luthier.toml"
    path.write_text(toml)
    plain = load_task(path)
    assert plain.spec.training == Training()
    path.write_text(toml + '[training]\nbackend = "trl"\nprocesses = 2\n')
    chosen = load_task(path)
    assert chosen.spec.training == Training("trl", 2)
    assert chosen.fingerprint != plain.fingerprint
    path.write_text(toml + "[training]\nupper_layers = 15\n")
    assert load_task(path).spec.training == Training(upper_layers=15)
    for wrong in (
        'backend = "deepspeed"',
        'backend = "trl"\nreplay = 1',
        "replay = -1",
        "upper_layers = 0",
        'backend = "loop"\nprocesses = 2',
        "processes = 0",
    ):
        path.write_text(f"{toml}[training]\n{wrong}\n")
        with pytest.raises(SpecError, match=r"\[training\]"):
            load_task(path)


def test_without_trl_the_error_names_the_extra() -> None:
    script = (
        "import sys; sys.modules['trl'] = None\n"
        "from luthier.errors import MissingExtra\n"
        "import luthier.train.backend, luthier.train.worker\n"
        "try:\n    import luthier.train.trl\n"
        "except MissingExtra as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'luthier[trl]'" in done.stdout


def test_too_few_examples_for_one_step_are_an_error(tmp_path: Path) -> None:
    rows, _ = data()
    with pytest.raises(DataError, match=r"3 training examples are fewer than the 4(.|\n)*label more"):
        run(tmp_path, rows=rows[:3])


def test_examples_of_one_class_are_an_error(tmp_path: Path) -> None:
    spec, train, dev = TestLora().make_task()
    first = [example for example in train if example.reference == train[0].reference]
    with pytest.raises(DataError, match=r"the same answer(.|\n)*other labels"):
        QUICK.fit(spec, first * 3, dev, FitContext({"student": tiny_model()}, 0, tmp_path))


def test_a_reference_longer_than_the_context_is_an_error_that_names_the_example(tmp_path: Path) -> None:
    """Trap 7: where answers are written, the answer itself may be what is too long."""
    spec, train, dev = TestLora().make_task()
    written = replace(spec, kind="generation", labels=(), max_tokens=8)
    long = Example("the-long-answer", "a dog", ("dog " * 80,))
    models = {"student": tiny_model(context=64)}
    with pytest.raises(DataError, match="example 'the-long-answer'"):
        QUICK.fit(written, [*train, long], dev, FitContext(models, 0, tmp_path))


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_is_asked_is_what_was_trained(template: str) -> None:
    """Trap 4: the ids that the engine runs for a question begin with the row's prompt, whatever a template puts in."""
    spec, train, _ = TestLora().make_task()
    model = tiny_model(template=template)
    student = Student.of(spec, {"student": model}, "lora")
    row = student.row(train[0])
    run_ids: list[int] = []

    def record(_module: Any, _given: Any, named: dict[str, Any]) -> None:
        run_ids.extend(named["input_ids"][0].tolist())

    model.complete([student_request(student, "another question")])  # so that no prefix is left of this one
    hook = model.module.register_forward_pre_hook(record, with_kwargs=True)
    replies = model.complete([student_request(student, str(train[0].input))])
    hook.remove()
    assert replies[0].error is None
    prompt = row.input_ids[: row.labels_from]
    kept = replies[0].usage.cached_tokens
    assert tuple(run_ids[: len(prompt) - kept]) == prompt[kept:]
    text = model.tokenizer.decode(prompt)
    assert text == rendered(model, student, str(train[0].input))
    assert ("Be kind." in text) is False


def student_request(student: Student, text: str) -> Request:
    return Request(student.prompt(text), choices=student.labels)


def rendered(model: LocalModel, student: Student, text: str) -> str:
    """The chat as the template's own text, which is what a server gets from its own copy of the template."""
    turns = [{"role": turn.role, "content": turn.content} for turn in student.prompt(text)]
    return str(
        model.tokenizer.apply_chat_template(
            turns, chat_template=model.chat.template, add_generation_prompt=True, tokenize=False
        )
    )


def test_a_model_that_was_saved_in_half_precision_is_trained_in_fp32(tmp_path: Path) -> None:
    """Trap 12."""
    tiny_module().to(torch.bfloat16).save_pretrained(tmp_path / "half")
    tiny_tokenizer().save_pretrained(tmp_path / "half")
    model = LocalModel.load(tmp_path / "half", name="half")
    assert {weight.dtype for weight in model.module.parameters()} == {torch.float32}
    rows, dev = data()
    for training in (Training("loop"), Training("trl")):
        job = Job(replace(RECIPE, epochs=1), dev, 0, tmp_path / training.backend, "half")
        tuned = backend.fine_tune(model.module, rows, job, training)
        assert {weight.dtype for weight in tuned.weights.values()} == {torch.float32}
