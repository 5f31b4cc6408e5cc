"""GGUF: tuned weights in the file format of llama.cpp, with the metadata and the tokenizer of the base's own file.

The metadata is copied and never made up: a tokenizer's rules for splitting text are named there, and a wrong name gives
other tokens for the same text without any error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from luthier.errors import MissingExtra, ModelError

try:
    import gguf
except ImportError as error:
    raise MissingExtra("gguf", "a GGUF file") from error

Quantization = Literal["f16", "q8_0"]
Weights = Mapping[str, NDArray[np.float32]]

ARCHITECTURE = "llama"
BLOCK = 32  # values that Q8_0 scales together
LARGEST_F16 = 65504.0
# of the base's weights against its GGUF, which may be quantized: 4 bits leave about 0.1, a wrong order of rows 1.4
FARTHEST = 0.25
ROWS_COMPARED = 512
_FILE_TYPES = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
_NOT_COPIED = ("GGUF.", "quantize.")  # the file's own counts, and how the base's weights were quantized


@dataclass(frozen=True)
class Shape:
    """What of a llama's configuration says how its tensors are named and ordered."""

    layers: int
    heads: int
    key_value_heads: int

    @classmethod
    def of(cls, config: Any) -> Shape:
        """Errors: ModelError for an architecture whose tensors this module does not know how to order."""
        if config.model_type != ARCHITECTURE:
            raise ModelError(
                f"GGUF is written for the architecture {ARCHITECTURE} only, and this is {config.model_type}",
                fix="leave gguf out of --formats; llama.cpp's own converter takes the merged folder",
            )
        return cls(config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads)


def weights_of(module: Any) -> dict[str, NDArray[np.float32]]:
    """A module's weights by name as float32 arrays; a head that is tied to the embeddings is left out."""
    named = module.state_dict()
    if module.config.tie_word_embeddings:
        named.pop("lm_head.weight", None)
    return {name: tensor.detach().cpu().float().numpy() for name, tensor in named.items()}


def permuted(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The rows of a query or key projection in GGUF's order: within a head the two halves are interleaved.

    Rotary embeddings turn pairs of rows: transformers pairs a row with the one half a head further, llama.cpp with the
    next one.

    >>> permuted(np.arange(8, dtype=np.float32)[:, None], heads=2)[:, 0].tolist()
    [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]
    """
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def in_gguf_order(weights: Weights, shape: Shape) -> dict[str, NDArray[np.float32]]:
    """The weights by GGUF's names, queries and keys in its order. Errors: ModelError for one that has no name there."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, shape.layers)
    found = {}
    for name, values in weights.items():
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if new is None:
            raise ModelError(f"the weights '{name}' have no place in a GGUF", fix="leave gguf out of --formats")
        if ".attn_q." in new or ".attn_k." in new:
            values = permuted(values, shape.heads if ".attn_q." in new else shape.key_value_heads)
        found[new] = values
    return found


def check_base(source: Path, base: Weights, shape: Shape, tokens: Sequence[str | None]) -> None:
    """Make sure that a GGUF is the base's own: its tokens, its tensors, and the order and values of the first layer.

    `tokens` by id, None where the tokenizer has none (rows that only fill up the embeddings). Errors: ModelError, which
    says what is different.
    """
    reader = _reader(source)
    architecture = reader.fields["general.architecture"].contents()
    if architecture != ARCHITECTURE:
        raise _other(source, f"its architecture is {architecture}")
    there = reader.fields["tokenizer.ggml.tokens"].contents()
    if len(there) != len(tokens) or any(own not in (None, its) for own, its in zip(tokens, there, strict=True)):
        raise _other(source, "its tokenizer has other tokens")
    ordered = in_gguf_order(base, shape)
    tensors = {tensor.name: tensor for tensor in reader.tensors if tensor.name != "rope_freqs.weight"}
    if set(tensors) != set(ordered):
        apart = sorted(set(tensors) ^ set(ordered))
        raise _other(source, f"its tensors are others, as {apart[0]}")
    for name, tensor in tensors.items():
        if _dims(tensor) != ordered[name].shape:
            raise _other(source, f"{name} has the shape {_dims(tensor)}, not {ordered[name].shape}")
        if name.startswith("blk.0.") or not name.startswith("blk."):
            stored = gguf.quants.dequantize(tensor.data[:ROWS_COMPARED], tensor.tensor_type)
            own = ordered[name][:ROWS_COMPARED]
            if np.linalg.norm(stored - own) > FARTHEST * np.linalg.norm(own):
                raise _other(source, f"the values of {name} are others")


def write(
    target: Path,
    source: Path,
    weights: Weights,
    shape: Shape,
    *,
    name: str,
    template: str,
    stop_ids: list[int],
    quantization: Quantization = "f16",
) -> None:
    """Write `weights` as a GGUF with the metadata of `source`, which `check_base` has passed.

    Vectors (norms, biases) stay float32. The template is the one that prompts were rendered with; it writes the special
    tokens, so the file says that none is added. One tensor at a time is held twice. Errors: ModelError where a value
    is too large for 16 bits.
    """
    reader = _reader(source)
    ordered = in_gguf_order(weights, shape)
    writer = gguf.GGUFWriter(target, ARCHITECTURE)
    new = _new_metadata(name, template, stop_ids, quantization)
    for field in reader.fields.values():
        if field.name != "general.architecture" and not field.name.startswith(_NOT_COPIED) and field.name not in new:
            kind = field.types[0]
            sub_kind = field.types[-1] if kind is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub_type=sub_kind)
    for key, (value, kind) in new.items():
        writer.add_key_value(key, value, kind)
    tensors = list(_tensors(reader, ordered, quantization))
    for tensor, (dtype, raw, size) in tensors:
        writer.add_tensor_info(tensor.name, _stored_shape(tensor, raw), dtype, size, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    try:
        for tensor, (_, raw, _) in tensors:
            writer.write_tensor_data(_stored(tensor, ordered, raw))
    finally:
        writer.close()


def _new_metadata(
    name: str, template: str, stop_ids: list[int], quantization: Quantization
) -> dict[str, tuple[Any, gguf.GGUFValueType]]:
    kinds = gguf.GGUFValueType
    return {
        "general.name": (name, kinds.STRING),
        "general.file_type": (int(_FILE_TYPES[quantization]), kinds.UINT32),
        "tokenizer.chat_template": (template, kinds.STRING),
        "tokenizer.ggml.add_bos_token": (False, kinds.BOOL),
        "tokenizer.ggml.add_eos_token": (False, kinds.BOOL),
        "tokenizer.ggml.eot_token_id": (stop_ids[0], kinds.UINT32),
        "tokenizer.ggml.eos_token_id": (stop_ids[-1], kinds.UINT32),
    }


def _tensors(reader: Any, ordered: Weights, quantization: Quantization) -> Iterator[tuple[Any, tuple[Any, Any, int]]]:
    """Each tensor of the base's file with the type it is to be stored as: numpy's, GGUF's, and the bytes."""
    types = gguf.GGMLQuantizationType
    for tensor in reader.tensors:
        dims = _dims(tensor)
        count = int(np.prod(dims))
        if tensor.name not in ordered or len(dims) == 1:  # rope_freqs follows from the configuration alone
            yield tensor, (np.dtype(np.float32), types.F32, 4 * count)
        elif quantization == "q8_0" and dims[-1] % BLOCK == 0:
            size = count // BLOCK * (BLOCK + 2)
            yield tensor, (np.dtype(np.uint8), types.Q8_0, size)
        else:
            yield tensor, (np.dtype(np.float16), types.F16, 2 * count)


def _stored(tensor: Any, ordered: Weights, raw: Any) -> NDArray[Any]:
    types = gguf.GGMLQuantizationType
    if tensor.name not in ordered:
        return np.ascontiguousarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    values = ordered[tensor.name]
    if raw is types.Q8_0:
        return np.asarray(gguf.quants.quantize(values, types.Q8_0))
    if raw is types.F16 and float(np.abs(values).max()) > LARGEST_F16:
        raise ModelError(
            f"the weights {tensor.name} are too large for 16 bits", fix="leave gguf out of --formats, or tune again"
        )
    return np.ascontiguousarray(values, dtype=np.float16 if raw is types.F16 else np.float32)


def _stored_shape(tensor: Any, raw: Any) -> tuple[int, ...]:
    """The shape as the writer wants it: in bytes where values are quantized."""
    dims = _dims(tensor)
    if raw is gguf.GGMLQuantizationType.Q8_0:
        return (*dims[:-1], dims[-1] // BLOCK * (BLOCK + 2))
    return dims


def _dims(tensor: Any) -> tuple[int, ...]:
    """A tensor's shape as numpy has it: GGUF lists dimensions the other way round."""
    return tuple(int(size) for size in reversed(tensor.shape))


def _reader(source: Path) -> Any:
    try:
        return gguf.GGUFReader(source)
    except (ValueError, IndexError, OSError) as error:
        raise ModelError(f"it is no GGUF file: {error}", where=str(source), fix="give the base model's GGUF") from error


def _other(source: Path, what: str) -> ModelError:
    return ModelError(
        f"it is not the GGUF of the model that was tuned: {what}",
        where=str(source),
        fix="give that model's own file with --base-gguf, or leave gguf out of --formats",
    )
