"""The response cache: what a model has answered once it is not asked again, and a kill loses nothing paid for.

A reply is addressed by the model's fingerprint (weights, template, adapter, engine; of a remote one: address, model,
settings) and by the whole request, seed and number of samples included. Errors are never kept.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from luthier.errors import ModelError, StoreError
from luthier.models.budget import open_database
from luthier.types import AnswersOneByOne, Model, Reply, Request, Usage, digest

FORMAT = "reply-1"  # changes whenever a stored reply could be read otherwise
FILE_NAME = "responses.db"
_AT_ONCE = 500  # keys in one query, below SQLite's limit of variables

_SCHEMA = """
create table if not exists replies (
  key text primary key,
  model text not null,
  fingerprint text not null,
  reply text not null,
  seconds real not null,
  at text not null
);
create index if not exists replies_of_a_model on replies (model);
"""


@dataclass(frozen=True, slots=True)
class ModelEntries:
    """What the cache holds of one model; `bytes` are those of the replies, `fingerprints` how many versions of it."""

    model: str
    fingerprints: int
    entries: int
    bytes: int
    usage: Usage
    newest: str


class ResponseCache:
    """Replies by content address, in a SQLite file of their own; threads and processes may share it.

    Errors: StoreError where the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def get(self, keys: Sequence[str]) -> dict[str, tuple[Reply, float]]:
        """The replies there are, with the seconds that each took of its batch when it was computed."""
        found: dict[str, tuple[Reply, float]] = {}
        with self._using() as db:
            for first in range(0, len(keys), _AT_ONCE):
                some = keys[first : first + _AT_ONCE]
                marks = ", ".join("?" * len(some))
                rows = db.execute(f"select key, reply, seconds from replies where key in ({marks})", some)
                found |= {key: (_reply(text), float(seconds)) for key, text, seconds in rows}
        return found

    def put(self, model: str, fingerprint: str, replies: Mapping[str, tuple[Reply, float]]) -> None:
        """Keep replies, all or none of them; errors are left out, and what is known already stays as it is."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        rows = [
            (key, model, fingerprint, _written(reply), seconds, at)
            for key, (reply, seconds) in replies.items()
            if reply.error is None
        ]
        if rows:
            with self._using() as db:
                db.executemany("insert or ignore into replies values (?, ?, ?, ?, ?, ?)", rows)

    def contents(self) -> list[ModelEntries]:
        """One entry a model, by name; nothing where there is no file."""
        if not self.path.exists():
            return []
        with self._using() as db:
            rows = db.execute("select model, fingerprint, reply, at from replies order by model").fetchall()
        by_model: dict[str, list[tuple[str, str, str]]] = {}
        for model, *rest in rows:
            by_model.setdefault(model, []).append((rest[0], rest[1], rest[2]))
        return [
            ModelEntries(
                model,
                fingerprints=len({fingerprint for fingerprint, _, _ in kept}),
                entries=len(kept),
                bytes=sum(len(reply.encode("utf-8", "surrogatepass")) for _, reply, _ in kept),
                usage=sum((_reply(reply).usage for _, reply, _ in kept), Usage()),
                newest=max(at for _, _, at in kept),
            )
            for model, kept in by_model.items()
        ]

    def purge(self, model: str | None = None) -> int:
        """Delete all replies, or those of the models of this name, and give the room back; how many there were."""
        if not self.path.exists():
            return 0
        with self._using() as db:
            done = db.execute("delete from replies where model = coalesce(?, model)", (model,)).rowcount
        with self._using() as db:
            db.execute("vacuum")
        return done

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._db is None:
                    self._db = open_database(self.path, _SCHEMA)
                with self._db:
                    yield self._db
            except (sqlite3.Error, OSError) as error:
                raise StoreError(
                    f"the response cache cannot be used: {error}",
                    where=str(self.path),
                    fix="make room and the folder writable, or delete the file: answers are then asked for again",
                ) from error


def request_key(fingerprint: str, request: Request) -> str:
    """The content address of a reply: everything that could change it."""
    return digest(FORMAT, fingerprint, request)


class CachedModel:
    """A model that is asked only what the cache does not hold; a hit is the very reply that was kept.

    Its usage and latency are those of when it was computed, so that figures stay those of a cold run; `replayed_s` adds
    up the seconds that hits took then, for whoever measures time around it. A request that stands twice in a batch is
    asked once.

    A model that answers one by one has each reply kept as it arrives. Any other is kept batch by batch, in one
    transaction: the rest of a batch that was half kept would run in other company than before, and could differ in its
    last bits. So a climb that was killed goes through the very replies that an uninterrupted one sees.
    """

    def __init__(self, model: Model, cache: ResponseCache) -> None:
        self.model, self.cache = model, cache
        self.replayed_s = 0.0

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def fingerprint(self) -> str:
        return self.model.fingerprint

    @property
    def thread_safe(self) -> bool:
        return self.model.thread_safe

    @property
    def remote(self) -> bool:
        return bool(getattr(self.model, "remote", False))

    @property
    def gives_logprobs(self) -> bool:
        return bool(getattr(self.model, "gives_logprobs", True))

    @property
    def follows_schemas(self) -> bool:
        return bool(getattr(self.model, "follows_schemas", True))

    @property
    def context_tokens(self) -> int | None:
        return getattr(self.model, "context_tokens", None)

    @property
    def prompt_tokens(self) -> Any:
        return getattr(self.model, "prompt_tokens", None)

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        fingerprint = self.fingerprint
        keys = [request_key(fingerprint, request) for request in requests]
        known = self.cache.get(list(dict.fromkeys(keys)))
        self.replayed_s += sum(seconds for _, seconds in known.values())
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        fresh = dict(zip(missing, self._ask(fingerprint, missing), strict=True)) if missing else {}
        return [known[key][0] if key in known else fresh[key] for key in keys]

    def _ask(self, fingerprint: str, missing: Mapping[str, Request]) -> list[Reply]:
        keys, requests = list(missing), list(missing.values())
        last = time.perf_counter()
        if not isinstance(self.model, AnswersOneByOne):
            replies = self.model.complete(requests)
            share = (time.perf_counter() - last) / len(requests)
            if len(replies) != len(requests):  # nobody can tell which reply belongs to which request
                fix = "a model must answer each request, in order: run its conformance suite (luthier.testing)"
                raise ModelError(f"{len(requests)} requests gave {len(replies)} replies", where=self.name, fix=fix)
            pairs = zip(keys, replies, strict=True)
            self.cache.put(self.name, fingerprint, {key: (reply, share) for key, reply in pairs})
            return replies
        lock = threading.Lock()

        def arrived(position: int, reply: Reply) -> None:
            # the time since the reply before it: all together they are what the batch took
            nonlocal last
            with lock:
                now = time.perf_counter()
                seconds, last = now - last, now
                self.cache.put(self.name, fingerprint, {keys[position]: (reply, seconds)})

        return self.model.complete_each(requests, arrived)


def _written(reply: Reply) -> str:
    text = json.dumps(asdict(reply), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can hold
        return json.dumps(asdict(reply))
    return text


def _reply(text: str) -> Reply:
    fields: dict[str, Any] = json.loads(text)
    logprobs = fields["choice_logprobs"]
    return Reply(
        texts=tuple(fields["texts"]),
        choice_logprobs=None if logprobs is None else tuple(logprobs),
        usage=Usage(**fields["usage"]),
        latency_s=fields["latency_s"],
        finish_reason=fields["finish_reason"],
        error=fields["error"],
    )
