"""The training loop: fine-tuning on CPUs in fp32, resumable after each step, the same bits for the same seed."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import MissingExtra, ModelError, StoreError
from luthier.train.adapter import adapted, put_weights, trainable, trained_weights
from luthier.train.check import Check, best_of, dev_scores
from luthier.train.job import Job
from luthier.train.lower import LowerLayers
from luthier.train.recipe import Recipe
from luthier.train.rows import DevRow, TrainRow
from luthier.train.tree import ATTENTION, Tree, fill, grow, label_logits, why_not_shared

try:
    import torch
    import torch.nn.functional as functional
except ImportError as error:
    raise MissingExtra("train", "fine-tuning") from error

# changes whenever the same rows and recipe could give other weights: an older checkpoint is not resumed then
LOOP = "loop-3"
CHECKPOINT = "training.pt"


@dataclass(frozen=True)
class Tuned:
    """A fine-tune's best weights, by PEFT's names where an adapter was trained, and how they came about."""

    weights: dict[str, Any]
    checks: tuple[Check, ...]
    best: Check
    steps: int
    trainable_parameters: int
    tokens: int
    """Tokens of the rows that were trained on, each as often as it was."""
    tokens_run: int
    """Those that were run: what rows of a pass begin with alike is run once."""
    seconds: float
    """Of training and checking; those of a killed run after its last checkpoint are lost."""
    losses: tuple[float, ...] = ()
    """The mean loss of each step, in nats a labelled token."""
    note: str | None = None
    """What made it slower than trainings are, and why; None: nothing."""


@dataclass
class _State:
    """All that a checkpoint holds, besides the optimizer's own state."""

    step: int = 0
    checks: list[Check] = field(default_factory=list)
    best: dict[str, Any] | None = None
    losses: list[float] = field(default_factory=list)
    """One a step."""
    tokens: int = 0
    tokens_run: int = 0
    seconds: float = 0.0


def fine_tune(module: Any, rows: Sequence[TrainRow], job: Job) -> Tuned:
    """Train what the recipe trains of `module`, which itself stays as it is; return the best weights that a check saw.

    It goes on from a checkpoint in the job's folder of the same rows, recipe, seed and base, and ends in the same bits
    as if it had never been interrupted; there is one at each dev check, and Ctrl-C leaves one at the last whole step.
    Weights to start from are checked first, and come back where training does no better. Errors: DataError without
    rows or dev examples; ModelError when the loss is no longer a number (the last checkpoint stays); StoreError when a
    checkpoint cannot be written. Does not cover: several machines, mixed precision.
    """
    job.check(rows)
    training = Training(module, rows, job, job.address(LOOP, learned=rows))
    training.resume()
    training.run()
    return training.result()


def diverged(step: int, steps: int, loss: float, norm: float, recipe: Recipe, where: Path) -> ModelError:
    """The error of a step (from 0) whose loss or gradient is no longer a number."""
    return ModelError(
        f"training diverged: at step {step + 1} of {steps} the loss is {loss:.3g}, its slope {norm:.3g}",
        where=str(where),
        fix=f"lower the learning rate (now {recipe.learning_rate:g})",
    )


def progress(losses: Sequence[float], checks: Sequence[Check], dev: Sequence[DevRow]) -> str:
    """How it goes; the share of right answers says nothing where there is only one answer to choose from."""
    text = f"training, loss {losses[-1]:.2f}"
    if not checks:
        return text
    choosing = any(len(item.rows) > 1 for item in dev)
    return text + (
        f", accuracy on dev {checks[-1].dev_accuracy:.2f}" if choosing else f", loss on dev {checks[-1].dev_nll:.2f}"
    )


def one_by_one(reason: str | None) -> str | None:
    """The note of a training whose rows cannot share a pass."""
    return None if reason is None else f"rows were run one by one: {reason}"


def step_examples(recipe: Recipe, examples: int, step: int, *, seed: int) -> list[int]:
    """The examples of a step. A function of seed and step alone, so that the step is all a checkpoint must say."""
    epoch, at = divmod(step, recipe.steps_per_epoch(examples))
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    return [int(index) for index in order[at * recipe.step_examples : (at + 1) * recipe.step_examples]]


class Training:
    """One fine-tune: the module under training, its optimizer, and how far it has come."""

    def __init__(self, module: Any, rows: Sequence[TrainRow], job: Job, key: str) -> None:
        """`key`: what a checkpoint must be of, to go on from it."""
        self.rows, self.job, self.key = rows, job, key
        self.dev, self.recipe = job.dev, job.recipe
        self.checkpoint = job.workdir / CHECKPOINT
        self.module = adapted(module, self.recipe, seed=job.seed)
        self.started_from = job.start is not None
        if job.start is not None:
            put_weights(self.module, job.start, self.recipe.method)
        self.parameters = trainable(self.module)
        self.optimizer = torch.optim.AdamW(
            [parameter for _, parameter in self.parameters],
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
        )
        alone = why_not_shared(self.module, rows)
        self.shared = alone is None
        self.note = one_by_one(alone)
        if self.shared:
            self.module.config._attn_implementation = ATTENTION
        self.lower = LowerLayers(self.module)
        self.steps = self.recipe.steps(len(rows))
        self.started = time.perf_counter()
        self.moving = False  # whether a step is changing the weights: between two steps a checkpoint is exact
        self.state = _State()

    # ------------------------------------------------------------ steps

    def run(self) -> None:
        self.started = time.perf_counter() - self.state.seconds
        try:
            self._run()
        except KeyboardInterrupt:
            if not self.moving:
                self._keep()
            raise

    def _run(self) -> None:
        self._keep_below()
        checks = self.recipe.check_steps(len(self.rows))
        if self.started_from and not self.state.checks:
            self._check()
        while True:
            # one that was interrupted in the check itself comes back to it
            if self.state.step in checks and self.state.step > self._checked():
                self._check()
                self._keep()
            if self.state.step == self.steps:
                return
            self._step(self.state.step)
            self.job.working(progress(self.state.losses, self.state.checks, self.dev), self.state.step, self.steps)

    def _checked(self) -> int:
        """The last step after which dev was checked."""
        return self.state.checks[-1].step if self.state.checks else 0

    def _step(self, step: int) -> None:
        """One optimizer step; its mean loss, in nats, is over its labelled tokens."""
        counted = self.state.tokens, self.state.tokens_run
        try:
            loss = self._gradients(self._order(step))
            self._clip(step, loss)
            self.moving = True
        except KeyboardInterrupt:
            self.optimizer.zero_grad()
            self.state.tokens, self.state.tokens_run = counted  # this step will be run again
            raise
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.losses.append(loss)
        self.state.step += 1
        self.moving = False

    def _clip(self, step: int, loss: float) -> None:
        norm = torch.nn.utils.clip_grad_norm_([parameter for _, parameter in self.parameters], self.recipe.clip_norm)
        if not (math.isfinite(loss) and math.isfinite(norm.item())):
            raise diverged(step, self.steps, loss, norm.item(), self.recipe, self.checkpoint.parent)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(step, self.steps)

    def _gradients(self, chosen: Sequence[int]) -> float:
        """The loss of a step's examples, its gradients added to the parameters."""
        rows = [self.rows[index] for index in chosen]
        labelled = sum(row.labelled for row in rows)
        loss = 0.0
        for part in fill(rows, self.recipe.pass_tokens):
            tree, logits = self._run_rows([rows[index] for index in part])
            # each token weighs the same, however the step is cut into passes
            share = functional.cross_entropy(logits, tree.targets, reduction="sum") / labelled
            share.backward()
            loss += share.item()
            self.state.tokens_run += tree.tokens
        self.state.tokens += sum(len(row.input_ids) for row in rows)
        return loss

    def _run_rows(self, rows: Sequence[TrainRow]) -> tuple[Tree, Any]:
        """Their tree, and the logits at its labels."""
        tree = grow(rows, self.module.device)
        with self.lower.known(rows, tree):
            return tree, label_logits(self.module, tree, shared=self.shared)

    def _rows_of(self, step: int) -> Sequence[TrainRow]:
        """All rows that a step runs."""
        return [self.rows[at] for at in self._order(step)]

    def _keep_below(self) -> None:
        """Run what later steps run more than once through the layers that stay as they are."""
        if not self.shared or not self.lower.count or self.state.step == self.steps:
            return
        # of all steps, also those that are done: a resumed training runs the same passes
        runs = Counter(row for step in range(self.steps) for row in self._rows_of(step))
        again = [row for row, times in runs.items() if times > 1]
        reason = self.lower.keep(again, self.recipe.pass_tokens, self.job.working)
        if reason is not None:
            self.note = f"the layers below the adapted ones were run in every step: {reason}"

    def _order(self, step: int) -> list[int]:
        return step_examples(self.recipe, len(self.rows), step, seed=self.job.seed)

    # ------------------------------------------------------------ dev checks

    def _check(self) -> None:
        self.job.working("training, checking on dev", self.state.step, self.steps)
        accuracy, nll = dev_scores(self.module, self.dev, self.recipe.pass_tokens, shared=self.shared)
        losses = self.state.losses[self._checked() :]
        train_loss = float(np.mean(losses)) if losses else None
        check = Check(self.state.step, accuracy, nll, train_loss)
        if all(check.better_than(earlier) for earlier in self.state.checks):
            self.state.best = trained_weights(self.module, self.recipe.method)
        self.state.checks.append(check)

    def result(self) -> Tuned:
        state = self.state
        assert state.best is not None
        return Tuned(
            weights=state.best,
            checks=tuple(state.checks),
            best=best_of(state.checks),
            steps=self.steps,
            trainable_parameters=sum(parameter.numel() for _, parameter in self.parameters),
            tokens=state.tokens,
            tokens_run=state.tokens_run,
            seconds=state.seconds,
            losses=tuple(state.losses),
            note=self.note,
        )

    # ------------------------------------------------------------ checkpoints

    def _keep(self) -> None:
        """Write the checkpoint, whole or not at all: a kill leaves the one before."""
        self.state.seconds = time.perf_counter() - self.started
        content = {
            "key": self.key,
            "state": {**asdict(replace(self.state, best=None)), "best": self.state.best},
            "adapter": {name: parameter.detach() for name, parameter in self.parameters},
            "optimizer": self.optimizer.state_dict(),
        }
        fresh = self.checkpoint.with_suffix(".new")
        try:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            torch.save(content, fresh)
            os.replace(fresh, self.checkpoint)
        except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
            raise StoreError(
                f"the checkpoint cannot be written: {error}",
                where=str(self.checkpoint),
                fix="make room on the disk and run the same command again: it resumes at the last checkpoint",
            ) from error

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one of this very training."""
        if not self.checkpoint.is_file():
            return
        try:
            content = torch.load(self.checkpoint, map_location=self.module.device, weights_only=True)
        except Exception:  # whatever a torn or foreign file makes torch raise: then there is nothing to resume
            return
        if content["key"] != self.key:
            return
        state = content["state"]
        self.state = _State(**{**state, "checks": [Check(**check) for check in state["checks"]]})
        for name, parameter in self.parameters:
            parameter.data.copy_(content["adapter"][name])
        self.optimizer.load_state_dict(content["optimizer"])
        self.job.working(f"training, resumed after step {self.state.step}", self.state.step, self.steps)
