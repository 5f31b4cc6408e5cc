"""A tiny task with a tiny student that knows it, climbed: what exports are tested on; and the student's own GGUF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from builders import write_task
from tiny_models import tiny_model

import luthier
from luthier.rungs.lora import Lora
from luthier.task import load_task
from luthier.train.recipe import Recipe
from luthier.types import FitContext, Task

WORDS = {"animal": ("dog", "cat", "horse", "cow"), "number": ("two", "seven", "ninety", "many")}
TOML = """
[task]
name = "tiny words"
instruction = "Say which kind of thing this is about."
[data]
path = "data.csv"
input = "text"
reference = "label"
near_duplicates = false
[split]
train = 64
dev = 64
test = 64
[target]
metric = "accuracy"
at_least = 0.6
[ladder]
rungs = ["majority", "lora"]
consistency = 0
[training]
learning_rate = 0.01
[guard]
required = false
repair = false
documents = 32
document_tokens = 16
prompts = 16
[models]
student = {student}
"""


def rows() -> list[tuple[str, str]]:
    return [(f"the {word} {at}", label) for at in range(26) for label, some in WORDS.items() for word in some]


def climbed(folder: Path) -> Task:
    """A task whose last run chose its fine-tune, with the student in `folder/student` and its GGUF beside it."""
    path = write_task(folder, rows(), TOML.format(student=json.dumps(str(folder / "student"))))
    write_student(folder / "student", load_task(path))
    luthier.run(path)
    return load_task(path)


def write_student(folder: Path, task: Task) -> None:
    """A tiny model that has been taught the task: one that has not would write anything but a label."""
    work = folder.parent / "work"
    recipe = Recipe(rank=8, alpha=16, learning_rate=1e-2, epochs=6, step_examples=4, dev_examples=8)
    taught = Lora(recipe).fit(task.spec, task.train, task.dev, FitContext({"student": tiny_model()}, 0, work))
    model = taught.model
    model.module.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n", encoding="utf-8")
    write_gguf(folder / "base.gguf", model.module, model.tokenizer)


def write_gguf(path: Path, module: Any, tokenizer: Any) -> None:
    """A llama as GGUF in float32, written from its configuration, with no line of luthier's own."""
    config, state = module.config, json.loads(tokenizer.backend_tokenizer.to_str())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    special = {token["id"] for token in state["added_tokens"]}
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    tokens += [f"[PAD{at}]" for at in range(len(tokens), config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if at in special else kinds.NORMAL for at in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in state["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in module.state_dict().items():
        if name != "lm_head.weight":
            values = tensor.numpy()
            kind = name.split(".")[-2]
            values = interleaved(values, heads[kind]) if kind in heads else values
            writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleaved(values: Any, heads: int) -> Any:
    """Rows 0 1 2 3 of a head become 0 2 1 3: each row stands before the one that rotates with it."""
    size = values.shape[0] // heads
    order = [head * size + at + half * size // 2 for head in range(heads) for at in range(size // 2) for half in (0, 1)]
    return np.ascontiguousarray(values[order])
