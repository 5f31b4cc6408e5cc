"""Scale: a fine-tune at a part of its strength, between the base model (0) and what was trained (1)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from luthier.errors import MissingExtra, ModelError

try:
    from safetensors.torch import load_file, save_file
except ImportError as error:
    raise MissingExtra("train", "a scaled adapter") from error

WEIGHTS = "adapter_model.safetensors"


def scale_adapter(adapter: Path, target: Path, scale: float) -> None:
    """Write the PEFT adapter of `adapter` into the folder `target`, its change of the weights multiplied by `scale`.

    Raises ModelError for an adapter whose change is not a product alone (DoRA's magnitudes).
    """
    weights = load_file(adapter / WEIGHTS)
    strange = [name for name in weights if ".lora_A." not in name and ".lora_B." not in name]
    if strange:
        raise ModelError(f"'{strange[0]}' cannot be scaled", where=str(adapter), fix="train a plain LoRA adapter")
    target.mkdir(parents=True, exist_ok=True)
    for path in adapter.iterdir():
        if path.is_file() and path.name != WEIGHTS:
            shutil.copy(path, target / path.name)
    scaled = {name: weight * scale if ".lora_B." in name else weight for name, weight in weights.items()}
    save_file(scaled, target / WEIGHTS, metadata={"format": "pt"})


def scale_weights(folder: Path, target: Path, base: Any, scale: float) -> None:
    """Write the model folder of a full fine-tune into `target`, its weights `scale` of the way from those of `base`.

    WiSE-FT (Wortsman et al., arXiv 2109.01903). Raises ModelError where `base`, a module, has other weights.
    """
    before = base.state_dict()
    target.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            if path.is_file():
                shutil.copy(path, target / path.name)
            continue
        mixed = {}
        for name, weight in load_file(path).items():
            if name not in before or before[name].shape != weight.shape:
                raise ModelError(f"the base model has no '{name}' like it", where=str(folder), fix="fit it again")
            start = before[name].detach().cpu().to(weight.dtype)
            mixed[name] = (start + scale * (weight - start)).contiguous()
        save_file(mixed, target / path.name, metadata={"format": "pt"})
