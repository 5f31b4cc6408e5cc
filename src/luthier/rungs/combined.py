"""Combined: the best instruction with the best examples and, where it helps, a thought; and what each of them is worth.

One example, from input to score: the instruction that dev preferred, eight retrieved neighbours and the batch prior
stand together before "What is the tallest mountain ?". LOC comes out best; the reference is "LOC"; the score is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from luthier.errors import ModelError
from luthier.evaluate.scorers import dev_scorer
from luthier.rungs.base import EVERY_KIND, FREE_LABEL_TOKENS, PLAIN_FRAME, Writing, instruction, role_model
from luthier.rungs.prompted import Chosen, PromptPredictor, PromptTrial
from luthier.rungs.reasoned import ReasonedPredictor
from luthier.rungs.search import AnswerTrial, Reading, Search, halve, worth
from luthier.rungs.shots import FixedShots, Shots
from luthier.types import Example, FitContext, TaskSpec

EXAMPLES_FROM = ("few-shot", "many-shot", "retrieved-shots")
THOUGHT_DEV = 32  # dev examples that a thought is tried on: it costs a hundred times a label


@dataclass(frozen=True)
class Combined:
    """Every pair of instruction and examples that the rungs below found, halved on dev, then each part taken away.

    And the constraint on the answer: both ways are reported, the better one on dev is kept.
    """

    name = "combined"
    rank = 68
    roles = ("prompted",)
    optional_roles = ("embedder",)  # that by which retrieved-shots finds its examples
    kinds = EVERY_KIND
    builds_on = ("instructed", *EXAMPLES_FROM, "reasoned")
    guarded = False
    version = "2"

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Chosen:
        model = role_model(context.models, "prompted", self.name)
        plain = PromptPredictor(model, instruction(task), FixedShots(), task.label_names, writing=Writing.of(task))
        wordings = {"as written": plain}
        if isinstance(found := context.fitted.get("instructed"), PromptPredictor):
            wordings["instructed"] = replace(found, shots=FixedShots(), prior=None)
        sources: dict[str, Shots] = {
            name: found.shots
            for name in EXAMPLES_FROM
            if isinstance(found := context.fitted.get(name), PromptPredictor)
        }
        if len(wordings) * (1 + len(sources)) < 3:
            raise ModelError(
                "there is nothing to combine",
                where=self.name,
                fix=f"put some of {', '.join(self.builds_on)} on the ladder, or leave combined out of [ladder] rungs",
            )
        trials = [
            PromptTrial(f"{wording}, {source}", replace(prompt, shots=shots), dev_scorer(task))
            for source, shots in (sources or {"no examples": FixedShots()}).items()
            for wording, prompt in wordings.items()
        ]
        search = halve(trials, dev, task, context, what=f"{len(trials)} combinations of what was found")
        told = {"combination": search.winner.name, **search.describe()}
        told["worth on dev"] = _worths(plain, search, context)
        best = search.reading
        thinking, gain = _thought(search, context)
        if thinking is not None:
            told["worth on dev"] = {**told["worth on dev"], "a thought before the answer": gain}
            best = _better(best, thinking)
        free, said = _freely(search, context)
        if free is not None:
            told["written freely on dev"] = said
            best = _better(best, free)
            if best is free:
                told["the answer is written"] = "freely"
        return Chosen(best.predictor, told)


def _better(one: Reading, other: Reading) -> Reading:
    """The one that is right more often on the examples that both saw; a tie goes to the first, the cheaper one."""
    seen = min(len(one.scores), len(other.scores))
    return other if sum(other.scores[:seen]) > sum(one.scores[:seen]) else one


def _worths(plain: PromptPredictor, search: Search, context: FitContext) -> Mapping[str, str]:
    """The winner against itself without its instruction, its examples or its prior, on the same dev examples."""
    winner, found = search.winner.prompt, {}
    asked = [trial for trial, _ in search.trials]
    without = {
        "the instruction found": replace(winner, system=plain.system, frame=PLAIN_FRAME),
        "the examples": replace(winner, shots=FixedShots()),
    }
    for at, (part, prompt) in enumerate(without.items()):
        if prompt == winner:
            continue
        context.working("measuring what each part is worth on dev", at, len(without))
        fresh = PromptTrial(part, prompt, search.winner.scorer)
        trial = next((trial for trial in asked if trial.prompt == prompt), fresh)
        missing = search.examples[len(trial.replies) :]
        trial = trial.asked([example.input for example in missing]) if missing else trial
        found[part] = worth(search.reading.scores, trial.best(search.examples).scores)
    if search.reading.predictor.prior is not None:
        as_it_is = search.winner.read(winner, search.examples)
        found["the prior"] = worth(search.reading.scores, as_it_is.scores)
    return found


def _thought(search: Search, context: FitContext) -> tuple[Reading | None, str]:
    """The winner with a thought before its answer, read on dev; and what the thought is worth."""
    way = context.fitted.get("reasoned")
    if not isinstance(way, ReasonedPredictor):
        return None, ""
    context.working("trying a thought before the answer on dev")
    some = search.examples[:THOUGHT_DEV]
    thinking = replace(way, prompt=replace(search.reading.predictor, prior=None))
    trial = AnswerTrial("thought", thinking, search.winner.scorer).asked([example.input for example in some])
    reading = trial.best(some)
    return reading, worth(reading.scores, search.reading.scores[: len(some)])


def _freely(search: Search, context: FitContext) -> tuple[Reading | None, str]:
    """The winner with nothing to keep its answer to the labels or the schema, read on dev; and how it did.

    A constraint makes every answer a valid one, and may push a model off what it would have said right.
    """
    winner = search.reading.predictor
    if not winner.labels and (winner.writing is None or winner.writing.schema is None):
        return None, ""
    context.working("trying answers written freely on dev")
    some = search.examples[:THOUGHT_DEV]
    length = FREE_LABEL_TOKENS if winner.writing is None else winner.writing.max_tokens
    free = replace(winner, prior=None, writing=Writing(length, chat=False))
    trial = AnswerTrial("freely", free, search.winner.scorer).asked([example.input for example in some])
    reading, before = trial.best(some), search.reading.scores[: len(some)]
    told = f"{reading.told}; what the constraint is worth: {worth(before, reading.scores)}"
    if winner.labels:
        off = sum(answer.output not in winner.labels for answer in trial.answers)
        told = f"{told}; {off} of {len(some)} answers were none of the labels"
    return reading, told
