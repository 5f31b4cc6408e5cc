"""Convert: GGUF weights to float32 safetensors with their tokenizer, in a process of its own.

Of its own, because the libraries write bars and warnings to the terminal, and keep over a gigabyte of memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from pathlib import Path

from luthier.errors import MissingExtra, ModelError
from luthier.types import Event, Listener

_QUIET = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
_STEPS = ("reading its vocabulary, once", "unpacking its weights, once (half a minute)", "writing it to the cache")


def need_converter(name: str) -> None:
    """MissingExtra, unless the libraries are here that `to_safetensors` needs."""
    try:
        import gguf  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        raise MissingExtra("local", f"the model '{name}'") from None


def to_safetensors(gguf: Path, name: str, listen: Listener) -> None:
    """Put a model that `from_pretrained` can load beside the GGUF file; ModelError if that fails.

    A GGUF takes 40 s to load each time, safetensors 1 to 2 s. Peak memory for 135M parameters: 1.2 GB.
    """
    command = [sys.executable, "-P", "-m", "luthier.models.convert", str(gguf)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **_QUIET}, encoding="utf-8",
        errors="replace",
    ) as process:  # fmt: skip
        last: deque[str] = deque(maxlen=1)
        try:
            for line in process.stdout or ():
                step = line.strip()
                if step in _STEPS:
                    listen(Event("working", text=f"{name}: {step}", done=_STEPS.index(step), total=len(_STEPS)))
                elif step:
                    last.append(step)
            process.wait()
        finally:
            process.kill()
    if process.returncode != 0:
        why = last[0] if last else f"exit code {process.returncode}"
        raise ModelError(
            f"its weights cannot be unpacked: {why}",
            where=str(gguf),
            fix="it takes 2 GB of memory and six times the file's size on the disk; else update the extra 'local'",
        )


def _convert(gguf: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print(_STEPS[0], flush=True)  # noqa: T201 - what the parent process reads
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    print(_STEPS[1], flush=True)  # noqa: T201
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
    )
    print(_STEPS[2], flush=True)  # noqa: T201
    # a model that was read from GGUF calls itself quantized, and refuses to be saved as what it now is
    del model.config.quantization_config
    model.hf_quantizer = None
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(gguf.parent)
    tokenizer.save_pretrained(gguf.parent)


if __name__ == "__main__":
    _convert(Path(sys.argv[1]))
