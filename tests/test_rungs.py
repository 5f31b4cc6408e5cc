"""Each rung against the public contract, with a scripted model and a hashing embedder, and what is its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import LABELS, spec
from numpy.typing import NDArray

from luthier.errors import ModelError, SpecError, StoreError
from luthier.evaluate.scorers import ExactMatch
from luthier.models.embed import HashEmbedder
from luthier.models.scripted import ScriptedModel
from luthier.rungs import LADDER, ladder, load_predictor
from luthier.rungs.base import Writing, instruction, rewordings
from luthier.rungs.calibrated import Calibrated
from luthier.rungs.combined import Combined
from luthier.rungs.consistency import consistency
from luthier.rungs.embedding import Embedding
from luthier.rungs.few_shot import MOST_SHOTS, FewShot, shot_sets
from luthier.rungs.instructed import Instructed, telling_words, typical
from luthier.rungs.majority import Majority
from luthier.rungs.many_shot import ManyShot, balanced
from luthier.rungs.prompted import PromptPredictor, PromptTrial
from luthier.rungs.reasoned import CONCLUDE, Reasoned, ReasonedPredictor
from luthier.rungs.retrieved_shots import RetrievedShots
from luthier.rungs.search import halve, worth
from luthier.rungs.shots import FixedShots, NearestShots
from luthier.rungs.tfidf import Tfidf
from luthier.rungs.zero_shot import ZeroShot
from luthier.testing import RungContract
from luthier.types import Example, FitContext, Label, Message, Predictor, Reply, Request, Rung, Target, TaskSpec

PARTS: tuple[Rung, ...] = (Instructed(), FewShot(), RetrievedShots(), Reasoned())
NUMBERS = ("two", "seven", "ninety", "many")


def knows_numbers(messages: tuple[Message, ...]) -> str:
    return "number" if any(word in messages[-1].content for word in NUMBERS) else "animal"


class WithModels(RungContract):
    rung: Rung

    def make_rung(self) -> Rung:
        return self.rung

    def make_models(self) -> Mapping[str, Any]:
        return {"prompted": ScriptedModel(knows_numbers), "embedder": HashEmbedder()}


class TestMajority(WithModels):
    rung = Majority()


class TestTfidf(WithModels):
    rung = Tfidf()


class TestEmbedding(WithModels):
    rung = Embedding()


class TestZeroShot(WithModels):
    rung = ZeroShot()


class TestCalibrated(WithModels):
    rung = Calibrated()


class TestFewShot(WithModels):
    rung = FewShot()


class TestRetrievedShots(WithModels):
    rung = RetrievedShots()


class TestInstructed(WithModels):
    rung = Instructed()


class TestManyShot(WithModels):
    rung = ManyShot()


class TestReasoned(WithModels):
    rung = Reasoned()


class TestCombined(WithModels):
    rung = Combined()

    def fitted(self, workdir: Path, models: Mapping[str, Any], seed: int = 0) -> Predictor:
        spec, train, dev = self.make_task()
        below = {rung.name: rung.fit(spec, train, dev, FitContext(models, seed, workdir)) for rung in PARTS}
        found = {name: getattr(predictor, "prompt", predictor) for name, predictor in below.items()}
        return self.rung.fit(spec, train, dev, FitContext(models, seed, workdir, fitted=found))


del WithModels  # an abstract suite: pytest would collect it


def context(models: Mapping[str, Any], tmp_path: Path, seed: int = 0) -> FitContext:
    return FitContext(models, seed, tmp_path)


def examples(*pairs: tuple[str, str]) -> list[Example]:
    return [Example(f"e{at}", text, (label,)) for at, (text, label) in enumerate(pairs)]


SPEC = spec(Target("accuracy", 0.9))


def test_the_ladder_stands_simplest_first() -> None:
    assert [rung.rank for rung in LADDER] == sorted({rung.rank for rung in LADDER})
    assert [rung.name for rung in ladder(["lora", "majority", "few-shot"])] == ["majority", "few-shot", "lora"]
    with pytest.raises(SpecError, match="use some of: majority, tfidf"):
        ladder(["zero-shots"])


def test_majority_answers_the_commonest_label_of_train_whatever_dev_says(tmp_path: Path) -> None:
    train = examples(("x", "b"), ("y", "b"), ("z", "a"))
    predictor = Majority().fit(SPEC, train, examples(*[("v", "a")] * 9), context({}, tmp_path))
    assert [p.output for p in predictor.predict(["anything"])] == ["b"]


@pytest.mark.parametrize("rung", [Tfidf(), Embedding()])
def test_classic_rungs_learn_from_train(rung: Rung, tmp_path: Path) -> None:
    train = examples(
        *[(f"red sun number {at}", "a") for at in range(20)], *[(f"blue moon {at}", "b") for at in range(20)]
    )
    predictor = rung.fit(SPEC, train, train[::4], context({"embedder": HashEmbedder()}, tmp_path))
    assert [p.output for p in predictor.predict(["the blue moon", "a red sun"])] == ["b", "a"]


def test_a_single_class_in_train_is_no_crash(tmp_path: Path) -> None:
    predictor = Tfidf().fit(SPEC, examples(("x", "a"), ("y", "a")), examples(("z", "b")), context({}, tmp_path))
    assert [p.output for p in predictor.predict(["w"])] == ["a"]


def test_the_prompt_tells_every_label_with_its_description() -> None:
    labels = (Label("LOC", "a place"), Label("NUM"))
    task = TaskSpec(**{**SPEC.__dict__, "labels": labels})
    assert instruction(task).splitlines() == [
        "Say a or b.",
        "",
        "LOC: a place",
        "NUM",
        "",
        "Answer with one label and nothing else.",
    ]


def biased(messages: tuple[Message, ...]) -> dict[str, float]:
    if messages[-1].content in ("N/A", "", "[MASK]"):
        return {"a": math.log(0.9), "b": math.log(0.1)}
    return {"a": math.log(0.7), "b": math.log(0.3)} if "b" in messages[-1].content else {"a": -0.01, "b": -9.0}


def test_calibration_takes_the_prompts_own_bias_away(tmp_path: Path) -> None:
    models = {"prompted": ScriptedModel(biased)}
    dev = examples(("it is b", "b"), ("it is not", "a"))
    plain = ZeroShot().fit(SPEC, [], [], context(models, tmp_path))
    calibrated = Calibrated().fit(SPEC, examples(("no", "a")), dev, context(models, tmp_path))
    inputs = ["it is b", "it is not"]
    assert [p.output for p in plain.predict(inputs)] == ["a", "a"]
    assert [p.output for p in calibrated.predict(inputs)] == ["b", "a"]
    assert calibrated.choice["prior from"] == "content-free inputs"
    assert calibrated.prompt.prior == pytest.approx((math.log(0.9), math.log(0.1)))


def test_calibration_takes_the_prior_that_dev_prefers(tmp_path: Path) -> None:
    """Content-free inputs say nothing here, the answers to real inputs show the bias."""

    def leaning(messages: tuple[Message, ...]) -> dict[str, float]:
        if messages[-1].content in ("N/A", "", "[MASK]"):
            return {"a": math.log(0.5), "b": math.log(0.5)}
        share = 0.6 if "b" in messages[-1].content else 0.9
        return {"a": math.log(share), "b": math.log(1 - share)}

    train = examples(*[("b", "a"), ("c", "a")] * 20)
    dev = examples(("it is b", "b"), ("it is not", "a"))
    found = Calibrated().fit(SPEC, train, dev, context({"prompted": ScriptedModel(leaning)}, tmp_path))
    assert found.choice["prior from"] == "training inputs"
    assert found.prompt.prior == pytest.approx((math.log(0.75), math.log(0.25)))
    assert [p.output for p in found.predict(["it is b", "it is not"])] == ["b", "a"]


def test_shot_sets_are_balanced_and_come_from_train_only() -> None:
    train = examples(*[(f"a{at}", "a") for at in range(50)], *[(f"b{at}", "b") for at in range(7)])
    for shots in shot_sets(train, LABELS, seed=3):
        counts = [sum(label == name for _, label in shots) for name in LABELS]
        assert counts[0] == counts[1]
        assert {text for text, _ in shots} <= {example.input for example in train}
        assert len({text for text, _ in shots}) == len(shots)


def test_many_labels_do_not_overflow_the_prompt() -> None:
    labels = [f"label {at}" for at in range(77)]
    train = examples(*[(f"{label} text {at}", label) for label in labels for at in range(3)])
    assert all(len(shots) <= MOST_SHOTS for shots in shot_sets(train, labels, seed=0))


def test_few_shot_keeps_the_set_that_is_best_on_dev(tmp_path: Path) -> None:
    """The scripted model is right only when it has seen one certain example."""

    def needs_the_key(messages: tuple[Message, ...]) -> str:
        seen = any("key" in message.content for message in messages[:-1] if message.role == "user")
        return (messages[-1].content or "a")[0].replace("N", "a").replace("[", "a") if seen else "a"

    train = examples(*[(f"a key {at}" if at == 4 else f"a {at}", "a") for at in range(6)], *[("b", "b")] * 6)
    dev = examples(*[("b text", "b")] * 20, *[("a text", "a")] * 5)
    predictor = FewShot().fit(SPEC, train, dev, context({"prompted": ScriptedModel(needs_the_key)}, tmp_path, seed=1))
    assert [p.output for p in predictor.predict(["b", "a"])] == ["b", "a"]
    assert any("key" in text for text, _ in predictor.prompt.shots.shots)


def test_retrieved_shots_shows_the_nearest_examples_the_nearest_last(tmp_path: Path) -> None:
    train = examples(*[(f"something else {at}" * 3, "a") for at in range(20)], ("where is the red boat", "b"))
    model = ScriptedModel(lambda messages: messages[-2].content)
    predictor = RetrievedShots().fit(
        SPEC, train, [], context({"prompted": model, "embedder": HashEmbedder()}, tmp_path)
    )
    assert [p.output for p in predictor.predict(["where is the red boat now"])] == ["b"]
    assert len([m for m in model.requests[0].messages if m.role == "user"]) == 9


def test_retrieved_shots_asks_no_model_about_a_way_that_its_neighbours_rule_out(tmp_path: Path) -> None:
    # the embedder sees nothing (all its vectors are the same), words tell the classes apart
    class Blind(HashEmbedder):
        def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.ones((len(texts), 1), dtype=np.float32)

    pairs = [(f"{word} number {at}", label) for at in range(20) for word, label in (("cat", "a"), ("tree", "b"))]
    train, dev = examples(*pairs), examples(*[(f"{text} again", label) for text, label in pairs])
    model = ScriptedModel(lambda messages: messages[-2].content)
    predictor = RetrievedShots().fit(SPEC, train, dev, context({"prompted": model, "embedder": Blind()}, tmp_path))
    told = predictor.describe()
    assert told["by likeness of"] == "words (BM25)"
    assert told["the neighbours alone on dev"] == {
        "embedding": "20 of 40 right",
        "bm25": "40 of 40 right",
        "both": "40 of 40 right",
    }
    assert told["tried on dev"] == 2
    assert len(model.requests) == 2 * 32


def test_a_failed_request_is_a_prediction_with_an_error(tmp_path: Path) -> None:
    model = ScriptedModel(lambda messages: "a", failing=(1,))
    predictor = ZeroShot().fit(SPEC, [], [], context({"prompted": model}, tmp_path))
    found = predictor.predict(["one", "two", "three"])
    assert [p.output for p in found] == ["a", None, "a"]
    assert "scripted failure" in (found[1].error or "")


def test_a_predictor_refuses_another_model_than_its_own(tmp_path: Path) -> None:
    PromptPredictor(ScriptedModel({}), "system", FixedShots(), LABELS).save(tmp_path)
    with pytest.raises(ModelError, match="fitted with another prompted"):
        load_predictor(tmp_path, {"prompted": ScriptedModel({}, version="2")})
    with pytest.raises(ModelError, match="no model has the role 'prompted'"):
        load_predictor(tmp_path, {})


def test_a_folder_that_holds_no_predictor_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a predictor"):
        load_predictor(tmp_path, {})
    (tmp_path / "predictor.json").write_text('{"format": 1, "kind": "oracle"}')
    with pytest.raises(StoreError, match="no predictor is of the kind 'oracle'"):
        load_predictor(tmp_path, {})


# ---------------------------------------------------------------- searching among prompts


def test_halving_asks_the_better_half_about_more_and_stops_before_its_budget(tmp_path: Path) -> None:
    """Four prompts, of which one knows the answer; each dev input costs one word and the system message another."""
    model = ScriptedModel(lambda messages: "b" if messages[0].content == "good" else "a")
    trials = [
        PromptTrial(f"{name} {at}", PromptPredictor(model, name, FixedShots(), LABELS), ExactMatch())
        for at, name in enumerate(SYSTEMS)
    ]
    dev = examples(*[("b", "b")] * 200)
    found = halve(trials, dev, replace(SPEC, search_tokens=10**9), context({}, tmp_path), what="prompts")
    assert found.winner.name == "good 2"
    assert [len(reading.scores) for _, reading in found.trials] == [64, 64, 32, 32], "halved twice, from 32 on"
    assert found.tokens == sum((2 + 2) * n for n in (64, 64, 32, 32)), "prompt words and scored labels"
    cheap = halve(trials, dev, replace(SPEC, search_tokens=600), context({}, tmp_path), what="prompts")
    assert cheap.cut_short
    assert cheap.winner.name == "good 2"
    assert cheap.tokens == 4 * 32 * 4, "the first round alone"


SYSTEMS = ("poor", "bad", "good", "worse")


def test_what_an_ingredient_is_worth_has_an_interval_that_covers_nothing_when_nothing_changed() -> None:
    assert worth([True, False] * 30, [True, False] * 30).startswith("+0.0 points [-")
    assert "[+" in worth([True] * 100, [False] * 100), "surely worth something"
    assert worth([], []) == "not measured"


def test_instructed_finds_the_words_that_help(tmp_path: Path) -> None:
    """The model understands the labels only where it is told what they typically look like."""

    def understands(messages: tuple[Message, ...]) -> str:
        return "b" if "Typical" in messages[0].content and "moon" in messages[-1].content else "a"

    train = examples(*[(f"the moon {at}", "b") for at in range(8)], *[(f"the sun {at}", "a") for at in range(8)])
    dev = examples(*[("a moon", "b")] * 12, *[("a sun", "a")] * 12)
    found = Instructed().fit(SPEC, train, dev, context({"prompted": ScriptedModel(understands)}, tmp_path))
    assert found.choice["instruction"] == "labels with typical examples, input alone"
    assert [p.output for p in found.predict(["this moon", "this sun"])] == ["b", "a"]


def test_labels_are_told_by_their_own_examples_and_words() -> None:
    train = examples(
        *[(f"red sun today {at}", "a") for at in range(6)], *[(f"blue moon today {at}", "b") for at in range(6)]
    )
    words = telling_words(SPEC, train)
    assert words["a"].startswith("Words: red, sun")
    assert "today" not in words["a"].split(", ")[:2]
    assert "moon" in typical(SPEC, train)["b"]
    assert typical(SPEC, examples(("!", "a"))) == {}, "no words at all"


def test_a_teacher_that_knows_better_is_heard(tmp_path: Path) -> None:
    """The prompted model obeys one sentence, which only the teacher's proposal holds."""

    def obeys(messages: tuple[Message, ...]) -> str:
        return ("b" if "moon" in messages[-1].content else "a") if "Moons are b" in messages[0].content else "a"

    teacher = ScriptedModel(lambda messages: "Here it is:\n```\nSay a or b. Moons are b.\n```", name="sage")
    train = examples(*[(f"the moon {at}", "b") for at in range(40)], *[(f"the sun {at}", "a") for at in range(40)])
    models = {"prompted": ScriptedModel(obeys), "teacher": teacher}
    found = Instructed().fit(SPEC, train, train[::4], context(models, tmp_path))
    assert found.choice["instruction"] == "proposed by sage (1), input alone"
    assert found.prompt.system == "Say a or b. Moons are b."
    assert any("The right answer is b" in message.content for r in teacher.requests for message in r.messages)


def test_many_shot_fills_the_context_and_no_more(tmp_path: Path) -> None:
    train = examples(*[(f"sun {at}", "a") for at in range(300)], *[(f"moon {at}", "b") for at in range(60)])
    model = ScriptedModel(lambda messages: "a", context_tokens=400)
    found = ManyShot().fit(SPEC, train, train[:40], context({"prompted": model}, tmp_path))
    most = found.choice["examples that fit the context"]
    assert 90 < most < 360
    assert max(model.prompt_tokens(request.messages) for request in model.requests) <= 400
    short = ScriptedModel(lambda messages: "a", context_tokens=8)
    with pytest.raises(ModelError, match="not one solved example fits"):
        ManyShot().fit(SPEC, train, train[:4], context({"prompted": short}, tmp_path))


def test_every_tail_of_many_shots_is_as_balanced_as_it_can_be() -> None:
    train = examples(*[(f"a{at}", "a") for at in range(30)], *[(f"b{at}", "b") for at in range(10)])
    shots = balanced(train, LABELS, seed=1)
    assert len(shots) == 40
    for size in (2, 10, 20):
        assert sum(label == "a" for _, label in shots[-size:]) == size // 2


def test_a_thought_is_heard_before_the_answer(tmp_path: Path) -> None:
    """The model answers rightly only after it has said the thought itself."""

    def thinks(messages: tuple[Message, ...]) -> str:
        if messages[-1].content == CONCLUDE:
            return "b" if "moon" in messages[-2].content else "a"
        return "It is about the moon" if "lunar" in messages[-1].content else "Answer: a"

    train, dev = examples(("x", "a")), examples(*[("lunar", "b")] * 8, *[("solar", "a")] * 8)
    found = Reasoned().fit(SPEC, train, dev, context({"prompted": ScriptedModel(thinks)}, tmp_path))
    assert found.choice["thinking"] == "one thought, labels scored"
    assert "one thought, answer read from the text" in found.choice["the others on dev"]
    assert [p.output for p in found.predict(["lunar", "solar"])] == ["b", "a"]


def test_an_unconstrained_answer_that_is_no_label_is_kept_as_it_is_written(tmp_path: Path) -> None:
    prompt = PromptPredictor(ScriptedModel(lambda messages: "I cannot say"), "system", FixedShots(), LABELS)
    (found,) = ReasonedPredictor(prompt, constrained=False).predict(["x"])
    assert found.output == "I cannot say"


def test_votes_are_counted_and_paid_for(tmp_path: Path) -> None:
    model = ScriptedModel(lambda messages: "Answer: b")
    (found,) = ReasonedPredictor(PromptPredictor(model, "s", FixedShots(), LABELS), constrained=False, votes=5).predict(
        ["x"]
    )
    assert found.output == "b"
    assert model.requests[0].n == 5
    assert found.usage.output_tokens == 10, "five thoughts of two words"


def test_words_find_what_meaning_misses_and_both_are_fused() -> None:
    pool = (("order 66 is late", "a"), ("where is my parcel", "b"), ("hello there", "a"))
    by_words = NearestShots(pool, 2, "bm25")
    assert [text for text, _ in by_words.of(["parcel 99"])[0]][-1] == "where is my parcel"
    assert by_words.nearest(["nothing known"]) == [[1, 0]], "no word in common: the pool's own order, the first last"
    embedder = HashEmbedder()
    both = NearestShots(pool, 1, "both", embedder, embedder.embed([text for text, _ in pool]))
    assert both.of(["order 66"])[0] == (("order 66 is late", "a"),)


def test_combined_tells_what_each_part_is_worth_and_refuses_to_combine_nothing(tmp_path: Path) -> None:
    """Right only with the typical examples in the instruction and a solved example before the question."""

    def needs_both(messages: tuple[Message, ...]) -> str:
        told = "Typical" in messages[0].content
        shown = any(message.role == "assistant" for message in messages)
        return "b" if told and shown and "moon" in messages[-1].content else "a"

    train = examples(*[(f"the moon {at}", "b") for at in range(20)], *[(f"the sun {at}", "a") for at in range(20)])
    dev = examples(*[(f"moon {at}", "b") for at in range(32)], *[(f"sun {at}", "a") for at in range(32)])
    models = {"prompted": ScriptedModel(needs_both)}
    told = PromptPredictor(models["prompted"], "Say a or b. Typical of b: moons.", FixedShots(), LABELS)
    shown = PromptPredictor(models["prompted"], instruction(SPEC), FixedShots((("the moon", "b"),)), LABELS)
    below = {"instructed": told, "few-shot": shown}
    found = Combined().fit(SPEC, train, dev, FitContext(models, 0, tmp_path, fitted=below))
    assert found.choice["combination"] == "instructed, few-shot"
    assert [p.output for p in found.predict(["moon", "sun"])] == ["b", "a"]
    for part in ("the instruction found", "the examples"):
        assert found.choice["worth on dev"][part].startswith("+56.2 points [+"), "all of the b's among 32"
    free = found.choice["written freely on dev"]
    assert free.startswith("32 of 32 right; what the constraint is worth: +0.0 points [")
    assert free.endswith("0 of 32 answers were none of the labels")
    with pytest.raises(ModelError, match="nothing to combine"):
        Combined().fit(SPEC, train, dev, context(models, tmp_path))


def test_combined_is_loaded_again_with_the_models_whose_roles_it_names(tmp_path: Path) -> None:
    """It may take over examples that an embedder finds: in a climb, no other model is there when it is loaded."""

    def as_shown(messages: tuple[Message, ...]) -> str:
        return next((message.content for message in reversed(messages) if message.role == "assistant"), "a")

    embedder = HashEmbedder()
    models = {"prompted": ScriptedModel(as_shown), "embedder": embedder}
    pool = tuple((f"the {body} {at}", label) for body, label in (("moon", "b"), ("sun", "a")) for at in range(9))
    nearest = NearestShots(pool, 2, "embedding", embedder, embedder.embed([text for text, _ in pool]))
    below = {
        "few-shot": PromptPredictor(models["prompted"], instruction(SPEC), FixedShots((("the sun 1", "a"),)), LABELS),
        "retrieved-shots": PromptPredictor(models["prompted"], instruction(SPEC), nearest, LABELS),
    }
    rung = Combined()
    dev = examples(*[(f"the moon {at} !", "b") for at in range(20)], *[(f"the sun {at} !", "a") for at in range(20)])
    found = rung.fit(SPEC, dev, dev, FitContext(models, 0, tmp_path, fitted=below))
    assert found.choice["combination"].endswith("retrieved-shots")
    found.save(tmp_path / "saved")
    named = {role: models[role] for role in (*rung.roles, *rung.optional_roles)}
    assert load_predictor(tmp_path / "saved", named).predict(["the moon 3 ?"])[0].output == "b"


def test_combined_keeps_a_constraint_only_where_it_does_not_hurt(tmp_path: Path) -> None:
    """A model that knows the answer when it may write, and scores the labels upside down."""

    class Pushed(ScriptedModel):
        def complete(self, requests: Sequence[Request]) -> list[Reply]:
            replies = super().complete(requests)
            turned = {"a": "b", "b": "a"}
            return [
                reply
                if request.choices is None
                else replace(reply, texts=(turned[reply.texts[0]],), choice_logprobs=None)
                for request, reply in zip(requests, replies, strict=True)
            ]

    def knows(messages: tuple[Message, ...]) -> str:
        return "b" if "moon" in messages[-1].content else "a"

    class Lines(Pushed):
        """Ends what it writes freely with a line break."""

        def complete(self, requests: Sequence[Request]) -> list[Reply]:
            replies = super().complete(requests)
            return [
                replace(reply, texts=(f"{reply.texts[0]}\n",)) if request.choices is None else reply
                for request, reply in zip(requests, replies, strict=True)
            ]

    dev = examples(*[(f"moon {at}", "b") for at in range(32)], *[(f"sun {at}", "a") for at in range(32)])
    models = {"prompted": Lines(knows)}
    told = PromptPredictor(models["prompted"], "Say a or b.", FixedShots(), LABELS)
    shown = PromptPredictor(models["prompted"], instruction(SPEC), FixedShots((("the moon", "b"),)), LABELS)
    below = {"instructed": told, "few-shot": shown}
    found = Combined().fit(SPEC, dev, dev, FitContext(models, 0, tmp_path, fitted=below))
    assert [p.output for p in found.predict(["moon", "sun"])] == ["b", "a"]
    assert "points [-" in found.choice["written freely on dev"], "the constraint is worth less than nothing"
    assert found.choice["the answer is written"] == "freely"
    thoughtful = {**below, "reasoned": ReasonedPredictor(told, constrained=True, votes=1, seed=0)}
    found = Combined().fit(SPEC, dev, dev, FitContext(models, 0, tmp_path, fitted=thoughtful))
    assert found.choice["the answer is written"] == "freely", "the better of the two, not the first"
    found.save(tmp_path / "kept")
    again = load_predictor(tmp_path / "kept", models)
    assert [p.output for p in again.predict(["moon", "sun"])] == ["b", "a"]


def test_consistency_counts_what_changes_in_other_words_and_in_another_draw() -> None:
    """Sure about suns in any wording; about moons a coin, that falls otherwise when the prompt begins otherwise."""

    def moody(messages: tuple[Message, ...]) -> dict[str, float]:
        if "sun" in messages[-1].content:
            return {"a": -1e-9, "b": -50.0}
        share = 0.6 if messages[0].content.startswith("Your task") else 0.4
        return {"a": math.log(share), "b": math.log(1 - share)}

    predictor = PromptPredictor(ScriptedModel(moody), instruction(SPEC), FixedShots(), LABELS)
    found = consistency(predictor, ["sun"] * 3 + ["moon"], lambda done, total: None)
    assert found is not None
    assert (found.inputs, found.rewordings, found.failed) == (4, 3, 0)
    assert found.reworded.mean == 0.75
    assert found.repeated is not None
    assert found.repeated.mean == pytest.approx((3 + 0.4**2 + 0.6**2) / 4)
    assert found.repeated.low < found.repeated.mean < found.repeated.high


def test_consistency_draws_twice_where_a_model_gives_no_probabilities() -> None:
    class Wavering(ScriptedModel):
        """Says the same twice about suns only."""

        def complete(self, requests: Sequence[Request]) -> list[Reply]:
            replies = super().complete(requests)
            return [
                replace(reply, texts=(reply.texts[0], "other")) if "moon" in request.messages[-1].content else reply
                for request, reply in zip(requests, replies, strict=True)
            ]

    model = Wavering(lambda messages: "warm")
    predictor = PromptPredictor(model, "How is it?", FixedShots(), (), writing=Writing(4))
    found = consistency(predictor, ["sun"] * 3 + ["moon"], lambda done, total: None)
    assert found is not None
    assert found.repeated is not None
    assert (found.repeated.mean, found.repeated.n, found.repeated.method) == (0.75, 4, "wilson")
    asked = [request for request in model.requests if request.temperature > 0]
    assert [(request.n, request.max_tokens) for request in asked] == [(2, 4)] * 4
    assert found.usage.fresh_tokens == sum(
        model.prompt_tokens(request.messages) * request.n for request in model.requests
    )


def test_rewordings_say_the_same_in_other_words() -> None:
    texts = rewordings(instruction(SPEC))
    assert len({*texts, instruction(SPEC)}) == 4
    assert all(("Say a or b." in text and "one" in text) or "label" in text for text in texts)
