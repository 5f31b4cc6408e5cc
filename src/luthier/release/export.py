"""Export: from a fine-tuned candidate of the last run to files that other programs load, each past the parity gate.

One example: lora@smollm2-135m was chosen with 93 %. Out come an adapter folder, merged safetensors and a GGUF; each is
asked 64 dev examples in its own runtime; the three answer as measured, so all are a release. The same as Q8_0
answers 30 of 32 questions alike: INCONCLUSIVE, and the file lies under `rejected/`, marked so in its card.
"""

from __future__ import annotations

import errno
import gc
import importlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from luthier.errors import LuthierError, ModelError, SpecError, StoreError
from luthier.evaluate.scorers import dev_scorer, scorer_of
from luthier.models import catalog
from luthier.release import card, manifest, runtimes, source
from luthier.release.asking import Asked, as_asked, one_of_each_group
from luthier.release.base import Base, base_of
from luthier.release.parity import Answer, Bar, Parity, broken, judge
from luthier.release.runtimes import Unusable
from luthier.release.source import Source, Tuned
from luthier.report.plain import plain
from luthier.types import Event, Example, Listener, Prediction, Scorer, Task, digest, silent

FORMATS = ("adapter", "merged", "gguf")
QUANTIZATIONS = ("f16", "q8_0")
REJECTED = "rejected"
RUNTIMES = {
    "adapter": ("peft", "transformers", "torch"),
    "merged": ("transformers", "torch"),
    "gguf": ("xllamacpp", "gguf"),
}
RUNTIME_WORDS = {"adapter": "peft and transformers", "merged": "transformers", "gguf": "llama.cpp's server"}
CONTEXT_STEP = 256


@dataclass(frozen=True)
class Settings:
    """What to export. `formats` None: all that this candidate and this installation allow, with what was left out."""

    candidate: str | None = None
    formats: tuple[str, ...] | None = None
    bar: Bar = field(default_factory=Bar)
    quantize: str = "f16"
    base_gguf: Path | None = None


@dataclass(frozen=True)
class Exported:
    """One export: where it lies, and what the gate found. It is a release only where the gate passed it."""

    format: str
    folder: Path
    gate: Parity

    @property
    def released(self) -> bool:
        return self.gate.result == "PASSED"


@dataclass(frozen=True)
class Release:
    """What came out. `left_out` says, by format, why it was not made."""

    folder: Path
    candidate: str
    exports: tuple[Exported, ...]
    left_out: dict[str, str]
    manifest: dict[str, Any]

    @property
    def passed(self) -> bool:
        return all(export.released for export in self.exports)


def export(task: Task, out: Path | None = None, settings: Settings | None = None, listen: Listener = silent) -> Release:
    """Export a candidate of the task's last finished run into the folder `out`, which must not be there yet.

    It appears whole or not at all. Dev examples are asked, one of each group of near-copies; the test split stays
    sealed. Errors: StoreError for no finished run, a changed predictor, a folder that is there, a full disk; SpecError
    for a candidate or formats that cannot be; MissingExtra; ModelError for a base whose GGUF is not known.
    """
    chosen = settings or Settings()
    _check_settings(chosen)
    found = source.find(task, chosen.candidate)
    target = (out or _default_folder(task, found)).resolve()
    if target.exists():
        raise StoreError("it is there already", where=str(target), fix="choose another --out, or move it away")
    with _room(target.parent), tempfile.TemporaryDirectory(prefix=".exporting-", dir=_made(target.parent)) as scratch:
        return _Export(task, found, chosen, Path(scratch), target, listen).run()


class _Export:
    """One export at work: the predictor's answers first, then the files, then each asked by itself."""

    def __init__(
        self, task: Task, found: Source, settings: Settings, scratch: Path, target: Path, listen: Listener
    ) -> None:
        self.task, self.source, self.settings, self.target, self.listen = task, found, settings, target, listen
        self.scratch, self.fresh = scratch, scratch / "release"
        self.fresh.mkdir()
        self.left_out: dict[str, str] = {}

    def run(self) -> Release:
        spec = self.task.spec
        self.working("opening the model")
        student: Any = catalog.open_model(spec.models[source.STUDENT], self.listen)
        base = base_of(
            spec.models[source.STUDENT],
            self.listen,
            gguf=self.settings.base_gguf,
            scratch=self.scratch if "gguf" in (self.settings.formats or FORMATS) else None,
        )
        tuned = self.source.load(student)
        formats = self._formats(tuned, base)
        self._check_room(formats, student.module.num_parameters())
        graded = not spec.labels and spec.target.metric not in ("exact_match", "record_exact")
        examples = one_of_each_group(self.task.dev, self.settings.bar.count(graded=graded), seed=spec.seed)
        measured = self._measured(tuned, examples)
        asked = as_asked(tuned, examples)
        facts = card.facts(self.task, self.source, tuned, base)
        facts |= {"bar": asdict(self.settings.bar)}
        for name in formats:
            self.working(f"writing {name}")
            self._write(name, tuned, base)
        del tuned, student
        gc.collect()  # the runtimes load weights of their own
        exports = [self._gated(name, base, examples, measured, asked, facts) for name in formats]
        return self._finished(exports, facts)

    def working(self, text: str, done: int = 0, total: int = 0) -> None:
        self.listen(Event("working", self.source.name, text, done, total))

    # ------------------------------------------------------------ what can be made

    def _formats(self, tuned: Tuned, base: Base) -> list[str]:
        """The formats to make. One that cannot be is an error where it was asked for, else left out with its reason."""
        made: list[str] = []
        for name in dict.fromkeys(self.settings.formats or FORMATS):
            try:
                self._check_format(name, tuned, base)
            except LuthierError as error:
                if self.settings.formats is not None:
                    raise
                self.left_out[name] = f"{error.what} ({error.fix})"
                self.listen(Event("note", text=f"{name} is left out: {self.left_out[name]}"))
            else:
                made.append(name)
        return made

    def _check_format(self, name: str, tuned: Tuned, base: Base) -> None:
        if name == "adapter" and not (tuned.adapter / "adapter_config.json").is_file():
            raise SpecError(
                "all its weights were tuned: there is no adapter",
                where=self.source.name,
                fix="leave adapter out of --formats",
            )
        if name != "gguf":
            return
        runtimes.need_llama()
        ggufs = _ggufs()
        shape = ggufs.Shape.of(tuned.model.module.config)
        if base.gguf is None:
            raise ModelError(
                "a GGUF takes its metadata and tokenizer from the base model's own, and none is known",
                where=str(base.folder),
                fix="give one with --base-gguf, or put it into that folder; else leave gguf out of --formats",
            )
        count = tuned.base.module.get_input_embeddings().weight.shape[0]
        tokens = tuned.base.tokenizer.convert_ids_to_tokens(range(count))
        ggufs.check_base(base.gguf, ggufs.weights_of(tuned.base.module), shape, tokens)

    def _check_room(self, formats: Sequence[str], weights: int) -> None:
        """A full disk is told before an hour's work, not after it; an adapter takes little."""
        needed = sum({"merged": 4, "gguf": 2}.get(name, 0) * weights for name in formats)
        free = shutil.disk_usage(self.scratch).free
        if free < 1.1 * needed:
            raise StoreError(
                f"{1.1 * needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free",
                where=str(self.target.parent),
                fix="make room, choose another --out, or name fewer --formats",
            )

    # ------------------------------------------------------------ the files

    def _write(self, name: str, tuned: Tuned, base: Base) -> None:
        from luthier.release import portable

        folder = self.fresh / name
        if name == "adapter":
            portable.write_adapter(folder, tuned.adapter, tuned.model)
        elif name == "merged":
            portable.write_merged(folder, tuned.model)
        else:
            assert base.gguf is not None
            ggufs, model = _ggufs(), tuned.model
            folder.mkdir()
            ggufs.write(
                self._gguf_file(),
                base.gguf,
                ggufs.weights_of(model.module),
                ggufs.Shape.of(model.module.config),
                name=f"{self.task.spec.name}: {self.source.candidate['rung']}@{base.name}",
                template=model.chat.template,
                stop_ids=portable.stop_ids(model),
                quantization=self.settings.quantize,
            )

    def _gguf_file(self) -> Path:
        return self.fresh / "gguf" / f"model-{self.settings.quantize}.gguf"

    # ------------------------------------------------------------ the gate

    def _measured(self, tuned: Tuned, examples: Sequence[Example]) -> list[Prediction]:
        """What the predictor says itself, in parts, so that one who waits sees how far it is."""
        found: list[Prediction] = []
        for at in range(0, len(examples), 16):
            self.working("asking the predictor that was measured", at, len(examples))
            found += tuned.predict([example.input for example in examples[at : at + 16]])
        return found

    def _gated(
        self,
        name: str,
        base: Base,
        examples: Sequence[Example],
        measured: Sequence[Prediction],
        asked: Sequence[Asked],
        facts: dict[str, Any],
    ) -> tuple[str, Parity, str]:
        """Test one export, write its card, and move it aside where it did not pass; with its folder's name."""
        bar = self.settings.bar
        try:
            answers = self._ask(name, base, asked)
        except Unusable as error:
            gate = broken(str(error).replace(str(self.fresh), "."), bar)
        else:
            gate = judge(examples, measured, answers, self._scorer(), bar, labels=bool(self.task.spec.labels))
        place = name if gate.result == "PASSED" else f"{REJECTED}/{name}"
        folder = self.fresh / place
        folder.parent.mkdir(exist_ok=True)
        if place != name:
            (self.fresh / name).rename(folder)
        self.listen(Event("note", text=f"{name}: {gate.result}, {gate.reason}"))
        text = card.render(
            {
                **facts,
                "format": name,
                "released": gate.result == "PASSED",
                "gate": plain(gate),
                "runtime": f"{RUNTIME_WORDS[name]} ({_told(_versions(RUNTIMES[name]))})",
                "file": self._gguf_file().name,
            }
        )
        (folder / "README.md").write_text(text, encoding="utf-8")
        return name, gate, place

    def _ask(self, name: str, base: Base, asked: Sequence[Asked]) -> list[Answer]:
        def working(done: int, total: int) -> None:
            self.working(f"testing {name} in {RUNTIME_WORDS[name]}", done, total)

        if name == "adapter":
            return runtimes.ask_adapter(base.folder, self.fresh / name, asked, working)
        if name == "merged":
            return runtimes.ask_merged(self.fresh / name, asked, working)
        longest = max(len(each.ids) + each.max_tokens for each in asked)
        return runtimes.ask_gguf(self._gguf_file(), (longest // CONTEXT_STEP + 1) * CONTEXT_STEP, asked, working)

    def _scorer(self) -> Scorer:
        """The task's own scorer; where that is a judge, the one that is used on dev, since a model's taste is noise."""
        spec = self.task.spec
        return dev_scorer(spec) if spec.target.metric == "judge" else scorer_of(spec)

    # ------------------------------------------------------------ what is told

    def _finished(self, exports: Sequence[tuple[str, Parity, str]], facts: dict[str, Any]) -> Release:
        content = {
            "task": facts["task"]["name"],
            "candidate": facts["candidate"]["name"],
            "run": self.source.run.id,
            "predictor": self.source.fingerprint,
            "base": {key: facts["base"][key] for key in ("name", "licence", "fingerprint")},
            "data": facts["data"],
            "task_fingerprint": self.task.fingerprint,
            "outcome": facts["candidate"]["outcome"],
            "eligible": facts["candidate"]["eligible"],
            "guard": facts["guard"],
            "bar": facts["bar"],
            "left_out": self.left_out,
            "exports": [
                {
                    "format": name,
                    "release": gate.result == "PASSED",
                    "folder": place,
                    "quantization": self.settings.quantize if name == "gguf" else "none",
                    "gate": plain(gate),
                    "runtime": _versions(RUNTIMES[name]),
                    "files": manifest.hashes(self.fresh / place, self.fresh),
                }
                for name, gate, place in exports
            ],
        }
        whole = manifest.write(self.fresh, content)
        self.fresh.rename(self.target)
        made = tuple(Exported(name, self.target / place, gate) for name, gate, place in exports)
        return Release(self.target, self.source.name, made, self.left_out, whole)


def _check_settings(settings: Settings) -> None:
    if settings.formats is not None and not settings.formats:
        raise SpecError("no format is named", where="--formats", fix=f"name some of: {','.join(FORMATS)}")
    for name in settings.formats or ():
        if name not in FORMATS:
            raise SpecError(f"'{name}' is no format", where="--formats", fix=f"name some of: {','.join(FORMATS)}")
    if settings.quantize not in QUANTIZATIONS:
        raise SpecError(
            f"'{settings.quantize}' is not written here", where="--quantize", fix=f"one of: {', '.join(QUANTIZATIONS)}"
        )
    if settings.bar.examples is not None and settings.bar.examples < 2:
        raise SpecError("two examples are the least", where="--examples", fix="64 or more can prove something")
    if not 0.0 < settings.bar.margin < 1.0:
        raise SpecError("a margin lies between 0 and 1", where="--margin", fix="0.05 is the default")


def _default_folder(task: Task, found: Source) -> Path:
    stem = re.sub(r"[^\w.-]+", "-", f"{task.spec.name}-{found.candidate['rung']}")[:80].strip(".-") or "task"
    return task.folder / "releases" / f"{stem}-{digest(found.fingerprint)[:8]}"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """An error of the disk as one that says what to do; what was half written is gone by then."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free some disk space: it takes about seven bytes a weight" if full else "choose another --out"
        raise StoreError(f"cannot write the export: {error}", where=str(folder), fix=fix) from error


def _ggufs() -> Any:
    """The module that writes GGUF. Errors: MissingExtra."""
    return importlib.import_module("luthier.release.gguf_file")


def _versions(names: Sequence[str]) -> dict[str, str]:
    return {name: metadata.version(name) for name in names}


def _told(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
