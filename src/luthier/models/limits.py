"""Limits: how fast an endpoint may be asked, and how long to wait before it is asked again."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

WINDOW_S = 60.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
MOST_PATIENCE_S = 600.0  # an endpoint that asks for more has shut its door for now

Clock = Callable[[], float]


@dataclass
class _Sent:
    at: float
    tokens: int


class Pace:
    """Keeps requests and tokens within what an endpoint allows in any 60 seconds; all threads of a model share one.

    `wait(tokens)` returns once a request of that many tokens may go, and the caller must then send it; `correct` says
    how many it took in truth. `hold(seconds)` stops everybody: an endpoint that said Retry-After to one means all.
    """

    def __init__(
        self,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._requests, self._tokens, self._clock = requests_per_minute, tokens_per_minute, clock
        self._sent: deque[_Sent] = deque()
        self._not_before = 0.0
        self._lock = threading.Lock()

    def try_take(self, tokens: int) -> tuple[_Sent | None, float]:
        """A place in the window now, or None and the seconds after which to ask again."""
        with self._lock:
            now = self._clock()
            while self._sent and self._sent[0].at <= now - WINDOW_S:
                self._sent.popleft()
            delay = max(self._not_before - now, self._delay(now, tokens))
            if delay > 0:
                return None, delay
            place = _Sent(now, tokens)
            self._sent.append(place)
            return place, 0.0

    def take(self, tokens: int, stopped: threading.Event) -> _Sent | None:
        """Wait for a place; None where `stopped` was set meanwhile."""
        while not stopped.is_set():
            place, delay = self.try_take(tokens)
            if place is not None:
                return place
            stopped.wait(delay)
        return None

    def correct(self, place: _Sent, tokens: int) -> None:
        with self._lock:
            place.tokens = tokens

    def hold(self, seconds: float) -> None:
        with self._lock:
            self._not_before = max(self._not_before, self._clock() + seconds)

    def _delay(self, now: float, tokens: int) -> float:
        wait = 0.0
        if self._requests is not None and len(self._sent) >= self._requests:
            wait = self._sent[-self._requests].at + WINDOW_S - now
        if self._tokens is not None:
            # a request that is larger than the whole window goes alone, or it would never go
            over = sum(sent.tokens for sent in self._sent) + tokens - self._tokens
            for sent in self._sent:
                if over <= 0:
                    break
                over -= sent.tokens
                wait = max(wait, sent.at + WINDOW_S - now)
        return wait


def backoff(attempt: int, rng: random.Random) -> float:
    """Seconds before the retry that follows attempt 0, 1, 2, ...: doubling, with full jitter from half on.

    Jitter parts the threads that failed together. Brooker, "Exponential Backoff And Jitter" (AWS, 2015).
    """
    ceiling = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempt, 20))
    return rng.uniform(ceiling / 2, ceiling)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The seconds that an answer asks to wait: `retry-after-ms`, or `retry-after` in seconds or as an HTTP date.

    None where it asks for nothing that can be read (RFC 9110, section 10.2.3).

    >>> retry_after({"retry-after": "2"}), retry_after({"retry-after-ms": "250"}), retry_after({"retry-after": "soon"})
    (2.0, 0.25, None)
    >>> retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, datetime(2015, 10, 21, 7, 27, 30, tzinfo=UTC))
    30.0
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000.0
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return value if 0.0 <= value < float("inf") else None
