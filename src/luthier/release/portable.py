"""Portable folders: the adapter as PEFT loads it and the whole weights as transformers does, tokenizer included."""

from __future__ import annotations

import copy
import errno
import shutil
from pathlib import Path
from typing import Any

from luthier.errors import MissingExtra
from luthier.models.quiet import quiet

try:
    from safetensors import SafetensorError
    from transformers import GenerationConfig
except ImportError as error:
    raise MissingExtra("local", "exporting a model") from error


def write_adapter(folder: Path, adapter: Path, model: Any) -> None:
    """The adapter's own bytes, with the tokenizer, its chat template and how to generate. `model` is the tuned one."""
    shutil.copytree(adapter, folder)
    _write_chat(folder, model)


def write_merged(folder: Path, model: Any) -> None:
    """The weights that were measured, adapter merged in, in their own precision; tied embeddings are written once."""
    try:
        with quiet():
            model.module.save_pretrained(folder)
    except SafetensorError as error:  # it has no type of its own for a full disk
        raise OSError(errno.ENOSPC if "os error 28" in str(error) else errno.EIO, str(error)) from error
    _write_chat(folder, model)


def stop_ids(model: Any) -> list[int]:
    """The tokens that end an answer: the template's end of turn first, then what the tokenizer calls its end."""
    eos = model.tokenizer.eos_token_id
    end = model.chat.end_of_turn_id
    return [end] if eos is None or eos == end else [end, eos]


def _write_chat(folder: Path, model: Any) -> None:
    """The tokenizer with the very template that the prompts were rendered with, and greedy generation that stops."""
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = model.chat.template
    stops = stop_ids(model)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    with quiet():
        tokenizer.save_pretrained(folder)
        generation = GenerationConfig(
            do_sample=False, eos_token_id=stops, pad_token_id=pad, bos_token_id=tokenizer.bos_token_id
        )
        generation.save_pretrained(folder)
