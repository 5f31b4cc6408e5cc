"""A scripted model: the public fake, whose answers are written down: no weights, no network, always the same."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from luthier.types import Message, Reply, Request, Usage, digest

Said = str | Mapping[str, float]
Script = Callable[[tuple[Message, ...]], Said] | Mapping[str, Said]

# the log-probability of a choice that the script does not say, and of the one it says
UNLIKELY, LIKELY = -12.0, -0.01


class ScriptedModel:
    """Answers by a script: a function of the messages, or a mapping from the last message's text (or a part of it).

    What the script says is a text, or log-probabilities by choice. A text among the choices gets `LIKELY`, the others
    `UNLIKELY`; a text that is none of them is an error in the reply, as is a message that a mapping does not know. In a
    mapping the longest key that occurs in the last message answers. With a `schema` the text stands as the script says
    it, as with an endpoint that knows no schemas. `failing` are the numbers of requests that end in an error, counted
    from 0 over all batches. Usage counts words between white space; nothing is ever cached.

    >>> model = ScriptedModel({"Oslo": "LOC"}, name="script")
    >>> model.complete([Request((Message("user", "Where is Oslo?"),), choices=("LOC", "HUM"))])[0].texts
    ('LOC',)
    """

    thread_safe = False
    follows_schemas = False

    def __init__(
        self,
        script: Script,
        *,
        name: str = "scripted",
        version: str = "1",
        latency_s: float = 0.0,
        failing: Collection[int] = (),
        context_tokens: int = 4096,
    ) -> None:
        """`version` stands for the script in the fingerprint: change it whenever the script's answers change.

        `context_tokens` is what it says its context holds, in words.
        """
        self.context_tokens = context_tokens
        self.name = name
        self.version = version
        self.latency_s = latency_s
        self.requests: list[Request] = []
        self.calls = 0
        self._script = script
        self._failing = frozenset(failing)

    @property
    def fingerprint(self) -> str:
        return digest("scripted", self.name, self.version)

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer a batch after `latency_s` seconds; `calls` counts batches, `requests` keeps what was asked."""
        self.calls += 1
        if self.latency_s:
            time.sleep(self.latency_s)
        replies = []
        for request in requests:
            number = len(self.requests)
            self.requests.append(request)
            reply = Reply(error=f"scripted failure of request {number}")
            if number not in self._failing:
                reply = _reply(request, self._say(request.messages))
            replies.append(replace(reply, latency_s=self.latency_s / len(requests)))
        return replies

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        """How long a prompt is, in words."""
        return sum(_words(message.content) for message in messages)

    def _say(self, messages: tuple[Message, ...]) -> Said | None:
        if callable(self._script):
            return self._script(messages)
        asked = messages[-1].content
        key = max((key for key in self._script if key in asked), key=len, default=None)
        return None if key is None else self._script[key]


def _reply(request: Request, said: Said | None) -> Reply:
    if said is None:
        return Reply(error=f"the script has no answer to {request.messages[-1].content!r}")
    fresh = sum(_words(message.content) for message in request.messages)
    if request.choices is None:
        text = said if isinstance(said, str) else max(said, key=said.__getitem__)
        return _written(request, text, fresh)
    if not request.choices:
        return Reply(error="there are no choices to score")
    if request.prior is not None and len(request.prior) != len(request.choices):
        return Reply(error=f"the prior has {len(request.prior)} numbers for {len(request.choices)} choices")
    if isinstance(said, str):
        if said not in request.choices:
            return Reply(error=f"the script says {said!r}, which is none of the choices")
        said = {said: LIKELY}
    logprobs = tuple(float(said.get(choice, UNLIKELY)) for choice in request.choices)
    if any(math.isnan(value) or value > 0 for value in logprobs):
        return Reply(error="the script's log-probabilities must be numbers of at most 0")
    prior = request.prior or (0.0,) * len(logprobs)
    best = max(range(len(logprobs)), key=lambda at: logprobs[at] - prior[at])
    words = sum(map(_words, request.choices))
    return Reply((request.choices[best],), logprobs, Usage(fresh, output_tokens=words), finish_reason="stop")


def _written(request: Request, text: str, fresh: int) -> Reply:
    words = text.split()
    cut = len(words) > request.max_tokens
    text = " ".join(words[: request.max_tokens]) if cut else text
    usage = Usage(fresh * request.n, output_tokens=_words(text) * request.n)
    return Reply((text,) * request.n, usage=usage, finish_reason="length" if cut else "stop")


def _words(text: str) -> int:
    return len(text.split())
