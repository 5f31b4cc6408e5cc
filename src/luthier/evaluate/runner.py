"""Running a predictor over the test order in fixed blocks, each stored as soon as it is whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from luthier.errors import ModelError
from luthier.store import Store
from luthier.types import Candidate, Example, Prediction, Predictor, Row, Scorer, SealedSplit, digest, whole

BLOCK = 16  # fixed, so that a resumed race computes the very batches that an uninterrupted one does


@dataclass
class Runner:
    """Gives the rows of a test split block by block: from the store where it has the answers, else from the predictor.

    A block is stored whole before it is looked at: a process that dies repeats at most one block. `seconds` are those
    that the rows given so far took when they were computed, whichever process did it; `clock` tells them.
    """

    predictor: Predictor
    fingerprint: str
    candidate: Candidate
    test: SealedSplit
    scorer: Scorer
    store: Store
    run: int
    clock: Callable[[], float] = time.perf_counter
    seconds: float = 0.0
    _order_hash: str = field(default="", init=False)
    _known: dict[int, tuple[Prediction, float]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._order_hash = order_hash(self.test)
        self._known = self.store.predictions(self.fingerprint, self._order_hash)

    @property
    def blocks(self) -> int:
        return -(-len(self.test) // BLOCK)

    def rows(self, block: int) -> list[Row]:
        first = block * BLOCK
        examples = self.test.order[first : first + BLOCK]
        known = [self._known[at] for at in range(first, first + len(examples)) if at in self._known]
        if len(known) == len(examples):
            predictions = [prediction for prediction, _ in known]
            self.seconds += sum(seconds for _, seconds in known)
            # what failed may have been a passing failure: it is asked again, what was answered is not
            for at, prediction in enumerate(predictions):
                if prediction.error is not None:
                    predictions[at] = self._predict(first + at, examples[at : at + 1])[0]
        else:
            predictions = self._predict(first, examples)
        scores = self.scorer.score(examples, predictions)
        return [Row(*row) for row in zip(examples, predictions, scores, strict=True)]

    def _predict(self, first: int, examples: Sequence[Example]) -> list[Prediction]:
        started = self.clock()
        predictions = [_storable(each) for each in self.predictor.predict([example.input for example in examples])]
        seconds = self.clock() - started
        self.seconds += seconds
        if len(predictions) != len(examples):
            raise ModelError(
                f"{len(examples)} inputs gave {len(predictions)} predictions",
                where=self.candidate.name,
                fix="a predictor must answer each input, in order: run its conformance suite (luthier.testing)",
            )
        self.store.keep_block(
            run=self.run,
            candidate=self.candidate.name,
            predictor=self.fingerprint,
            split_hash=self.test.hash,
            order_hash=self._order_hash,
            first=first,
            examples=[example.id for example in examples],
            predictions=predictions,
            seconds=seconds,
        )
        return predictions


def _storable(prediction: Prediction) -> Prediction:
    """With no half of a surrogate pair, before it is scored: a run that resumes must score what this one scores."""
    output, error = (None if text is None else whole(text) for text in (prediction.output, prediction.error))
    if (output, error) == (prediction.output, prediction.error):
        return prediction
    return replace(prediction, output=output, error=error)


def order_hash(test: SealedSplit) -> str:
    """The content address of a test order: another order makes other batches, and is another chance to be lucky."""
    return digest(test.hash, [example.input for example in test.order])
