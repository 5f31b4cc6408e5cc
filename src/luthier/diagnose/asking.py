"""Asking: a probe's way to ask put to the sample, its answers scored and set against their control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from luthier.diagnose.examination import Examination, Probed, Subject
from luthier.diagnose.lenient import Lenient
from luthier.diagnose.probes import Way
from luthier.diagnose.sample import Bools, Floats, answered
from luthier.diagnose.shown import ReadingPrompt
from luthier.errors import LuthierError, Stopped
from luthier.types import Prediction

MOST_FAILED = 0.2  # of a probe's answers: with more errors it says nothing
CHANCES = 8  # other examples' references that an answer is compared with, to know what agrees by chance
MOST_CHARACTERS = 40_000  # of prompts that share nothing, for one probe: about 10,000 tokens
FEWEST_FAILING, FEWEST_PASSING = 32, 12  # that each probe is asked about, however dear
Working = Callable[[str, int, int], None]


class Asking:
    """Puts ways to ask to the sample of an examination, and keeps there what they showed."""

    def __init__(self, subject: Subject, found: Examination, working: Working, planned: int) -> None:
        self.subject, self.found, self.sample = subject, found, found.sample
        self.lenient = Lenient.of([example.reference for example in subject.task.train])
        self._working, self._planned = working, planned

    def telling(self, text: str) -> None:
        """Tell whoever waits what is being asked, and how many of all probes are done."""
        done = len(self.found.probed)
        self._working(text, done, max(self._planned, done + 1))

    def failed(self, name: str, reason: str) -> None:
        """Keep why a probe could not be asked; another time it may be."""
        self.found.not_probed.append(f"{name}: {reason}")
        self.found.failed += 1

    def ask(self, way: Way, control: Floats | None = None) -> Probed | None:
        """The probe's answers; None, with the reason kept, where too many of them failed.

        A probe whose prompts share little is dear: it is asked about part of the sample (`_part`). Controls never are:
        they have to hold for whatever is asked about more.
        """
        self.telling(way.title)
        prompt = self.subject.prompt
        passages = prompt.characters if isinstance(prompt, ReadingPrompt) and way.family != "no-op" else 0
        asked = self._part(way.characters + passages)
        some = [example for example, is_asked in zip(self.sample.examples, asked, strict=True) if is_asked]
        try:
            said = way.predict(some)
        except Stopped:
            raise
        except LuthierError as error:
            self.failed(way.name, error.what)
            return None
        return self.read(way, said, self.found.noop if control is None else control, asked)

    def ask_in_substance(self, way: Way) -> None:
        """The same, with written answers read for what they say: a wordy answer too shows that a passage helped.

        The control is read in the same way, and is at least what such answers hold by chance.
        """
        probed = self.ask(way)
        if probed is None or self.subject.prompt.writing is None:
            return
        base = self.sample.base.right
        noops = [np.maximum(each.right, self.same(each.texts)) for each in self.found.of("no-op")]
        noop = np.mean(noops, axis=0) if noops else np.maximum(base, self.same(self.sample.base.texts))
        chance = self.by_chance(probed.texts, self.lenient.same)
        right = np.maximum(probed.right, self.same(probed.texts))
        control = np.where(self.sample.failing, np.maximum(noop, chance), noop)
        effect = self.found.resampling.effect(right, control, probed.asked)
        self.found.probed[-1] = replace(probed, right=right, control=control, effect=effect)

    def same(self, texts: Sequence[str]) -> Floats:
        """1 where a text says what a reference of its example says, else 0."""
        return np.array(
            [
                float(any(self.lenient.same(text, reference) for reference in example.references))
                for text, example in zip(texts, self.sample.examples, strict=True)
            ]
        )

    def _part(self, characters: int) -> Bools:
        """Which examples are asked about where a prompt has so many characters of its own: the same first ones always.

        The sample is in random order, so its first ones are as good as any.
        """
        fails = self.sample.failing
        share = min(1.0, MOST_CHARACTERS / max(1, characters * len(fails)))
        asked = np.zeros(len(fails), dtype=np.bool_)
        for side, fewest in ((np.flatnonzero(fails), FEWEST_FAILING), (np.flatnonzero(~fails), FEWEST_PASSING)):
            asked[side[: max(fewest, round(share * len(side)))]] = True
        return asked

    def read(self, way: Way, said: Sequence[Prediction], control: Floats, asked: Bools | None = None) -> Probed | None:
        asked = np.ones(len(self.sample.examples), dtype=np.bool_) if asked is None else asked
        places = np.flatnonzero(asked)
        examples = [self.sample.examples[at] for at in places]
        answers = answered(said, self.subject.scorer.score(examples, said), self.subject.task.spec)
        self.found.usage += answers.usage
        if answers.failed > MOST_FAILED * len(said):
            self.failed(way.name, f"{answers.failed} of {len(said)} answers failed ({answers.error})")
            return None
        base = self.sample.base
        right, scores, texts = np.array(base.right), np.array(base.scores), list(base.texts)
        right[places], scores[places] = answers.right, answers.scores
        for at, text in zip(places, answers.texts, strict=True):
            texts[at] = text
        return self.keep(way, right, scores, texts, control, asked=asked)

    def keep(
        self,
        way: Way,
        right: Floats,
        scores: Floats,
        texts: Sequence[str],
        control: Floats,
        *,
        asked: Bools | None = None,
        changes: bool = True,
    ) -> Probed:
        asked = np.ones(len(right), dtype=np.bool_) if asked is None else asked
        probed = Probed(
            name=way.name,
            title=way.title,
            family=way.family,
            effect=self.found.resampling.effect(right, control, asked),
            right=right,
            scores=scores,
            control=control,
            texts=tuple(texts),
            asked=asked,
            failures=int((asked & self.sample.failing).sum()),
            passing=int((asked & ~self.sample.failing).sum()),
            answers=changes,
        )
        self.found.probed.append(probed)
        return probed

    def by_chance(self, texts: Sequence[str], same: Callable[[str, str], bool]) -> Floats:
        """How often an answer would be right were its reference another example's; 1 for answers that are right."""
        rng = np.random.default_rng([self.subject.task.spec.seed, 23])
        found = np.array(self.sample.base.right)
        references = [example.reference for example in self.sample.examples]
        for at in map(int, np.flatnonzero(self.sample.failing)):
            others = [int(other) for other in rng.permutation(len(references))[: CHANCES + 1] if other != at][:CHANCES]
            found[at] = float(np.mean([same(texts[at], references[other]) for other in others])) if others else 0.0
        return found
