"""Wire: a request as the body of a remote call, and what came back as texts and tokens, for each API.

One example: with the choices LOC and HUM, an endpoint with structured outputs is given a JSON schema whose only
property `answer` is one of both; `{"answer": "LOC"}` comes back, and the text of the reply is "LOC".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from luthier.errors import MissingExtra
from luthier.task.remote import HOMES
from luthier.types import ApiName, Endpoint, Message, Request, Usage, whole

WIRE = "wire-1"  # changes whenever the same request could be asked in other words

ANSWER = "answer"
JSON_TOKENS = 24  # what the braces, quotes and the key around a choice may take
# per message and per request: what a chat template adds, taken generously
MESSAGE_TOKENS, REQUEST_TOKENS = 16, 64
MOST_TOKENS = 10**12  # no answer takes more: a server that says so is wrong, and a ledger could not hold it
# headers of a client that stay: the version of the Messages API, and by what it knows again which form is wanted of it
KEPT_HEADERS = ("anthropic-version", "x-stainless-raw-response")


class Malformed(Exception):
    """What came back is no answer of this API."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The texts of one call, as they were said, and what it took."""

    texts: tuple[str, ...]
    usage: Usage
    finish_reason: str


class Api(Protocol):
    """How one kind of endpoint is asked through its official client."""

    @property
    def sdk(self) -> Any: ...
    def open(self, endpoint: Endpoint, key: str) -> Any: ...
    def send(self, client: Any, endpoint: Endpoint, request: Request, samples: int, seed: int) -> Any: ...
    def read(self, data: Any) -> Answer: ...


def api_of(endpoint: Endpoint) -> Api:
    """The API of an endpoint. Raises MissingExtra without its client."""
    return _APIS[endpoint.api]()


class OpenAI:
    """Chat completions, which most servers of other makers speak too."""

    def __init__(self) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingExtra("remote", "a remote model") from error
        self.sdk: Any = openai

    def open(self, endpoint: Endpoint, key: str) -> Any:
        return self.sdk.OpenAI(
            api_key=key or "none",
            base_url=endpoint.base_url,
            timeout=endpoint.timeout_s,
            max_retries=0,  # retries are counted and paid for here, once
            http_client=_http(endpoint, key),
        )

    def send(self, client: Any, endpoint: Endpoint, request: Request, samples: int, seed: int) -> Any:
        extra: dict[str, Any] = {
            endpoint.limit_key: answer_tokens(request, endpoint),
            **_sampling(endpoint, request, seed),
        }
        if samples > 1:
            extra["n"] = samples
        schema = _schema(request, endpoint)
        if schema is not None:
            named = {"name": "reply", "strict": True, "schema": schema}
            extra["response_format"] = {"type": "json_schema", "json_schema": named}
        messages = [{"role": turn.role, "content": turn.content} for turn in turns(request, endpoint)]
        raw = client.chat.completions.with_raw_response.create(
            model=endpoint.model, messages=messages, extra_body={**extra, **endpoint.parameters}
        )
        return _json(raw.http_response)

    def read(self, data: Any) -> Answer:
        choices = _list(data, "choices")
        texts = []
        for choice in choices:
            message = _dict(choice, "message")
            text = message.get("content") or message.get("refusal") or ""
            if not isinstance(text, str):
                raise Malformed("a message's content is not text")
            texts.append(whole(text))
        if not texts:
            raise Malformed("there are no choices")
        usage = _dict(data, "usage")
        prompt, output = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        details = usage.get("prompt_tokens_details")
        # both are parts of prompt_tokens here, not additions to it
        cached = _optional(details, "cached_tokens")
        written = _optional(details, "cache_write_tokens")
        cached = min(cached, prompt)
        written = min(written, prompt - cached)
        reasons = {str(choice.get("finish_reason") or "") for choice in choices}
        reason = "length" if "length" in reasons else whole(sorted(reasons)[0])
        return Answer(tuple(texts), Usage(prompt - cached - written, cached, written, output), reason)


class Anthropic:
    """The Messages API: one text a call, the system message apart, cached tokens beside the input tokens."""

    def __init__(self) -> None:
        try:
            import anthropic
        except ImportError as error:
            raise MissingExtra("anthropic", "a model of Anthropic") from error
        self.sdk: Any = anthropic

    def open(self, endpoint: Endpoint, key: str) -> Any:
        return self.sdk.Anthropic(
            api_key=key or "none",
            base_url=endpoint.base_url,
            timeout=endpoint.timeout_s,
            max_retries=0,
            http_client=_http(endpoint, key),
        )

    def send(self, client: Any, endpoint: Endpoint, request: Request, samples: int, seed: int) -> Any:
        asked = turns(request, endpoint)
        extra: dict[str, Any] = _sampling(endpoint, request, seed)
        system = "\n\n".join(turn.content for turn in asked if turn.role == "system")
        if system:
            extra["system"] = system
        schema = _schema(request, endpoint)
        if schema is not None:
            extra["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        raw = client.messages.with_raw_response.create(
            model=endpoint.model,
            max_tokens=answer_tokens(request, endpoint),
            messages=[{"role": turn.role, "content": turn.content} for turn in asked if turn.role != "system"],
            extra_body={**extra, **endpoint.parameters},
        )
        return _json(raw.http_response)

    def read(self, data: Any) -> Answer:
        blocks = _list(data, "content")
        text = "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")
        usage = _dict(data, "usage")
        reason = whole(str(data.get("stop_reason") or ""))
        return Answer(
            (whole(text),),
            Usage(
                _count(usage, "input_tokens"),
                _optional(usage, "cache_read_input_tokens"),
                _optional(usage, "cache_creation_input_tokens"),
                _count(usage, "output_tokens"),
            ),
            {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}.get(reason, reason),
        )


_APIS: dict[ApiName, Callable[[], Api]] = {"openai": OpenAI, "anthropic": Anthropic}


def at_home(endpoint: Endpoint) -> bool:
    """Whether the address is the maker's own."""
    return urlsplit(endpoint.base_url).hostname == urlsplit(HOMES[endpoint.api][0]).hostname


def _http(endpoint: Endpoint, key: str) -> Any:
    import httpx2  # comes with either client

    def only_ours(request: Any) -> None:
        # The clients add what the environment holds for their makers (custom headers, often with a gateway's key, an
        # organisation, a project): anybody else gets what is written here and nothing more.
        request.headers = httpx2.Headers(
            {
                "host": request.url.netloc.decode("ascii"),
                "accept": "application/json",
                "accept-encoding": "gzip, deflate",
                "content-type": "application/json",
                "content-length": str(len(request.content)),
                "user-agent": "luthier",
                **{name: request.headers[name] for name in KEPT_HEADERS if name in request.headers},
                **_auth(endpoint, key),
            }
        )

    # A redirect could carry the examples to another host than the one that was checked, and so could a proxy that the
    # environment names, which an address on this machine must not be asked through.
    return httpx2.Client(
        timeout=endpoint.timeout_s,
        follow_redirects=False,
        trust_env=not endpoint.on_this_machine,
        event_hooks={"request": [] if at_home(endpoint) else [only_ours]},
    )


def _auth(endpoint: Endpoint, key: str) -> dict[str, str]:
    """The key as other makers' servers want it: of those that speak the Messages API some read only one of both."""
    bearer = {"authorization": f"Bearer {key}"} if key else {}
    if endpoint.api == "openai":
        return bearer
    return {"x-api-key": key, **bearer} if key else {}


# ---------------------------------------------------------------- asking


def turns(request: Request, endpoint: Endpoint) -> tuple[Message, ...]:
    """The messages as this endpoint is to see them.

    Where a schema forces the form of the answer, solved examples show that form too; where nothing forces it, a schema
    is asked for in words.
    """
    if request.choices is not None and endpoint.structured:
        known = set(request.choices)
        return tuple(
            Message("assistant", json.dumps({ANSWER: turn.content}, ensure_ascii=False))
            if turn.role == "assistant" and turn.content in known
            else turn
            for turn in request.messages
        )
    if request.schema is not None and not endpoint.structured:
        schema = json.dumps(request.schema, ensure_ascii=False)
        words = f"Answer with JSON of this schema and nothing else: {schema}"
        first, *rest = request.messages
        if first.role == "system":
            return (Message("system", f"{first.content}\n\n{words}"), *rest)
        return (Message("system", words), *request.messages)
    return request.messages


def said(request: Request, text: str, endpoint: Endpoint) -> str:
    """What was said, as a choice where it is exactly one (white space around it apart), else as it was said."""
    if request.choices is None:
        return text
    if endpoint.structured:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and set(value) == {ANSWER} and value[ANSWER] in request.choices:
            return str(value[ANSWER])
    return text.strip() if text.strip() in request.choices else text


def answer_tokens(request: Request, endpoint: Endpoint) -> int:
    """How many tokens an answer may have. A choice needs at most its bytes, however it is cut into tokens."""
    if request.choices is None:
        return request.max_tokens + endpoint.thinking_tokens
    return max(len(choice.encode()) for choice in request.choices) + JSON_TOKENS + endpoint.thinking_tokens


def prompt_bound(request: Request, endpoint: Endpoint) -> int:
    """More tokens than this a prompt cannot have: none is shorter than a byte."""
    asked = turns(request, endpoint)
    schema = _schema(request, endpoint)
    text = sum(len(turn.content.encode("utf-8", "replace")) + MESSAGE_TOKENS for turn in asked)
    return text + REQUEST_TOKENS + (len(json.dumps(schema).encode()) if schema is not None else 0)


def _schema(request: Request, endpoint: Endpoint) -> Mapping[str, Any] | None:
    if not endpoint.structured:
        return None
    if request.choices is None:
        return request.schema
    return {
        "type": "object",
        "properties": {ANSWER: {"type": "string", "enum": list(request.choices)}},
        "required": [ANSWER],
        "additionalProperties": False,
    }


def _sampling(endpoint: Endpoint, request: Request, seed: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"temperature": request.temperature, "seed": seed}
    return {key: settings[key] for key in endpoint.send}


# ---------------------------------------------------------------- reading


def _json(response: Any) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        raise Malformed("it is not JSON") from None


def _dict(data: Any, key: str) -> dict[str, Any]:
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, dict):
        raise Malformed(f"there is no '{key}' in it")
    return value


def _list(data: Any, key: str) -> Sequence[dict[str, Any]]:
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Malformed(f"there is no '{key}' in it")
    return value


def _count(usage: Mapping[str, Any], key: str) -> int:
    value = usage.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Malformed(f"it does not say its {key}")
    if value > MOST_TOKENS:
        raise Malformed(f"its {key} cannot be true")
    return value


def _optional(usage: Any, key: str) -> int:
    return _count(usage, key) if isinstance(usage, dict) and usage.get(key) is not None else 0
