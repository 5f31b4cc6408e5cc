"""Budget: what remote models may take in all, reserved before a request is sent and settled by what it took."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from luthier.errors import Stopped, StoreError
from luthier.types import Limits

FILE_NAME = "spending.db"
BUSY_S = 60.0  # how long another process may hold the file

_SCHEMA = """
create table if not exists spending (
  id integer primary key autoincrement,
  model text not null,
  tokens integer not null,
  usd real not null,
  settled integer not null,
  at text not null
)
"""


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens and US dollars (of the models whose prices are known); `open_tokens` of them only reserved."""

    tokens: int = 0
    usd: float = 0.0
    open_tokens: int = 0


class Budget:
    """Counts what a project folder's remote models took, over all its runs, and never lets it pass the limits.

    The ledger is a file, so a limit is one for all runs together: a process that was killed comes back to what it had
    spent, and whatever it had in flight stays counted at its worst case, since nobody knows what the endpoint charged.
    Without a path it is kept in memory. Errors: `Stopped` (out of budget), StoreError (the file cannot be used).
    """

    def __init__(self, limits: Limits | None = None, path: Path | None = None) -> None:
        self.limits = limits or Limits()
        self._path = path
        self._changed = threading.Condition()
        self._in_flight = 0
        self._db: sqlite3.Connection | None = None

    def reserve(self, model: str, tokens: int, usd: float, stopped: threading.Event) -> int | None:
        """Set aside the worst case of one request; None where `stopped` was set while waiting.

        Where only what others have in flight stands in the way, wait: most requests take less than their worst case.
        Raises Stopped where it would not fit even if nothing were in flight.
        """
        with self._changed:
            while not stopped.is_set():
                over = self._over(tokens, usd)
                if over is None:
                    self._in_flight += 1
                    return self._insert(model, tokens, usd)
                if self._in_flight == 0:
                    raise over
                self._changed.wait(timeout=0.5)
        return None

    def settle(self, entry: int, tokens: int, usd: float) -> None:
        """What the request took in truth: 0 where the endpoint refused it."""
        with self._changed, self._writing() as db:
            db.execute("update spending set tokens = ?, usd = ?, settled = 1 where id = ?", (tokens, usd, entry))
            self._ended()

    def lose(self, entry: int) -> None:
        """The request went out and its answer never came: it may have been charged, so the worst case stands."""
        with self._changed:
            self._ended()

    def spent(self) -> Spent:
        with self._changed, self._writing() as db:
            row = db.execute(
                "select coalesce(sum(tokens), 0), coalesce(sum(usd), 0.0), coalesce(sum(tokens * (1 - settled)), 0)"
                " from spending"
            ).fetchone()
            return Spent(int(row[0]), float(row[1]), int(row[2]))

    def close(self) -> None:
        with self._changed:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _ended(self) -> None:
        self._in_flight -= 1
        self._changed.notify_all()

    def _over(self, tokens: int, usd: float) -> Stopped | None:
        limits, spent = self.limits, self.spent()
        if limits.max_tokens is not None and spent.tokens + tokens > limits.max_tokens:
            what = (
                f"{spent.tokens:,} of {limits.max_tokens:,} tokens are spent, and the next request may take {tokens:,}"
            )
            return _stopped(what, "max_tokens")
        if limits.max_usd is not None and spent.usd + usd > limits.max_usd:
            what = f"${spent.usd:.4f} of ${limits.max_usd:.4f} is spent, and the next request may cost ${usd:.4f}"
            return _stopped(what, "max_usd")
        return None

    def _insert(self, model: str, tokens: int, usd: float) -> int:
        with self._writing() as db:
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            row = (model, tokens, usd, at)
            added = db.execute("insert into spending (model, tokens, usd, settled, at) values (?, ?, ?, 0, ?)", row)
            assert added.lastrowid is not None
            return added.lastrowid

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._db is None:
                self._db = open_database(self._path, _SCHEMA)
            with self._db:
                yield self._db
        except sqlite3.Error as error:
            raise StoreError(
                f"the ledger of what was spent cannot be used: {error}",
                where=str(self._path),
                fix="make the folder writable, or move the file away (its count of what was spent goes with it)",
            ) from error


def spent_in(folder: Path) -> Spent:
    """What was spent in a project folder's `.luthier/`; nothing where nothing is written down."""
    if not (folder / FILE_NAME).exists():
        return Spent()
    budget = Budget(path=folder / FILE_NAME)
    try:
        return budget.spent()
    finally:
        budget.close()


def open_database(path: Path | None, schema: str) -> sqlite3.Connection:
    """A small SQLite file of its own, which several processes and threads (behind a lock) may write to."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path or ":memory:", timeout=BUSY_S, check_same_thread=False)
    until = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("pragma journal_mode = wal")
            break
        except sqlite3.OperationalError as error:
            # two processes that make the file at once: SQLite does not wait for a change of the journal by itself
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
    db.execute("pragma synchronous = full")
    db.executescript(schema)
    return db


def _stopped(what: str, key: str) -> Stopped:
    return Stopped(
        f"out of budget: {what}",
        where=f"luthier.toml, [limits] {key}",
        fix=f"raise {key} and run the same command again: it resumes, and what was paid for is kept",
    )
