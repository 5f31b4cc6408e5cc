"""Mislabelled: which labels of train and dev are probably wrong, by confident learning.

A classifier that never saw a row, nor a near-copy of it, says how probable each label is for it (words and pairs of
words by TF-IDF, logistic regression one class against the rest, out of fold). cleanlab (Northcutt, Jiang, Chuang 2021)
estimates from these probabilities how many labels are wrong; named are the rows whose own label trails the furthest
behind another one.
The test split is not looked at: who corrects test labels where a classifier disagrees tunes the test to it.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from luthier.audit.finding import Evidence, Finding, Place, shown
from luthier.audit.material import Material, Row
from luthier.errors import MissingExtra
from luthier.task.duplicates import likeness_of
from luthier.types import Input

# fewer rows, or sets of near-copies a class, give no probabilities worth the name
FEWEST_ROWS, FEWEST_OF_CLASS = 50, 3
PENALTY = 10.0  # C, the inverse strength
# rows times classes times folds is what it costs; five folds where that is little
_CHEAP = 100_000
Features = Callable[[Sequence[str]], Any]


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row whose label is probably wrong: the label it has, the one that is likelier, and both probabilities."""

    row: Row
    suggested: str
    probability: float
    of_suggested: float

    @property
    def place(self) -> Place:
        return self.row.place


@dataclass(frozen=True)
class Suspects:
    """The suspects, the likeliest error first, among `looked_at` of `of` rows. `skipped` says why nobody looked."""

    suspects: tuple[Suspect, ...]
    looked_at: int
    of: int
    skipped: str = ""


def words(texts: Sequence[str]) -> Any:
    """The texts as a sparse matrix: words and pairs of words, weighted by rarity."""
    pattern = r"(?u)\b\w+\b|[^\w\s]"
    try:
        return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=pattern).fit_transform(texts)
    except ValueError:  # not one word in all the texts
        return sparse.csr_matrix((len(texts), 1), dtype=np.float64)


def suspects(material: Material, most_work: int, features: Features = words) -> Suspects:
    """The probably wrong labels among the inputs of train and dev (of all rows, where the task cannot be loaded).

    `most_work` bounds rows times classes: above it a random part of the rows is looked at. `features` turns texts into
    a matrix with a row a text: an embedder's vectors may stand for words. Errors: MissingExtra without cleanlab.
    """
    rows, kin = _rows(material)
    total = len(rows)
    rows, kin = _frequent(rows, kin)
    names = sorted({row.reference for row in rows})
    if len(rows) < FEWEST_ROWS or len(names) < 2:
        return Suspects((), 0, total, f"label errors: too few examples ({total:,}) to tell")
    most = max(FEWEST_ROWS, most_work // len(names))
    if len(rows) > most:
        rows, kin = _frequent(*_part(rows, kin, most, material.seed))
        names = sorted({row.reference for row in rows})
        if len(rows) < FEWEST_ROWS or len(names) < 2:
            return Suspects((), 0, total, f"label errors: too many classes for the {most:,} rows there is time for")
    labels = np.searchsorted(names, [row.reference for row in rows])
    probabilities = _out_of_fold(features([_text(row.input) for row in rows]), labels, kin, len(names), material.seed)
    order = _issues(labels, probabilities)
    found = []
    for at in order:
        best = int(probabilities[at].argmax())
        if best != labels[at]:  # the least probable of all, and yet the likeliest for this row: no error
            own, other = probabilities[at, labels[at]], probabilities[at, best]
            found.append(Suspect(rows[at], names[best], round(float(own), 4), round(float(other), 4)))
    return Suspects(tuple(found), len(rows), total)


def _text(given: Input) -> str:
    return given if isinstance(given, str) else likeness_of(given)


def _rows(material: Material) -> tuple[list[Row], list[int]]:
    """One row of each input that train and dev have, and the number of its set of near-copies."""
    rows, kin = [], []
    for same, family in zip(material.distinct, material.kin, strict=True):
        seen = [
            row for row in same if row.split in ("train", "dev") or (material.task is None and row.source == "data")
        ]
        if seen:
            names = Counter(row.reference for row in seen)
            chosen = names.most_common(1)[0][0]
            rows.append(next(row for row in seen if row.reference == chosen))
            kin.append(family)
    return rows, kin


def _frequent(rows: Sequence[Row], kin: Sequence[int]) -> tuple[list[Row], list[int]]:
    """The rows of classes that have enough sets of near-copies."""
    families: dict[str, set[int]] = defaultdict(set)
    for row, family in zip(rows, kin, strict=True):
        families[row.reference].add(family)
    kept = [at for at, row in enumerate(rows) if len(families[row.reference]) >= FEWEST_OF_CLASS]
    return [rows[at] for at in kept], [kin[at] for at in kept]


def _part(rows: Sequence[Row], kin: Sequence[int], most: int, seed: int) -> tuple[list[Row], list[int]]:
    order = sorted(range(len(rows)), key=lambda at: _chance(seed, rows[at].form))[:most]
    return [rows[at] for at in sorted(order)], [kin[at] for at in sorted(order)]


def _chance(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}\0audit\0{text}".encode("utf-8", "surrogatepass")).digest()


def _out_of_fold(
    features: Any, labels: NDArray[np.int64], kin: Sequence[int], classes: int, seed: int
) -> NDArray[np.float64]:
    """The probability of each class for each row, shape (rows, classes), by models that saw none of its kin."""
    n = len(labels)
    folds = 5 if n * classes <= _CHEAP else FEWEST_OF_CLASS
    fold = _folds(labels, kin, folds, seed)
    found = np.zeros((n, classes))
    for held in range(folds):
        train, test = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
        if len(test):
            found[test] = _probabilities(features[train], labels[train], features[test], classes, seed)
    sums = found.sum(axis=1, keepdims=True)
    return np.asarray(np.where(sums > 0, found / np.where(sums > 0, sums, 1.0), 1.0 / classes))


def _folds(labels: NDArray[np.int64], kin: Sequence[int], folds: int, seed: int) -> NDArray[np.int64]:
    """Sets of near-copies dealt out to the folds, class by class (the class of a set is that of its first row)."""
    rng = np.random.default_rng(seed)
    first: dict[int, int] = {}
    for at, family in enumerate(kin):
        first.setdefault(family, int(labels[at]))
    families = list(first)
    rng.shuffle(families)
    families.sort(key=lambda family: first[family])
    place = {family: at % folds for at, family in enumerate(families)}
    return np.array([place[family] for family in kin], dtype=np.int64)


def _probabilities(train: Any, labels: NDArray[np.int64], test: Any, classes: int, seed: int) -> NDArray[np.float64]:
    """One regression a class against the rest (rungs/linear.py says why), loosely converged: only ranks matter here."""
    found = np.zeros((test.shape[0], classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name in range(classes):
            is_it = labels == name
            if is_it.all() or not is_it.any():
                found[:, name] = float(is_it.all())
                continue
            model = LogisticRegression(
                C=PENALTY, solver="liblinear", dual=True, tol=0.1, max_iter=100, random_state=seed
            )
            found[:, name] = model.fit(train, is_it).predict_proba(test)[:, 1]
    return found


def _issues(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[int]:
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise MissingExtra("audit", "looking for label errors") from error
    found = find_label_issues(
        labels,
        probabilities,
        # measured on planted errors (benchmarks/audit.py): as precise as any of cleanlab's filters on labels that were
        # flipped to any class, and better than the lowest self-confidence where they were flipped to a similar one
        filter_by="low_normalized_margin",
        return_indices_ranked_by="normalized_margin",
        n_jobs=1,
    )
    return [int(at) for at in found]


def label_errors(found: Suspects) -> list[Finding]:
    """The suspects as a finding."""
    if not found.suspects:
        return []
    count = len(found.suspects)
    part = "" if found.looked_at == found.of else f" ({found.looked_at:,} of {found.of:,} rows were looked at)"
    return [
        Finding(
            kind="label_errors",
            severity="warning" if count > 0.02 * found.looked_at else "note",
            what=f"{count:,} labels of train and dev are probably wrong{part}",
            count=count,
            of=found.looked_at,
            effect="rungs that learn take wrong labels for right, and dev chooses by them. The test split has about as "
            "many: they hold every score down, and nobody looked at them here.",
            advice="read them: luthier audit --review review.csv writes a file to edit, luthier audit --apply "
            "review.csv --out corrected.csv makes a corrected copy of the data.",
            evidence=tuple(
                Evidence(
                    (each.place,),
                    shown(each.row.input),
                    f"{each.row.reference!r} ({each.probability:.0%}), perhaps {each.suggested!r} "
                    f"({each.of_suggested:.0%})",
                )
                for each in found.suspects
            ),
            figures={"looked_at": found.looked_at},
        )
    ]
