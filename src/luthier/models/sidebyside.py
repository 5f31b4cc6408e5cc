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
    """Texts whose tokens so far are columns of a cache with one row; it is copied from, and stays as it is."""

    def __init__(self, module: Any, cache: DynamicCache, columns: Sequence[npt.NDArray[np.int64]], room: int) -> None:
        """`columns`: those of each text, in its order; `room`: how many tokens are to come at most."""
        self._module = module
        lengths = [len(some) for some in columns]
        width = max(lengths)
        places = np.zeros((len(columns), width), dtype=np.int64)
        for row, some in enumerate(columns):
            places[row, width - len(some) :] = some
        chosen = torch.from_numpy(places).to(module.device)
        self._cache = DynamicCache()
        self._cache.layers = [_with_room(layer, chosen, room) for layer in cache.layers]
        self._positions = torch.tensor(lengths, device=module.device)
        self._mask = torch.zeros(len(columns), width + room, device=module.device)
        for row, length in enumerate(lengths):
            self._mask[row, : width - length] = torch.finfo(torch.float32).min
        self._width = width

    def step(self, tokens: Sequence[int]) -> Any:
        """Append a token to each text: the logits after it, [texts, vocabulary]."""
        self._width += 1
        output = self._module(
            input_ids=torch.tensor(tokens, device=self._module.device)[:, None],
            position_ids=self._positions[:, None],
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
        self._positions, self._mask = self._positions[chosen], self._mask[chosen]


class _Roomy(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """A layer's keys and values, [texts, heads, places, width of a head], written in place until its room is used."""

    def __init__(self, keys: Any, values: Any, length: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._room = keys, values
        self._show(length)

    def update(self, key_states: Any, value_states: Any, *_args: Any, **_kwargs: Any) -> tuple[Any, Any]:
        before = self.keys.shape[-2]
        self._show(before + key_states.shape[-2])
        self.keys[..., before:, :] = key_states
        self.values[..., before:, :] = value_states
        return self.keys, self.values

    def choose(self, rows: Any) -> None:
        keys, values = self._room
        self._room = keys.index_select(0, rows), values.index_select(0, rows)
        self._show(self.keys.shape[-2])

    def _show(self, length: int) -> None:
        self.keys, self.values = (part[..., :length, :] for part in self._room)


def _with_room(layer: Any, places: Any, room: int) -> Any:
    """A layer of one row as one with a row for each text; one that keeps nothing (it reads another's) stays empty."""
    if not layer.is_initialized:
        return DynamicLayer()
    texts, width = places.shape

    def widened(part: Any) -> Any:
        _, heads, _, size = part.shape
        wide = part.new_empty(texts, heads, width + room, size)  # what is not written yet is never read
        wide[:, :, :width] = part[0].index_select(1, places.reshape(-1)).view(heads, texts, width, size).transpose(0, 1)
        return wide

    return _Roomy(widened(layer.keys), widened(layer.values), width)
