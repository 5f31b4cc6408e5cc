"""Probes: interventions on the candidate's own prompt, each asked about the same failures and passing examples.

One example: the prompt "Say which type the question is." fails "What is the tallest mountain ?". With eight solved
questions before it, the answer is right: that failure is repaired. What two rewordings of the prompt repair is no
repair, and a passing question that the eight examples break is harm.

A probe changes one thing about how the model is asked (`Way`), or only reads what was said in another way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from luthier.diagnose.shown import ReadingPrompt
from luthier.documents.library import DEPTH, Hit, Library, holds
from luthier.evaluate.retrieval import first_right
from luthier.rungs.base import instruction, text_of
from luthier.rungs.instructed import telling_words, typical, wordings
from luthier.rungs.prompted import PromptPredictor
from luthier.rungs.reading import RULE, Look, ReadingPredictor
from luthier.rungs.shots import FixedShots, NearestShots, Shots
from luthier.types import Example, Input, Prediction, Request, Task, TaskSpec

NOOPS = 2  # rewordings: what they repair on average is what any rewording does
FEW, MANY = 2, 8  # solved examples in a prompt
SAMPLES = 8
TEMPERATURE = 0.7  # Wang et al. 2023, section 3
PASSAGES = 1  # small models lose the thread among several; how many are best is for the rung to find
LONGEST_SHOT = 1200  # characters: longer examples make no prompt of eight
NEUTRAL = "Read the input and give the right answer."


@dataclass(frozen=True)
class Way:
    """One way to ask: a name, what it is in words, the cause that it tests, and a predictor that asks so.

    `characters`: about how much of a prompt is no other prompt's, so has to be read for each example alone.
    """

    name: str
    title: str
    family: str
    predictor: Any
    characters: int = 0

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        if isinstance(self.predictor, OracleReading):
            return self.predictor.of(examples)
        found: list[Prediction] = self.predictor.predict([example.input for example in examples])
        return found


@dataclass(frozen=True)
class OwnPrior:
    """A prompt that is calibrated by its own replies to what it is asked, as the candidate was by replies to train."""

    prompt: PromptPredictor

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """One batch, whose own replies are the prior: labels are not looked at."""
        replies = self.prompt.ask(inputs)
        prior = self.prompt.with_prior(replies)
        return [prior.answer(reply) for reply in replies]


def like(prompt: PromptPredictor, changed: PromptPredictor) -> Any:
    """The changed prompt, calibrated where the candidate is: a prior belongs to the words that it was measured with."""
    plain = replace(changed, prior=None)
    return plain if prompt.prior is None else OwnPrior(plain)


def planned(prompt: PromptPredictor, *, documents: bool) -> int:
    """About how many probes there will be, for whoever waits."""
    return NOOPS + (9 if prompt.writing is None else 10) + (2 if documents else 0) + 3


def noops(prompt: PromptPredictor) -> list[Way]:
    """The prompt in other words that mean the same: what any change of words repairs and breaks."""
    return [
        Way(f"rewording-{at}", "the same prompt in other words", "no-op", like(prompt, other))
        for at, other in enumerate(prompt.reworded()[:NOOPS], 1)
    ]


def instructions(prompt: PromptPredictor, task: Task) -> list[Way]:
    """The instruction taken away; then labels or answers told by examples, with the words of the task and without.

    What comes right without it was spoilt by it: nothing of an instruction that misleads is left.
    """
    spec, plain = task.spec, replace(task.spec, instruction=NEUTRAL)
    bare = replace(plain, labels=tuple(replace(label, description="") for label in spec.labels))
    if spec.labels:
        meanings, words = typical(spec, task.train), telling_words(spec, task.train)
        systems = {
            "no-instruction": ("no instruction, and of labels their names alone", instruction(bare)),
            "labels-by-examples": ("what labels mean, told by typical examples", instruction(spec, meanings)),
            "instruction-from-data": (
                "no instruction but typical examples of each label",
                instruction(bare, meanings),
            ),
            "labels-by-words": (
                "no instruction but the words that set each label apart",
                instruction(bare, words),
            ),
        }
    else:
        told, untold = (list(wordings(each, task.train).values())[-1] for each in (spec, plain))
        systems = {
            "no-instruction": ("no instruction", instruction(plain)),
            "answers-by-examples": ("what answers look like, told by examples", told),
            "instruction-from-data": ("no instruction but what answers look like", untold),
        }
    rule = prompt.system.removeprefix(instruction(spec)) if isinstance(prompt, ReadingPrompt) else ""
    return [
        Way(name, title, "instruction", like(prompt, replace(prompt, system=system + rule)))
        for name, (title, system) in systems.items()
        if system + rule != prompt.system
    ]


def shots(prompt: PromptPredictor, task: Task, embedder: Any | None) -> list[Way]:
    """No, two, eight and the eight nearest solved examples before the input; the number it has already is left out."""
    pool = [example for example in task.train if len(text_of(example.input)) <= LONGEST_SHOT]
    if len(pool) < MANY:
        return []
    rng = np.random.default_rng([task.spec.seed, 19])
    mixed = _dealt([pool[at] for at in rng.permutation(len(pool))])
    few, many = (tuple((text_of(each.input), each.reference) for each in mixed[:count]) for count in (FEW, MANY))
    pairs = tuple((text_of(example.input), example.reference) for example in pool)
    nearest = NearestShots(pairs, MANY, "bm25")
    if embedder is not None:
        vectors = np.asarray(embedder.embed([text for text, _ in pairs]), dtype=np.float32)
        nearest = NearestShots(pairs, MANY, "both", embedder, vectors)
    size = MANY * int(np.mean([len(text) + len(answer) for text, answer in pairs]))
    sets: dict[str, tuple[str, Shots, int]] = {
        "shots-0": ("no solved examples", FixedShots(), 0),
        f"shots-{FEW}": (f"{FEW} solved examples", FixedShots(few), 0),
        f"shots-{MANY}": (f"{MANY} solved examples", FixedShots(many), 0),
        "shots-nearest": (f"the {MANY} nearest solved examples", nearest, size),
    }
    if isinstance(prompt, ReadingPrompt):  # after examples that answer from nothing a small model goes on to do so
        assert prompt.look is not None
        library = prompt.look.library
        del sets["shots-nearest"]
        sets = {name: (title, with_passages(some, library), 0) for name, (title, some, _) in sets.items()}
    ways = [
        Way(name, title, "elicitation", like(prompt, replace(prompt, shots=some)), characters)
        for name, (title, some, characters) in sets.items()
    ]
    had = prompt.shots.describe().get("examples in the prompt", 0)
    return [way for way in ways if not (way.name == "shots-0" and had == 0)]


def _dealt(examples: Sequence[Example]) -> list[Example]:
    """The examples so that the first few show as many different answers as there are."""
    seen: dict[str, int] = {}
    order = []
    for place, example in enumerate(examples):
        turn = seen[example.reference] = seen.get(example.reference, -1) + 1
        order.append((turn, place))
    return [examples[place] for _, place in sorted(order)]


def closed(prompt: PromptPredictor, answers: Sequence[str]) -> list[Way]:
    """Decoding held to the answers that occur in train, where a written answer could be anything."""
    if prompt.writing is None or prompt.writing.schema is not None or not answers:
        return []
    held = replace(prompt, labels=tuple(answers), writing=None)
    return [Way("constrained", "only the answers that occur in train are allowed", "format", held)]


# ---------------------------------------------------------------- what stands in documents


@dataclass(frozen=True)
class OracleReading:
    """A reader that is shown the passage in which an example's answer stands, where that is known.

    `passages` by the example's id are all that are shown; others have what a search finds where `searches`, or none.
    """

    reader: ReadingPredictor
    passages: Mapping[str, tuple[Hit, ...]]
    searches: bool = False

    def of(self, examples: Sequence[Example]) -> list[Prediction]:
        inputs = [example.input for example in examples]
        found = self.reader.look.up(inputs) if self.searches else [()] * len(inputs)
        hits = [self._hits(example, some) for example, some in zip(examples, found, strict=True)]
        hits = self.reader.fitting(inputs, hits)
        said = self.reader.reader.predict(
            [self.reader.shown(one, some) for one, some in zip(inputs, hits, strict=True)]
        )
        return [self.reader.cited(answer, some) for answer, some in zip(said, hits, strict=True)]

    def _hits(self, example: Example, found: Sequence[Hit]) -> tuple[Hit, ...]:
        """The right passage first, then what was found, as many as are shown at all."""
        right = self.passages.get(example.id, ())
        known = {hit.chunk.id for hit in right}
        return (*right, *(hit for hit in found if hit.chunk.id not in known))[: self.reader.look.count]


def contexts(prompt: PromptPredictor, library: Library, examples: Sequence[Example], spec: TaskSpec) -> list[Way]:
    """The right passage before the input, then what a search finds; the former only where it is known.

    Solved examples get a passage too: after examples that answer from nothing a small model goes on to do so. A prompt
    that looks passages up by itself is shown the right one among them: what that repairs, its search has missed.
    """
    open_ended = spec.kind == "generation"
    if isinstance(prompt, ReadingPrompt):
        reader = replace(prompt, prior=None).reading
        right = right_passages(library, examples, open_ended=open_ended, size=reader.look.size)
        told = "the passage in which the answer stands, among those that are found"
        oracle = OracleReading(reader, right, searches=True)
        return [Way("oracle-context", told, "retriever", oracle)] if right else []
    words = replace(prompt, system=f"{prompt.system}\n\n{RULE}", prior=None, shots=with_passages(prompt.shots, library))
    reader = ReadingPredictor(words, Look(library, "both", library.sizes[0], PASSAGES))
    size = PASSAGES * library.sizes[0]
    ways = [Way("retrieved-context", "the passage that a search finds first", "retriever", reader, size)]
    passages = right_passages(library, examples, open_ended=open_ended, size=library.sizes[0])
    if passages:
        oracle = OracleReading(reader, passages)
        ways.insert(0, Way("oracle-context", "the passage in which the answer stands", "knowledge", oracle, size))
    return ways


def with_passages(shots: Shots, library: Library) -> Shots:
    """The same solved examples, each with the best passage that holds its answer, else the best one."""
    if not isinstance(shots, FixedShots) or not shots.shots:
        return shots
    hits = library.search([text for text, _ in shots.shots], DEPTH, by="both", size=library.sizes[0])
    told = []
    for (text, answer), some in zip(shots.shots, hits, strict=True):
        holding = [hit for hit in some if holds(hit.chunk.text, answer)] or list(some)
        told.append((text_of(ReadingPredictor.shown(text, holding[:1])), answer))
    return FixedShots(tuple(told))


def right_passages(
    library: Library, examples: Sequence[Example], *, open_ended: bool, size: int
) -> dict[str, tuple[Hit, ...]]:
    """The right passage of each example by its id: as the data name it, else the first found that holds the answer."""
    found: dict[str, tuple[Hit, ...]] = {}
    for example in examples:
        chunks = library.oracle(example, size=size)
        if chunks:
            found[example.id] = (Hit(chunks[0], 1.0),)
    if found or not open_ended:
        return found
    hits = library.search([text_of(example.input) for example in examples], DEPTH, by="both", size=size)
    for example, some in zip(examples, hits, strict=True):
        place = first_right(library, example, some, by_answer=True)
        if place is not None:
            found[example.id] = (some[place - 1],)
    return found


# ---------------------------------------------------------------- several answers to one prompt


def drawn(
    prompt: PromptPredictor, inputs: Sequence[Input], seed: int
) -> tuple[list[tuple[str, ...]], list[Prediction]]:
    """(samples, votes): eight written answers to each input at temperature 0.7, and the most frequent one of each."""
    assert prompt.writing is not None
    requests = [
        Request(
            messages,
            schema=prompt.writing.schema,
            max_tokens=prompt.writing.max_tokens,
            temperature=TEMPERATURE,
            n=SAMPLES,
            seed=seed,
        )
        for messages in prompt.prompts(inputs)
    ]
    replies = prompt.model.complete(requests)
    said = prompt.said if isinstance(prompt, ReadingPrompt) else str
    texts = [tuple(said(text).strip() for text in reply.texts) if reply.error is None else () for reply in replies]
    voted = [
        Prediction(_most(some) if some else None, reply.usage, reply.latency_s, reply.error)
        for some, reply in zip(texts, replies, strict=True)
    ]
    return texts, voted


def _most(texts: Sequence[str]) -> str:
    """The most frequent text, of several the one that came first."""
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    return max(counts, key=lambda text: counts[text])
