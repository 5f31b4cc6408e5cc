"""TRL's trainer: the same rows by the same recipe, for GPUs and for several processes.

TRL renders and shuffles nothing here: it gets each step's rows as ids and labels, in the order of luthier's own loop.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import DataError, MissingExtra, StoreError
from luthier.models.quiet import quiet
from luthier.train.adapter import adapted, frozen_copy, lora_config, put_weights, trained_weights
from luthier.train.check import Check, best_of, dev_scores
from luthier.train.loop import Tuned, Working, diverged, progress, step_examples
from luthier.train.recipe import Recipe
from luthier.train.rows import DevRow, TrainRow
from luthier.train.tree import ATTENTION, why_not_shared
from luthier.types import digest

try:
    import torch
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors import SafetensorError
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    with quiet():
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
except ImportError as error:
    raise MissingExtra("trl", 'training with backend = "trl"') from error

# changes whenever the same rows and recipe could give other weights: an older checkpoint is not resumed then
TRAINER = "trl-1"
STATE = "luthier.pt"
IGNORED = -100
# stands for a row without any label: it adds nothing to a loss, and fills a step up for processes to have equally many
BLANK = -1
GPU_PASSES = 8


def fine_tune(
    module: Any,
    rows: Sequence[TrainRow],
    dev: Sequence[DevRow],
    recipe: Recipe,
    *,
    seed: int,
    workdir: Path,
    base_fingerprint: str,
    start: Mapping[str, Any] | None = None,
    working: Working = lambda _text, _done, _total: None,
) -> Tuned:
    """Train what the recipe trains of `module` by TRL's SFTTrainer; contract and errors as in `loop.fine_tune`.

    Each step has the loop's examples, so that the weights differ from the loop's by rounding alone. In a process that
    `accelerate launch` started, the processes divide each step; all of them return the same. It goes on from the last
    dev check, and after Ctrl-C, where it is one process, from the last whole step. Does not cover: models that one
    device cannot hold (FSDP).
    """
    if not rows or not dev:
        raise DataError(f"there are no {'dev' if rows else 'training'} examples", fix="a fine-tune needs both")
    data = [[asdict(row) for row in some] for some in (rows, dev)]
    begun = {name: weight.numpy().tobytes() for name, weight in (start or {}).items()}
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    key = digest(TRAINER, processes, asdict(recipe), data, seed, base_fingerprint, begun)
    plan = Plan.of(rows, recipe, seed=seed, processes=processes, on_cpu=module.device.type == "cpu")
    folder = workdir / f"trl-{key[:12]}"
    try:
        with quiet(), _seed_kept():
            model = _model(module, recipe, seed=seed, start=start)
            watch = _Watch(model, rows, dev, recipe, plan, folder, working, checked_first=start is not None)
            trainer = _trainer(
                model, plan, plan.dataset(rows), recipe, folder, seed, on_cpu=module.device.type == "cpu"
            )
            trainer.add_callback(watch)
            last = watch.resume()
            try:
                trainer.train(resume_from_checkpoint=last)
            except KeyboardInterrupt:
                if processes == 1 and not watch.moving:
                    trainer._save_checkpoint(trainer.model_wrapped, None)
                    watch.on_save(trainer.args, trainer.state, trainer.control)
                raise
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"the checkpoint cannot be written: {error}",
            where=str(folder),
            fix="make room on the disk and run the same command again: it resumes at the last checkpoint",
        ) from error
    return watch.result()


# ---------------------------------------------------------------- what each step gets


@dataclass(frozen=True)
class Plan:
    """Which row stands where: `slots` a step, one step behind the other; `BLANK` is a row without any label.

    Each process takes `passes` times `rows_at_once` of a step.
    """

    laid: tuple[int, ...]
    steps: int
    slots: int
    rows_at_once: int
    passes: int
    longest: int
    tokens: int
    tokens_run: int

    @classmethod
    def of(cls, rows: Sequence[TrainRow], recipe: Recipe, *, seed: int, processes: int, on_cpu: bool) -> Plan:
        """Of each step the longest rows come first: what is padded together is about as long."""
        each = -(-recipe.step_examples // processes)
        slots = each * processes
        steps = recipe.epochs * recipe.steps_per_epoch(len(rows))
        lengths = [len(row.input_ids) for row in rows]
        longest = max(lengths)
        room = recipe.pass_tokens * (1 if on_cpu else GPU_PASSES)
        at_once = max(size for size in range(1, each + 1) if each % size == 0 and size * longest <= max(room, longest))
        laid: list[int] = []
        for step in range(steps):
            chosen = sorted(step_examples(recipe, len(rows), step, seed=seed), key=lambda at: -lengths[at])
            laid += chosen + [BLANK] * (slots - len(chosen))
        known = [2 if at == BLANK else lengths[at] for at in laid]
        return cls(
            tuple(laid),
            steps,
            slots,
            at_once,
            each // at_once,
            longest,
            tokens=sum(lengths[at] for at in laid if at != BLANK),
            tokens_run=sum(known[at] * at_once for at in range(0, len(known), at_once)),
        )

    def dataset(self, rows: Sequence[TrainRow]) -> Any:
        """The rows as ids and labels, each once, and their places beside them."""
        labels = [[IGNORED] * row.labels_from + list(row.input_ids[row.labels_from :]) for row in rows]
        ids = [list(row.input_ids) for row in rows]
        data = Dataset.from_dict({"input_ids": [*ids, [0, 0]], "labels": [*labels, [IGNORED] * 2]})
        return data.select([len(rows) if at == BLANK else at for at in self.laid])


# ---------------------------------------------------------------- the trainer


def _model(module: Any, recipe: Recipe, *, seed: int, start: Mapping[str, Any] | None) -> Any:
    """PEFT's own model, with the very weights that the loop begins with."""
    mine = adapted(module, recipe, seed=seed)
    if start is not None:
        put_weights(mine, start, recipe.method)
    if recipe.method == "full":
        return _without_dropout(mine)
    weights = trained_weights(mine, recipe.method)
    with quiet():
        around = module if recipe.method == "qlora" else frozen_copy(module)
        model = get_peft_model(around, lora_config(recipe), autocast_adapter_dtype=False)
        set_peft_model_state_dict(model, weights)
    return _without_dropout(model)


def _without_dropout(model: Any) -> Any:
    """The trainer runs a model in training mode, and the recipe says that nothing is dropped."""
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        for name, value in list(vars(part).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, 0.0)
    return model


class _Trainer(SFTTrainer):  # type: ignore[misc]  # trl is untyped here
    """TRL's trainer with the recipe's own rates, and silent."""

    def __init__(self, *, recipe: Recipe, **given: Any) -> None:
        self.recipe = recipe
        super().__init__(**given)

    def _send_telemetry(self) -> None:
        """TRL would tell its makers about this training: nothing leaves this machine unasked."""

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        optimizer = optimizer or self.optimizer
        peak = self.recipe.learning_rate

        def share(step: int) -> float:
            return self.recipe.rate_at(step, num_training_steps) / peak

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        self._created_lr_scheduler = True
        return self.lr_scheduler


def _trainer(model: Any, plan: Plan, data: Any, recipe: Recipe, folder: Path, seed: int, *, on_cpu: bool) -> Any:
    half = not on_cpu and torch.cuda.is_bf16_supported()
    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.rows_at_once,
        gradient_accumulation_steps=plan.passes,
        train_sampling_strategy="sequential",
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.clip_norm,
        optim="adamw_torch",
        seed=seed,
        # what the trainer would do by itself: cut long rows, render, pack, log elsewhere, and save by its own measure
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        save_total_limit=2,
        # the device
        use_cpu=on_cpu,
        bf16=half,
        # half the memory of long rows for a third more time: as the loop does it
        gradient_checkpointing=not on_cpu and plan.longest > recipe.pass_tokens,
        dataloader_pin_memory=not on_cpu,
        ddp_find_unused_parameters=False,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # several GPUs are for several processes, not for DataParallel
    trainer = _Trainer(recipe=recipe, model=model, args=arguments, train_dataset=data, processing_class=_padder())
    trainer.remove_callback(PrinterCallback)
    return trainer


def _padder() -> Any:
    """All that TRL needs of a tokenizer: a token to pad with. It never sees a text."""
    words = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<pad>")


@contextmanager
def _seed_kept() -> Iterator[None]:
    """The trainer seeds everything there is; who called goes on with its own numbers."""
    plain, array = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(array)


# ---------------------------------------------------------------- losses, dev checks, checkpoints


@dataclass
class _State:
    """What the trainer's own checkpoint does not hold."""

    losses: list[float] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    best: dict[str, Any] | None = None
    seconds: float = 0.0


class _Watch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Tells each step's loss, checks dev where the recipe says so, and keeps beside a checkpoint what it does not hold.

    Each process checks its share of dev; all of them know all of the result.
    """

    def __init__(
        self,
        model: Any,
        rows: Sequence[TrainRow],
        dev: Sequence[DevRow],
        recipe: Recipe,
        plan: Plan,
        folder: Path,
        working: Working,
        *,
        checked_first: bool,
    ) -> None:
        self.model, self.dev, self.recipe, self.plan = model, dev, recipe, plan
        self.folder, self.working, self.checked_first = folder, working, checked_first
        self.module = model if recipe.method == "full" else model.get_base_model()
        self.check_steps = recipe.check_steps(len(rows))
        self.note = why_not_shared(self.module, rows)
        self.state = _State()
        self.started = time.perf_counter()
        self.moving = True  # whether a step is between its weights and its record: then no checkpoint is exact

    # ------------------------------------------------------------ called by the trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
        self.started = time.perf_counter() - self.state.seconds
        if self.checked_first and not self.state.checks:
            self._check(0)
        self.moving = state.global_step == 0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
        self.moving = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
        control.should_save = state.global_step in self.check_steps

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_more: Any) -> None:
        if not logs or "loss" not in logs:  # the last words of the trainer
            return
        step, loss, norm = state.global_step, float(logs["loss"]), float(logs["grad_norm"])
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise diverged(step - 1, self.plan.steps, loss, norm, self.recipe, self.folder.parent)
        self.state.losses.append(loss)
        if step in self.check_steps:
            self._check(step)
        self.moving = False
        self.working(progress(self.state.losses, self.state.checks, self.dev), step, self.plan.steps)

    def on_save(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
        """The last of a checkpoint's files: one without it is torn, and not resumed."""
        self.state.seconds = time.perf_counter() - self.started
        if state.is_world_process_zero:
            torch.save(asdict(self.state), self.folder / f"checkpoint-{state.global_step}" / STATE)

    # ------------------------------------------------------------ dev checks

    def _check(self, step: int) -> None:
        self.working("training, checking on dev", step, self.plan.steps)
        accuracy, nll = self._dev_scores()
        since = self.state.checks[-1].step if self.state.checks else 0
        losses = self.state.losses[since:]
        check = Check(step, accuracy, nll, sum(losses) / len(losses) if losses else None)
        if all(check.better_than(earlier) for earlier in self.state.checks):
            self.state.best = self._weights()
        self.state.checks.append(check)

    def _dev_scores(self) -> tuple[float, float]:
        processes, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        mine = self.dev[rank::processes]
        was_training, plain = self.model.training, self.module.config._attn_implementation
        self.model.eval()
        if self.note is None:
            self.module.config._attn_implementation = ATTENTION
        scores = (0.0, 0.0)
        try:
            if mine:
                scores = dev_scores(self.module, mine, self.recipe.pass_tokens, shared=self.note is None)
        finally:
            self.module.config._attn_implementation = plain
            self.model.train(was_training)
        if processes == 1:
            return scores
        labelled = sum(item.rows[item.right[0]].labelled for item in mine)
        sums: list[Any] = [None] * processes
        torch.distributed.all_gather_object(sums, (scores[0] * len(mine), scores[1] * labelled, len(mine), labelled))
        right, nats, examples, tokens = (sum(column) for column in zip(*sums, strict=True))
        return right / examples, nats / tokens

    def _weights(self) -> dict[str, Any]:
        if self.recipe.method == "full":
            return trained_weights(self.model, "full")
        named = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        return {name: weight.detach().cpu().clone() for name, weight in sorted(named.items())}

    # ------------------------------------------------------------ checkpoints

    def resume(self) -> str | None:
        """The newest whole checkpoint, and what was kept beside it."""
        found = sorted(self.folder.glob(f"checkpoint-*/{STATE}"), key=lambda path: -int(path.parent.name[11:]))
        for path in found:
            try:
                kept = torch.load(path, map_location="cpu", weights_only=True)
            except Exception:  # whatever a torn file makes torch raise: then it is the one before
                continue
            self.state = _State(**{**kept, "checks": [Check(**check) for check in kept["checks"]]})
            step = len(self.state.losses)
            self.working(f"training, resumed after step {step}", step, self.plan.steps)
            return str(path.parent)
        return None

    def result(self) -> Tuned:
        assert self.state.best is not None
        return Tuned(
            weights=self.state.best,
            checks=tuple(self.state.checks),
            best=best_of(self.state.checks),
            steps=self.plan.steps,
            trainable_parameters=sum(weight.numel() for weight in self.state.best.values()),
            tokens=self.plan.tokens,
            tokens_run=self.plan.tokens_run,
            seconds=self.state.seconds,
            losses=tuple(self.state.losses),
            note=self.note,
        )
