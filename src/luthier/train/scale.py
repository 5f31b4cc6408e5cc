"""Scale: a LoRA adapter at a part of its strength."""

from __future__ import annotations

import shutil
from pathlib import Path

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
