"""A remote model: an endpoint asked over HTTP, within its limits and a budget, each reply told as it arrives."""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Literal

from luthier.errors import ModelError, Stopped
from luthier.models.budget import Budget
from luthier.models.limits import MOST_PATIENCE_S, Pace, backoff, retry_after
from luthier.models.wire import WIRE, Answer, Malformed, answer_tokens, api_of, prompt_bound, said
from luthier.task.remote import MOST_SECONDS, MOST_THINKING
from luthier.types import Arrived, Endpoint, Message, Reply, Request, Usage, digest, whole

BYTES_PER_TOKEN = 4  # for the pace alone, which is corrected by the truth; the budget takes the bound
MOST_FAILURES = 8  # requests that fail in a row, after their retries: the endpoint is down, or will take none
LONGEST_MESSAGE = 200
HIDDEN_PREFIX = 8  # so many characters of a key are as good as its name

# what an attempt came to: "refused" and "rejected" were not charged, what is "lost" may have been
Kind = Literal["refused", "lost", "rejected", "forbidden", "unpaid"]
_PASSING: tuple[Kind, ...] = ("refused", "lost")


@dataclass(frozen=True, slots=True)
class _Failure:
    kind: Kind
    text: str
    wait_s: float | None = None


MESSAGE_TOKENS = 8  # what a template writes around a message


class RemoteModel:
    """A model behind an endpoint that speaks the OpenAI or the Anthropic API; one thread a request in flight.

    Replies to `choices` carry no log-probabilities: the text is the choice that was said, or, where none was, what was
    said instead. A request that fails is tried again while that can help, and then is a reply with an error.
    `latency_s` is the time from sending to the answer, without any waiting before. `usage` is what the endpoint counted
    for the answers that came. Raises MissingExtra without the client, ModelError for a key that is not set or not
    accepted and for an endpoint that takes no request, Stopped when the budget would be passed or when nothing is
    answered any more. The provider may change what stands behind a model's name: no fingerprint can tell.
    """

    thread_safe = True
    gives_logprobs = False

    def __init__(self, endpoint: Endpoint, budget: Budget | None = None, *, seed: int = 0) -> None:
        """`seed` draws the jitter of the waiting times, nothing else."""
        self.endpoint = endpoint
        self._budget = budget or Budget()
        self._api = api_of(endpoint)
        _check(endpoint)
        self._key = _key(endpoint)
        self._client = self._api.open(endpoint, self._key)
        self._close = weakref.finalize(self, self._client.close)
        self._pace = Pace(
            requests_per_minute=endpoint.requests_per_minute, tokens_per_minute=endpoint.tokens_per_minute
        )
        self._rng = random.Random(seed)
        self._failures = 0

    def __repr__(self) -> str:
        return f"RemoteModel({self.name!r}, {self.endpoint.base_url!r})"

    @property
    def name(self) -> str:
        return self.endpoint.name

    @property
    def fingerprint(self) -> str:
        return digest("remote", WIRE, self.endpoint.identity)

    @property
    def remote(self) -> bool:
        return not self.endpoint.on_this_machine

    @property
    def follows_schemas(self) -> bool:
        return self.endpoint.structured

    @property
    def context_tokens(self) -> int | None:
        return self.endpoint.context_tokens

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        """About how many tokens a prompt has, from above: one for every two bytes, whatever the tokenizer."""
        return sum(len(message.content.encode()) // 2 + MESSAGE_TOKENS for message in messages)

    def close(self) -> None:
        """Close the connections, which else are closed when nobody holds the model any more."""
        self._close()

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        return self.complete_each(requests, lambda _position, _reply: None)

    def complete_each(self, requests: Sequence[Request], arrived: Arrived) -> list[Reply]:
        """Answer a batch, in its order; `arrived` is told each reply at once, from the thread that got it.

        Where the batch cannot be ended (no budget, Ctrl-C), what is in flight is still waited for and told.
        """
        if not requests:
            return []
        stopped = threading.Event()
        replies: dict[int, Reply] = {}

        def work(position: int) -> None:
            try:
                reply = self._answer(requests[position], stopped)
            except BaseException:
                stopped.set()  # here, before this thread takes the next request
                raise
            if reply is not None:
                arrived(position, reply)
                replies[position] = reply

        with ThreadPoolExecutor(min(self.endpoint.concurrency, len(requests))) as pool:
            futures = [pool.submit(work, position) for position in range(len(requests))]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [replies[position] for position in range(len(requests))]

    def _answer(self, request: Request, stopped: threading.Event) -> Reply | None:
        """The reply to one request; None where the batch was stopped before there was one."""
        if request.choices is not None and not request.choices:
            return Reply(error="there are no choices to score")
        # at temperature 0 all samples are the same, and one is paid for
        wanted = request.n if request.temperature > 0 else 1
        texts: list[str] = []
        usage, seconds, reasons = Usage(), 0.0, []
        while len(texts) < wanted:  # an endpoint may give one text a call, whatever it was asked for
            seed = request.seed if not texts else int(digest(request.seed, len(texts))[:7], 16)
            got = self._call(request, wanted - len(texts), seed, stopped)
            if got is None:
                return None
            if isinstance(got, _Failure):
                self._failed(got)
                return Reply(error=got.text, usage=usage, latency_s=seconds)
            answer, took = got
            texts += [said(request, text, self.endpoint) for text in answer.texts]
            usage, seconds = usage + answer.usage, seconds + took
            reasons.append(answer.finish_reason)
        self._failures = 0
        kept = tuple(texts[:wanted]) if wanted == request.n else (texts[0],) * request.n
        return Reply(kept, None, usage, seconds, "length" if "length" in reasons else reasons[0])

    def _call(
        self, request: Request, samples: int, seed: int, stopped: threading.Event
    ) -> tuple[Answer, float] | _Failure | None:
        """One answer with its seconds, after as many attempts as it takes; the last failure; None when stopped."""
        output = answer_tokens(request, self.endpoint) * samples
        bound = prompt_bound(request, self.endpoint)
        worst = Usage(fresh_tokens=bound, output_tokens=output)
        for attempt in range(self.endpoint.retries + 1):
            entry = self._budget.reserve(self.name, bound + output, self._worst_usd(worst), stopped)
            if entry is None:
                return None
            place = self._pace.take(bound // BYTES_PER_TOKEN + output, stopped)
            if place is None:
                self._budget.settle(entry, 0, 0.0)
                return None
            began = time.perf_counter()
            try:
                answer = self._api.read(self._api.send(self._client, self.endpoint, request, samples, seed))
            except BaseException as error:
                try:
                    failure = self._failure(error)
                except BaseException:
                    self._budget.lose(entry)
                    raise
            else:
                self._budget.settle(entry, _tokens(answer.usage), self._usd(answer.usage))
                self._pace.correct(place, _tokens(answer.usage))
                return answer, time.perf_counter() - began
            if failure.kind == "lost":
                self._budget.lose(entry)
            else:
                self._budget.settle(entry, 0, 0.0)
            if failure.kind not in _PASSING or attempt == self.endpoint.retries:
                break
            if failure.wait_s is not None:
                if failure.wait_s > MOST_PATIENCE_S:
                    break
                self._pace.hold(failure.wait_s)  # it is meant for all that ask with this key
            stopped.wait((failure.wait_s or 0.0) + backoff(attempt if failure.wait_s is None else 0, self._rng))
            if stopped.is_set():
                return None
        return failure

    def _failed(self, failure: _Failure) -> None:
        """Count a request that failed for good; raise where going on would only fail the rest."""
        if failure.kind == "forbidden":
            fix = "check base_url and model in luthier.toml, and the key in the environment"
            raise ModelError(failure.text, where=self.name, fix=fix)
        if failure.kind == "unpaid":
            fix = "fill up the account, then run the same command again: what was paid for is kept"
            raise Stopped(f"{self.name}: {failure.text}", fix=fix)
        self._failures += 1
        if self._failures < MOST_FAILURES:
            return
        what = f"{self._failures} requests in a row have failed, the last one so: {failure.text}"
        if failure.kind == "rejected":
            fix = "the endpoint may not take what is sent: see structured, send and limit_key in docs/configuration.md"
            raise ModelError(what, where=self.name, fix=fix)
        fix = "see that the endpoint is up, then run the same command again: what was paid for is kept"
        raise Stopped(f"{self.name}: {what}", fix=fix)

    def _failure(self, error: BaseException) -> _Failure:
        """What an exception of the client, of HTTP or of reading means. Anything else is a fault, and is raised."""
        import httpx2

        sdk = self._api.sdk
        if isinstance(error, sdk.APIStatusError):
            return self._status(error)
        if isinstance(error, sdk.APITimeoutError):
            sent = not isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout)
            return _Failure("lost" if sent else "refused", f"no answer within {self.endpoint.timeout_s:g} s")
        if isinstance(error, sdk.APIError | httpx2.HTTPError):
            sent = not isinstance(error.__cause__ or error, httpx2.ConnectError)
            text = "the answer broke off" if sent else "the endpoint cannot be reached"
            return _Failure("lost" if sent else "refused", text)
        if isinstance(error, Malformed):
            return _Failure("lost", f"the answer cannot be read: {error}")
        if isinstance(error, UnicodeEncodeError):  # before anything is sent
            return _Failure("rejected", "the request holds half a surrogate pair, which cannot be sent")
        raise error

    def _status(self, error: Any) -> _Failure:
        status = int(error.status_code)
        detail, code = _message(error.body)
        if self._key:
            detail = _hidden(detail, self._key)
        # a refused key is often quoted in part, where no replacement finds it
        shown = f": {detail[:LONGEST_MESSAGE]}" if detail and status not in (401, 403) else ""
        text = f"the endpoint answered {status}{shown}"
        if status == 402 or code == "insufficient_quota":
            return _Failure("unpaid", text)
        if status in (401, 403, 404) or 300 <= status < 400:
            return _Failure("forbidden", text)
        if status in (408, 409, 425, 429) or status >= 500:
            return _Failure("refused", text, retry_after(error.response.headers))
        return _Failure("rejected", text)

    def _usd(self, usage: Usage) -> float:
        return 0.0 if self.endpoint.prices is None else self.endpoint.prices.usd(usage)

    def _worst_usd(self, usage: Usage) -> float:
        prices = self.endpoint.prices
        if prices is None:
            return 0.0
        dearest = max(prices.input, prices.cache_write, prices.cached_input)
        return (usage.fresh_tokens * dearest + usage.output_tokens * prices.output) / 1e6


def _key(endpoint: Endpoint) -> str:
    """The key from the environment; "" for an endpoint on this machine that needs none."""
    key = os.environ.get(endpoint.key_env, "").strip() if endpoint.key_env else ""
    if not (key.isascii() and key.isprintable()):
        raise ModelError(
            f"the environment variable {endpoint.key_env} holds a character that no key has",
            where=endpoint.name,
            fix=f"export {endpoint.key_env} again, and copy the key alone",
        )
    if key or (endpoint.on_this_machine and not endpoint.key_env):
        return key
    raise ModelError(
        f"the environment variable {endpoint.key_env} is not set",
        where=endpoint.name,
        fix=f"export {endpoint.key_env}=... (a key never goes into luthier.toml)",
    )


def _check(endpoint: Endpoint) -> None:
    """Refuse what could only fail when it is sent. Raises ModelError."""
    import httpx2

    fault = ""
    try:
        httpx2.URL(endpoint.base_url)
        json.dumps(dict(endpoint.parameters), allow_nan=False)
    except httpx2.InvalidURL:
        fault = "its base_url is no address"
    except (TypeError, ValueError, RecursionError):
        fault = "its parameters cannot be written as JSON"
    if not (math.isfinite(endpoint.timeout_s) and 0 < endpoint.timeout_s <= MOST_SECONDS):
        fault = f"its timeout_s is not between 0 and {MOST_SECONDS:,}"
    if not 0 <= endpoint.thinking_tokens <= MOST_THINKING:
        fault = f"its thinking_tokens are not between 0 and {MOST_THINKING:,}"
    if fault:
        raise ModelError(fault, where=endpoint.name, fix="see [remote.NAME] in docs/configuration.md")


def _hidden(text: str, key: str) -> str:
    """The text without the key, and without what a mask has left of its beginning."""
    least = key[:HIDDEN_PREFIX]
    kept, at = [], 0
    while (found := text.find(least, at)) >= 0:
        length = next(size for size in range(len(key), 0, -1) if text.startswith(key[:size], found))
        kept += [text[at:found], "[key]"]
        at = found + length
    return "".join((*kept, text[at:]))


def _tokens(usage: Usage) -> int:
    return usage.fresh_tokens + usage.cached_tokens + usage.cache_write_tokens + usage.output_tokens


def _message(body: Any) -> tuple[str, str]:
    """The message and the code in the body of an error, as far as there are any."""
    inner = body.get("error", body) if isinstance(body, dict) else {}
    inner = inner if isinstance(inner, dict) else {"message": inner}
    return whole(" ".join(str(inner.get("message") or "").split())), str(inner.get("code") or "")
