"""Examine: all probes of one candidate in order, each with its effect; nothing is concluded here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import log_softmax

from luthier.diagnose import probes
from luthier.diagnose.asking import Asking, Working
from luthier.diagnose.effect import Resampling
from luthier.diagnose.examination import Examination, Subject
from luthier.diagnose.learned import classes, doubted, learn
from luthier.diagnose.probes import SAMPLES, Way
from luthier.diagnose.sample import Floats, Sample, answered, draw
from luthier.errors import LuthierError, MissingExtra, Stopped
from luthier.types import Example, Input, Prediction, Reply, Usage

FEWEST_FAILURES = 30  # fewer say nothing that chance does not say too
FEWEST_GROUPS = 15  # with failures: the bootstrap over fewer claims to know more than it does
DOUBTED = "all that learned from train, and the model, agree on another answer"
Replies = Mapping[str, Reply]


def examine(subject: Subject, working: Working) -> Examination | Sample | None:
    """Ask all that can be asked; the sample alone where too few examples fail, None where nothing was answered."""
    spec = subject.task.spec
    replies: dict[str, Reply] = {}

    def predict(inputs: Sequence[Input]) -> list[Prediction]:
        """What the candidate says; where labels are scored, all of them, which later probes read without asking."""
        if subject.prompt.writing is not None:
            return subject.prompt.predict(inputs)
        found = subject.prompt.ask(inputs)
        replies.update(zip(map(str, inputs), found, strict=True))
        return [subject.prompt.answer(reply) for reply in found]

    sample = draw(
        predict,
        subject.task.dev,
        subject.scorer,
        spec,
        failures=subject.failures,
        most=subject.most,
        working=lambda done, total: working("looking for failures on dev", done, total),
    )
    if sample is None or too_few(sample):
        return sample
    found = Examination(sample, Resampling(sample, spec.seed), usage=sample.usage)
    asking = Asking(
        subject, found, working, probes.planned(subject.prompt, documents=subject.task.documents is not None)
    )
    _controls(asking)
    stages: Mapping[str, Callable[[], None]] = {
        "lenient scoring": lambda: _format(asking),
        "context": lambda: _context(asking),
        "calibration": lambda: _calibrated(asking, replies),
        "instructions and solved examples": lambda: _asked_otherwise(asking),
        "eight answers": lambda: _several(asking, replies),
        "small learners": lambda: _learned(asking),
        "a stronger model": lambda: _stronger(asking),
    }
    for name, stage in stages.items():
        try:
            stage()
        except Stopped:
            raise
        except MissingExtra as missing:
            found.not_probed.append(f"{name}: {missing.what}: {missing.fix}")
        except LuthierError as error:  # documents that cannot be read, say: the rest is asked
            asking.failed(name, error.what)
    return found


def too_few(sample: Sample | None) -> str:
    """Why nothing can be concluded from so few failures; empty where something can."""
    failures = 0 if sample is None else sample.failures
    if sample is None or failures < FEWEST_FAILURES:
        return (
            f"{failures} of the dev examples that were asked fail, and {FEWEST_FAILURES} are needed to tell causes "
            "from chance"
        )
    if sample.failing_groups < FEWEST_GROUPS:
        return (
            f"the {failures} failures stand in {sample.failing_groups} groups, and {FEWEST_GROUPS} are needed to tell "
            "causes from chance: examples of one group are no independent observations"
        )
    return ""


def _controls(asking: Asking) -> None:
    """What rewordings that mean the same repair and break; without any, a control that changes nothing."""
    asking.found.noop = asking.sample.base.right
    rights = [probed.right for way in probes.noops(asking.subject.prompt) if (probed := asking.ask(way))]
    if rights:
        asking.found.noop = np.mean(rights, axis=0)
    else:
        asking.found.not_probed.append("no rewording of the prompt could be asked: nothing is subtracted for chance")


def _format(asking: Asking) -> None:
    prompt, sample, found = asking.subject.prompt, asking.sample, asking.found
    base = sample.base
    if prompt.writing is None and set(base.texts) <= set(prompt.labels):
        found.not_probed.append("lenient scoring: the answer is always one of the labels")
        return
    right = np.maximum(base.right, asking.same(base.texts))
    way = Way("lenient", "the same answers, read for what they say and not for how", "format", None)
    chance = asking.by_chance(base.texts, asking.lenient.same)
    asking.keep(way, right, np.maximum(base.scores, right), base.texts, chance, changes=False)
    for held in probes.closed(prompt, classes(asking.subject.task)):
        asking.telling(held.title)
        said = held.predict(sample.examples)
        chance = asking.by_chance([each.output or "" for each in said], lambda text, other: text == other)
        asking.read(held, said, np.where(sample.failing, np.maximum(chance, found.noop), found.noop))


def _context(asking: Asking) -> None:
    subject = asking.subject
    library = subject.model("documents")
    if library is None:
        asking.found.not_probed.append("context: the task names no documents ([documents])")
        return
    ways = probes.contexts(subject.prompt, library, asking.sample.examples, subject.task.spec)
    if not any(way.name == "oracle-context" for way in ways):
        asking.found.not_probed.append("oracle context: nobody can tell which passage is right ([documents] oracle)")
    for way in ways:
        asking.ask_in_substance(way)


def _asked_otherwise(asking: Asking) -> None:
    prompt, task = asking.subject.prompt, asking.subject.task
    for way in probes.instructions(prompt, task):
        asking.ask(way)
    some = probes.shots(prompt, task, asking.subject.model("embedder"))
    if not some:
        asking.found.not_probed.append("solved examples: train has too few that are short enough for a prompt")
    for way in some:
        asking.ask(way)


def _calibrated(asking: Asking, replies: Replies) -> None:
    """The labels against the prompt's own preference for them, which costs no question."""
    prompt = asking.subject.prompt
    some = [replies.get(str(value)) for value in asking.sample.inputs]
    known = [reply for reply in some if reply is not None and reply.choice_logprobs is not None]
    if prompt.writing is not None or prompt.prior is not None or len(known) < len(some):
        return
    prior = prompt.with_prior(known)
    said = [replace(prior.answer(reply), usage=Usage()) for reply in known]
    way = Way("calibrated", "labels against the prompt's own preference", "elicitation", None)
    asking.read(way, said, asking.found.noop)


def _several(asking: Asking, replies: Replies) -> None:
    """Eight answers instead of one: whether the majority is right, and whether any is, above its chance level."""
    prompt, sample, seed = asking.subject.prompt, asking.sample, asking.subject.task.spec.seed
    if prompt.writing is None:
        return _several_labels(asking, replies)
    asking.telling(f"{SAMPLES} answers to each")
    texts, voted = probes.drawn(prompt, sample.inputs, seed)
    majority = Way("majority", f"the most frequent of {SAMPLES} answers", "unstable", None)
    if asking.read(majority, voted, asking.found.noop) is None:
        return None
    if asking.subject.task.spec.target.metric == "judge":
        asking.found.not_probed.append("any of eight answers: a judge would be asked about each of them")
        return None
    any_right, any_other = np.array(sample.base.right), np.array(sample.base.right)
    rng = np.random.default_rng([seed, 29])
    for at in map(int, np.flatnonzero(sample.failing)):
        own = sample.examples[at]
        order = [sample.examples[int(other)] for other in rng.permutation(len(sample.examples))]
        wrong = [other for other in order if other.reference not in own.references]
        any_right[at] = _any_right(asking, own, texts[at])
        some = [_any_right(asking, other, texts[at]) for other in wrong[:3]]
        any_other[at] = float(np.mean(some)) if some else 0.0
    return _keep_any(asking, any_right, any_other)


def _any_right(asking: Asking, example: Example, texts: Sequence[str]) -> float:
    said = [Prediction(text) for text in dict.fromkeys(texts)]
    scores = asking.subject.scorer.score([example] * len(said), said) if said else []
    return float(answered(said, scores, asking.subject.task.spec).right.max()) if said else 0.0


def _several_labels(asking: Asking, replies: Replies) -> None:
    """The same for labels, from the probability of each: the chance level is that of the other wrong labels."""
    sample, labels = asking.sample, asking.subject.prompt.labels
    some = [replies.get(str(value)) for value in sample.inputs]
    logprobs = [reply.choice_logprobs for reply in some if reply is not None]
    if len(labels) < 3 or any(each is None or None in each for each in logprobs) or len(logprobs) < len(some):
        asking.found.not_probed.append("eight answers: the labels are two, or the model tells no probabilities")
        return
    shares = np.exp(log_softmax(np.array(logprobs, dtype=np.float64), axis=1))
    once = 1.0 - (1.0 - shares) ** SAMPLES
    any_right, any_other = np.array(sample.base.right), np.array(sample.base.right)
    names = {label: place for place, label in enumerate(labels)}
    for at in map(int, np.flatnonzero(sample.failing)):
        right = [names[each] for each in sample.examples[at].references if each in names]
        said = names.get(sample.base.texts[at])
        others = [place for place in range(len(labels)) if place != said and place not in right]
        any_right[at] = float(once[at, right].max()) if right else 0.0
        any_other[at] = float(once[at, others].mean()) if others else any_right[at]
    _keep_any(asking, any_right, any_other)


def _keep_any(asking: Asking, right: Floats, chance: Floats) -> None:
    way = Way("pass-at-8", f"any of {SAMPLES} answers, above its chance level", "unstable", None)
    asking.keep(way, right, right, asking.sample.base.texts, chance, changes=False)


def _learned(asking: Asking) -> None:
    subject, sample, found = asking.subject, asking.sample, asking.found
    found.learned = learn(subject.task, sample, subject.model("embedder"), subject.workdir, asking.telling)
    if found.learned is None:
        found.not_probed.append("small learners: the answers are no classes, or train is too small")
        return
    views = found.learned.views
    for name, said in views.items():
        way = Way(f"learned-{name}", f"a classifier that learns from train ({name})", "learnable", None)
        asking.read(way, [Prediction(label) for label in said], found.noop)
    doubt, chance, instead = doubted(sample, list(views.values()), _best_said(asking))
    right, control = np.maximum(sample.base.right, doubt), np.maximum(sample.base.right, chance)
    asking.keep(Way("references-doubted", DOUBTED, "references", None), right, right, instead, control, changes=False)


def _best_said(asking: Asking) -> Sequence[str]:
    """What the model says in whichever way is right most often; its own answer where no way is better."""
    sample = asking.sample
    ways = [probed for probed in asking.found.probed if probed.family in ("instruction", "elicitation")]
    best = max(ways, key=lambda probed: float((sample.weights * probed.right).sum()), default=None)
    if best is None or (sample.weights * best.right).sum() <= (sample.weights * sample.base.right).sum():
        return sample.base.texts
    return best.texts


def _stronger(asking: Asking) -> None:
    prompt, teacher = asking.subject.prompt, asking.subject.model("teacher")
    if teacher is None or teacher.fingerprint == prompt.model.fingerprint:
        asking.found.not_probed.append('a stronger model: none is named ([models] teacher = "...")')
        return
    stronger = replace(prompt, model=teacher, prior=None)
    asking.ask(Way("stronger-model", f"the same prompt, asked of {teacher.name}", "capacity", stronger))
