"""The contract of a rung, and of the predictors that it fits."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from luthier.rungs import load_predictor
from luthier.testing.models import RECORD
from luthier.types import (
    Constraints,
    Example,
    FitContext,
    Input,
    Kind,
    Label,
    MetricName,
    Predictor,
    Rung,
    Target,
    TaskSpec,
)


class RungContract(ABC):
    """What every rung keeps: fitted on train and dev only, deterministic, and the same after save and load.

    `kind` is the kind of the task it is tried on; inherit the suite once for each of the rung's kinds.
    """

    kind: Kind = "classification"

    @abstractmethod
    def make_rung(self) -> Rung: ...

    @abstractmethod
    def make_models(self) -> Mapping[str, Any]: ...

    def make_task(self) -> tuple[TaskSpec, list[Example], list[Example]]:
        """A small task of the kind: the spec, train and dev."""
        words = {"animal": ("dog", "cat", "horse", "cow"), "number": ("two", "seven", "ninety", "many")}
        texts = [(f"the {word} {at}", label) for at in range(3) for label, some in words.items() for word in some]
        answers: Mapping[Kind, Callable[[str], tuple[str, ...]]] = {
            "classification": lambda label: (label,),
            "generation": lambda label: (f"about the {label}", label),
            "extraction": lambda label: (json.dumps({"kind": label}),),
        }
        examples = [Example(f"e{at}", text, answers[self.kind](label)) for at, (text, label) in enumerate(texts)]
        metrics: Mapping[Kind, MetricName] = {"generation": "exact_match", "extraction": "record_exact"}
        spec = TaskSpec(
            name="contract",
            kind=self.kind,
            instruction="Say which kind of thing this is about.",
            labels=(Label("animal", "a living thing"), Label("number")) if self.kind == "classification" else (),
            target=Target(metrics.get(self.kind, "accuracy"), 0.9),
            constraints=Constraints(),
            rungs=(self.make_rung().name,),
            models={role: role for role in self.make_rung().roles},
            max_tokens=0 if self.kind == "classification" else 6,
            schema=RECORD if self.kind == "extraction" else None,
        )
        return spec, examples[:16], examples[16:]

    def fitted(self, workdir: Path, models: Mapping[str, Any], seed: int = 0) -> Predictor:
        spec, train, dev = self.make_task()
        workdir.mkdir(parents=True, exist_ok=True)
        context = FitContext(models, seed, workdir, "contract")
        return self.make_rung().fit(spec, tuple(train), tuple(dev), context)  # as a climb has them: not to be changed

    def inputs(self) -> list[Input]:
        return ["the dog by the sea", "seven of them", "the cow 7", "ninety"]

    def test_it_says_which_kinds_of_task_it_can_answer(self) -> None:
        assert self.kind in self.make_rung().kinds

    def test_one_prediction_for_each_input(self, tmp_path: Path) -> None:
        predictor = self.fitted(tmp_path, self.make_models())
        found = predictor.predict(self.inputs())
        assert len(found) == len(self.inputs())
        assert predictor.predict([]) == []
        for prediction in found:
            assert (prediction.output is None) == (prediction.error is not None)
            labels = self.make_task()[0].label_names
            assert prediction.output is None or not labels or prediction.output in labels

    def test_predictions_stand_in_the_order_of_the_inputs(self, tmp_path: Path) -> None:
        predictor = self.fitted(tmp_path, self.make_models())
        forward, backward = predictor.predict(self.inputs()), predictor.predict(self.inputs()[::-1])
        assert [p.output for p in forward] == [p.output for p in backward[::-1]]
        # turned round twice, a batch looks right
        alone = [prediction for each in self.inputs() for prediction in predictor.predict([each])]
        assert [p.output for p in forward] == [p.output for p in alone], "another batch, another answer"

    def test_a_saved_predictor_is_the_same_when_it_is_loaded(self, tmp_path: Path) -> None:
        """With models of its own, in another place, and without the folder it was fitted in: as on another machine."""
        predictor = self.fitted(tmp_path / "work", self.make_models())
        inputs = [*self.inputs(), *(example.input for example in self.make_task()[2])]
        expected = predictor.predict(inputs)
        predictor.save(tmp_path / "saved")
        saved = _files(tmp_path / "saved")
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        (tmp_path / "saved").rename(tmp_path / "moved")
        loaded = load_predictor(tmp_path / "moved", self.make_models())
        for one, other in zip(loaded.predict(inputs), expected, strict=True):
            assert (one.output, one.error, one.citations) == (other.output, other.error, other.citations)
        loaded.save(tmp_path / "again")
        assert _files(tmp_path / "again") == saved

    def test_the_same_seed_gives_the_same_bytes(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            self.fitted(tmp_path / f"work {name}", self.make_models()).save(tmp_path / name)
        assert _files(tmp_path / "one") == _files(tmp_path / "two")

    def test_what_fitting_chose_can_be_told_as_json(self, tmp_path: Path) -> None:
        described = self.fitted(tmp_path, self.make_models()).describe()
        assert json.loads(json.dumps(dict(described), allow_nan=False)) is not None


def _files(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found
    return found
