"""Quantized: a model's weights in 4 bits, to train an adapter around. GPUs only.

Untested beyond its refusals and its configuration: no machine of this project has a GPU.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from luthier.errors import MissingExtra, ModelError
from luthier.models.quiet import quiet

try:
    import torch
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
except ImportError as error:
    raise MissingExtra("train", "fine-tuning") from error


def load_4bit(folder: Path | None) -> Any:
    """The model in `folder` in NF4, its norms and head in fp32, on the first GPU; a module of its own each time.

    Errors: ModelError where there is no GPU, no bitsandbytes, or no folder to load from.
    """
    if not torch.cuda.is_available():
        raise ModelError("it needs a GPU", where="qlora", fix="use lora on this machine, or run on one with a GPU")
    if find_spec("bitsandbytes") is None:
        raise ModelError("it needs bitsandbytes", where="qlora", fix="pip install bitsandbytes")
    if folder is None:
        raise ModelError("it needs a student from a folder or the catalog", where="qlora", fix="name one in [models]")
    with quiet():
        module = AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=nf4(), device_map={"": 0}, dtype=torch.bfloat16, local_files_only=True
        )
        # the loop recomputes long rows by itself, so that the library's checkpointing would do it twice
        return prepare_model_for_kbit_training(module, use_gradient_checkpointing=False)


def nf4() -> Any:
    """How QLoRA stores weights: 4-bit normal floats, their scales quantized too, sums in bf16."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
