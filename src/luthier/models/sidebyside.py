"""Side by side: texts that grow token by token, each with keys and values of its own.

    place:        0    1       2      3     4    5         | room
    1st text:     -    -     <user>  Who   was  Galileo    | ...
    2nd text:   <user> What    is     a    leap  year      | ...

A pass takes one token of each text. Where texts share a row instead (`branches`), each token looks past the keys of all
the others, which costs their square; here what they begin with stands once for each text, which costs memory. So this
is for many texts behind a short prefix. The room for what will be written is there from the start: nothing is copied
as texts grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from luthier.errors import MissingExtra

try:
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer
except ImportError as error:
    raise MissingExtra("local", "a local model") from error


class SideBySide:
    """Texts that go on one token at a time; `put` gives each what it begins with."""

    def __init__(self, module: Any, lengths: Sequence[int], rooms: Sequence[int]) -> None:
        """`lengths`: how many tokens each text begins with; `rooms`: how many it may get at most."""
        self._module = module
        self._lengths = lengths
        self._width, self._room = max(lengths), max(rooms)
        self._cache = DynamicCache()
        self._positions = torch.tensor(lengths, device=module.device)
        # what is run on behind its end stays where it is: a model may have no position beyond
        self._last = self._positions + torch.tensor(rooms, device=module.device) - 1
        self._mask = torch.zeros(len(lengths), self._width + self._room, device=module.device)
        for at, length in enumerate(lengths):
            self._mask[at, : self._width - length] = torch.finfo(torch.float32).min

    def put(self, at: int, cache: DynamicCache, columns: npt.NDArray[np.int64]) -> None:
        """The text `at` begins with these columns of a cache of one row, which stays as it is."""
        chosen = torch.from_numpy(columns).to(self._module.device)
        if not self._cache.layers:
            shape = len(self._lengths), self._width, self._room
            self._cache.layers = [
                _Roomy(layer, *shape) if layer.is_initialized else DynamicLayer() for layer in cache.layers
            ]
        for layer, source in zip(self._cache.layers, cache.layers, strict=True):
            if isinstance(layer, _Roomy):  # one that keeps nothing reads what another one keeps
                layer.put(at, source, chosen)

    def step(self, tokens: Sequence[int]) -> Any:
        """Append a token to each text: the logits after it, [texts, vocabulary]."""
        self._width += 1
        output = self._module(
            input_ids=torch.tensor(tokens, device=self._module.device)[:, None],
            position_ids=self._positions.minimum(self._last)[:, None],
            attention_mask=self._mask[:, None, None, : self._width],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._positions = self._positions + 1
        return output.logits[:, -1]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these texts alone."""
        chosen = torch.tensor(rows, device=self._module.device)
        for layer in self._cache.layers:
            if isinstance(layer, _Roomy):
                layer.choose(chosen)
        self._positions, self._last, self._mask = self._positions[chosen], self._last[chosen], self._mask[chosen]


class _Roomy(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """A layer's keys and values, [texts, heads, places, width of a head], written in place until its room is used.

    What nobody has written yet is never read, nor copied: it takes no memory.
    """

    def __init__(self, like: Any, texts: int, width: int, room: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = like.keys.dtype, like.keys.device, True
        self._room = tuple(
            part.new_empty(texts, part.shape[1], width + room, part.shape[3]) for part in (like.keys, like.values)
        )
        self._show(width)

    def put(self, at: int, source: Any, columns: Any) -> None:
        """Right-aligned; the places before it are masked, but what is multiplied by 0 must be a number."""
        for mine, part in ((self.keys, source.keys), (self.values, source.values)):
            empty = mine.shape[2] - len(columns)
            mine[at, :, :empty] = 0
            mine[at, :, empty:] = part[0].index_select(1, columns)

    def update(self, key_states: Any, value_states: Any, *_args: Any, **_kwargs: Any) -> tuple[Any, Any]:
        before = self.keys.shape[-2]
        self._show(before + key_states.shape[-2])
        self.keys[..., before:, :] = key_states
        self.values[..., before:, :] = value_states
        return self.keys, self.values

    def choose(self, rows: Any) -> None:
        length = self.keys.shape[-2]
        fewer = []
        for part in self._room:
            _, heads, places, size = part.shape
            fewer.append(part.new_empty(len(rows), heads, places, size))
            fewer[-1][:, :, :length] = part[rows, :, :length]
        self._room = tuple(fewer)
        self._show(length)

    def _show(self, length: int) -> None:
        self.keys, self.values = (part[..., :length, :] for part in self._room)
