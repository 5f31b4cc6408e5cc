"""Scores of free texts against their references: the same words, ROUGE-L, chrF, BLEU.

One example, from input to score: "When was Ada born?" has the references "1815" and "in December 1815". The answer
"In december  1815" scores 1 by `exact_match` (case and white space aside); "She was born in 1815" scores 0 there, and
2 * (1/5 * 1/1) / (1/5 + 1/1) = 0.33 by ROUGE-L against the first reference.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.errors import MissingExtra
from luthier.types import Example, Prediction, Row, Score, digest

ORDERS = 4  # BLEU counts runs of 1 to 4 tokens
_SHOWN = 60  # characters of a reference in a reason


class _BestReference(ABC):
    """Scores an answer by the reference that it suits best; unscored where there is no answer."""

    name: str

    def score(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Score]:
        return [self._score(example, prediction) for example, prediction in zip(examples, predictions, strict=True)]

    def _score(self, example: Example, prediction: Prediction) -> Score:
        if prediction.output is None:
            return Score(None, prediction.error or "the predictor gave no output")
        if not prediction.output.strip():
            return Score(0.0, "the answer is empty")
        values = [self.of_one(prediction.output, reference) for reference in example.references]
        best = max(range(len(values)), key=values.__getitem__)
        # libraries may end at 1 + 2e-16
        value = min(1.0, max(0.0, values[best]))
        return Score(value, self.reason(value, example.references[best]))

    def reason(self, value: float, reference: str) -> str:
        return f"{self.name} {value:.2f} against {_short(reference)!r}"

    @abstractmethod
    def of_one(self, answer: str, reference: str) -> float: ...

    @property
    @abstractmethod
    def fingerprint(self) -> str: ...


def normal_text(text: str) -> str:
    """The form in which an answer is the reference: case and white space aside, composed characters (NFC).

    >>> normal_text("  In\\tDecember 1815\\n") == normal_text("in december 1815")
    True
    """
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


class SameText(_BestReference):
    """1 where the answer is one of the references but for case and white space, else 0. Punctuation counts."""

    name = "exact match"

    def of_one(self, answer: str, reference: str) -> float:
        return float(normal_text(answer) == normal_text(reference))

    def reason(self, value: float, reference: str) -> str:
        return "right" if value else f"not {_short(reference)!r}"

    @property
    def fingerprint(self) -> str:
        return digest("same-text", 1)


class RougeL(_BestReference):
    """ROUGE-L (Lin 2004): F1 of the longest common subsequence of words, by the rouge-score library, without stemming.

    Words are runs of letters and digits of any script, in lower case: on ASCII text the library's own words. It does
    not cover scripts that put no space between words (use chrf). Raises MissingExtra without the extra `metrics`.
    """

    name = "ROUGE-L"

    @cached_property
    def _library(self) -> Any:
        try:
            from rouge_score import rouge_scorer
        except ImportError as error:
            raise MissingExtra("metrics", "the metric rouge_l") from error
        return rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Words())

    def of_one(self, answer: str, reference: str) -> float:
        return float(self._library.score(reference, answer)["rougeL"].fmeasure)

    @property
    def fingerprint(self) -> str:
        assert self._library is not None  # a missing extra shows here, before anything is spent
        return digest("rouge-l", 1)


class _Words:
    """What rouge-score asks of a tokenizer; its own drops every letter outside a-z."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


class ChrF(_BestReference):
    """chrF2 (Popovic 2015) of each answer, by sacrebleu: F-score of runs of 1 to 6 characters.

    The mean over the answers is not the chrF of the corpus. Raises MissingExtra without the extra `metrics`.
    """

    name = "chrF"

    @cached_property
    def _library(self) -> Any:
        return _sacrebleu("chrf").CHRF()

    def of_one(self, answer: str, reference: str) -> float:
        return float(self._library.sentence_score(answer, [reference]).score) / 100.0

    @property
    def fingerprint(self) -> str:
        return digest("chrf", 1, self.signature)

    @property
    def signature(self) -> str:
        """sacrebleu's own: every setting that a published figure has to name."""
        self._library.sentence_score("a", ["a"])
        return str(self._library.get_signature()).replace("nrefs:1", "nrefs:var")


class Bleu:
    """BLEU of each answer, by sacrebleu, as a hint where it went wrong; the metric itself is that of all answers.

    Raises MissingExtra without the extra `metrics`.
    """

    @cached_property
    def _library(self) -> Any:
        return _sacrebleu("bleu").BLEU(effective_order=True)

    def score(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Score]:
        return [self._score(example, prediction) for example, prediction in zip(examples, predictions, strict=True)]

    def _score(self, example: Example, prediction: Prediction) -> Score:
        if prediction.output is None:
            return Score(None, prediction.error or "the predictor gave no output")
        if not prediction.output.strip():
            return Score(0.0, "the answer is empty")
        value = float(self._library.sentence_score(prediction.output, list(example.references)).score) / 100.0
        return Score(min(1.0, value), f"BLEU {min(1.0, value):.2f} against {_short(example.reference)!r}")

    def counts(self, rows: Sequence[Row], *, hopeful: bool) -> NDArray[np.float64]:
        """What BLEU needs to know of each answer, shape (n, 10): four hits, four totals, its length, the reference's.

        An answer that failed counts as empty, or with `hopeful` as its reference.
        """
        return np.array([self._counted(row, hopeful) for row in rows], dtype=np.float64)

    def _counted(self, row: Row, hopeful: bool) -> list[float]:
        answer = row.prediction.output
        if answer is None:
            answer = row.example.reference if hopeful else ""
        found = self._library.sentence_score(answer, list(row.example.references))
        return [*found.counts, *found.totals, found.sys_len, found.ref_len]

    @property
    def signature(self) -> str:
        library = _sacrebleu("bleu").BLEU()
        library.corpus_score(["a"], [["a"]])
        return str(library.get_signature()).replace("nrefs:1", "nrefs:var")

    @property
    def fingerprint(self) -> str:
        return digest("bleu", 1, self.signature)


def bleu(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """BLEU in [0, 1] from summed `Bleu.counts` of shape (..., 10), as sacrebleu computes it for a corpus.

    Papineni et al. (2002), with sacrebleu's default smoothing: the k-th order without a hit counts 1 / 2^k hits.
    """
    hits, totals = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS]
    length, wanted = sums[..., 2 * ORDERS], sums[..., 2 * ORDERS + 1]
    missed = np.cumsum((hits == 0) & (totals > 0), axis=-1)
    smoothed = np.where(hits > 0, hits, 0.5**missed)
    precision = np.divide(smoothed, totals, out=np.zeros_like(totals), where=totals > 0)
    known = (totals > 0).all(axis=-1) & (hits > 0).any(axis=-1)
    logs = np.log(precision, out=np.zeros_like(precision), where=precision > 0).mean(axis=-1)
    short = np.divide(wanted, length, out=np.ones_like(length), where=length > 0)
    return np.asarray(np.where(known, np.exp(logs + np.minimum(0.0, 1.0 - short)), 0.0), dtype=np.float64)


def _sacrebleu(metric: str) -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise MissingExtra("metrics", f"the metric {metric}") from error
    return metrics


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else flat[: _SHOWN - 1] + "…"
