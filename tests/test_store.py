"""The store: runs resume, alpha is spent once, predictions survive."""

from __future__ import annotations

import math
import multiprocessing
from pathlib import Path

import pytest

from luthier.errors import StoreError
from luthier.store import FitRecord, Store
from luthier.types import Prediction, Usage

ITEMS = [f"item {at}" for at in range(100)]
NOW = "2026-01-01T00:00:00+00:00"


def begin(store: Store, *, split: str = "s", items: list[str] = ITEMS, fingerprint: str = "f") -> int:
    return store.begin_run("task", fingerprint, split, items, {"candidates": ["x", "y"]}, NOW).id


def share(store: Store, run: int, predictor: str, *, remaining: int = 1, split: str = "s", claim: str = "c") -> float:
    return store.alpha_share(run, split, predictor, claim, predictor, alpha=0.05, remaining=remaining)


def test_an_unfinished_run_is_resumed_and_a_finished_one_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.begin_run("task", "f", "s", ITEMS, {"candidates": ["x"]}, NOW)
    again = Store(tmp_path).begin_run("task", "f", "s", ITEMS, {"candidates": ["x"]}, "later")
    assert (again.id, again.started_at, again.resumed) == (first.id, NOW, True)
    store.finish_run(first.id, {"verdict": 1}, NOW)
    assert store.begin_run("task", "f", "s", ITEMS, {"candidates": ["x"]}, NOW).resumed is False
    assert store.last_summary() == {"verdict": 1}
    assert store.last_summary(task="another") is None


def test_the_shares_of_a_run_sum_to_its_budget(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = begin(store)
    spent = [share(store, run, f"p{at}", remaining=4 - at) for at in range(4)]
    assert sum(spent) == pytest.approx(0.05 * 6 / math.pi**2)
    assert max(spent) == pytest.approx(min(spent))


def test_an_unchanged_predictor_keeps_its_share_and_spends_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = begin(store)
    first = share(store, run, "p", remaining=2)
    store.finish_run(run, {}, NOW)
    later = begin(store)
    assert share(store, later, "p", remaining=1) == first
    assert len(store.ledger("s")) == 1


def test_each_rerun_with_new_predictors_has_less_and_the_sum_stays_below_alpha(tmp_path: Path) -> None:
    store = Store(tmp_path)
    budgets = []
    for j in range(1, 30):
        run = begin(store)
        budgets.append(share(store, run, f"version {j}"))
        store.finish_run(run, {}, NOW)
        assert budgets[-1] == pytest.approx(0.05 * 6 / (math.pi**2 * j**2))
    assert sum(budgets) < 0.05


def test_another_claim_about_the_same_predictor_spends_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = begin(store)
    share(store, run, "p", remaining=2, claim="accuracy >= 0.85")
    share(store, run, "p", remaining=1, claim="accuracy >= 0.80")
    assert len(store.ledger("s")) == 2


def test_a_reseeded_split_continues_the_ledger_and_a_fresh_one_does_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = begin(store)
    share(store, run, "p")
    store.finish_run(run, {}, NOW)
    overlapping = begin(store, split="reseeded", items=ITEMS[50:] + [f"other {at}" for at in range(50)])
    assert share(store, overlapping, "q", split="reseeded") == pytest.approx(0.05 * 6 / (math.pi**2 * 4))
    fresh = begin(store, split="fresh", items=[f"new {at}" for at in range(100)])
    assert share(store, fresh, "q", split="fresh") == pytest.approx(0.05 * 6 / math.pi**2)


def test_a_larger_split_around_an_old_one_continues_its_ledger_and_ties_ledgers_together(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for split, items in (("one", ITEMS), ("two", [f"new {at}" for at in range(100)])):
        run = begin(store, split=split, items=items, fingerprint=split)
        share(store, run, f"of {split}", split=split)
        store.finish_run(run, {}, NOW)
    around = [*ITEMS, *(f"new {at}" for at in range(100)), *(f"more {at}" for at in range(2000))]
    run = begin(store, split="around", items=around, fingerprint="around")
    assert share(store, run, "q", split="around") == pytest.approx(0.05 * 6 / (math.pi**2 * 4))
    assert len(store.ledger("one")) == len(store.ledger("two")) == 3


def test_predictions_come_back_as_they_were(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = begin(store)
    kept = [Prediction("a", Usage(1, 2, 3, 4), 0.5), Prediction(None, error="too long")]
    store.keep_block(
        run=run,
        candidate="x",
        predictor="p",
        split_hash="s",
        order_hash="o",
        first=16,
        examples=["e1", "e2"],
        predictions=kept,
        seconds=3.0,
    )
    assert Store(tmp_path).predictions("p", "o") == {16: (kept[0], 1.5), 17: (kept[1], 1.5)}
    assert store.predictions("p", "another order") == {}
    assert store.test_accesses("s") == 2


def test_a_fit_without_its_folder_is_not_a_fit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_fit("key", "x", FitRecord("p", {"C": 1.0}, 2.0))
    assert store.fit("key") is None
    store.predictor_folder("key").mkdir(parents=True)
    assert store.fit("key") == FitRecord("p", {"C": 1.0}, 2.0)


def _spend(folder: Path, name: str) -> None:
    store = Store(folder)
    run = begin(store)
    for at in range(20):
        share(store, run, f"{name}{at}", remaining=60)


def test_processes_that_spend_at_once_never_overspend(tmp_path: Path) -> None:
    run = begin(Store(tmp_path))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_spend, args=(tmp_path, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    ledger = Store(tmp_path).ledger("s")
    assert len(ledger) == 40
    assert {row["run"] for row in ledger} == {run}
    assert sum(row["alpha"] for row in ledger) < 0.05 * 6 / math.pi**2


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path).lock(), pytest.raises(StoreError, match="another luthier run"), Store(tmp_path).lock():
        pass


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "luthier.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="move .* away"):
        Store(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        Store(tmp_path / "file" / "below")
