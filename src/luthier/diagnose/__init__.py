"""Diagnose: why a candidate misses: interventions on its failures, and which cause what they repair supports.

sample.py draws failures and passing examples on dev; probes.py has the interventions; learned.py and lenient.py read
answers otherwise; shown.py lets a prompt with passages be changed like any other; effect.py is what they repair beyond
chance and harm; examine.py asks them in order, by asking.py, and examination.py holds what they showed; causes.py
concludes, and holds every threshold; skips.py says which rungs of the ladder cannot help.

    candidate -> [sample -> probes -> effects] -> causes -> what to do, and which rungs cannot help
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from luthier.diagnose.causes import causes
from luthier.diagnose.effect import LEVEL
from luthier.diagnose.examination import Examination, Subject
from luthier.diagnose.examine import examine, too_few
from luthier.diagnose.sample import Sample
from luthier.diagnose.shown import ReadingPrompt, prompt_of
from luthier.diagnose.skips import skips
from luthier.types import Event, Listener, silent

__all__ = ["VERSION", "Subject", "diagnosed", "prompt_of"]

VERSION = 2  # of what a diagnosis says; goes up when the same answers may be read otherwise


def diagnosed(subject: Subject, listen: Listener = silent) -> dict[str, Any]:
    """A diagnosis as plain values (docs/diagnosis.md says what each is); it abstains where too few examples fail."""
    started = time.perf_counter()

    def working(text: str, done: int, total: int) -> None:
        listen(Event("working", subject.candidate, f"why it misses: {text}", done, total))

    found = examine(subject, working)
    told = _counts(subject, found)
    if not isinstance(found, Examination):
        told["abstained"] = too_few(found)
    else:
        known = causes(found, subject.task)
        if not any(cause.supported for cause in known):
            told["abstained"] = "no intervention repairs more failures than chance would"
        told["causes"] = [cause.plain for cause in known]
        prompt = subject.prompt
        had = prompt.shots.describe().get("examples in the prompt") or prompt.prior is not None
        plain = not had and not isinstance(prompt, ReadingPrompt)
        told["skips"] = skips(found, subject.task, plain=plain)
        told["probes"] = [probed.plain for probed in found.probed]
        told["not_probed"] = found.not_probed
        told["failed"] = found.failed
        told["usage"] = asdict(found.usage)
    told["seconds"] = round(time.perf_counter() - started, 1)
    return told


def _counts(subject: Subject, found: Examination | Sample | None) -> dict[str, Any]:
    sample = found.sample if isinstance(found, Examination) else found
    return {
        "version": VERSION,
        "candidate": subject.candidate,
        "examples": 0 if sample is None else sample.asked,
        "failures": 0 if sample is None else sample.failures,
        "passing": 0 if sample is None else sample.asked - sample.failures,
        "score": None if sample is None else round(sample.score, 4),
        "confidence": LEVEL,
        "abstained": None,
        "causes": [],
        "probes": [],
        "skips": {},
        "not_probed": [],
        "failed": 0,
        "usage": {} if sample is None else asdict(sample.usage),
        "seconds": 0.0,
    }
