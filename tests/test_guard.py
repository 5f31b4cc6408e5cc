"""The forgetting guard on tiny models: each suite sees what it is about, and nothing else trips."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from test_train_loop import RECIPE
from tiny_models import tiny_model

from luthier import stats
from luthier.errors import DataError, ModelError
from luthier.models.local import LocalModel
from luthier.models.scripted import ScriptedModel
from luthier.rungs.dora import Dora
from luthier.rungs.dpo import Dpo
from luthier.rungs.full import Full
from luthier.rungs.lora import Lora
from luthier.rungs.own_tasks import OwnTask
from luthier.rungs.repair import MORE_REPLAY, Trial, anew, choose, repaired
from luthier.rungs.tuned import TunedPredictor
from luthier.testing import RungContract
from luthier.train.general import General, dev_part, documentation, general
from luthier.train.guard import DIVERGENCE, TASK_DIVERGENCE, Guard, Memory, Tuned, certify, compare
from luthier.train.pairs import read_pairs
from luthier.train.suites import CONTINUATIONS, GENERAL_TEXT, STOPS, Pairs, Reading, Working
from luthier.types import (
    Constraints,
    Example,
    FitContext,
    GuardRules,
    Label,
    Message,
    Rung,
    SealedSplit,
    Target,
    Task,
    TaskSpec,
    Training,
)

RULES = GuardRules(documents=32, document_tokens=24, items=400, prompts=16)
NOTHING = General((), ())


@dataclass(frozen=True)
class Pair:
    """A fine-tune, as the guard sees one."""

    base: Any
    model: Any


@dataclass
class Planted:
    """A suite whose values are written down, by the model's name."""

    name: str
    values: dict[str, list[float]]
    asked: list[str] = field(default_factory=list)
    margin: float = 0.03

    @property
    def fingerprint(self) -> str:
        return self.name

    def read(self, model: Any, working: Working) -> list[Reading]:
        self.asked.append(model.name)
        working(1, 1)
        return [Reading(self.name, tuple(self.values[model.name]), self.margin, "share right", floor=0.5)]


def statuses(found: Any) -> dict[str, str]:
    return {suite.suite: suite.status for suite in found.suites}


def shaken(model: LocalModel, strength: float, *, name: str = "shaken") -> LocalModel:
    """The same model with noise on its weights."""
    module = copy.deepcopy(model.module)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=strength)
    return LocalModel(module, model.tokenizer, name=name, fingerprint=f"{name}-{strength}", max_row_tokens=96)


def scripts() -> Pair:
    return Pair(ScriptedModel({}, name="before"), ScriptedModel({}, name="after"))


# ---------------------------------------------------------------- what passes, what fails


def test_a_model_has_forgotten_nothing_of_itself() -> None:
    model = tiny_model()
    found = certify(Guard.of(RULES), Pair(model, model), task_prompts=[(Message("user", "a dog"),)] * 3)
    told = statuses(found)
    assert found.answer == "passed", told
    assert told[GENERAL_TEXT] == told[DIVERGENCE] == "passed"
    assert told[TASK_DIVERGENCE] == "reported"
    differences = [suite.difference.mean for suite in found.suites if suite.difference is not None]
    assert differences == [0.0] * len(differences)
    assert len(differences) >= 3


def test_a_random_model_has_nothing_to_lose_on_a_probe_that_it_guesses() -> None:
    """Above-chance probes: a probe on which the base is at chance can't see forgetting, and is refused in words."""
    model = tiny_model()
    probe = next(s for s in certify(Guard.of(RULES), Pair(model, model)).suites if s.suite == CONTINUATIONS)
    assert probe.units >= 200
    assert probe.status == "refused"
    assert probe.reason.endswith("is not clear of 0.500: it has nothing to lose here")
    assert probe.difference is None


def test_a_wrecked_model_trips_the_guard_and_a_barely_touched_one_does_not() -> None:
    """Trap 22: a deliberately wrecked model trips the guard (the real model, by a rate x 30: tests/slow)."""
    model, guard, kept = tiny_model(), Guard.of(RULES), Memory()
    wrecked = certify(guard, Pair(model, shaken(model, 0.5)), kept=kept)
    assert wrecked.answer == "failed"
    assert statuses(wrecked)[GENERAL_TEXT] == statuses(wrecked)[DIVERGENCE] == "failed"
    healthy = certify(guard, Pair(model, shaken(model, 1e-4)), kept=kept)
    assert healthy.answer == "passed"
    assert "failed" not in statuses(healthy).values()


def test_weights_that_are_no_numbers_fail() -> None:
    model = tiny_model()
    broken = shaken(model, 0.0, name="broken")
    with torch.no_grad():
        next(broken.module.parameters()).fill_(math.nan)
    found = certify(replace(Guard.of(RULES), sources=Guard.of(RULES).sources[:1]), Pair(model, broken))
    text = found.suites[0]
    assert (text.status, text.reason) == ("failed", "the fine-tune's probabilities are no numbers")
    assert found.answer == "failed"


RIGHT = [1.0] * 700 + [0.0] * 300


@pytest.mark.parametrize("planted", ["one", "two", "three"])
def test_a_planted_loss_is_seen_by_its_suite_alone(planted: str) -> None:
    worse = [0.0] * 100 + RIGHT[100:]
    suites = [
        Planted(name, {"before": RIGHT, "after": worse if name == planted else RIGHT})
        for name in ("one", "two", "three")
    ]
    found = certify(Guard(RULES, NOTHING, tuple(suites)), scripts())
    assert statuses(found) == {name: "failed" if name == planted else "passed" for name in ("one", "two", "three")}
    assert found.answer == "failed"
    (suite,) = (suite for suite in found.suites if suite.suite == planted)
    assert suite.difference is not None
    assert suite.difference.mean == pytest.approx(-0.1)
    assert suite.difference.low < -0.1 < suite.difference.high < 0


def test_what_could_not_be_shown_is_neither_passed_nor_failed() -> None:
    few = [1.0] * 30 + [0.0] * 10
    slightly = [0.0, *few[1:]]
    found = certify(Guard(RULES, NOTHING, (Planted("small", {"before": few, "after": slightly}),)), scripts())
    assert found.answer == "not shown"
    assert found.suites[0].reason == "that it lost less than 3 points could not be shown on 40 units"


def test_one_failed_suite_among_many_is_called_so_with_holm() -> None:
    """A loss that is just significant by itself is not, among ten suites that could each have been the unlucky one."""
    worse = [0.0] * 42 + RIGHT[42:]
    alone = compare(_reading(RIGHT), _reading(worse), 0.05)
    assert alone.status == "failed"
    suites = [Planted(f"s{at}", {"before": RIGHT, "after": worse if at == 0 else RIGHT}) for at in range(10)]
    found = certify(Guard(RULES, NOTHING, tuple(suites)), scripts())
    assert statuses(found)["s0"] == "not shown"
    assert found.answer == "not shown", "it still has not passed"


def _reading(values: Sequence[float]) -> Reading:
    return Reading("s", tuple(values), 0.03, "share right", floor=0.5)


def test_nothing_judged_is_not_measured() -> None:
    found = certify(Guard(RULES, NOTHING, (Planted("x", {"before": [0.5] * 99, "after": [0.5] * 99}),)), scripts())
    assert found.answer == "not measured"


def test_each_model_is_asked_once() -> None:
    kept, suite = Memory(), Planted("one", {"before": RIGHT, "after": RIGHT})
    first = certify(Guard(RULES, NOTHING, (suite,)), scripts(), kept=kept)
    again = certify(Guard(RULES, NOTHING, (suite,)), scripts(), kept=kept)
    assert suite.asked == ["before", "after"]
    assert replace(first, seconds=0) == replace(again, seconds=0)


def test_the_result_goes_through_json() -> None:
    found = certify(Guard(RULES, NOTHING, (Planted("one", {"before": RIGHT, "after": RIGHT}),)), scripts())
    told = json.loads(json.dumps(found.describe(), allow_nan=False))
    assert told["suites"][0]["status"] == "passed"
    assert told["answer"] == "passed"


# ---------------------------------------------------------------- what is asked


def test_the_texts_are_prose_and_the_same_each_time() -> None:
    texts = general("certificate", documents=100, prompts=48)
    assert len(texts.documents) == 100
    assert len(texts.prompts) == 48
    assert min(len(text.split()) for text in texts.documents) >= 40
    documentation.cache_clear()
    assert general("certificate", documents=100, prompts=48).fingerprint == texts.fingerprint
    assert general("certificate", documents=99, prompts=48).fingerprint != texts.fingerprint


def test_choices_and_certificate_share_no_text_and_no_prompt() -> None:
    """Trap 21, in part: the strength that is chosen on dev is not certified on what it was chosen by."""
    certificate, dev = general("certificate", documents=1000, prompts=200), dev_part(GuardRules())
    assert len(dev.documents) == 50
    assert not set(certificate.documents) & set(dev.documents)
    assert not set(certificate.prompts) & set(dev.prompts)


def test_a_text_of_ones_own_takes_the_place_of_documentation(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("\n\n".join(f"The river number {at} is long." for at in range(90)), encoding="utf-8")
    texts = general("certificate", documents=20, prompts=8, text=str(path))
    assert all(text.startswith("The river number") for text in texts.documents)
    assert 10 <= len(texts.documents) <= 20
    path.write_text("One.\n\nTwo.", encoding="utf-8")
    with pytest.raises(DataError, match="it has 2 paragraphs"):
        general("dev", documents=20, prompts=8, text=str(path))


def test_general_text_is_the_negative_log_likelihood_of_its_tokens() -> None:
    model = tiny_model()
    guard = Guard.of(RULES)
    reading = guard.sources[0].read(model, lambda _done, _total: None)[0]
    ids = model.tokenizer(guard.general.documents[3])["input_ids"][:24]
    with torch.inference_mode():
        logprobs = torch.log_softmax(model.module(input_ids=torch.tensor([ids])).logits[0], dim=-1)
    expected = -float(np.mean([float(logprobs[at, token]) for at, token in enumerate(ids[1:])]))
    assert reading.values[3] == pytest.approx(expected, abs=1e-5)


def test_the_divergence_is_that_of_the_two_distributions() -> None:
    model = tiny_model()
    other = shaken(model, 0.05)
    prompt = (Message("user", "a dog"),)
    found = certify(Guard(RULES, NOTHING, ()), Pair(model, other), task_prompts=[prompt, prompt])
    ids = torch.tensor([model.chat.prompt_ids(prompt)])
    with torch.inference_mode():
        p, q = (torch.log_softmax(m.module(input_ids=ids).logits[0, -1], dim=-1) for m in (model, other))
    suite = found.suites[0]
    assert suite.difference is not None
    assert suite.difference.mean == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-4)
    assert suite.difference.mean > 0


PIQA = [
    {"goal": "the red house", "sol1": "by the sea", "sol2": "how many"},
    {"goal": "a dog", "sol1": "when it rains", "sol2": "and a cat"},
]


def test_a_probe_file_is_read_with_labels_in_it_or_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "valid.jsonl"
    path.write_text("\n".join(map(json.dumps, PIQA)), encoding="utf-8")
    with pytest.raises(DataError, match="no item of two choices") as caught:
        read_pairs(path)
    assert "line 1" in caught.value.where
    (tmp_path / "valid-labels.lst").write_text("0\n1\n", encoding="utf-8")
    assert [item[-1] for item in read_pairs(path)] == [0, 1]
    path.write_text("\n".join(json.dumps({**row, "label": 1}) for row in PIQA), encoding="utf-8")
    assert [item[-1] for item in read_pairs(path)] == [1, 1]


def test_a_pair_is_right_where_the_right_ending_is_likelier(tmp_path: Path) -> None:
    model, path = tiny_model(), tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps({**row, "label": 0}) for row in PIQA), encoding="utf-8")
    (reading,) = Pairs(str(path), RULES).read(model, lambda _done, _total: None)

    def score(row: dict[str, str], key: str) -> float:
        start = len(model.tokenizer(f"Question: {row['goal']}\nAnswer:")["input_ids"])
        ids = model.tokenizer(f"Question: {row['goal']}\nAnswer: {row[key]}")["input_ids"]
        with torch.inference_mode():
            logprobs = torch.log_softmax(model.module(input_ids=torch.tensor([ids])).logits[0], dim=-1)
        return sum(float(logprobs[at - 1, ids[at]]) for at in range(start, len(ids)))

    assert list(reading.values) == [float(score(row, "sol1") > score(row, "sol2")) for row in PIQA]


def own_task() -> Task:
    examples = tuple(
        Example(f"e{at}", f"the {word} number {at}", (label,))
        for at in range(60)
        for word, label in (("dog", "animal"), ("seven", "number"))
    )
    spec = TaskSpec(
        name="other",
        kind="classification",
        instruction="Say which.",
        labels=(Label("animal"), Label("number")),
        target=Target("accuracy", 0.9),
        constraints=Constraints(),
        rungs=("zero-shot",),
        models={},
    )
    return Task(spec, Path("."), examples[:20], examples[20:], SealedSplit((), "x"), {}, "f")


def script(messages: tuple[Message, ...]) -> str:
    return "animal" if "dog" in messages[-1].content else "number"


def test_the_teams_other_tasks_are_asked_with_the_same_prompt() -> None:
    source = OwnTask(own_task(), RULES)
    knows = ScriptedModel(script, name="knows")
    forgot = ScriptedModel(lambda _messages: "number", name="forgot")
    found = certify(Guard(RULES, NOTHING, (source,)), Pair(knows, forgot))
    (suite,) = found.suites
    assert (suite.suite, suite.status, suite.base, suite.tuned) == ("task other", "failed", 1.0, 0.5)
    assert {request.messages[:-1] for request in knows.requests} == {
        request.messages[:-1] for request in forgot.requests
    }
    assert len(knows.requests[0].messages) == 1 + 2 * 8 + 1, "solved examples stand before the question"
    same = certify(Guard(RULES, NOTHING, (source,)), Pair(knows, ScriptedModel(script, name="as before")))
    assert same.answer == "passed"


def test_a_task_at_which_the_base_model_is_no_better_than_one_label_is_not_judged() -> None:
    one = ScriptedModel(lambda _messages: "number", name="one")
    found = certify(Guard(RULES, NOTHING, (OwnTask(own_task(), RULES),)), Pair(one, one))
    assert statuses(found) == {"task other": "refused"}


def test_free_answers_that_no_longer_end_are_seen() -> None:
    stop = [1.0] * 30 + [0.0] * 18
    before, after = (Reading(STOPS, tuple(v), 0.15, "share", floor=0.15) for v in (stop, [0.0] * 15 + stop[15:]))
    assert compare(before, after, 0.05).status == "failed"
    assert compare(before, before, 0.05).status == "passed"
    assert compare(replace(before, values=(0.0,) * 48), after, 0.05).status == "refused"


# ---------------------------------------------------------------- repairs

QUICK = Lora(replace(RECIPE, rank=8, alpha=16, learning_rate=1e-2, epochs=6, step_examples=4))


class TunedTask(RungContract):
    """The contract's small task, for fitting a rung on it."""

    __test__ = False

    def __init__(self, rung: Rung = QUICK) -> None:
        self.rung = rung

    def make_models(self) -> Mapping[str, Any]:
        return {}

    def make_rung(self) -> Rung:
        return self.rung

    def fit(self, workdir: Path, model: LocalModel) -> tuple[TunedPredictor, TaskSpec, list[Example], FitContext]:
        spec, train, dev = self.make_task()
        context = FitContext({"student": model}, 0, workdir, "contract")
        predictor = self.rung.fit(spec, train, dev, context)
        assert isinstance(predictor, TunedPredictor)
        return predictor, replace(spec, guard=RULES), dev, context


@pytest.mark.parametrize(
    "rung", [QUICK, Full(replace(RECIPE, method="full", learning_rate=3e-3))], ids=["lora", "full"]
)
def test_half_the_strength_is_half_the_way_from_the_base_model(rung: Rung, tmp_path: Path) -> None:
    model = tiny_model()
    predictor, _, _, _ = TunedTask(rung).fit(tmp_path / "fit", model)
    half = predictor.scaled(0.5, tmp_path / "half")
    for name, start in model.module.state_dict().items():
        full, mixed = predictor.model.module.state_dict()[name], half.model.module.state_dict()[name]
        assert torch.allclose(mixed, (start + full) / 2, atol=1e-5), name
    assert half.describe()["strength"] == 0.5
    assert predictor.scaled(1.0, tmp_path / "one").model.fingerprint != half.model.fingerprint


def test_magnitudes_cannot_be_scaled_and_that_is_said(tmp_path: Path) -> None:
    predictor, spec, dev, context = TunedTask(Dora(replace(RECIPE, method="dora", epochs=1))).fit(
        tmp_path, tiny_model()
    )
    with pytest.raises(ModelError, match="cannot be scaled"):
        predictor.scaled(0.5, tmp_path / "half")
    strict = replace(spec, guard=replace(RULES, nll_margin=1e-9))
    kept, told = repaired(predictor, strict, dev, context)
    assert kept is predictor
    assert "cannot be scaled" in told["no other"]


def test_a_fine_tune_that_forgets_too_much_is_raced_at_less_strength(tmp_path: Path) -> None:
    predictor, spec, dev, context = TunedTask().fit(tmp_path, tiny_model())
    lenient = replace(RULES, nll_margin=99.0, kl_ceiling=99.0)
    _, told = repaired(predictor, replace(spec, guard=lenient), dev, context)
    (full,) = told["strengths tried"]
    assert (full["within"], told["strength"]) == (True, 1.0)

    def moved(predictor: TunedPredictor) -> float:
        found = certify(Guard.of_dev(lenient), predictor)
        return next(suite.difference.mean for suite in found.suites if suite.suite == DIVERGENCE and suite.difference)

    strict = replace(spec, guard=replace(lenient, kl_ceiling=0.9 * moved(predictor)), target=Target("accuracy", 0.3))
    notes: list[str] = []
    context = replace(context, listen=lambda event: notes.append(event.text) if event.kind == "note" else None)
    weaker, told = repaired(predictor, strict, dev, context)
    assert f"may forget too much ({DIVERGENCE})" in notes[0]
    assert f"to be raced at a strength of {told['strength']:g}: " in notes[1]
    assert [trial["scale"] for trial in told["strengths tried"]] == [1.0, 0.75, 0.5, 0.25]
    assert told["strength"] < 1.0
    assert weaker.describe()["strength"] == told["strength"]
    assert next(t for t in told["strengths tried"] if t["scale"] == told["strength"])["within"]
    assert moved(weaker) < 0.9 * moved(predictor)
    off = replace(strict, guard=replace(strict.guard, repair=False))
    assert repaired(predictor, off, dev, context) == (predictor, {})


def test_where_no_strength_will_do_it_is_trained_anew(tmp_path: Path) -> None:
    """What replay keeps is shown in test_replay.py."""
    task = TunedTask()
    predictor, spec, dev, context = task.fit(tmp_path / "plain", tiny_model())
    ways, (_, train, _) = anew(task.rung, Training()), task.make_task()
    assert {way: (rung.recipe.replay, rung.recipe.epochs) for way, rung in ways.items()} == {
        "more replay": (MORE_REPLAY, QUICK.recipe.epochs),
        "more replay, half as long": (MORE_REPLAY, QUICK.recipe.epochs // 2),
    }
    for examples in (16, 40, 200):
        more, half = (rung.recipe.long_enough(examples).epochs for rung in anew(Lora(), Training()).values())
        assert half == more // 2, "half as long"
    fitted: list[Path] = []

    def fitting(rung: Rung) -> Callable[[FitContext], Any]:
        def fit(given: FitContext) -> Any:
            fitted.append(given.workdir)
            return rung.fit(spec, train, dev, given)

        return fit

    again = {way: fitting(rung) for way, rung in ways.items()}
    hopeless = replace(RULES, nll_margin=1e-9, kl_ceiling=1e-9)
    notes: list[str] = []
    context = replace(context, listen=lambda event: notes.append(event.text) if event.kind == "note" else None)
    raced, told = repaired(predictor, replace(spec, guard=hopeless), dev, context, again)
    tried = [(trial["way"], trial["scale"]) for trial in told["strengths tried"]]
    assert tried == [(way, scale) for way in ("", *ways) for scale in (1.0, 0.75, 0.5, 0.25)]
    assert raced is predictor, "what repairs nothing is not raced"
    assert "trained anew" not in told
    assert [note.rpartition(": ")[2] for note in notes if "clear of the target on dev: " in note] == [*ways]
    assert len({context.workdir, *fitted}) == 3, "no training overwrites the checkpoint of another"

    lenient = replace(RULES, nll_margin=99.0, kl_ceiling=99.0)
    _, told = repaired(predictor, replace(spec, guard=lenient), dev, context, again)
    assert len(fitted) == 2, "there is nothing to repair"
    assert len(told["strengths tried"]) == 1


def test_only_rungs_that_learn_from_rows_in_luthiers_own_loop_are_trained_anew() -> None:
    assert anew(Dpo(), Training()) == {}
    assert anew(Full(), Training("trl")) == anew(Full(), Training(processes=2)) == {}
    assert anew(Full(), Training(replay=0)) == {}, "a person has turned it off"
    assert list(anew(Full(), Training(epochs=2))) == ["more replay"], "a person has said how long"


def test_what_was_fitted_is_what_the_guard_can_look_at(tmp_path: Path) -> None:
    predictor, _, _, _ = TunedTask().fit(tmp_path, tiny_model())
    assert isinstance(predictor, Tuned)
    assert predictor.prompts(["a dog"])[0][-1].content == "a dog"


def test_no_strength_within_the_margins_leaves_the_full_one_to_the_certificate() -> None:
    trials = [Trial(scale, 0.9, 0.02, 0.2, False) for scale in (1.0, 0.75, 0.5, 0.25)]
    assert choose(trials, 0.85).scale == 1.0


# ---------------------------------------------------------------- statistics


@pytest.mark.parametrize(("lost", "won", "n"), [(1, 0, 44), (5, 3, 100), (0, 4, 60), (20, 9, 200)])
def test_the_ends_of_the_interval_are_where_the_score_says_so(lost: int, won: int, n: int) -> None:
    """Against the same score with its nuisance parameter found by a numerical search instead of a formula."""
    found = stats.noninferiority([1.0] * lost + [-1.0] * won + [0.0] * (n - lost - won), 0.1, alpha=0.025, binary=True)

    def score(loss: float) -> float:
        def unlikelihood(q: float) -> float:
            logs = np.log(np.maximum([q + loss, q, 1 - 2 * q - loss], 1e-300))
            return -float(np.dot([lost, won, n - lost - won], logs))

        q = minimize_scalar(
            unlikelihood, bounds=(max(0.0, -loss), (1 - loss) / 2), method="bounded", options={"xatol": 1e-12}
        ).x
        return float((lost - won - n * loss) / np.sqrt(n * (2 * q + loss - loss**2)))

    assert score(found.low) == pytest.approx(1.959964, abs=1e-4)
    assert score(found.high) == pytest.approx(-1.959964, abs=1e-4)


def test_a_loss_of_the_margin_passes_in_at_most_alpha_of_all_samples() -> None:
    rng = np.random.default_rng(5)
    runs, passed, small = 1000, {"paired t": 0, "Tango": 0}, {"paired t": 0, "Tango": 0}
    for _ in range(runs):
        normal = rng.normal(0.05, 0.1, 60)
        binary = rng.choice([1.0, -1.0, 0.0], size=400, p=[0.08, 0.05, 0.87])
        for values, margin, right_or_wrong in ((normal, 0.05, False), (binary, 0.03, True)):
            found = stats.noninferiority(values, margin, binary=right_or_wrong)
            passed[found.method] += found.p_within <= 0.05
            small[found.method] += found.p_beyond <= 0.05
            assert (found.p_within <= 0.05) == (found.high <= margin + 1e-9)
    slack = 3 * math.sqrt(0.05 * 0.95 / runs)
    for found_rates in (passed, small):
        assert all(count / runs <= 0.05 + slack for count in found_rates.values())
        assert all(count / runs >= 0.02 for count in found_rates.values()), "not merely by never passing anything"


def test_correlated_items_of_one_text_are_not_counted_as_many() -> None:
    rng = np.random.default_rng(6)
    of_text = rng.normal(0.0, 0.1, 40)
    values, clusters = np.repeat(of_text, 20), np.repeat(np.arange(40), 20)
    apart, together = stats.noninferiority(values, 0.05), stats.noninferiority(values, 0.05, clusters=clusters)
    assert together.high - together.mean > 4 * (apart.high - apart.mean)
