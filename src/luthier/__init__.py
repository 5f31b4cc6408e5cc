"""luthier measures which way to customize an LLM is enough: none, a prompt, examples, retrieval or a fine-tune.

The way of the data, which is the order of the folders; imports only point down this list's reverse:

    types/         the nouns and the protocols
    stats/         sequences, evidence, power, intervals: pure
    errors.py      the exception tree
    store.py       runs, the alpha ledger, predictions, fits: SQLite
    task/          what is wanted: luthier.toml, reading, duplicates, the sealed split
    documents/     where answers can be looked up: files read, cut into passages, indexed, searched
    models/        the one seam to any LLM: the local engine, the scripted fake, the catalog, embeddings
    evaluate/      scorers, the runner, the race
    train/         fine-tuning: the recipe and the loop; the forecast of more data
    rungs/         the candidates, one file a rung
    audit/         can this data decide anything: copies, leakage, wrong labels, personal data, power
    diagnose/      why a candidate misses: interventions on its failures, and the causes that they support
    economics/     what each way costs, and when it pays: prices with their dates, total cost, break-even
    report/        the verdict, and its renderings
    climb/         the stages in order, one file a stage
    release/       a measured predictor as files for other programs, each tested again
    demo.py        real tasks that come from the package index
    screen.py      the live ladder
    printing.py    what the commands say on stdout
    pages.py       a report as files beside the task
    cli.py         the command line: a command a stage
    testing/       public conformance suites, one file a protocol
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luthier.climb import Options, run
    from luthier.errors import LuthierError, Stopped
    from luthier.report.verdict import Verdict
    from luthier.task import load_task

__all__ = ["LuthierError", "Options", "Stopped", "Verdict", "load_task", "run"]

# Looked up on first use: `import luthier.stats` must not load scikit-learn, nor `luthier --help` torch.
_HOMES = {
    "LuthierError": "luthier.errors",
    "Options": "luthier.climb",
    "Stopped": "luthier.errors",
    "Verdict": "luthier.report.verdict",
    "load_task": "luthier.task",
    "run": "luthier.climb",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'luthier' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
