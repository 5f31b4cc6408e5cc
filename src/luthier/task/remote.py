"""Remote: the sections of luthier.toml about models behind an address, and what they may take."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from luthier.task.section import Section, problem
from luthier.types import ApiName, Endpoint, Limits, Prices, SamplingKey

HOMES: dict[ApiName, tuple[str, str]] = {
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ("https://api.anthropic.com", "ANTHROPIC_API_KEY"),
}
# the newest models of Anthropic take no sampling settings, and its API never took a seed
SENT: dict[ApiName, tuple[SamplingKey, ...]] = {"openai": ("temperature", "seed"), "anthropic": ()}
OURS = (
    *("model", "messages", "system", "max_tokens", "max_completion_tokens", "n", "stream", "temperature", "seed"),
    *("response_format", "output_config"),
)
MOST_SECONDS, MOST_THINKING = 86_400, 10_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


class PricesSection(Section):
    """What an endpoint takes, in US dollars per million tokens."""

    input: float = Field(ge=0, allow_inf_nan=False, description="Input tokens.")
    cached_input: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Input read from its cache."
    )
    cache_write: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Input written to its cache."
    )
    output: float = Field(ge=0, allow_inf_nan=False, description="Output tokens.")

    def nouns(self) -> Prices:
        return Prices(
            self.input,
            self.input if self.cached_input is None else self.cached_input,
            self.input if self.cache_write is None else self.cache_write,
            self.output,
        )


class RemoteSection(Section):
    """A model behind an address. `[models] prompted = "NAME"` uses it. A key never stands in this file.

    An address on a loopback interface (localhost, 127.0.0.1, ::1) counts as this machine: `local_only` allows it.
    """

    model: str = Field(min_length=1, description="The model's name at the endpoint.")
    base_url: str | None = Field(
        default=None,
        description="The endpoint's address, `/v1` included where it has one. Left out: that of the `api`'s maker.",
    )
    api: ApiName = Field(
        default="openai", description="What the endpoint speaks; most servers of other makers speak `openai` too."
    )
    key_env: str | None = Field(
        default=None,
        description=(
            "The environment variable that holds the key. Left out: `OPENAI_API_KEY` or `ANTHROPIC_API_KEY` for the "
            "makers' own addresses, none for an address on this machine; any other address needs it named."
        ),
    )
    structured: bool = Field(
        default=True,
        description=(
            "The endpoint can be held to a JSON schema, so that an answer is one of the labels. `false`: it is only "
            "asked, and an answer that is not exactly a label is wrong."
        ),
    )
    send: list[SamplingKey] | None = Field(
        default=None,
        description=(
            "Which sampling settings the endpoint takes. Left out: both for `openai`, none for `anthropic`. `[]` is "
            "for models that refuse them; their answers then vary as the maker pleases."
        ),
        json_schema_extra={"values": 'list of `"temperature"`, `"seed"`'},
    )
    limit_key: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="What an `openai` endpoint calls the limit of an answer: newer models take the second name only.",
    )
    context_tokens: int | None = Field(
        default=None,
        gt=0,
        description="How many tokens a prompt and its answer may have together; `many-shot` needs to know it.",
    )
    thinking_tokens: int = Field(
        default=0,
        ge=0,
        le=MOST_THINKING,
        description="How many tokens a model may think before it answers, beyond those of the answer.",
    )
    parameters: dict[str, Any] = Field(
        default={},
        description='What else goes into each request, as its manual names it: `{reasoning_effort = "low"}`.',
        json_schema_extra={"values": "table"},
    )
    concurrency: int = Field(default=8, ge=1, le=256, description="How many requests may be in flight.")
    requests_per_minute: int | None = Field(default=None, ge=1, description="The endpoint's limit of requests.")
    tokens_per_minute: int | None = Field(default=None, ge=1, description="The endpoint's limit of tokens.")
    timeout_s: float = Field(
        default=60.0,
        gt=0,
        le=MOST_SECONDS,
        allow_inf_nan=False,
        description="How long the endpoint may be silent, in seconds.",
    )
    retries: int = Field(
        default=6, ge=0, le=20, description="How often a request is tried again that failed in a way that may pass."
    )
    usd_per_million: PricesSection | None = Field(
        default=None,
        description=(
            "Prices in US dollars per million tokens: `{input = 0.4, cached_input = 0.1, output = 1.6}`. "
            "`cached_input` and `cache_write` may be left out: then they cost what `input` costs."
        ),
        json_schema_extra={"values": "table of numbers"},
    )

    terms: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "What its maker's terms say about training a model on its outputs, for `distilled`: shown in the report "
            "beside what was learned from it. Left out: the report says that nobody has checked them."
        ),
    )

    @field_validator("base_url")
    @classmethod
    def _base_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        # what was typed is not shown: somebody may have put a key into it
        try:
            parts = urlsplit(value)
            sound = value.isprintable() and " " not in value and parts.port != 0  # reading a port checks it
        except ValueError:
            sound = False
        if not sound:
            raise problem(
                "this is no http address: its host, its port or a character in it is wrong",
                'write for example "https://api.openai.com/v1"',
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise problem("this is no http address", 'write for example "https://api.openai.com/v1"')
        if parts.username or parts.password or parts.query or parts.fragment:
            raise problem("an address must hold no user, key or query", "put the key into the environment: see key_env")
        return value.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _key_env(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE.fullmatch(value):
            raise problem(
                "this is not the name of an environment variable (and if it is a key, take it out of this file)",
                'write for example key_env = "OPENAI_API_KEY"',
            )
        return value

    @field_validator("parameters")
    @classmethod
    def _parameters(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in value:
            if key in OURS:
                more = "; `send` says whether it is sent" if key in ("temperature", "seed") else ""
                raise problem(f"`{key}` is set by luthier itself", f"take it out of the table{more}")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            what = "it holds what JSON cannot say: a date, a time, inf or nan"
            raise problem(what, "write dates as text in quotes, and finite numbers") from None
        return value

    @model_validator(mode="after")
    def _needs_key(self) -> RemoteSection:
        if self.base_url is not None and self.key_env is None and not self.on_this_machine and not self._at_home:
            raise problem(
                "an address of your own needs `key_env`",
                'add key_env = "THE_VARIABLE": no other key is ever sent to an address it was not made for',
            )
        return self

    @property
    def address(self) -> str:
        return self.base_url or HOMES[self.api][0]

    @property
    def on_this_machine(self) -> bool:
        return is_loopback(self.address)

    @property
    def _at_home(self) -> bool:
        return urlsplit(self.address).hostname == urlsplit(HOMES[self.api][0]).hostname

    def noun(self, name: str) -> Endpoint:
        default_key = "" if self.on_this_machine else HOMES[self.api][1]
        return Endpoint(
            name=name,
            base_url=self.address,
            model=self.model,
            api=self.api,
            key_env=self.key_env or default_key,
            on_this_machine=self.on_this_machine,
            structured=self.structured,
            limit_key=self.limit_key,
            thinking_tokens=self.thinking_tokens,
            context_tokens=self.context_tokens,
            send=SENT[self.api] if self.send is None else tuple(self.send),
            parameters=self.parameters,
            terms=self.terms,
            concurrency=self.concurrency,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            timeout_s=self.timeout_s,
            retries=self.retries,
            prices=None if self.usd_per_million is None else self.usd_per_million.nouns(),
        )


class LimitsSection(Section):
    """What the remote models may take, in all runs of this folder together. The worst case is set aside beforehand."""

    max_usd: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="US dollars. A run stops before they are passed, and resumes once they are raised. Needs prices.",
    )
    max_tokens: int | None = Field(
        default=None, gt=0, description="Tokens of every kind together; an endpoint on this machine counts too."
    )

    def noun(self) -> Limits:
        return Limits(self.max_usd, self.max_tokens)


class CacheSection(Section):
    """The response cache in `.luthier/`: what a model has answered once it is not asked again."""

    enabled: bool = Field(default=True, description="`false`: every model is asked anew, and nothing is kept.")


def is_loopback(address: str) -> bool:
    """Whether an address is one of this machine that no packet to it leaves.

    >>> [is_loopback(a) for a in ("http://localhost:8080/v1", "http://127.0.0.9", "http://[::1]:80", "http://10.0.0.1")]
    [True, True, True, False]
    """
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_names(remote: dict[str, RemoteSection]) -> dict[str, RemoteSection]:
    for name in remote:
        if not _NAME.fullmatch(name):
            raise problem(f"{name!r} is no name for a model", "use letters, digits, dots, dashes and underscores")
    return remote


def check_roles(
    models: dict[str, str], remote: dict[str, RemoteSection], limits: LimitsSection, *, local_only: bool
) -> None:
    """What must hold before anything is sent: data stay here, roles can be played, and a budget knows its prices."""
    for role, name in models.items():
        section = remote.get(name)
        if section is None:
            continue
        if local_only and not section.on_this_machine:
            raise problem(
                f"[constraints] local_only = true, and [models] {role} = {name!r} is a model on another machine",
                f"choose a local model as {role}, or take local_only out if examples may leave this machine",
            )
        if role in ("student", "embedder"):
            what = "fine-tuned" if role == "student" else "asked for vectors"
            raise problem(
                f"[models] {role} = {name!r} is a remote model, which cannot be {what}", f"choose a local one as {role}"
            )
        if limits.max_usd is not None and section.usd_per_million is None and not section.on_this_machine:
            raise problem(
                f"[limits] max_usd needs to know what {name!r} costs",
                f"add under [remote.{name}]: usd_per_million = {{ input = ..., cached_input = ..., output = ... }}",
            )
