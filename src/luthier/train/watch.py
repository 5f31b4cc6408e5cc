"""The watch: what luthier does beside a trainer of transformers: tell losses, check dev, keep what is best."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from luthier.errors import MissingExtra
from luthier.train.adapter import trained_weights
from luthier.train.check import Check, best_of, dev_scores
from luthier.train.job import Job
from luthier.train.loop import Tuned, diverged, one_by_one, progress
from luthier.train.plan import Plan, processes, rank
from luthier.train.rows import TrainRow
from luthier.train.tree import ATTENTION, why_not_shared

try:
    import torch
    from peft import get_peft_model_state_dict
    from transformers import TrainerCallback
except ImportError as error:
    raise MissingExtra("train", "fine-tuning") from error

STATE = "luthier.pt"


@dataclass
class _State:
    """What the trainer's own checkpoint does not hold."""

    losses: list[float] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    best: dict[str, Any] | None = None
    seconds: float = 0.0


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Tells each step's loss, checks dev where the recipe says so, and keeps beside a checkpoint what it does not hold.

    Each process checks its share of dev; all of them know all of the result.
    """

    def __init__(
        self,
        model: Any,
        rows: Sequence[TrainRow],
        job: Job,
        plan: Plan,
        folder: Path,
        tokens: int,
        *,
        checked_first: bool,
    ) -> None:
        """`tokens`: of the rows that the plan lays out; `checked_first`: what it starts from is a candidate too."""
        self.model, self.job, self.plan, self.folder = model, job, plan, folder
        self.dev, self.recipe = job.dev, job.recipe
        self.tokens, self.checked_first = tokens, checked_first
        self.module = model if self.recipe.method == "full" else model.get_base_model()
        self.check_steps = self.recipe.check_steps(len(rows))
        self.alone = why_not_shared(self.module, rows)
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
        self.job.working(progress(self.state.losses, self.state.checks, self.dev), step, self.plan.steps)

    def on_save(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
        """The last of a checkpoint's files: one without it is torn, and not resumed."""
        self.state.seconds = time.perf_counter() - self.started
        if state.is_world_process_zero:
            torch.save(asdict(self.state), self.folder / f"checkpoint-{state.global_step}" / STATE)

    # ------------------------------------------------------------ dev checks

    def _check(self, step: int) -> None:
        self.job.working("training, checking on dev", step, self.plan.steps)
        accuracy, nll = self._dev_scores()
        since = self.state.checks[-1].step if self.state.checks else 0
        losses = self.state.losses[since:]
        check = Check(step, accuracy, nll, sum(losses) / len(losses) if losses else None)
        if all(check.better_than(earlier) for earlier in self.state.checks):
            self.state.best = self._weights()
        self.state.checks.append(check)

    def _dev_scores(self) -> tuple[float, float]:
        mine = self.dev[rank() :: processes()]
        was_training, plain = self.model.training, self.module.config._attn_implementation
        self.model.eval()
        if self.alone is None:
            self.module.config._attn_implementation = ATTENTION
        scores = (0.0, 0.0)
        try:
            if mine:
                scores = dev_scores(self.module, mine, self.recipe.pass_tokens, shared=self.alone is None)
        finally:
            self.module.config._attn_implementation = plain
            self.model.train(was_training)
        if processes() == 1:
            return scores
        labelled = sum(item.rows[item.right[0]].labelled for item in mine)
        sums: list[Any] = [None] * processes()
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
            self.job.working(f"training, resumed after step {step}", step, self.plan.steps)
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
            tokens=self.tokens,
            tokens_run=self.plan.tokens_run,
            seconds=self.state.seconds,
            losses=tuple(self.state.losses),
            note=one_by_one(self.alone),
        )
