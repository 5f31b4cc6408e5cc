"""Rungs that learn from more than examples: a teacher's answers to further inputs, and documents."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import colour_rows, write_task
from test_train_loop import RECIPE, data
from tiny_models import LINES, tiny_model, tiny_module, tiny_tokenizer
from tokenizers import Tokenizer

import luthier
from luthier.errors import DataError, ModelError
from luthier.models.local import LocalModel
from luthier.models.scripted import ScriptedModel
from luthier.rungs.distilled import UNCHECKED, Distilled
from luthier.rungs.pretrained import Pretrained, blocks_of
from luthier.rungs.prompted import PromptPredictor
from luthier.rungs.shots import FixedShots
from luthier.rungs.tuned import TunedPredictor
from luthier.testing import RungContract
from luthier.train.distil import KEPT, same_vocabulary, soft_labels
from luthier.train.distil import distil as distil_rows
from luthier.train.job import Job
from luthier.train.loop import fine_tune
from luthier.types import Extra, FitContext, Kind, Message, Predictor, Rung

QUICK = replace(RECIPE, epochs=1, dev_checks_per_epoch=1)
ANIMALS = ("dog", "cat", "horse", "cow")
MORE = tuple(f"the {word} by the sea {at}" for at in range(2) for word in (*ANIMALS, "two", "seven"))


def script(messages: tuple[Message, ...]) -> str:
    return "animal" if any(word in messages[-1].content for word in ANIMALS) else "number"


def teacher() -> ScriptedModel:
    return ScriptedModel(script, name="teacher")


class TestDistilled(RungContract):
    extra = Extra(unlabelled=MORE)

    def make_rung(self) -> Rung:
        return Distilled(QUICK)

    def make_models(self) -> Mapping[str, Any]:
        return {"student": tiny_model(), "teacher": teacher()}

    def fitted(self, workdir: Path, models: Mapping[str, Any], seed: int = 0) -> Predictor:
        spec, train, dev = self.make_task()
        workdir.mkdir(parents=True, exist_ok=True)
        return self.make_rung().fit(spec, train, dev, FitContext(models, seed, workdir, "contract", extra=self.extra))


class TestDistilledWrites(TestDistilled):
    kind: Kind = "generation"


class TestPretrained(TestDistilled):
    extra = Extra(documents=(("a.txt", "\n".join(LINES * 12)), ("b.txt", "\n".join(LINES[::-1] * 6))))

    def make_rung(self) -> Rung:
        return Pretrained(QUICK, replace(QUICK, learning_rate=1e-2, step_examples=1))


def distil(workdir: Path, models: Mapping[str, Any], extra: Extra = TestDistilled.extra, **more: Any) -> TunedPredictor:
    spec, train, dev = TestDistilled().make_task()
    return Distilled(QUICK).fit(spec, train, dev, FitContext(models, 0, workdir, extra=extra, **more))


# ---------------------------------------------------------------- distilled


def test_the_student_learns_the_teachers_answers_beside_those_of_the_data(tmp_path: Path) -> None:
    told = distil(tmp_path, TestDistilled().make_models()).describe()
    _, train, dev = TestDistilled().make_task()
    assert told["answers from data"] == len(train)
    assert told["answers from the teacher"] == len(MORE)
    assert told["inputs without an answer"] == 0
    assert told["steps"] == -(-(len(train) + len(MORE)) // 4)
    assert told["teacher"] == "teacher"
    assert told["the teacher on dev"] == f"{len(dev)} of {len(dev)} right"


def test_what_the_teacher_says_is_what_is_learned(tmp_path: Path) -> None:
    """A teacher that calls everything sheep by one label: the student follows where the data say nothing."""
    sheep = tuple(f"a woolly sheep by the sea {at}" for at in range(24))
    models = {"student": tiny_model(), "teacher": ScriptedModel(lambda _: "number", name="teacher")}
    spec, train, dev = TestDistilled().make_task()
    context = FitContext(models, 0, tmp_path, extra=Extra(unlabelled=sheep))
    predictor = Distilled(replace(QUICK, epochs=3)).fit(spec, train, dev, context)
    found = [prediction.output for prediction in predictor.predict([f"a woolly sheep {at}" for at in range(9)])]
    assert found.count("number") >= 8


def test_answers_that_are_none_of_the_labels_and_failures_are_left_out_and_counted(tmp_path: Path) -> None:
    odd = ScriptedModel(lambda asked: "perhaps" if "dog" in asked[-1].content else script(asked), name="odd")
    told = distil(tmp_path, {"student": tiny_model(), "teacher": odd}).describe()
    assert told["inputs without an answer"] == sum("dog" in text for text in MORE) == 2
    assert told["answers from the teacher"] == len(MORE) - 2


def test_without_a_teacher_the_best_prompt_rung_on_dev_is_one(tmp_path: Path) -> None:
    spec, _, _ = TestDistilled().make_task()
    good = PromptPredictor(teacher(), "Say which.", FixedShots(), spec.label_names)
    bad = PromptPredictor(ScriptedModel(lambda _: "number", name="bad"), "Say which.", FixedShots(), spec.label_names)
    fitted = {"zero-shot": bad, "few-shot": good}
    told = distil(tmp_path, {"student": tiny_model()}, fitted=fitted).describe()
    assert told["teacher"] == "few-shot"
    assert told["terms"].startswith("answers of a model on this machine")


def test_the_terms_of_a_teacher_elsewhere_are_told_or_that_nobody_checked_them(tmp_path: Path) -> None:
    class Elsewhere(ScriptedModel):
        remote = True

    models = {"student": tiny_model(), "teacher": Elsewhere(script, name="far")}
    assert distil(tmp_path / "1", models).describe()["terms"] == UNCHECKED
    said = distil(tmp_path / "2", models, terms={"teacher": "allowed by clause 3"}).describe()["terms"]
    assert said == "allowed by clause 3"


def test_it_needs_inputs_and_somebody_to_ask(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no inputs without a right answer"):
        distil(tmp_path, TestDistilled().make_models(), Extra())
    with pytest.raises(ModelError, match="nobody to learn from"):
        distil(tmp_path, {"student": tiny_model()})


# ---------------------------------------------------------------- soft labels


def other_words(model: Any) -> Any:
    """The same number of tokens under other numbers: two of them have changed places."""
    state = json.loads(model.tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    one, two = sorted(vocabulary, key=vocabulary.__getitem__)[-2:]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    changed = tiny_tokenizer()
    changed._tokenizer = Tokenizer.from_str(json.dumps(state))
    return LocalModel(model.module, changed, name="other", fingerprint="other")


def test_vocabularies_are_compared_and_not_their_sizes() -> None:
    """Trap 19."""
    model = tiny_model()
    other = other_words(model)
    assert len(other.tokenizer.get_vocab()) == len(model.tokenizer.get_vocab())
    assert not same_vocabulary(model.tokenizer, other.tokenizer)
    assert same_vocabulary(model.tokenizer, tiny_tokenizer("turns"))


def test_a_teacher_of_the_same_vocabulary_gives_soft_labels_and_one_of_another_hard_ones(tmp_path: Path) -> None:
    """Trap 19."""
    spec, _, _ = TestDistilled().make_task()
    tutor = tiny_model("qwen3", seed=3)

    def labels(model: Any, folder: str) -> str:
        asked = PromptPredictor(model, "Say which.", FixedShots(), spec.label_names)
        (tmp_path / folder).mkdir()
        told = distil(tmp_path / folder, {"student": tiny_model()}, fitted={"zero-shot": asked}).describe()
        return str(told["labels of the teacher"])

    assert labels(tutor, "same") == f"soft for {len(MORE)} inputs"
    assert labels(other_words(tutor), "other") == "hard: the teacher has another vocabulary than the student"
    assert labels(teacher(), "texts").startswith("hard: the teacher tells no probabilities")


def test_soft_labels_are_the_teachers_probabilities_in_its_own_prompt() -> None:
    rows, _ = data()
    module = tiny_module("qwen3", seed=3)
    before = module.config._attn_implementation
    found = soft_labels(module, rows)
    assert module.config._attn_implementation == before
    for row, soft in zip(rows, found, strict=True):
        logits = module(input_ids=torch.tensor([row.input_ids])).logits[0, row.labels_from - 1 : -1]
        expected = torch.softmax(logits, dim=-1).topk(KEPT)
        assert torch.allclose(torch.tensor(soft.probabilities), expected.values, atol=1e-5)
        assert soft.ids[0][0] == int(expected.indices[0, 0])


def test_the_loss_is_the_cross_entropy_with_the_teacher_and_falls_to_its_entropy(tmp_path: Path) -> None:
    rows, dev = data()
    recipe = replace(QUICK, epochs=1, step_examples=100)
    some = dict(zip(rows[::2], soft_labels(tiny_module("qwen3", seed=3), rows[::2]), strict=True))
    tuned = distil_rows(tiny_module(), rows, Job(recipe, dev, 0, tmp_path, "t"), soft=some)
    base, total = tiny_module(), 0.0
    with torch.no_grad():
        for row in rows:
            logits = base(input_ids=torch.tensor([row.input_ids])).logits[0, row.labels_from - 1 : -1]
            logprobs = torch.log_softmax(logits, dim=-1)
            for at, token in enumerate(row.input_ids[row.labels_from :]):
                pairs = (
                    zip(some[row].ids[at], some[row].probabilities[at], strict=True) if row in some else [(token, 1.0)]
                )
                kept = list(pairs)
                total -= sum(float(logprobs[at, one]) * weight for one, weight in kept)
                if row in some:  # all other tokens count as one
                    rest, others = (
                        1 - sum(w for _, w in kept),
                        1 - sum(float(logprobs[at, one].exp()) for one, _ in kept),
                    )
                    total -= rest * math.log(others)
    assert tuned.losses[0] == pytest.approx(total / sum(row.labelled for row in rows), rel=1e-4)
    plain = fine_tune(tiny_module(), rows, Job(recipe, dev, 0, tmp_path / "p", "t"))
    hard = distil_rows(tiny_module(), rows, Job(recipe, dev, 0, tmp_path / "h", "t"), soft={})
    assert hard.losses == pytest.approx(plain.losses, rel=1e-5)


# ---------------------------------------------------------------- pretrained


def test_held_back_text_becomes_likelier_and_the_task_is_learned_from_there(tmp_path: Path) -> None:
    told = TestPretrained().fitted(tmp_path, {"student": tiny_model()}).describe()
    before, after = told["nats a token of held-back text, before and after reading"]
    assert after < before - 0.1
    assert told["documents"] == 2
    assert told["dev checks"][0]["step"] == 0, "the task did not start from what was read"


def test_reading_that_is_of_no_use_is_no_start(tmp_path: Path) -> None:
    class Wild(TestPretrained):
        def make_rung(self) -> Rung:
            return Pretrained(QUICK, replace(QUICK, learning_rate=1e-30, step_examples=1))

    told = Wild().fitted(tmp_path, {"student": tiny_model()}).describe()
    assert "no likelier" in told["reading was of no use"]
    assert told["dev checks"][0]["step"] > 0


def test_every_token_is_learned_once_and_no_block_holds_two_texts() -> None:
    """Trap 8: documents do not leak into each other."""
    model = tiny_model(context=64)
    texts = ["the red house by the sea " * 30, "number of animals <|im_end|> " * 30]
    before = model.chat.fingerprint
    blocks = blocks_of(texts, model, seed=0)
    assert max(len(row.input_ids) for row in blocks) == 64
    assert {row.labels_from for row in blocks} == {1}
    ends = [row.input_ids.count(model.tokenizer.eos_token_id) for row in blocks]
    assert sorted(ends)[-3:] == [0, 1, 1]
    whole = {model.tokenizer.decode(row.input_ids).count("house") > 0 for row in blocks}
    assert whole == {True, False}
    assert not any(model.chat.end_of_turn_id in row.input_ids for row in blocks), "typed control tokens are text"
    assert model.chat.fingerprint == before
    assert sum(len(row.input_ids) for row in blocks) == sum(
        len(model.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]) + 1
        for text in texts
    )


def test_it_needs_documents_and_enough_of_them(tmp_path: Path) -> None:
    spec, train, dev = TestPretrained().make_task()
    for documents, message in (((), "no documents"), ((("a.txt", "the house"),), "too little text")):
        context = FitContext({"student": tiny_model()}, 0, tmp_path, extra=Extra(documents=documents))
        with pytest.raises(DataError, match=message):
            Pretrained(QUICK).fit(spec, train, dev, context)


# ---------------------------------------------------------------- in a climb


TOML = """
[task]
name = "colours"
[data]
path = "data.csv"
input = "text"
reference = "label"
near_duplicates = false
unlabelled = "more.jsonl"
[split]
train = 60
dev = 40
test = 200
[target]
at_least = 0.9
[ladder]
rungs = ["distilled", "majority"]
[training]
epochs = 1
learning_rate = 0.01
"""


def test_a_climb_gives_a_rung_what_it_learns_from_and_fits_again_when_that_changes(tmp_path: Path) -> None:
    path = write_task(tmp_path, colour_rows(300), TOML)
    texts = [text for text, _ in colour_rows(340)[300:]]

    def climb(some: list[str]) -> luthier.Verdict:
        (tmp_path / "more.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in some), encoding="utf-8")
        oracle = ScriptedModel(lambda m: "warm" if "red" in m[-1].content else "cold", name="oracle")
        return luthier.run(path, models={"student": tiny_model(), "teacher": oracle})

    def fit(verdict: luthier.Verdict) -> Any:
        return next(run for run in verdict.runs if run.candidate.rung == "distilled")

    first, again, fewer = fit(climb(texts)), fit(climb(texts)), fit(climb(texts[:20]))
    assert first.fit["answers from the teacher"] == 40
    assert again.fingerprint == first.fingerprint
    assert fewer.fit["answers from the teacher"] == 20
    assert fewer.fingerprint != first.fingerprint
    assert first.fit["learning rate"] == 0.01
