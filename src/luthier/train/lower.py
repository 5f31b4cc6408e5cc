"""The lower layers: those below the adapted ones never change, so each row is run through them once, and never again.

What they give each token of a row stays in memory, and a training step begins where the adapted layers do: without
their part of the forward pass in any epoch, as an adapter of upper layers alone has no backward pass through them
anyway (Liu et al. 2021, AutoFreeze, arXiv 2102.01386, who keep the activations of frozen layers across epochs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from luthier.errors import MissingExtra
from luthier.train.adapter import decoder_layers, trainable
from luthier.train.job import Working
from luthier.train.rows import TrainRow
from luthier.train.tree import TOLERANCE, Tree, fill, grow, label_logits

try:
    import torch
except ImportError as error:
    raise MissingExtra("train", "fine-tuning") from error

KEPT_BYTES = 2**29  # of what is kept, at most; a task above it runs its rows through all layers in every epoch


class LowerLayers:
    """The frozen layers at the bottom of a module, and what they gave the rows that are kept, at first none."""

    def __init__(self, module: Any) -> None:
        self.module = module
        layers = [layer for _, layer in decoder_layers(module)]
        frozen = [not trainable(layer) for layer in layers]
        self.count = frozen.index(False) if False in frozen else 0
        self._pass = _Pass()
        self._kept: dict[TrainRow, tuple[Any, Any]] = {}
        """What a pass gave all of its tokens, and which of them are the row's."""
        for at, layer in enumerate(layers[: self.count]):
            layer.forward = _Layer(layer.forward, self._pass, last=at == self.count - 1)

    def keep(self, rows: Sequence[TrainRow], pass_tokens: int, working: Working) -> str | None:
        """Run these rows, each once, through the lower layers, in passes that depend on nothing else.

        The module's attention is `tree.ATTENTION`. Returns why nothing is kept, None where it is: it would be too
        large, or the module does not give the same logits from it (upper layers may read more than what the layer below
        gives them), which is tried before.
        """
        if not self.count or not rows:
            return None
        parts = fill(rows, pass_tokens)
        tokens = sum(grow([rows[at] for at in part]).tokens for part in parts)
        size = 4 * tokens * self.module.get_input_embeddings().weight.shape[1]
        if size > KEPT_BYTES:
            return (
                f"what they give {len(rows):,} examples takes {size / 2**30:.1f} GB, more than {KEPT_BYTES / 2**30:g}"
            )
        done = 0
        with torch.no_grad():
            if not self._same(rows):
                return "the layers above need more than what the layer below gives them"
            for part in parts:
                working("running the layers that stay as they are", done, len(rows))
                self._run([rows[at] for at in part])
                done += len(part)
        return None

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
        for (hidden, places), path in zip(kept, tree.paths, strict=True):
            ends.append(hidden[places[sum(token < seen for token in path) :]])
            seen += len(ends[-1])
        self._pass.hidden = torch.cat(ends)[None]
        try:
            yield
        finally:
            self._pass.hidden = None

    def _run(self, rows: Sequence[TrainRow]) -> None:
        """Keep what the lower layers give these rows; what they begin with alike is kept once."""
        tree = grow(rows, self.module.device)
        self._pass.reading = True
        try:
            label_logits(self.module, tree, shared=True)
        except _Read as read:
            for row, path in zip(rows, tree.paths, strict=True):
                self._kept[row] = read.hidden, torch.tensor(path, device=self.module.device)
        finally:
            self._pass.reading = False

    def _same(self, rows: Sequence[TrainRow]) -> bool:
        """Whether the logits of the longest and the shortest row are those of all layers."""
        by_length = sorted(rows, key=lambda row: len(row.input_ids))
        some = [by_length[0], by_length[-1]]
        tree = grow(some, self.module.device)
        try:
            whole = label_logits(self.module, tree, shared=True)
            self._run(some)
            with self.known(some, tree):
                from_kept = label_logits(self.module, tree, shared=True)
        except (TypeError, ValueError, LookupError, RuntimeError, AttributeError):  # what a layer says that misses some
            self._kept = {}
            return False
        same = bool((whole - from_kept).abs().max() <= TOLERANCE * whole.abs().max())
        self._kept = {}
        return same


class _Read(Exception):  # no error: the rest of a pass is not wanted
    """What the lower layers gave: [tokens, width]."""

    def __init__(self, hidden: Any) -> None:
        self.hidden = hidden


@dataclass
class _Pass:
    """What the pass that is being run begins with, or is run for."""

    hidden: Any = None
    """[1, tokens, width]: what the lower layers would give."""
    reading: bool = False
    """Whether only that is wanted."""


@dataclass(frozen=True)
class _Layer:
    """A frozen layer, passed over where what the last of them would give is known."""

    forward: Callable[..., Any]
    running: _Pass
    last: bool

    def __call__(self, hidden: Any, *args: Any, **kwargs: Any) -> Any:
        if self.running.hidden is not None:
            return self.running.hidden
        output = self.forward(hidden, *args, **kwargs)
        if self.running.reading and self.last:
            raise _Read(output[0])
        return output
