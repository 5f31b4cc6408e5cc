"""Preference: direct preference optimization (Rafailov et al. 2023) on the loop's own trees.

One pair, from prompt to loss: to "Who was Galileo ?" the answer "HUM" is chosen, "DESC" rejected. The model under
training and the one it started from give each its log-likelihood; the loss is -log sigmoid(beta x (what the chosen
answer gained - what the rejected one gained)): ln 2 at the start, where nothing has been gained yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.errors import MissingExtra
from luthier.models.packing import common_prefix
from luthier.train.job import Job
from luthier.train.loop import LOOP, Training, Tuned
from luthier.train.rows import TrainRow
from luthier.train.tree import fill

try:
    import torch
    import torch.nn.functional as functional
except ImportError as error:
    raise MissingExtra("train", "fine-tuning") from error


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt, of which the first is preferred."""

    chosen: TrainRow
    rejected: TrainRow

    def __post_init__(self) -> None:
        prompts = {row.input_ids[: row.labels_from] for row in (self.chosen, self.rejected)}
        assert len(prompts) == 1, "both answers are to one prompt"

    @property
    def together(self) -> TrainRow:
        """A row as long as the tree of both: what tells how many pairs fit a pass."""
        shared = common_prefix([self.chosen.input_ids, self.rejected.input_ids])
        return TrainRow((*self.chosen.input_ids, *self.rejected.input_ids[shared:]), self.chosen.labels_from)


def prefer(module: Any, pairs: Sequence[Pair], job: Job, *, beta: float) -> Tuned:
    """Train `module` to prefer the chosen answers, from the job's start on, which is also what it is held to.

    As `train.loop.fine_tune` in all else: resumable, deterministic, the best check returned (the start, where nothing
    does better). The steps' losses are means over their pairs. Errors: DataError without pairs or dev examples.
    """
    job.check(pairs, "pairs")
    training = Preferring(module, pairs, job, job.address(LOOP, "preference", beta, learned=pairs), beta)
    training.resume()
    training.run()
    return training.result()


class Preferring(Training):
    """A training whose examples are pairs. What the model says at first is computed once: the reference."""

    def __init__(self, module: Any, pairs: Sequence[Pair], job: Job, key: str, beta: float) -> None:
        super().__init__(module, [pair.together for pair in pairs], job, key)
        self.pairs, self.beta = pairs, beta
        self.started_from = True  # where no step does better, the start itself comes back
        job.working("reading what the model prefers so far", 0, 0)
        self.reference = self._margins()

    def _rows_of(self, step: int) -> list[TrainRow]:
        pairs = [self.pairs[at] for at in self._order(step)]
        return [row for pair in pairs for row in (pair.chosen, pair.rejected)]

    def _margins(self) -> list[float]:
        """By how many nats each pair's chosen answer is likelier than the rejected one."""
        found = [0.0] * len(self.pairs)
        with torch.no_grad():
            for part in fill(self.rows, self.recipe.pass_tokens):
                for at, margin in zip(part, self._margin(part)[0], strict=True):
                    found[at] = float(margin)
        return found

    def _margin(self, part: Sequence[int]) -> tuple[Any, int]:
        """[pairs], log p(chosen) - log p(rejected) under the model as it is, and the tokens that were run."""
        rows = [row for at in part for row in (self.pairs[at].chosen, self.pairs[at].rejected)]
        tree, logits = self._run_rows(rows)
        tokens = -functional.cross_entropy(logits, tree.targets, reduction="none")
        sums = torch.zeros(len(rows), dtype=tokens.dtype, device=tokens.device).index_add(0, tree.row_of, tokens)
        return sums[0::2] - sums[1::2], tree.tokens

    def _gradients(self, chosen: Sequence[int]) -> float:
        loss = 0.0
        for part in fill([self.rows[at] for at in chosen], self.recipe.pass_tokens):
            pairs = [chosen[at] for at in part]
            margin, tokens = self._margin(pairs)
            reference = torch.tensor([self.reference[at] for at in pairs], dtype=margin.dtype, device=margin.device)
            share = -functional.logsigmoid(self.beta * (margin - reference)).sum() / len(chosen)
            share.backward()
            loss += share.item()
            self.state.tokens_run += tokens
        rows = [row for at in chosen for row in (self.pairs[at].chosen, self.pairs[at].rejected)]
        self.state.tokens += sum(len(row.input_ids) for row in rows)
        return loss
