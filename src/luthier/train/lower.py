"""The lower layers: those below the adapted ones never change, so each row is run through them once, and never again.

What they give each token of a row stays in memory, and a training step begins where the adapted layers do: without
their half of the forward pass in any epoch, as an adapter of upper layers alone has no backward pass through them
anyway (Liu et al. 2021, AutoFreeze, arXiv 2102.01386, who keep the activations of frozen layers across epochs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from luthier.errors import MissingExtra
from luthier.train.adapter import decoder_layers, trainable
from luthier.train.rows import TrainRow
from luthier.train.tree import TOLERANCE, Tree, fill, grow, label_logits

try:
    import torch
except ImportError as error:
    raise MissingExtra("train", "fine-tuning") from error

KEPT_BYTES = 2**29  # of what is kept, at most; a task above it runs its rows through all layers in every epoch

Working = Callable[[str, int, int], None]


class LowerLayers:
    """The frozen layers at the bottom of a module whose attention is `tree.ATTENTION`, and what they gave."""

    def __init__(self, module: Any) -> None:
        self.module = module
        layers = [layer for _, layer in decoder_layers(module)]
        frozen = [not trainable(layer) for layer in layers]
        self.count = frozen.index(False) if False in frozen else 0
        self._pass = _Pass()
        self._kept: dict[TrainRow, Any] = {}
        if self.count and not trainable(module.get_input_embeddings()):
            for at, layer in enumerate(layers):
                layer.forward = _Layer(layer.forward, self._pass, at - self.count)

    def keep(self, rows: Sequence[TrainRow], pass_tokens: int, working: Working) -> None:
        """Run these rows through the lower layers, in passes that depend on nothing else.

        Nothing is kept where it would be too large, or where the module gives other logits from it, which is tried.
        """
        rows = list(dict.fromkeys(rows))
        width = self.module.get_input_embeddings().weight.shape[1]
        if not self.count or 4 * width * sum(len(row.input_ids) for row in rows) > KEPT_BYTES:
            return
        done = 0
        with torch.no_grad():
            for part in fill(rows, pass_tokens):
                working("running the layers that stay as they are", done, len(rows))
                tree = grow([rows[at] for at in part], self.module.device)
                hidden = self._below(tree)
                if hidden is None:
                    return
                self._kept |= {rows[at]: hidden[list(path)] for at, path in zip(part, tree.paths, strict=True)}
                done += len(part)
            if not self._same(rows):
                self._kept = {}

    @contextmanager
    def known(self, rows: Sequence[TrainRow], tree: Tree) -> Iterator[None]:
        """Inside, the module runs this tree, of these rows, from what was kept; where something is missing, from below.

        A tree numbers its tokens as they come, so that what is new in a row is the end of its path.
        """
        kept = [self._kept[row] for row in rows if row in self._kept]
        if len(kept) < len(rows):
            yield
            return
        ends, seen = [], 0
        for hidden, path in zip(kept, tree.paths, strict=True):
            ends.append(hidden[sum(token < seen for token in path) :])
            seen += len(ends[-1])
        self._pass.hidden = torch.cat(ends)[None]
        try:
            yield
        finally:
            self._pass.hidden = None

    def _below(self, tree: Tree) -> Any:
        """[tokens, width], what the lower layers give; None where they do not give one tensor."""
        self._pass.reading, self._pass.read = True, None
        try:
            label_logits(self.module, tree, shared=True)
        finally:
            self._pass.reading = False
        return self._pass.read

    def _same(self, rows: Sequence[TrainRow]) -> bool:
        """Whether the logits of the longest and the shortest row are those of all layers."""
        by_length = sorted(rows, key=lambda row: len(row.input_ids))
        some = [by_length[0], by_length[-1]]
        tree = grow(some, self.module.device)
        whole = label_logits(self.module, tree, shared=True)
        with self.known(some, tree):
            from_kept = label_logits(self.module, tree, shared=True)
        return bool((whole - from_kept).abs().max() <= TOLERANCE * whole.abs().max())


@dataclass
class _Pass:
    """What the pass that is being run begins with, or is run for."""

    hidden: Any = None
    """[1, tokens, width]: what the lower layers would give."""
    reading: bool = False
    """Whether only that is wanted."""
    read: Any = None
    """[tokens, width], what was wanted."""


@dataclass(frozen=True)
class _Layer:
    """A decoder layer that is passed over where what it would do is known, or not wanted; `place`: from the adapted."""

    forward: Callable[..., Any]
    running: _Pass
    place: int

    def __call__(self, hidden: Any, *args: Any, **kwargs: Any) -> Any:
        if self.running.reading and self.place >= 0:
            return hidden
        if self.running.hidden is not None and self.place < 0:
            return self.running.hidden
        output = self.forward(hidden, *args, **kwargs)
        if self.running.reading and self.place == -1 and isinstance(output, torch.Tensor):
            self.running.read = output[0]
        return output
