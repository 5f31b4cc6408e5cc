"""The runtimes: each export asked as those who get it will ask, with greedy generation and none of luthier's engine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from luthier.errors import MissingExtra
from luthier.models.quiet import quiet
from luthier.release.asking import Asked
from luthier.release.parity import Answer

ANSWER_S = 300.0
LONGEST_REASON = 300

Working = Callable[[int, int], None]


class Unusable(Exception):
    """The runtime does not take this export at all."""


def ask_adapter(base: Path, adapter: Path, asked: Sequence[Asked], working: Working) -> list[Answer]:
    """Through peft and transformers: the adapter on the base, not merged. Errors: Unusable."""
    try:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise MissingExtra("train", "testing an adapter") from error

    def load() -> Any:
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, local_files_only=True), adapter)

    return _generate(load, adapter, asked, working)


def ask_merged(folder: Path, asked: Sequence[Asked], working: Working) -> list[Answer]:
    """Through transformers alone. Errors: Unusable."""
    try:
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise MissingExtra("local", "testing merged weights") from error
    return _generate(
        lambda: AutoModelForCausalLM.from_pretrained(folder, local_files_only=True), folder, asked, working
    )


def _generate(load: Callable[[], Any], folder: Path, asked: Sequence[Asked], working: Working) -> list[Answer]:
    import torch
    from transformers import AutoTokenizer, GenerationConfig

    answers = []
    with quiet(), torch.inference_mode():
        try:
            module = load().eval()
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            how = GenerationConfig.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # each library has errors of its own; all of them are the export's
            raise Unusable(f"it cannot be loaded: {_short(error)}") from error
        for at, each in enumerate(asked):
            working(at, len(asked))
            ids = tokenizer.apply_chat_template(
                each.chat, add_generation_prompt=True, sanitize_control_tokens=True, return_tensors="pt"
            ).to(module.device)
            prompt = ids["input_ids"]
            try:
                out = module.generate(**ids, generation_config=how, max_new_tokens=each.max_tokens)
            except (RuntimeError, ValueError, IndexError) as error:
                answers.append(Answer(None, _short(error)))
                continue
            text = tokenizer.decode(out[0, prompt.shape[1] :], skip_special_tokens=True)
            answers.append(Answer(text.strip(), same_prompt=tuple(prompt[0].tolist()) == each.ids))
    return answers


def ask_gguf(file: Path, context_tokens: int, asked: Sequence[Asked], working: Working) -> list[Answer]:
    """Through llama.cpp's HTTP server, as chats; its rendering of each prompt is compared too. Errors: Unusable."""
    answers = []
    with _server(file, context_tokens) as address:
        for at, each in enumerate(asked):
            working(at, len(asked))
            answers.append(_chat(address, each))
    return answers


def need_llama() -> None:
    """MissingExtra, unless llama.cpp's server is here."""
    try:
        import xllamacpp  # noqa: F401
    except ImportError:
        raise MissingExtra("gguf", "testing a GGUF file in llama.cpp") from None


def _chat(address: str, asked: Asked) -> Answer:
    body: dict[str, Any] = {"messages": asked.chat, "temperature": 0.0, "max_tokens": asked.max_tokens}
    if asked.schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": asked.schema}}
    try:
        rendered = _post(address, "/apply-template", {"messages": asked.chat})["prompt"]
        # as the chat endpoint does it: special tokens are read, and added where the file says so
        ids = _post(address, "/tokenize", {"content": rendered, "add_special": True, "parse_special": True})["tokens"]
        # without a cache an answer does not depend on what was asked before it
        said = _post(address, "/v1/chat/completions", {**body, "cache_prompt": False})
        text = said["choices"][0]["message"]["content"] or ""
    except urllib.error.HTTPError as error:
        return Answer(None, f"the server answered {error.code}: {_short(error.read().decode(errors='replace'))}")
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise Unusable(f"llama.cpp's server broke off: {_short(error)}") from error
    same = tuple(ids) == asked.ids and said["usage"]["prompt_tokens"] == len(asked.ids)
    return Answer(text.strip(), same_prompt=same)


def _post(address: str, path: str, body: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(
        address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    # a proxy of the environment has nothing to do with this machine's own address
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=ANSWER_S) as response:
        return json.loads(response.read())


@contextmanager
def _server(file: Path, context_tokens: int) -> Iterator[str]:
    """llama.cpp's server with this file, in a process of its own; its address. Errors: Unusable."""
    need_llama()
    command = [sys.executable, "-P", "-m", "luthier.release.llama_server", str(file), str(context_tokens)]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, encoding="utf-8", errors="replace"
        ) as process,
    ):
        try:
            address = next((line.strip() for line in process.stdout or () if line.startswith("http")), "")
            if not address:
                process.wait()
                log.seek(0)
                told = [line.strip() for line in log if line.strip()]
                raise Unusable(f"llama.cpp does not load it: {_short(told[-1] if told else process.returncode)}")
            yield address
        finally:
            process.kill()


def _short(error: Any) -> str:
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
