"""The trainer: what every trainer of TRL's is given here, and how it is run.

TRL renders and shuffles nothing: it gets each step's examples as ids, in the order of luthier's own loop, the weights
that the loop begins with, and the recipe's own rates. It writes no word and tells nobody.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import MissingExtra, StoreError
from luthier.models.quiet import quiet
from luthier.train.adapter import adapted, frozen_copy, lora_config, put_weights, trained_weights
from luthier.train.job import Job
from luthier.train.loop import Tuned
from luthier.train.plan import Plan, processes
from luthier.train.recipe import Recipe
from luthier.train.watch import Watch

try:
    import torch
    from peft import get_peft_model, set_peft_model_state_dict
    from safetensors import SafetensorError
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast
    from transformers.trainer_callback import PrinterCallback
except ImportError as error:
    raise MissingExtra("train", "fine-tuning") from error

# changes whenever the same examples and recipe could give other weights: an older checkpoint is not resumed then
TRAINER = "trl-1"


class Ours:
    """What stands before one of TRL's trainers: the recipe's own rates, and silence."""

    recipe: Recipe
    optimizer: Any

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


def folder_of(job: Job, *parts: Any, learned: Sequence[Any]) -> Path:
    """Where the trainer's checkpoints of this very training stand, by as many processes."""
    return job.workdir / f"trl-{job.address(TRAINER, *parts, processes(), learned=learned)[:12]}"


@contextmanager
def kept_apart(folder: Path) -> Iterator[None]:
    """Nothing of what a trainer does to this process outlasts it, and a full disk is a StoreError."""
    try:
        with quiet(), _seed_kept():
            yield
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"the checkpoint cannot be written: {error}",
            where=str(folder),
            fix="make room on the disk and run the same command again: it resumes at the last checkpoint",
        ) from error


def trained(trainer: Any, watch: Watch) -> Tuned:
    """From the last checkpoint to the end; Ctrl-C leaves one at the last whole step, where it is one process."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(watch)
    last = watch.resume()
    try:
        trainer.train(resume_from_checkpoint=last)
    except KeyboardInterrupt:
        if processes() == 1 and not watch.moving:
            trainer._save_checkpoint(trainer.model_wrapped, None)
            watch.on_save(trainer.args, trainer.state, trainer.control)
        raise
    return watch.result()


def arguments(plan: Plan, job: Job, folder: Path, *, on_cpu: bool) -> dict[str, Any]:
    """What the configurations of all of TRL's trainers have in common."""
    recipe = job.recipe
    return {
        "output_dir": str(folder),
        "max_steps": plan.steps,
        "per_device_train_batch_size": plan.at_once,
        "gradient_accumulation_steps": plan.passes,
        "train_sampling_strategy": "sequential",
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.clip_norm,
        "optim": "adamw_torch",
        "seed": job.seed,
        # what the trainer would do by itself: cut long rows, log elsewhere, and save by its own measure
        "max_length": None,
        "remove_unused_columns": False,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "eval_strategy": "no",
        "save_strategy": "no",
        "save_total_limit": 2,
        # the device
        "use_cpu": on_cpu,
        "bf16": not on_cpu and torch.cuda.is_bf16_supported(),
        # half the memory of long rows for a third more time: as the loop does it
        "gradient_checkpointing": not on_cpu and plan.longest > recipe.pass_tokens,
        "dataloader_pin_memory": not on_cpu,
        "ddp_find_unused_parameters": False,
    }


def on_one_device(arguments: Any) -> Any:
    """The same arguments: several GPUs are for several processes, not for DataParallel."""
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def model_to_train(module: Any, job: Job) -> Any:
    """PEFT's own model, with the very weights that the loop begins with."""
    recipe = job.recipe
    mine = adapted(module, recipe, seed=job.seed)
    if job.start is not None:
        put_weights(mine, job.start, recipe.method)
    if recipe.method == "full":
        return _without_dropout(mine)
    weights = trained_weights(mine, recipe.method)
    with quiet():
        around = module if recipe.method == "qlora" else frozen_copy(module)
        model = get_peft_model(around, lora_config(recipe, around), autocast_adapter_dtype=False)
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


def padder() -> Any:
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
