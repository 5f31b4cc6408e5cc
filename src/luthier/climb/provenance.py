"""Provenance: what a verdict was made with, for whoever wants to make it again."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from luthier.climb.workshop import Workshop
from luthier.evaluate.runner import order_hash
from luthier.evaluate.scorers import signatures
from luthier.store import RunRecord
from luthier.types import EvalRun

PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "peft", "sentence-transformers")


def provenance(shop: Workshop, record: RunRecord, runs: Sequence[EvalRun], options: dict[str, Any]) -> dict[str, Any]:
    """Versions, seeds, fingerprints and the alpha ledger of one run, as plain values."""
    task = shop.task
    return {
        "luthier": metadata.version("luthier"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions(),
        "seed": task.spec.seed,
        "task_fingerprint": task.fingerprint,
        "split_hash": task.test.hash,
        "order_hash": order_hash(task.test),
        "models": shop.shelf.fingerprints(),
        "predictors": {run.candidate.name: run.fingerprint for run in runs if run.fingerprint},
        "alpha_ledger": shop.store.ledger(task.test.hash),
        "metric": {**signatures(task.spec), **shop.judged},
        "options": options,
        "started_at": record.started_at,
        "finished_at": shop.time(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
