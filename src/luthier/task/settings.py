"""Settings: what luthier.toml says, as nouns; what no section can know alone is checked here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from luthier.errors import SpecError
from luthier.task.constraining import ConstraintsSection
from luthier.task.documents import DocumentsSection
from luthier.task.kinds import ON_REQUEST, RULES, WITH_DOCUMENTS, rungs_for
from luthier.task.source import DataSection
from luthier.task.spec import RUNG_NAMES, File, ModelsSection, SplitSection
from luthier.task.spelling import suggest
from luthier.task.worth import economics_noun
from luthier.types import (
    Constraints,
    Diagnosing,
    Economics,
    Endpoint,
    GuardRules,
    Kind,
    Label,
    Limits,
    MetricName,
    Scale,
    SliceRules,
    Target,
    Training,
)


@dataclass(frozen=True)
class Settings:
    """All that luthier.toml says, checked; `labels` is empty when they are to come from the data.

    `schema` is what `[task] schema` says: a path relative to `where`, a table, or None.
    """

    where: str
    name: str
    kind: Kind
    instruction: str
    labels: tuple[Label, ...]
    schema: str | dict[str, Any] | None
    max_tokens: int
    rubric: str
    scale: Scale
    data: DataSection
    split: SplitSection
    target: Target
    constraints: Constraints
    rungs: tuple[str, ...]
    models: dict[str, str]
    seed: int
    search_tokens: int
    consistency: int
    guard: GuardRules
    training: Training
    remote: dict[str, Endpoint]
    limits: Limits
    cached: bool
    forecast_seconds: float
    diagnosing: Diagnosing
    economics: Economics | None
    documents: DocumentsSection | None
    slices: SliceRules

    @property
    def closed(self) -> bool:
        """Whether the answers are a closed set of labels."""
        return RULES[self.kind].closed


def settings(file: File, where: str) -> Settings:
    """The checked file as nouns; `where` names it in the errors that can only be found with the data at hand.

    Raises SpecError where two sections do not go together.
    """
    task, target, rules = file.task, file.target, RULES[file.task.kind]
    metric = target.metric or rules.metrics[0]
    _check_kind(file, metric, where)
    return Settings(
        where=where,
        name=task.name,
        kind=task.kind,
        instruction=task.instruction or rules.instruction,
        labels=tuple(Label(name, meaning) for name, meaning in (task.labels or {}).items()),
        schema=task.schema_,
        max_tokens=task.max_tokens or rules.max_tokens,
        rubric=target.rubric or "",
        scale=target.scale,
        data=file.data,
        split=file.split,
        target=Target(metric, target.at_least, target.confidence, target.about, target.class_),
        constraints=constraints_noun(file.constraints),
        rungs=tuple(file.ladder.rungs or rungs_for(task.kind, _unasked(file))),
        models=file.models.model_dump(exclude_none=True),
        seed=file.ladder.seed,
        search_tokens=file.ladder.search_tokens,
        consistency=file.ladder.consistency,
        guard=file.guard.noun(),
        training=_training(file, where),
        remote={
            name: file.remote[name].noun(name)
            for name in file.models.model_dump(exclude_none=True).values()
            if name in file.remote
        },
        limits=file.limits.noun(),
        cached=file.cache.enabled,
        forecast_seconds=file.forecast.max_seconds,
        diagnosing=file.diagnose.noun(),
        economics=economics_noun(file.economics, file.option, file.price),
        documents=file.documents,
        slices=file.slices.noun(),
    )


def constraints_noun(section: ConstraintsSection) -> Constraints:
    return Constraints(**{**section.model_dump(), "licences": tuple(section.licences)})


def _unasked(file: File) -> list[str]:
    """The rungs that are climbed where none is named."""
    out = ON_REQUEST if file.documents is not None else (*ON_REQUEST, *WITH_DOCUMENTS)
    return [name for name in RUNG_NAMES if name not in out]


def _training(file: File, where: str) -> Training:
    """How fine-tunes run; a student of whom nobody knows the rate has it searched for."""
    wanted, known = file.training, ModelsSection.model_fields["student"].default
    training = Training(
        backend=wanted.backend,
        processes=wanted.processes,
        learning_rate=wanted.learning_rate or (None if file.models.student == known else "search"),
        epochs=wanted.epochs,
        alpha=wanted.alpha,
        search_tokens=wanted.search_tokens,
        search_seconds=wanted.search_seconds,
        replay=wanted.replay,
        upper_layers=wanted.upper_layers,
    )
    if wanted.replay and training.needs_trl:
        raise SpecError(
            "replay runs in luthier's own loop only, and [training] asks for TRL",
            where=f"{where}, [training] replay",
            fix='remove `replay`, or backend = "trl" and `processes`',
        )
    return training


def _check_kind(file: File, metric: MetricName, where: str) -> None:
    """What no section can know alone: that metric, rungs, models and data suit the kind. Raises SpecError."""
    kind, rules = file.task.kind, RULES[file.task.kind]
    if metric not in rules.metrics:
        raise SpecError(
            f"{metric} is no metric of a {kind} task",
            where=f"{where}, [target] metric",
            fix=f"{suggest(metric, rules.metrics)}use one of {', '.join(rules.metrics)}, or set [task] kind",
        )
    usable = rungs_for(kind, RUNG_NAMES)
    strange = [name for name in file.ladder.rungs or () if name not in usable]
    if strange:
        raise SpecError(
            f"{strange[0]!r} does not serve a {kind} task",
            where=f"{where}, [ladder] rungs",
            fix=f"use some of {', '.join(usable)}",
        )
    reading = [name for name in file.ladder.rungs or () if name in WITH_DOCUMENTS]
    if reading and file.documents is None:
        raise SpecError(
            f"{reading[0]!r} looks answers up in documents, and none are named",
            where=f"{where}, [ladder] rungs",
            fix='add [documents] with paths = ["a folder"], or leave the rung out',
        )
    if metric == "judge" and file.models.judge is None:
        raise SpecError(
            "the metric is judge, and no model is", where=f"{where}, [models] judge", fix='add judge = "a model"'
        )
    if metric == "bleu" and file.data.group is not None:
        raise SpecError(
            "BLEU is a figure of all texts together and knows no groups",
            where=f"{where}, [target] metric",
            fix="use chrf or rouge_l, which are means over the groups, or remove [data] group",
        )
    for key, wrong, fix in (
        ("reference_separator", kind != "generation", "only texts can be parted"),
        ("normalise_labels", not rules.closed, f"a {kind} task has no labels"),
    ):
        if wrong and key in file.data.model_fields_set:
            raise SpecError(fix, where=f"{where}, [data] {key}", fix=f"remove `{key}`")
