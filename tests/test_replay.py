"""Replay on tiny models: what it is made of, what it keeps, and that a step of it is exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train_loop import RECIPE, data, interrupt, same_bits, stop_at
from tiny_models import tiny_model, tiny_module

from luthier.train.check import dev_scores
from luthier.train.distil import distil, soft_labels
from luthier.train.general import dev_part, general
from luthier.train.job import Job
from luthier.train.loop import Tuned
from luthier.train.replay import Replay, replay_of
from luthier.types import GuardRules

WITH = replace(RECIPE, replay=4)


@pytest.fixture(scope="module")
def kept() -> Replay:
    return replay_of(tiny_model(), seed=0)


def tune(workdir: Path, beside: Replay | None, recipe: Any = WITH, **more: Any) -> Tuned:
    rows, dev = data()
    return distil(tiny_module(), rows, Job(recipe, dev, 0, workdir, "t", **more), soft={}, beside=beside)


def test_what_a_model_says_by_itself_is_the_same_for_a_seed(kept: Replay) -> None:
    other = replay_of(tiny_model(), seed=1)
    again = replay_of(tiny_model(), seed=0)
    assert again is not kept, "it was made anew"
    assert again == kept
    assert other != kept
    texts = [row for row in kept.soft if row.labels_from == 1]
    assert len(texts) > 20
    assert len(kept.soft) > len(texts), "answers to general prompts too"


def test_after_an_interruption_it_is_read_and_not_written_again(kept: Replay, tmp_path: Path) -> None:
    said: list[str] = []

    def there(seed: int = 0) -> Replay:
        said.clear()
        return replay_of(
            tiny_model(), seed=seed, folder=tmp_path, working=lambda text, _done, _total: said.append(text)
        )

    assert there() == kept
    (file,) = tmp_path.iterdir()
    there(seed=1)
    assert said, "another seed is another replay"
    assert there() == kept
    assert not said
    there(seed=1)
    file.write_text(file.read_text()[:1000])
    assert there() == kept
    assert said, "the file was torn"
    there(seed=1)
    assert there() == kept
    assert not said


def test_a_long_training_gets_more_texts() -> None:
    few, many = replay_of(tiny_model(), draws=10, seed=0), replay_of(tiny_model(), draws=200, seed=0)
    assert len(many.soft) > 1.4 * len(few.soft)


def test_none_of_the_guards_texts_and_prompts_is_replayed(kept: Replay) -> None:
    tokenizer, rules = tiny_model().tokenizer, GuardRules()
    replayed = " ".join(tokenizer.decode(row.input_ids) for row in kept.soft)
    for part in (dev_part(rules), general("certificate", documents=rules.documents, prompts=rules.prompts)):
        for prompt in part.prompts:
            assert prompt[0].content not in replayed
        for text in part.documents:
            assert text[:40] not in replayed


def test_all_rows_come_in_turn(kept: Replay) -> None:
    size = len(kept.soft)
    steps = -(-size // 4)
    seen = [row for step in range(steps) for row in kept.of_step(step, 4, seed=0)]
    assert set(seen[:size]) == set(kept.soft)
    assert kept.of_step(1, 4, seed=0) != kept.of_step(1 + steps, 4, seed=0), "another order in the next round"


def test_a_model_is_not_moved_by_what_it_says_itself(tmp_path: Path, kept: Replay) -> None:
    """The base model's probabilities have no slope at the base model, rare tokens included."""
    rows, dev = list(kept.soft)[:8], data()[1]
    recipe = replace(RECIPE, epochs=1, step_examples=8, weight_decay=0.0)
    soft = {row: kept.soft[row] for row in rows}
    own = distil(tiny_module(), rows, Job(recipe, dev, 0, tmp_path, "t"), soft=soft)
    other = soft_labels(tiny_module(seed=3), rows)
    taught = dict(zip(rows, other, strict=True))
    moved = distil(tiny_module(), rows, Job(recipe, dev, 0, tmp_path / "o", "t"), soft=taught)
    still, far = (sum(float(w.abs().sum()) for n, w in t.weights.items() if "lora_B" in n) for t in (own, moved))
    assert far > 0
    # AdamW's first step has the same size for any slope above its epsilon, 1e-8: rounding alone moves some weights
    assert still < 0.2 * far


def test_with_replay_a_fine_tune_stays_nearer_to_its_base(tmp_path: Path, kept: Replay) -> None:
    """Judged on other texts of the model's own than those replayed."""
    held_back = list(replay_of(tiny_model(), seed=9).soft)[:24]
    before = soft_labels(tiny_module(), held_back)

    def away(tuned: Tuned, folder: Path) -> float:
        from luthier.train.adapter import write_adapter

        write_adapter(folder, tuned.weights, RECIPE, "tiny")
        model = tiny_model().with_adapter(folder)
        total = 0.0
        for row, soft in zip(held_back, before, strict=True):
            with torch.no_grad():
                logits = model.module(input_ids=torch.tensor([row.input_ids])).logits[0, row.labels_from - 1 : -1]
            logprobs = torch.log_softmax(logits, -1).gather(1, torch.tensor(soft.ids))
            weights = torch.tensor(soft.probabilities)
            total += float((weights * (weights.log() - logprobs)).sum(-1).mean())
        return total / len(held_back)

    longer = replace(WITH, epochs=8)
    plain = tune(tmp_path / "plain", None, longer)
    replayed = tune(tmp_path / "replayed", kept, longer)
    _, untrained = dev_scores(tiny_module(), data()[1], RECIPE.pass_tokens, shared=False)
    learnt, learnt_plainly = untrained - replayed.best.dev_nll, untrained - plain.best.dev_nll
    assert learnt > 0.8 * learnt_plainly, "it still learns the task"
    assert away(replayed, tmp_path / "r") < 0.7 * away(plain, tmp_path / "p")


def test_with_replay_too_an_interrupted_training_ends_in_the_same_bits(tmp_path: Path, kept: Replay) -> None:
    """Trap 15."""
    whole = tune(tmp_path / "whole", kept)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "parts", kept, working=stop_at(3, interrupt))
    assert same_bits(tune(tmp_path / "parts", kept), whole)
    assert not same_bits(tune(tmp_path / "plain", None), whole)
