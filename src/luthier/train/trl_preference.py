"""TRL's preference trainer: the same pairs by the same recipe, for GPUs and for several processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luthier.errors import MissingExtra
from luthier.models.quiet import quiet
from luthier.train.job import Job
from luthier.train.loop import Tuned
from luthier.train.plan import Plan, processes, rank
from luthier.train.preference import Pair
from luthier.train.recipe import Recipe
from luthier.train.trainer import (
    Ours,
    arguments,
    folder_of,
    kept_apart,
    model_to_train,
    on_one_device,
    padder,
    trained,
)
from luthier.train.watch import Watch

try:
    import torch

    with quiet():
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer
except ImportError as error:
    raise MissingExtra("trl", 'training with backend = "trl"') from error

BLANK = [0, 0]  # the prompt of a pair whose answers are empty: whatever the model, both have the likelihood 1
NATS = 1e4  # a pair that is liked better than at first by so many nats / beta has no loss left, nor any slope


def prefer(module: Any, pairs: Sequence[Pair], job: Job, *, beta: float) -> Tuned:
    """Train `module` to prefer the chosen answers by TRL's DPOTrainer; contract and errors as in `preference.prefer`.

    The pairs of each step are the loop's, and so is what the model is held to, so that the weights differ by rounding
    alone. Several processes, interrupts and limits are as in `trl.fine_tune`.
    """
    job.check(pairs, "pairs")
    folder, on_cpu = folder_of(job, "preference", beta, learned=pairs), module.device.type == "cpu"
    rows = [(pair.chosen.input_ids, pair.rejected.input_ids) for pair in pairs]
    # both answers are padded to the longest of a pass
    widths = [*(2 * max(map(len, both)) for both in rows), 2 * len(BLANK)]
    plan = Plan.of(widths, job.recipe, seed=job.seed, processes=processes(), on_cpu=on_cpu)
    with kept_apart(folder):
        model = model_to_train(module, job)
        together = [pair.together for pair in pairs]
        tokens = plan.total([sum(map(len, both)) for both in rows])
        # where no step does better, the start itself comes back
        watch = Watch(model, together, job, plan, folder, tokens, checked_first=True)
        job.working("reading what the model prefers so far", 0, 0)
        trainer = _Trainer(
            recipe=job.recipe,
            plan=plan,
            model=model,
            args=on_one_device(
                DPOConfig(**arguments(plan, job, folder, on_cpu=on_cpu), beta=beta, precompute_ref_log_probs=True)
            ),
            train_dataset=_dataset(pairs),
            processing_class=padder(),
        )
        return trained(trainer, watch)


def _dataset(pairs: Sequence[Pair]) -> Any:
    """The pairs as ids, and the blank behind them."""
    split = [(pair.chosen.labels_from, pair.chosen.input_ids, pair.rejected.input_ids) for pair in pairs]
    return Dataset.from_dict(
        {
            "prompt_ids": [*(list(chosen[:at]) for at, chosen, _ in split), BLANK],
            "chosen_ids": [*(list(chosen[at:]) for at, chosen, _ in split), []],
            "rejected_ids": [*(list(rejected[at:]) for at, _, rejected in split), []],
        }
    )


class _Trainer(Ours, DPOTrainer):  # type: ignore[misc]  # trl is untyped here
    """TRL's loss on the loop's steps. What the model says at first is read once a pair, by its own forward pass."""

    def __init__(self, *, recipe: Recipe, plan: Plan, **given: Any) -> None:
        self.recipe, self.plan = recipe, plan
        super().__init__(**given)
        if "ref" in getattr(self.model, "peft_config", {}):
            self.model.delete_adapter("ref")  # all that it has to say was read, and a checkpoint needs it no more

    def _prepare_dataset(self, dataset: Any, *_unused: Any) -> Any:
        """The pairs are ids already: TRL would render and tokenize them."""
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_unused: Any) -> Any:
        """The pairs laid out in steps, each with the log-likelihoods of its answers under the model as it begins.

        TRL would read every slot of every epoch, and keep that in a cache of its own.
        """
        # in the passes of the first epoch, as rounding depends on what is run together
        once = [at for at in dict.fromkeys(self.plan.laid) if at != self.plan.examples]
        parts = [once[head : head + self.plan.at_once] for head in range(0, len(once), self.plan.at_once)]
        found: dict[int, tuple[float, float]] = {}
        for part in parts[rank() :: processes()]:
            batch = self._prepare_inputs(self.data_collator([dataset[at] for at in part]))
            columns = self.compute_ref_log_probs(self.model, batch)
            found.update(zip(part, zip(*(column.tolist() for column in columns), strict=True), strict=True))
        if processes() > 1:
            shares: list[Any] = [None] * processes()
            torch.distributed.all_gather_object(shares, found)
            found = {at: both for share in shares for at, both in share.items()}
        found[self.plan.examples] = (-NATS / self.beta, 0.0)
        chosen, rejected = zip(*(found[at] for at in range(len(dataset))), strict=True)
        known = dataset.add_column("ref_chosen_logps", list(chosen)).add_column("ref_rejected_logps", list(rejected))
        return known.select(self.plan.laid)

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,  # transformers' own signature
        num_items_in_batch: Any = None,
    ) -> Any:
        """A step's loss is the mean over its pairs; the trainer takes it over slots, of which the blank ones say 0."""
        assert not return_outputs, "dev is checked elsewhere"
        loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        return loss * (self.plan.slots / self.plan.filled(self.state.global_step))
