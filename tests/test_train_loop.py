"""The training loop: resumable to the bit, the best checkpoint back, the base as it was."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_module, tiny_tokenizer

from luthier.errors import DataError, ModelError, StoreError
from luthier.models.chat import Chat
from luthier.models.local import LocalModel
from luthier.train.adapter import adapted, trainable, write_adapter
from luthier.train.check import dev_scores
from luthier.train.job import Job
from luthier.train.loop import CHECKPOINT, Tuned, fine_tune
from luthier.train.recipe import Recipe
from luthier.train.rows import DevRow, TrainRow, answer_rows, train_row
from luthier.types import Message, Request

LABELS = ("animal", "number", "number of animals")
WORDS = {
    "animal": ("dog", "cat", "man"),
    "number": ("ten", "hundred", "two"),
    "number of animals": ("2 dogs", "7 cats"),
}
TEXTS = [(f"the {word} {at}", label) for at in range(3) for label, words in WORDS.items() for word in words]
RECIPE = Recipe(rank=4, alpha=8, learning_rate=1e-2, step_examples=4, epochs=2, dev_checks_per_epoch=2, pass_tokens=96)


def prompt(text: str) -> tuple[Message, ...]:
    return (Message("system", "Sort."), Message("user", text))


def data() -> tuple[list[TrainRow], list[DevRow]]:
    chat = Chat(tiny_tokenizer())
    rows = [train_row(chat, prompt(text), label, context_tokens=512, example_id=text) for text, label in TEXTS[:18]]
    dev = [
        DevRow(answer_rows(chat, prompt(text), LABELS, context_tokens=512, example_id=text), (LABELS.index(label),))
        for text, label in TEXTS[18:]
    ]
    return rows, dev


def tune(workdir: Path, recipe: Recipe = RECIPE, *, seed: int = 0, module: Any = None, **more: Any) -> Tuned:
    rows, dev = data()
    return fine_tune(module or tiny_module(), rows, Job(recipe, dev, seed, workdir, "tiny", **more))


def same_bits(one: Tuned, other: Tuned) -> bool:
    assert one.weights.keys() == other.weights.keys()
    return all(torch.equal(weight, other.weights[name]) for name, weight in one.weights.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """The training that nothing interrupts."""
    return tune(tmp_path_factory.mktemp("whole"))


def stop_at(step: int, stop: Callable[[], None]) -> Callable[[str, int, int], None]:
    def working(_text: str, done: int, _total: int) -> None:
        if done == step:
            stop()

    return working


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path, whole: Tuned) -> None:
    """Trap 23."""
    again, other = tune(tmp_path / "1"), tune(tmp_path / "2", seed=1)
    assert same_bits(again, whole)
    assert again.checks == whole.checks
    assert not same_bits(other, whole)


@pytest.mark.parametrize("step", [1, 4, 8])
def test_an_interrupted_training_resumes_and_ends_in_the_same_bits(tmp_path: Path, whole: Tuned, step: int) -> None:
    """Trap 15: Ctrl-C loses no whole step."""
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "parts", working=stop_at(step, interrupt))
    seen: list[int] = []
    resumed = tune(tmp_path / "parts", working=lambda _text, done, _total: seen.append(done))
    assert same_bits(resumed, whole)
    assert same_course(resumed, whole)
    assert seen[0] == step


def same_course(one: Tuned, other: Tuned) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("checks", "losses", "tokens", "tokens_run"))


def test_an_interrupt_in_the_middle_of_a_step_takes_that_step_back(tmp_path: Path, whole: Tuned) -> None:
    """Trap 15: half of a step's gradients, and what was counted for it, are forgotten."""
    module, calls = tiny_module(), []

    def count(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 20:
            interrupt()

    hook = module.lm_head.register_forward_hook(count)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, module=module)
    hook.remove()
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)["state"]
    assert kept["step"] not in (0, *RECIPE.check_steps(18)), "it was interrupted elsewhere"
    resumed = tune(tmp_path)
    assert same_bits(resumed, whole)
    assert same_course(resumed, whole)


def test_an_interrupt_in_a_dev_check_comes_back_to_that_check(tmp_path: Path, whole: Tuned) -> None:
    """Trap 15."""

    def working(text: str, done: int, _total: int) -> None:
        if "checking" in text and done == 5:
            interrupt()

    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, working=working)
    resumed = tune(tmp_path)
    assert same_bits(resumed, whole)
    assert same_course(resumed, whole)


def test_a_killed_training_resumes_in_another_process_and_ends_in_the_same_bits(tmp_path: Path, whole: Tuned) -> None:
    """Trap 15; and 23: another process ends in the same bits."""
    script = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import test_train_loop as t\n"
        "t.tune(Path(sys.argv[2]), working=t.stop_at(7, lambda: os.kill(os.getpid(), signal.SIGKILL)))"
    )
    here = str(Path(__file__).parent)
    killed = subprocess.run([sys.executable, "-c", script, here, str(tmp_path / "parts")], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (tmp_path / "parts" / CHECKPOINT).is_file()
    assert same_bits(tune(tmp_path / "parts"), whole)


def test_a_finished_training_is_not_run_again(tmp_path: Path) -> None:
    first = tune(tmp_path)
    again = tune(tmp_path, working=stop_at(1, interrupt))
    assert same_bits(first, again)
    assert again.seconds == first.seconds


@pytest.mark.parametrize("what", ["recipe", "seed", "torn"])
def test_a_checkpoint_of_something_else_is_not_resumed(tmp_path: Path, what: str) -> None:
    tune(tmp_path / "used")
    if what == "torn":
        path = tmp_path / "used" / CHECKPOINT
        path.write_bytes(path.read_bytes()[:1000])
    recipe = replace(RECIPE, learning_rate=3e-3) if what == "recipe" else RECIPE
    seed = 5 if what == "seed" else 0
    assert same_bits(tune(tmp_path / "used", recipe, seed=seed), tune(tmp_path / "new", recipe, seed=seed))


def test_the_best_checkpoint_is_returned_and_not_the_last(tmp_path: Path) -> None:
    """Trap 16. A rate that wrecks the model in the end: the adapter that comes back scores what the best check did."""
    _rows, dev = data()
    wild = replace(RECIPE, learning_rate=0.3, epochs=3, warmup_share=0.9)
    tuned = tune(tmp_path, wild)
    assert tuned.best == max(tuned.checks, key=lambda check: (check.dev_accuracy, -check.dev_nll))
    assert tuned.best.step < tuned.checks[-1].step, "the rate did no harm: the test shows nothing"
    module = adapted(tiny_module(), wild, seed=9)
    for name, parameter in trainable(module):
        parameter.data.copy_(tuned.weights["base_model.model." + name.replace(".default", "")])
    assert dev_scores(module, dev, 96, shared=False) == pytest.approx(
        (tuned.best.dev_accuracy, tuned.best.dev_nll), rel=1e-4
    )


def test_after_one_step_the_adapter_has_moved_and_the_base_has_not(tmp_path: Path) -> None:
    """Trap 13."""
    module = tiny_module()
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    tuned = tune(tmp_path, replace(RECIPE, epochs=1, step_examples=100), module=module)
    assert tuned.steps == 1
    fresh = dict(trainable(adapted(tiny_module(), RECIPE, seed=0)))
    for name, start in fresh.items():
        moved = not torch.equal(tuned.weights["base_model.model." + name.replace(".default", "")], start)
        assert moved == ("lora_B" in name), "at first B is 0, so that A has no gradient yet"
    assert module.state_dict().keys() == before.keys(), "the base has been given other layers"
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())
    assert all(weight.requires_grad for weight in module.parameters()), "the base has been frozen"


def test_all_linear_layers_but_the_head_are_adapted_in_fp32(tmp_path: Path) -> None:
    """Traps 12 and 13: the count is the formula's."""
    tuned = tune(tmp_path, replace(RECIPE, epochs=1, step_examples=100))
    wide, narrow, inner, rank = 32, 16, 48, RECIPE.rank
    attention = (wide + wide) + 2 * (wide + narrow) + (wide + wide)
    assert tuned.trainable_parameters == 2 * rank * (attention + 3 * (wide + inner))
    assert {weight.dtype for weight in tuned.weights.values()} == {torch.float32}
    assert not any("lm_head" in name or "embed" in name for name in tuned.weights)


def test_merged_the_adapter_answers_as_in_training_and_the_embeddings_stay_tied(tmp_path: Path) -> None:
    """Trap 14. The checks' prompts are those that are asked later: a token more or less would show."""
    model = LocalModel(tiny_module(), tiny_tokenizer(), name="tiny", fingerprint="tiny")
    tuned = tune(tmp_path, module=model.module)
    write_adapter(tmp_path / "adapter", tuned.weights, RECIPE, "tiny")
    merged = model.with_adapter(tmp_path / "adapter")
    replies = merged.complete([Request(prompt(text), choices=LABELS) for text, _ in TEXTS[18:]])
    rights = [LABELS.index(label) for _, label in TEXTS[18:]]
    tokens = sum(item.rows[item.right[0]].labelled for item in data()[1])
    nats = -sum(reply.choice_logprobs[at] for reply, at in zip(replies, rights, strict=True) if reply.choice_logprobs)
    assert nats / tokens == pytest.approx(tuned.best.dev_nll, rel=1e-4)
    assert merged.module.get_output_embeddings().weight is merged.module.get_input_embeddings().weight
    assert torch.equal(merged.module.get_input_embeddings().weight, model.module.get_input_embeddings().weight)


def test_an_overfitted_model_stops_at_the_end_of_turn(tmp_path: Path) -> None:
    """Traps 1 and 2: the tokenizer's eos is another token than the one that ends a turn here."""
    model = LocalModel(tiny_module(), tiny_tokenizer(), name="tiny", fingerprint="tiny")
    tuned = tune(tmp_path, replace(RECIPE, rank=8, alpha=32, epochs=12), module=model.module)
    write_adapter(tmp_path / "adapter", tuned.weights, replace(RECIPE, rank=8, alpha=32), "tiny")
    asked = [Request(prompt(text), max_tokens=12) for text, _ in TEXTS]
    before = [reply.finish_reason for reply in model.complete(asked)]
    after = [reply.finish_reason for reply in model.with_adapter(tmp_path / "adapter").complete(asked)]
    assert before.count("stop") < 0.5 * len(asked)
    assert after.count("stop") >= 0.95 * len(asked)


def test_a_loss_that_is_no_number_stops_with_the_last_checkpoint_kept(tmp_path: Path, whole: Tuned) -> None:
    module = tiny_module()
    norm = module.model.norm.weight
    good = norm.detach().clone()
    with pytest.raises(ModelError, match=r"diverged: at step 5 of 10(.|\n)*lower the learning rate \(now 0\.01\)"):
        tune(tmp_path, module=module, working=stop_at(4, lambda: norm.data.fill_(float("nan"))))
    norm.data.copy_(good)
    seen: list[int] = []
    assert same_bits(tune(tmp_path, working=lambda _text, done, _total: seen.append(done)), whole)
    assert seen[0] == 3, "it did not go on from the last check before the loss was lost"


def test_each_labelled_token_of_a_step_weighs_the_same_however_it_is_cut_into_passes(tmp_path: Path) -> None:
    """Trap 10."""
    one_step = replace(RECIPE, epochs=1, step_examples=100)
    whole, cut = (tune(tmp_path / str(size), replace(one_step, pass_tokens=size)) for size in (4096, 20))
    assert cut.tokens_run > whole.tokens_run
    assert cut.checks[0].train_loss == pytest.approx(whole.checks[0].train_loss, rel=1e-5)
    assert cut.checks[0].dev_nll == pytest.approx(whole.checks[0].dev_nll, rel=1e-3)


@pytest.mark.parametrize(("clip_norm", "moved"), [(1.0, 0.005), (1e-12, 0.0)])
def test_the_recipes_rate_and_clipping_are_those_of_the_steps(tmp_path: Path, clip_norm: float, moved: float) -> None:
    """AdamW's first step moves each weight by the rate, whatever its gradient, unless that is next to nothing."""
    recipe = replace(RECIPE, epochs=4, step_examples=100, warmup_share=0.5, clip_norm=clip_norm)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, recipe, working=stop_at(1, interrupt))
    adapter = torch.load(tmp_path / CHECKPOINT, weights_only=True)["adapter"]
    largest = max(float(weight.abs().max()) for name, weight in adapter.items() if "lora_B" in name)
    assert recipe.rate_at(0, 4) == 0.005
    assert largest == pytest.approx(moved, rel=1e-2, abs=1e-5)


def test_the_epochs_have_orders_of_their_own_and_leave_no_example_out(tmp_path: Path) -> None:
    one, two = (tune(tmp_path / str(epochs), replace(RECIPE, epochs=epochs)) for epochs in (1, 2))
    lengths = sum(len(row.input_ids) for row in data()[0])
    assert (one.tokens, two.tokens) == (lengths, 2 * lengths)
    assert two.tokens_run != 2 * one.tokens_run, "the same steps in both epochs"


def test_training_needs_rows_and_dev_examples(tmp_path: Path) -> None:
    rows, dev = data()
    for some_rows, some_dev, missing in (([], dev, "training"), (rows, [], "dev")):
        with pytest.raises(DataError, match=f"no {missing} examples"):
            fine_tune(tiny_module(), some_rows, Job(RECIPE, some_dev, 0, tmp_path, "tiny"))


def test_a_full_disk_is_a_clear_error_and_the_last_checkpoint_stays(tmp_path: Path, whole: Tuned) -> None:
    """A limit on the size of files ends a write in the middle, as a full disk does."""
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, working=stop_at(4, interrupt))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(StoreError, match="checkpoint cannot be written(.|\n)*make room on the disk"):
            tune(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    seen: list[int] = []
    assert same_bits(tune(tmp_path, working=lambda _text, done, _total: seen.append(done)), whole)
    assert seen[0] == 4


def test_a_checkpoint_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(StoreError, match="checkpoint cannot be written"):
        tune(blocked)


def test_the_loss_falls(tmp_path: Path) -> None:
    tuned = tune(tmp_path, replace(RECIPE, epochs=6))
    assert tuned.checks[-1].train_loss < 0.5 * tuned.checks[0].train_loss
