"""The diagnosis on planted causes: real data, the real model, one defect a task (the modules planted_*.py make them).

    python benchmarks/diagnose.py DATA [--only NAME ...] [--limit N] [--home FOLDER] [--results FILE] [--minutes N]
        [--twins]

DATA holds xquad/, restaurant8k/ and banking77/. One example: the messages of bookings are taken out of the
prompt and stand in documents only. "For how many people is the table of Davina Freedman?" is right 33 times of 34 with
her message in the prompt (the twin), and once without it; the diagnosis has to name "knowledge" first.

For each variant: the planted cause, the score with it and that of the twin on the same dev examples, what the diagnosis
names first, and the shares with 99 % intervals. A variant counts only where its twin is better by `CLEARLY`: else
nothing was planted, and it is not diagnosed. Within each cause the variants are dealt by a seed into those on which
thresholds were tuned and those that were held out: the totals are of the held-out ones. Right is a diagnosis whose
leading named cause is the planted one; a wrong remedy comes first where another one leads; where none is named, nothing
is recommended, which is neither.

Replies, and what was found of each variant, are kept in --home: a run that was interrupted goes on. What was found is
concluded anew wherever a line of luthier or of the variants has changed since, so that all rows come from one version
of the code; with the same replies that costs seconds, and `asked` and `replayed_s` of a row say what was asked in this
run and what was replayed. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe
from planted import CAUSES, HEALTHY, Prompt, Variant
from planted_answers import formats, references
from planted_capacity import capacities, healthy
from planted_instruction import instructions
from planted_knowledge import knowledge

import luthier
from luthier import stats
from luthier.diagnose import Subject, diagnosed
from luthier.diagnose.effect import LEVEL
from luthier.documents import open_library
from luthier.evaluate.scorers import scorer_of
from luthier.models.cache import CachedModel, ResponseCache
from luthier.models.catalog import open_embedder, open_model
from luthier.models.embed import CachedEmbedder
from luthier.rungs.base import Writing, instruction
from luthier.rungs.prompted import PromptPredictor
from luthier.rungs.shots import FixedShots
from luthier.task import load_task
from luthier.types import Example, Label, Task

CLEARLY = 0.2  # how much better the twin has to be, at the least
FAILURES = 32  # looked for on dev
MOST = 160  # dev examples asked
PRIOR_INPUTS = 32
TWINS = 40  # dev examples that the twin is asked about
SPLIT_SEED = 20261122
SEEN = ("instruction-shuffled",)  # dealt to the held-out half; what it showed led to a probe: it counts as tuning
HELD_OUT = ("instruction-shuffled-2", "instruction-shuffled-3")  # written after the first dealing, for that half


def variants(folder: Path) -> list[Variant]:
    """All variants, the causes in turn, so that a run that is cut off has some of each."""
    by_cause = [make(folder) for make in (knowledge, formats, references, instructions, capacities, healthy)]
    turns = max(map(len, by_cause))
    return [some[turn] for turn in range(turns) for some in by_cause if turn < len(some)]


def version() -> str:
    """Of luthier and of the variants: a digest of their modules."""
    here = Path(__file__).resolve().parent
    modules = [*Path(luthier.__file__).parent.rglob("*.py"), *here.glob("planted*.py"), here / "diagnose.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(modules))).hexdigest()[:12]


class Shared:
    """What all variants are asked with: one model behind one cache of replies, one embedder."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.model = CachedModel(open_model("smollm2-135m"), ResponseCache(home / "replies.db"))
        self.embedder = CachedEmbedder(open_embedder("all-minilm-l6-v2"), home / "embeddings")

    def prompt(self, task: Task, prompt: Prompt) -> PromptPredictor:
        """The candidate that a planted prompt is; calibrated, its prior comes from training inputs."""
        labels = tuple(Label(name, meaning) for name, meaning in prompt.labels)
        spec = replace(task.spec, instruction=prompt.instruction or task.spec.instruction, labels=labels)
        found = PromptPredictor(
            self.model, instruction(spec), FixedShots(prompt.shots), spec.label_names, writing=Writing.of(spec)
        )
        if not prompt.calibrated:
            return found
        return found.with_prior(found.ask([example.input for example in task.train[:PRIOR_INPUTS]]))

    def subject(self, variant: Variant, task: Task) -> Subject:
        def model(role: str) -> Any:
            if role == "documents" and task.documents is not None:
                return open_library(task.documents, task.folder / "index", self.embedder)
            return self.embedder if role == "embedder" else None

        name = f"{'few-shot' if variant.prompt.shots else 'zero-shot'}@{self.model.name}"
        return Subject(
            task, name, self.prompt(task, variant.prompt), scorer_of(task.spec), model, task.folder, FAILURES, MOST
        )

    def twin(self, variant: Variant, task: Task) -> tuple[float, float]:
        """The scores of the planted task and of its twin, on the same dev examples."""
        rows = [variant.rows[int(example.id)] for example in task.dev[:TWINS]]
        plain = [Example(str(at), row.plain_input, (row.plain_reference,)) for at, row in enumerate(rows)]
        planted = [Example(str(at), row.input, (row.reference,)) for at, row in enumerate(rows)]
        scorer = scorer_of(task.spec)
        means = []
        # the prior of a twin comes from its own inputs
        train = [replace(each, input=variant.rows[int(each.id)].plain_input) for each in task.train]
        for prompt, examples, known in (
            (variant.prompt, planted, task.train),
            (variant.twin, plain, tuple(train)),
        ):
            said = self.prompt(replace(task, train=known), prompt).predict([each.input for each in examples])
            means.append(float(np.mean([score.value or 0.0 for score in scorer.score(examples, said)])))
        return means[0], means[1]

    def measured(self, variant: Variant, *, twins_only: bool = False) -> dict[str, Any]:
        """A row of the results; a variant with which nothing was planted is not diagnosed."""
        kept, replayed_s = self.kept(), self.model.replayed_s
        task = load_task(variant.write(self.home / variant.name))
        planted, twin = self.twin(variant, task)
        valid = variant.cause == HEALTHY or round(twin - planted, 4) >= CLEARLY
        told: dict[str, Any] = {
            "variant": variant.name,
            "cause": variant.cause,
            "planted": variant.planted,
            "dev": len(task.dev),
            "score": round(planted, 4),
            "twin": round(twin, 4),
            "valid": valid,
        }
        if valid and not twins_only:
            told |= concluded(variant, diagnosed(self.subject(variant, task)))
        return told | {"asked": self.kept() - kept, "replayed_s": round(self.model.replayed_s - replayed_s, 1)}

    def kept(self) -> int:
        """How many replies are kept."""
        path = self.model.cache.path
        if not path.exists():
            return 0
        with closing(sqlite3.connect(path)) as db:
            return int(db.execute("select count(*) from replies").fetchone()[0])


def concluded(variant: Variant, found: dict[str, Any]) -> dict[str, Any]:
    """What a diagnosis says, and whether that is right."""
    named = [cause for cause in found["causes"] if cause["supported"]]
    leading = named[0]["cause"] if named else None
    wanted = None if variant.cause == HEALTHY else variant.cause
    return {
        "named": leading,
        "remedy": named[0]["remedy"] if named else None,
        "right": leading == wanted,
        "wrong_remedy": leading not in (None, wanted),
        "abstained": found["abstained"],
        "failures": found["failures"],
        "causes": [
            {key: cause[key] for key in ("cause", "share", "low", "high", "supported")} for cause in found["causes"]
        ],
        "probes": [
            {key: probe[key] for key in ("probe", "repaired", "noop", "harmed", "effect", "low", "high")}
            for probe in found["probes"]
        ],
        "not_probed": found["not_probed"],
        "seconds": found["seconds"],
    }


def split(all_of_them: Sequence[Variant]) -> dict[str, str]:
    """ "tuning" or "held out" by name: half of each cause and dealing, by a seed before anything is diagnosed."""
    found = {}
    for cause, dealt in ((cause, dealt) for cause in (*CAUSES, HEALTHY) for dealt in (1, 2)):
        of_it = [each.name for each in all_of_them if (each.cause, each.dealt) == (cause, dealt)]
        names = sorted(set(of_it) - set(HELD_OUT))
        random.Random(f"{SPLIT_SEED} {cause}" if dealt == 1 else f"{SPLIT_SEED} {cause} {dealt}").shuffle(names)
        found |= {name: "held out" if at % 2 and name not in SEEN else "tuning" for at, name in enumerate(names)}
    return found | dict.fromkeys(HELD_OUT, "held out")


def share(hits: Sequence[bool]) -> dict[str, float]:
    """A share with its 95 % interval (Wilson)."""
    low, high = stats.wilson(sum(hits), len(hits), 0.95) if hits else (0.0, 1.0)
    return {
        "mean": round(float(np.mean(hits)), 4) if hits else 0.0,
        "low": round(low, 4),
        "high": round(high, 4),
        "n": len(hits),
    }


def totals(rows: Sequence[dict[str, Any]], half: str) -> dict[str, Any]:
    some = [row for row in rows if row["half"] == half and row["valid"]]
    planted = [row for row in some if row["cause"] != HEALTHY]
    return {
        "right": share([row["right"] for row in planted]),
        "wrong_remedy_first": share([row["wrong_remedy"] for row in planted]),
        "none_named": share([row["named"] is None for row in planted]),
        "by_cause": {
            cause: f"{sum(row['right'] for row in rows_of)} of {len(rows_of)}"
            for cause in CAUSES
            if (rows_of := [row for row in planted if row["cause"] == cause])
        },
        "healthy_and_nothing_named": share([row["named"] is None for row in some if row["cause"] == HEALTHY]),
    }


def shown(row: dict[str, Any]) -> str:
    scores = f"{row['variant']:26} {row['half']:8} {row['score']:.2f} twin {row['twin']:.2f}"
    if "named" not in row:
        return f"{scores}  {'a defect' if row['valid'] else 'nothing planted'}"
    parts = []
    for cause in row["causes"][:4]:
        mark = "" if cause["supported"] else "?"
        parts.append(f"{cause['cause']}{mark} {cause['share']:+.2f} [{cause['low']:+.2f}, {cause['high']:+.2f}]")
    mark = "right" if row["right"] else "WRONG" if row["wrong_remedy"] else "none"
    return f"{scores}  {mark}: {row['named']}  {'  '.join(parts)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder that holds xquad/, restaurant8k/ and banking77/")
    parser.add_argument("--only", nargs="+", default=[""], help="variants whose names begin so, in this order")
    parser.add_argument("--half", choices=["tuning", "held out"], help="this half alone")
    parser.add_argument("--limit", type=int, help="so many variants at most")
    parser.add_argument("--minutes", type=float, help="begin no further variant after so many; kept ones are taken")
    parser.add_argument("--home", type=Path, help="where replies and findings are kept")
    parser.add_argument("--twins", action="store_true", help="only the scores with and without the defect")
    parser.add_argument("--results", type=Path, help="where to write the figures")
    options = parser.parse_args()
    about = describe("torch", "transformers", "sentence-transformers", "scikit-learn", "lancedb")
    everything = variants(options.data)
    halves = split(everything)
    named = [variant for begins in options.only for variant in everything if variant.name.startswith(begins)]
    once = {variant.name: variant for variant in named if options.half in (None, halves[variant.name])}
    chosen = list(once.values())[: options.limit]
    code = version()
    until = float("inf") if options.minutes is None else time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as scratch:
        shared = Shared(options.home or Path(scratch))
        rows = []
        for variant in chosen:
            kept = shared.home / f"{variant.name}.json"
            if options.twins:
                print(shown(shared.measured(variant, twins_only=True) | {"half": halves[variant.name]}), flush=True)
                continue
            row = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
            if row.get("code") != code:
                if time.monotonic() > until:
                    continue
                row = shared.measured(variant) | {"half": halves[variant.name], "code": code}
                kept.write_text(json.dumps(row), encoding="utf-8")
            rows.append(row)
            print(shown(row), flush=True)
    if options.twins:
        return
    figures = about | {
        "code": code,
        "asked": sum(row["asked"] for row in rows),
        "replayed_s": round(sum(row["replayed_s"] for row in rows), 1),
        "confidence_of_shares": LEVEL,
        "held out": totals(rows, "held out"),
        "tuning": totals(rows, "tuning"),
        "not_measured": [each.name for each in everything if each.name not in {row["variant"] for row in rows}],
        "variants": rows,
    }
    if options.results:
        options.results.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: figures[key] for key in ("held out", "tuning")}))


if __name__ == "__main__":
    main()
