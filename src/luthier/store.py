"""What luthier remembers: runs, the alpha ledger, predictions, fits and test accesses, in one SQLite file.

Each write is one transaction, so a process may die at any moment. Whatever is stored is addressed by content:
a prediction by the predictor's fingerprint, the hash of the test order and the position in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock, Timeout

from luthier.errors import StoreError
from luthier.types import Prediction, Usage

SCHEMA_VERSION = 1

_meta = sa.MetaData()

_about = sa.Table(
    "about", _meta, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)

# A ledger is a lineage of test splits that share examples: reseeding the split does not make a fresh one.
_splits = sa.Table(
    "splits",
    _meta,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("ledger", sa.Text, nullable=False),
    sa.Column("contents", sa.Text, nullable=False),
)

_runs = sa.Table(
    "runs",
    _meta,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("task_fingerprint", sa.Text, nullable=False),
    sa.Column("split_hash", sa.Text, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),  # running | finished
    sa.Column("ledger_index", sa.Integer),  # the j of alpha * 6 / (pi^2 j^2); null until a new predictor needs alpha
    sa.Column("started_at", sa.Text, nullable=False),
    sa.Column("finished_at", sa.Text),
    sa.Column("summary", sa.Text),
)

_shares = sa.Table(
    "shares",
    _meta,
    sa.Column("ledger", sa.Text, primary_key=True),
    sa.Column("split_hash", sa.Text, primary_key=True),
    sa.Column("predictor", sa.Text, primary_key=True),
    sa.Column("claim", sa.Text, primary_key=True),
    sa.Column("run", sa.Integer, nullable=False),
    sa.Column("candidate", sa.Text, nullable=False),
    sa.Column("alpha", sa.Float, nullable=False),
)

_predictions = sa.Table(
    "predictions",
    _meta,
    sa.Column("predictor", sa.Text, primary_key=True),
    sa.Column("order_hash", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("example", sa.Text, nullable=False),
    sa.Column("output", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("usage", sa.Text, nullable=False),
    sa.Column("latency_s", sa.Float, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),  # an equal part of what its block took
)

_citations = sa.Table(  # of the predictions that name the passages they rest on
    "citations",
    _meta,
    sa.Column("predictor", sa.Text, primary_key=True),
    sa.Column("order_hash", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("passages", sa.Text, nullable=False),
)

_fits = sa.Table(
    "fits",
    _meta,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("candidate", sa.Text, nullable=False),
    sa.Column("predictor", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
)

_measurements = sa.Table(  # what is measured beside the races, on dev
    "measurements",
    _meta,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

_accesses = sa.Table(
    "test_accesses",
    _meta,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("split_hash", sa.Text, nullable=False),
    sa.Column("run", sa.Integer, nullable=False),
    sa.Column("candidate", sa.Text, nullable=False),
    sa.Column("first", sa.Integer, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as the store knows it; `resumed`: an earlier process began it; `repeats`: one like it has finished."""

    id: int
    started_at: str
    resumed: bool
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that has ended in a verdict, with its summary."""

    id: int
    summary: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FitRecord:
    """A fit that is done: the predictor's fingerprint, what fitting chose, and how long it took."""

    predictor: str
    description: Mapping[str, Any]
    seconds: float


class Store:
    """The project folder `.luthier/`: one SQLite file, the fitted predictors, the reports.

    Errors: StoreError where the folder cannot be made, read or written (read-only, full disk, not a database).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            ignore = folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
        except OSError as error:
            raise self._error(error) from error
        self._engine = sa.create_engine(f"sqlite:///{folder / 'luthier.db'}", connect_args={"timeout": 60})
        sa.event.listen(self._engine, "connect", _configure)
        # SQLite would begin a transaction at its first write only: two readers could then both decide to write.
        sa.event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        with self._transaction() as db:
            _meta.create_all(db)
            db.execute(_about.insert().prefix_with("OR IGNORE").values(key="schema", value=str(SCHEMA_VERSION)))
            found = db.execute(sa.select(_about.c.value).where(_about.c.key == "schema")).scalar_one()
        if found != str(SCHEMA_VERSION):
            raise StoreError(
                f"the store has schema {found}, this luthier reads {SCHEMA_VERSION}",
                where=str(folder),
                fix="use the version of luthier that wrote it, or move the folder away",
            )

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a run writes here: a second run on the same folder gets an error at once."""
        guard = FileLock(self.folder / "run.lock")
        try:
            guard.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                "another luthier run is at work in this folder", where=str(self.folder), fix="wait until it has ended"
            ) from None
        except OSError as error:
            raise self._error(error) from error
        try:
            yield
        finally:
            guard.release()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as db:
                yield db
        except sa.exc.DatabaseError as error:
            raise self._error(error.orig or error) from error

    def _error(self, error: BaseException) -> StoreError:
        text = str(error)
        fix = "make the folder writable, or run in a folder of your own"
        if "full" in text or "No space" in text:
            fix = "free some disk space and run the same command again: what was stored is kept"
        elif any(sign in text for sign in ("not a database", "malformed", "no such")):
            fix = f"move {self.folder} away and run again; the raw data is untouched"
        return StoreError(f"the project folder cannot be used: {text}", where=str(self.folder), fix=fix)

    # ------------------------------------------------------------ runs

    def begin_run(
        self,
        task: str,
        task_fingerprint: str,
        split_hash: str,
        items: Sequence[str],
        plan: Mapping[str, Any],
        now: str,
    ) -> RunRecord:
        """Record a run and its plan before the first look at the test split, or resume an unfinished one like it.

        `plan` holds the candidates and the options of the climb.

        `items` are hashes that tell the split's test examples again (by what is asked, and by their row): a split that
        shares more than a tenth of them with an earlier one, or of that one's, continues its ledger.
        """
        wanted = json.dumps(plan, sort_keys=True)
        with self._transaction() as db:
            known = db.execute(sa.select(_splits.c.ledger).where(_splits.c.hash == split_hash)).scalar_one_or_none()
            if known is None:
                ledger = _ledger_of(db, split_hash, set(items))
                db.execute(_splits.insert().values(hash=split_hash, ledger=ledger, contents=json.dumps(sorted(items))))
            open_run = db.execute(
                sa.select(_runs.c.id, _runs.c.started_at)
                .where(_runs.c.task_fingerprint == task_fingerprint, _runs.c.split_hash == split_hash)
                .where(_runs.c.plan == wanted, _runs.c.status == "running")
                .order_by(_runs.c.id.desc())
            ).first()
            finished = db.execute(
                sa.select(_runs.c.id)
                .where(_runs.c.task_fingerprint == task_fingerprint, _runs.c.split_hash == split_hash)
                .where(_runs.c.plan == wanted, _runs.c.status == "finished")
            ).first()
            repeats = finished is not None
            if open_run is not None:
                return RunRecord(open_run.id, open_run.started_at, resumed=True, repeats=repeats)
            done = db.execute(
                _runs.insert().values(
                    task=task,
                    task_fingerprint=task_fingerprint,
                    split_hash=split_hash,
                    plan=wanted,
                    status="running",
                    started_at=now,
                )
            )
            (run_id,) = done.inserted_primary_key or (0,)
            return RunRecord(int(run_id), now, resumed=False, repeats=repeats)

    def finish_run(self, run: int, summary: Mapping[str, Any], now: str) -> None:
        text = json.dumps(summary, ensure_ascii=False, allow_nan=False)
        with self._transaction() as db:
            db.execute(_runs.update().where(_runs.c.id == run).values(status="finished", finished_at=now, summary=text))

    def last_summary(self, *, task: str | None = None, task_fingerprint: str | None = None) -> dict[str, Any] | None:
        """The summary of the last finished run (of the task with that name, or with that fingerprint), or None."""
        query = sa.select(_runs.c.summary).where(_runs.c.status == "finished").order_by(_runs.c.id.desc()).limit(1)
        if task is not None:
            query = query.where(_runs.c.task == task)
        if task_fingerprint is not None:
            query = query.where(_runs.c.task_fingerprint == task_fingerprint)
        with self._transaction() as db:
            text = db.execute(query).scalar_one_or_none()
        return None if text is None else json.loads(text)

    def last_finished(self, task_fingerprint: str) -> FinishedRun | None:
        """The last finished run of exactly this task, or None."""
        query = (
            sa.select(_runs.c.id, _runs.c.summary)
            .where(_runs.c.status == "finished", _runs.c.task_fingerprint == task_fingerprint)
            .order_by(_runs.c.id.desc())
            .limit(1)
        )
        with self._transaction() as db:
            row = db.execute(query).first()
        return None if row is None else FinishedRun(row.id, json.loads(row.summary))

    # ------------------------------------------------------------ the alpha ledger

    def alpha_share(
        self, run: int, split_hash: str, predictor: str, claim: str, candidate: str, *, alpha: float, remaining: int
    ) -> float:
        """The alpha that this predictor may spend on this claim about this split; it is spent when it is given.

        An unchanged predictor with an unchanged claim has its old share again, for free. A new one gets an equal part
        of what the run has left, among the `remaining` candidates of the plan (this one included). The j-th run of a
        ledger that brings new predictors has alpha * 6 / (pi^2 j^2) (statistics.md, "Many rungs"), which sums to alpha.
        """
        with self._transaction() as db:
            ledger = db.execute(sa.select(_splits.c.ledger).where(_splits.c.hash == split_hash)).scalar_one()
            mine = (
                (_shares.c.split_hash == split_hash) & (_shares.c.predictor == predictor) & (_shares.c.claim == claim)
            )
            known = db.execute(sa.select(_shares.c.alpha).where(mine)).scalar_one_or_none()
            if known is not None:
                return float(known)
            index = _ledger_index(db, run, ledger)
            budget = alpha * 6.0 / (math.pi**2 * index**2)
            spent = db.execute(
                sa.select(sa.func.coalesce(sa.func.sum(_shares.c.alpha), 0.0)).where(_shares.c.run == run)
            )
            share = max(0.0, (budget - float(spent.scalar_one())) / remaining)
            db.execute(
                _shares.insert().values(
                    ledger=ledger,
                    split_hash=split_hash,
                    predictor=predictor,
                    claim=claim,
                    run=run,
                    candidate=candidate,
                    alpha=share,
                )
            )
            return share

    def alpha_available(self, run: int, split_hash: str, *, alpha: float) -> float:
        """What a run that brings only new predictors can spend in all, before it has spent anything."""
        with self._transaction() as db:
            ledger = db.execute(sa.select(_splits.c.ledger).where(_splits.c.hash == split_hash)).scalar_one()
            index = db.execute(sa.select(_runs.c.ledger_index).where(_runs.c.id == run)).scalar_one()
            return alpha * 6.0 / (math.pi**2 * (index or _next_index(db, ledger)) ** 2)

    def ledger(self, split_hash: str) -> list[dict[str, Any]]:
        """All shares ever spent in the ledger of this split, in order."""
        with self._transaction() as db:
            ledger = db.execute(sa.select(_splits.c.ledger).where(_splits.c.hash == split_hash)).scalar_one_or_none()
            query = (
                sa.select(
                    _shares.c.run, _runs.c.ledger_index, _shares.c.candidate, _shares.c.alpha, _shares.c.predictor
                )
                .join(_runs, _runs.c.id == _shares.c.run)
                .where(_shares.c.ledger == ledger)
                .order_by(_shares.c.run, sa.literal_column("shares.rowid"))
            )
            return [dict(row) for row in db.execute(query).mappings()]

    # ------------------------------------------------------------ predictions and test accesses

    def predictions(self, predictor: str, order_hash: str) -> dict[int, tuple[Prediction, float]]:
        """What this predictor has answered on this test order, by position: the answer, and the seconds it took."""
        same = [
            (table.c.predictor == predictor) & (table.c.order_hash == order_hash)
            for table in (_predictions, _citations)
        ]
        with self._transaction() as db:
            cited = {
                row.position: tuple(json.loads(row.passages))
                for row in db.execute(sa.select(_citations).where(same[1]))
            }
            rows = db.execute(sa.select(_predictions).where(same[0]))
            return {row.position: (_prediction(row, cited.get(row.position, ())), row.seconds) for row in rows}

    def keep_block(
        self,
        *,
        run: int,
        candidate: str,
        predictor: str,
        split_hash: str,
        order_hash: str,
        first: int,
        examples: Sequence[str],
        predictions: Sequence[Prediction],
        seconds: float,
    ) -> None:
        """Store one block of predictions, whole or not at all, and count the access to the test split.

        An answer stands once it is there; where there was only an error, what is new takes its place.
        """
        rows = [
            {
                "predictor": predictor,
                "order_hash": order_hash,
                "position": first + offset,
                "example": example,
                "output": prediction.output,
                "error": prediction.error,
                "usage": json.dumps(asdict(prediction.usage)),
                "latency_s": prediction.latency_s,
                "seconds": seconds / len(predictions),
            }
            for offset, (example, prediction) in enumerate(zip(examples, predictions, strict=True))
        ]
        with self._transaction() as db:
            places = _predictions.c.position.between(first, first + len(rows) - 1)
            same = (_predictions.c.predictor == predictor) & (_predictions.c.order_hash == order_hash) & places
            db.execute(_predictions.delete().where(same & _predictions.c.error.is_not(None)))
            # Two processes may compute the same block: the first one's answers stand, for whoever looked at them.
            db.execute(_predictions.insert().prefix_with("OR IGNORE"), rows)
            if any(prediction.citations for prediction in predictions):
                db.execute(_citations.insert().prefix_with("OR IGNORE"), _cited(rows, predictions))
            db.execute(
                _accesses.insert().values(
                    split_hash=split_hash, run=run, candidate=candidate, first=first, count=len(rows)
                )
            )

    def test_accesses(self, split_hash: str) -> int:
        """How many answers about this split's examples were ever asked for."""
        with self._transaction() as db:
            query = sa.select(sa.func.coalesce(sa.func.sum(_accesses.c.count), 0))
            return int(db.execute(query.where(_accesses.c.split_hash == split_hash)).scalar_one())

    # ------------------------------------------------------------ fits

    def predictor_folder(self, key: str) -> Path:
        return self.folder / "predictors" / key

    def fit(self, key: str) -> FitRecord | None:
        with self._transaction() as db:
            row = db.execute(sa.select(_fits).where(_fits.c.key == key)).first()
        if row is None or not self.predictor_folder(key).is_dir():
            return None
        return FitRecord(row.predictor, json.loads(row.description), row.seconds)

    def fit_of(self, predictor: str) -> str | None:
        """The key of a fit that made the predictor with this fingerprint, or None."""
        query = sa.select(_fits.c.key).where(_fits.c.predictor == predictor).order_by(_fits.c.key).limit(1)
        with self._transaction() as db:
            found = db.execute(query).scalar_one_or_none()
        return None if found is None else str(found)

    def keep_fit(self, key: str, candidate: str, record: FitRecord) -> None:
        with self._transaction() as db:
            db.execute(
                _fits.insert()
                .prefix_with("OR REPLACE")
                .values(
                    key=key,
                    candidate=candidate,
                    predictor=record.predictor,
                    description=json.dumps(record.description, ensure_ascii=False),
                    seconds=record.seconds,
                )
            )

    # ------------------------------------------------------------ measurements on dev

    def measurement(self, key: str) -> dict[str, Any] | None:
        """What was measured under this content address before, or None."""
        with self._transaction() as db:
            query = sa.select(_measurements.c.value).where(_measurements.c.key == key)
            text = db.execute(query).scalar_one_or_none()
        return None if text is None else json.loads(text)

    def keep_measurement(self, key: str, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        with self._transaction() as db:
            db.execute(_measurements.insert().prefix_with("OR IGNORE").values(key=key, value=text))


def _configure(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's "begin" event sends BEGIN IMMEDIATE itself
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=60000")


def _ledger_of(db: sa.Connection, split_hash: str, items: set[str]) -> str:
    """The ledger that a new split belongs to; where it ties several together, they become one."""
    found: dict[str, None] = {}
    for row in db.execute(sa.select(_splits.c.ledger, _splits.c.contents).order_by(sa.literal_column("rowid"))):
        known = set(json.loads(row.contents))
        if len(items & known) > 0.1 * min(len(items), len(known)):
            found[str(row.ledger)] = None
    if not found:
        return split_hash
    kept, *others = found
    for table in (_splits, _shares):
        db.execute(table.update().where(table.c.ledger.in_(others)).values(ledger=kept))
    return kept


def _next_index(db: sa.Connection, ledger: str) -> int:
    query = (
        sa.select(sa.func.coalesce(sa.func.max(_runs.c.ledger_index), 0))
        .join(_splits, _splits.c.hash == _runs.c.split_hash)
        .where(_splits.c.ledger == ledger)
    )
    return int(db.execute(query).scalar_one()) + 1


def _ledger_index(db: sa.Connection, run: int, ledger: str) -> int:
    index = db.execute(sa.select(_runs.c.ledger_index).where(_runs.c.id == run)).scalar_one()
    if index is None:
        index = _next_index(db, ledger)
        db.execute(_runs.update().where(_runs.c.id == run).values(ledger_index=index))
    return int(index)


def _prediction(row: Any, citations: tuple[str, ...]) -> Prediction:
    return Prediction(row.output, Usage(**json.loads(row.usage)), row.latency_s, row.error, citations)


def _cited(rows: Sequence[Mapping[str, Any]], predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    return [
        {
            **{key: row[key] for key in ("predictor", "order_hash", "position")},
            "passages": json.dumps(prediction.citations, ensure_ascii=False),
        }
        for row, prediction in zip(rows, predictions, strict=True)
        if prediction.citations
    ]
