"""Models: what is asked of them, what they reply, what they use, and the protocols they keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from luthier.types.data import Message


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, in four disjoint counts: nothing is counted twice."""

    fresh_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.fresh_tokens + other.fresh_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a model: `choices` (score each exactly), JSON of a `schema`, or a free completion.

    `n` texts are drawn from seeds that follow from `seed`; at temperature 0 all n are the same. The best choice is the
    likeliest, or with a `prior` (log-probabilities in the order of the choices) the one that rises most above it. With
    `scores="best"` only the best is asked for: a model may leave out whatever cannot change it.
    """

    messages: tuple[Message, ...]
    choices: tuple[str, ...] | None = None
    schema: Mapping[str, Any] | None = None
    max_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    n: int = 1
    scores: Literal["all", "best"] = "all"
    prior: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered, in the order of the requests.

    With `choices`, `texts` holds the best choice and `choice_logprobs` the log-probability (nats) of each choice, its
    end-of-turn token included, in the order of the request; None marks a choice that was not scored to its end, which
    only happens where the request asks for the best alone. A model that cannot tell them leaves them out, and then its
    text may be none of the choices: it stands as it was said. `finish_reason` is "stop", or "length" where `max_tokens`
    cut a text: then the JSON of a `schema` is not whole. A failure is an `error` and no texts.
    """

    texts: tuple[str, ...] = ()
    choice_logprobs: tuple[float | None, ...] | None = None
    usage: Usage = Usage()
    latency_s: float = 0.0
    finish_reason: str = ""
    error: str | None = None


@runtime_checkable
class Model(Protocol):
    """The one seam to any LLM. `fingerprint` changes whenever an answer could (weights, template, adapter, engine).

    Facts a model may add, each the ordinary case where it is left out: `remote` (False): what it is asked leaves this
    machine; `gives_logprobs` (True): its replies to `choices` carry `choice_logprobs`; `follows_schemas` (True): what
    it writes for a request with a `schema` is JSON of it; `context_tokens` (None: unknown) and
    `prompt_tokens(messages)`: how much fits into a prompt, and how much a prompt takes of it.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def thread_safe(self) -> bool: ...

    def complete(self, requests: Sequence[Request]) -> list[Reply]: ...


Arrived = Callable[[int, Reply], None]


@runtime_checkable
class AnswersOneByOne(Protocol):
    """A model whose replies arrive apart, and do not depend on the rest of the batch.

    `arrived` is called with the request's position and its reply as soon as there is one, from any thread.
    """

    def complete_each(self, requests: Sequence[Request], arrived: Arrived) -> list[Reply]: ...


ApiName = Literal["openai", "anthropic"]


SamplingKey = Literal["temperature", "seed"]


@dataclass(frozen=True, slots=True)
class Prices:
    """What an endpoint takes, in US dollars per million tokens of each kind."""

    input: float
    cached_input: float
    cache_write: float
    output: float

    def usd(self, usage: Usage) -> float:
        return (
            usage.fresh_tokens * self.input
            + usage.cached_tokens * self.cached_input
            + usage.cache_write_tokens * self.cache_write
            + usage.output_tokens * self.output
        ) / 1e6


@dataclass(frozen=True)
class Endpoint:
    """A model behind an address. `key_env` names the environment variable with the key; the key itself is nowhere.

    `on_this_machine`: the address is a loopback one, so that nothing sent there leaves the machine. `send` are the
    sampling settings that the endpoint takes, `parameters` what else goes into the body of each request. `terms` say
    what its maker allows to be trained on its outputs, in the words of whoever wrote the task.
    """

    name: str
    base_url: str
    model: str
    api: ApiName
    key_env: str
    on_this_machine: bool = False
    structured: bool = True
    limit_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    thinking_tokens: int = 0
    context_tokens: int | None = None
    send: tuple[SamplingKey, ...] = ("temperature", "seed")
    parameters: Mapping[str, Any] = field(default_factory=dict)
    terms: str | None = None
    concurrency: int = 8
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout_s: float = 60.0
    retries: int = 6
    prices: Prices | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What can change an answer: all but the name, the key, and what only says how fast and how dear asking is."""
        return {
            "base_url": self.base_url,
            "model": self.model,
            "api": self.api,
            "structured": self.structured,
            "limit_key": self.limit_key,
            "thinking_tokens": self.thinking_tokens,
            "send": sorted(self.send),
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True, slots=True)
class Limits:
    """What the remote models of a project folder may take in all its runs together; None: no limit."""

    max_usd: float | None = None
    max_tokens: int | None = None


@runtime_checkable
class Embedder(Protocol):
    """Texts to unit vectors, float32 of shape (len(texts), dimension), in the order of the texts."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> Any: ...
