"""The dev check: how good a model under training is at choosing the right answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.errors import MissingExtra
from luthier.models.packing import common_prefix
from luthier.train.rows import DevRow, TrainRow
from luthier.train.tree import fill, grow, label_logits

try:
    import torch
except ImportError as error:
    raise MissingExtra("train", "fine-tuning") from error


@dataclass(frozen=True, slots=True)
class Check:
    """What was measured after `step` steps.

    `dev_accuracy`: the share of examples whose likeliest answer is right, each answer scored whole, end of turn
    included; `dev_nll`: nats a token of the references; `train_loss`: the mean over the steps since the last
    check, None where there was none yet.
    """

    step: int
    dev_accuracy: float
    dev_nll: float
    train_loss: float | None

    def better_than(self, other: Check) -> bool:
        """More right answers; among equals, the likelier ones, since 200 examples tie often."""
        return (self.dev_accuracy, -self.dev_nll) > (other.dev_accuracy, -other.dev_nll)


def best_of(checks: Sequence[Check]) -> Check:
    """The best, and among equals the first."""
    best = checks[0]
    for check in checks[1:]:
        best = check if check.better_than(best) else best
    return best


def dev_scores(module: Any, dev: Sequence[DevRow], pass_tokens: int, *, shared: bool) -> tuple[float, float]:
    """A Check's dev_accuracy and dev_nll.

    Exact, and yet most answers are never run: likelihood can only fall with each token, so that an answer is bounded
    where it leaves the path of another; those with the highest bounds are run next, until none could beat the best.
    """
    references = [item.rows[item.right[0]] for item in dev]
    totals, bounds = _walk(module, references, [item.rows for item in dev], pass_tokens, shared=shared)
    best = [(total, item.right[0]) for total, item in zip(totals, dev, strict=True)]
    rivals = [
        {answer: bound for answer, bound in enumerate(above) if answer != first and bound > total}
        for above, (total, first) in zip(bounds, best, strict=True)
    ]
    width = 1
    while asked := [
        (at, answer)
        for at, some in enumerate(rivals)
        for answer in sorted(some, key=some.__getitem__, reverse=True)[:width]
    ]:
        width *= 2  # answers run together share their prompt: an unsure model is not asked one answer at a time
        rows = [dev[at].rows[answer] for at, answer in asked]
        scores, bounds = _walk(module, rows, [dev[at].rows for at, _ in asked], pass_tokens, shared=shared)
        for (at, answer), score, above in zip(asked, scores, bounds, strict=True):
            best[at] = max(best[at], (score, answer))
            tighter = {other: min(bound, above[other]) for other, bound in rivals[at].items()}
            rivals[at] = {other: bound for other, bound in tighter.items() if other != answer and bound > best[at][0]}
    right = sum(answer in item.right for (_, answer), item in zip(best, dev, strict=True))
    return right / len(dev), -sum(totals) / sum(row.labelled for row in references)


def _walk(
    module: Any, rows: Sequence[TrainRow], others: Sequence[Sequence[TrainRow]], pass_tokens: int, *, shared: bool
) -> tuple[list[float], list[list[float]]]:
    """The log-likelihood of each row's answer, and a bound on that of each of the other answers to its prompt."""
    totals, bounds = [0.0] * len(rows), [[0.0]] * len(rows)
    with torch.inference_mode():
        for part in fill(rows, pass_tokens):
            tree = grow([rows[index] for index in part], module.device)
            logits = label_logits(module, tree, shared=shared)
            logprobs = (logits - torch.logsumexp(logits, dim=-1, keepdim=True)).cpu().numpy()
            end = 0
            for index in part:
                start, end = end, end + rows[index].labelled
                totals[index], bounds[index] = _along(rows[index], others[index], logprobs[start:end])
    return totals, bounds


def _along(row: TrainRow, others: Sequence[TrainRow], logprobs: Any) -> tuple[float, list[float]]:
    """`logprobs` is [labelled tokens of the row, vocabulary]."""
    answer = row.input_ids[row.labels_from :]
    sofar = np.cumsum([0.0, *logprobs[np.arange(len(answer)), answer].astype(np.float64)])
    bounds = []
    for other in others:
        fork = common_prefix([row.input_ids, other.input_ids]) - row.labels_from
        alike = fork == len(answer)  # two labels that a template renders alike
        bounds.append(float(sofar[fork] + (0.0 if alike else logprobs[fork, other.input_ids[row.labels_from + fork]])))
    return float(sofar[-1]), bounds
