"""Distil: learn a teacher's probabilities of each next token, where both models mean the same by a token's number.

One row, from prompt to target: to "Who was Galileo ?" the teacher, asked with its own long prompt, gives " HUM" 0.8 and
" ENTY" 0.1 as the answer's first token; the student, which sees the question alone, learns these instead of " HUM" 1.0
(Hinton, Vinyals and Dean 2015, at temperature 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from luthier.errors import MissingExtra
from luthier.train.job import Job
from luthier.train.loop import LOOP, Training, Tuned
from luthier.train.rows import TrainRow
from luthier.train.tree import ATTENTION, fill, grow, label_logits, why_not_shared

try:
    import torch
except ImportError as error:
    raise MissingExtra("train", "fine-tuning") from error

KEPT = 64  # the likeliest tokens at each place; all others count as one
SMALLEST = 1e-6  # of their probability together
PASS_TOKENS = 512


@dataclass(frozen=True)
class Soft:
    """For each labelled token of a row: the likeliest tokens there, and their probabilities."""

    ids: tuple[tuple[int, ...], ...]
    probabilities: tuple[tuple[float, ...], ...]


class Beside(Protocol):
    """Rows that are learned beside the task's, and the probabilities to learn for each."""

    @property
    def soft(self) -> Mapping[TrainRow, Soft]: ...
    def of_step(self, step: int, count: int, *, seed: int) -> Sequence[TrainRow]: ...


def same_vocabulary(one: Any, other: Any) -> bool:
    """Whether a token's number means the same to both tokenizers: tokens are compared, not how many there are."""
    return bool(one.get_vocab() == other.get_vocab())


def soft_labels(module: Any, rows: Sequence[TrainRow]) -> list[Soft]:
    """What a teacher's module gives each labelled token of its own rows; the module stays as it is."""
    found: dict[int, Soft] = {}
    plain = module.config._attn_implementation
    shared = why_not_shared(module, rows) is None
    try:
        if shared:
            module.config._attn_implementation = ATTENTION
        with torch.inference_mode():
            for part in fill(rows, PASS_TOKENS):
                tree = grow([rows[at] for at in part], module.device)
                logits = label_logits(module, tree, shared=shared)
                best = torch.softmax(logits.float(), dim=-1).topk(min(KEPT, logits.shape[-1]), dim=-1)
                end = 0
                for at in part:
                    begin, end = end, end + rows[at].labelled
                    ids, probabilities = best.indices[begin:end].tolist(), best.values[begin:end].tolist()
                    found[at] = Soft(tuple(map(tuple, ids)), tuple(map(tuple, probabilities)))
    finally:
        module.config._attn_implementation = plain
    return [found[at] for at in range(len(rows))]


def distil(
    module: Any, rows: Sequence[TrainRow], job: Job, *, soft: Mapping[TrainRow, Soft], beside: Beside | None = None
) -> Tuned:
    """As `train.loop.fine_tune`; rows that have soft labels learn those, all others their own tokens.

    The loss is the cross entropy with the teacher's probabilities, a mean over labelled tokens. A step also learns
    `recipe.replay` rows of `beside`, whose own mean is added to the step's: the losses told are without it.
    """
    job.check(rows)
    taught = [soft.get(row) for row in rows]
    kept = [] if beside is None else list(beside.soft.items())
    training = Distilling(module, rows, job, job.address(LOOP, "distil", taught, kept, learned=rows))
    training.soft, training.beside = soft, beside
    training.resume()
    training.run()
    return training.result()


class Distilling(Training):
    """A training towards probabilities instead of tokens."""

    soft: Mapping[TrainRow, Soft]
    beside: Beside | None = None

    def _rows_of(self, step: int) -> Sequence[TrainRow]:
        return [*super()._rows_of(step), *self._beside(step)]

    def _beside(self, step: int) -> Sequence[TrainRow]:
        if self.beside is None or not self.recipe.replay:
            return ()
        return self.beside.of_step(step, self.recipe.replay, seed=self.job.seed)

    def _gradients(self, chosen: Sequence[int]) -> float:
        """The mean loss of the examples' labelled tokens; its gradients and those of the other rows' mean are added."""
        rows = [self.rows[index] for index in chosen]
        taught = [self.soft.get(row) for row in rows]
        weights = [1.0 / sum(row.labelled for row in rows)] * len(rows)
        if self.beside is not None and (kept := self._beside(self.state.step)):
            taught += [self.beside.soft[row] for row in kept]
            weights += [1.0 / sum(row.labelled for row in kept)] * len(kept)
            rows += kept
        loss = 0.0
        for part in fill(rows, self.recipe.pass_tokens):
            tree, logits = self._run_rows([rows[at] for at in part])
            logprobs = torch.log_softmax(logits, dim=-1)
            ids, probabilities = _targets([(rows[at], taught[at]) for at in part], logprobs)
            losses = _cross_entropy(logprobs.gather(1, ids), probabilities)
            share = losses * torch.tensor([weights[at] for at in part], device=losses.device)[tree.row_of]
            share.sum().backward()
            own = torch.tensor([at < len(chosen) for at in part], device=losses.device)[tree.row_of]
            loss += float(share.detach()[own].sum())
            self.state.tokens_run += tree.tokens
        self.state.tokens += sum(len(row.input_ids) for row in rows)
        return loss


def _cross_entropy(logprobs: Any, weights: Any) -> Any:
    """[labels] from [labels, KEPT] of the student and of the teacher: what is not kept counts as one more token.

    Without that one, a student that is the teacher would be taught to forget all rare words.
    """
    rest = (1.0 - weights.sum(-1)).clamp(min=0.0)
    others = torch.log((1.0 - logprobs.exp().sum(-1)).clamp(min=SMALLEST))
    return -(weights * logprobs).sum(-1) - torch.where(rest > SMALLEST, rest * others, 0.0)


def _targets(rows: Sequence[tuple[TrainRow, Soft | None]], like: Any) -> tuple[Any, Any]:
    """[labelled tokens, KEPT] ids and their weights, in the order of a tree's labels: row by row."""
    ids: list[tuple[int, ...]] = []
    weights: list[tuple[float, ...]] = []
    width = min(KEPT, like.shape[-1])
    for row, soft in rows:
        if soft is not None:
            ids += soft.ids
            weights += soft.probabilities
        else:
            ids += [(token, *[0] * (width - 1)) for token in row.input_ids[row.labels_from :]]
            weights += [(1.0, *[0.0] * (width - 1))] * row.labelled
    return torch.tensor(ids, device=like.device), torch.tensor(weights, dtype=like.dtype, device=like.device)
