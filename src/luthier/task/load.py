"""Load: from luthier.toml to a Task: file read, copies merged, near-copies grouped, splits made, test sealed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from luthier.errors import DataError, SpecError
from luthier.task.answers import Answers
from luthier.task.data import Dialect, Table, format_of, read_table
from luthier.task.documents import documents_content
from luthier.task.duplicates import Distinct, Union, measure, merge_exact
from luthier.task.extra import read_extra
from luthier.task.hub import PREFIX, hub_table
from luthier.task.parse import FILE_NAME, read_settings
from luthier.task.records import Findings, Record, labels_of, records_of, with_clean_labels
from luthier.task.schema import Schema, read_schema
from luthier.task.settings import Settings
from luthier.task.slices import settled, useless_columns
from luthier.task.split import Member, Splits, Unit, content_hash, split, summary
from luthier.types import Documents, Example, Extra, GuardRules, Task, TaskSpec, Training, digest

# a cluster of near-copies above this share of the data says that the threshold links what is not the same
_LARGE_CLUSTER = 0.1
_FEW_TEST_EXAMPLES = 5
# constraints that choose among what was measured, and change nothing of it
CHOOSING = (
    *("licences", "licence_of", "usd_per_1k_requests", "usd_per_month", "usd_to_start"),
    *("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "requests_per_s", "concurrency"),
)


def load_task(path: str | Path) -> Task:
    """The task that a luthier.toml (or the folder that holds it) describes, its data read and split.

    Deterministic: the same spec and the same examples give the same splits and the same fingerprint, wherever the files
    are and in whatever order the rows stand. Raises SpecError for the spec and DataError for the data. Reads the data
    into memory.
    """
    file = Path(path)
    file = file / FILE_NAME if file.is_dir() else file
    settings = read_settings(file)
    findings = Findings()
    schema = read_schema(settings, file.parent)
    records = _records(settings, file.parent, Answers(settings, schema), findings)
    distinct = _distinct(records, settings, findings)
    spec = _spec(settings, schema, distinct, findings)
    spec = replace(spec, guard=_placed(settings.guard, file.parent.resolve()))
    units = _units(distinct, settings, findings)
    splits = _split(units, settings, findings)
    _tell(splits, spec, findings)
    others = (*splits.train, *splits.dev)
    slices = settled(settings.slices, splits.test.order, others, spec.labels, spec.target, where=settings.where)
    spec = replace(spec, slices=slices)
    findings.warnings.extend(useless_columns(slices))
    extra = read_extra(settings, file.parent, splits.train, (*splits.dev, *splits.test.order), findings)
    documents = _documents(settings, file.parent.resolve(), records)
    return Task(
        spec=spec,
        folder=file.parent.resolve(),
        train=splits.train,
        dev=splits.dev,
        test=splits.test,
        findings=findings.plain(),
        fingerprint=_fingerprint(spec, splits, settings, extra, documents),
        remote=settings.remote,
        limits=settings.limits,
        cached=settings.cached,
        extra=extra,
        forecast_seconds=settings.forecast_seconds,
        file=file.resolve(),
        economics=settings.economics,
        documents=documents,
        diagnosing=settings.diagnosing,
    )


def _documents(settings: Settings, folder: Path, records: Sequence[Record]) -> Documents | None:
    """Where answers can be looked up; the files of the examples are no documents, wherever they stand."""
    if settings.documents is None:
        return None
    data = settings.data
    names = [name for name in (data.path, data.test, data.unlabelled, data.preferences) if name is not None]
    given = settings.documents.noun(folder, [folder / name for name in names if not name.startswith(PREFIX)])
    oracles: dict[str, tuple[str, ...]] = {}
    for record in records:
        if record.oracle:
            oracles[record.id] = tuple(dict.fromkeys((*oracles.get(record.id, ()), record.oracle)))
    return replace(given, oracles=oracles)


def _records(settings: Settings, folder: Path, answers: Answers, findings: Findings) -> list[Record]:
    data = settings.data
    records = []
    for key, name, source in (("path", data.path, "data"), ("test", data.test, "test")):
        if name is None:
            continue
        table = table_of(settings, folder, key, name)
        if source == "test" and table.sha256 == findings.counts["data_sha256"]:
            raise SpecError(
                f"'{name}' holds the very rows of [data] path, and none would be left to learn from",
                where=f"{settings.where}, [data] test",
                fix="name a file with other rows, or leave [data] test out: a share of path is then set aside",
            )
        findings.counts[f"{source}_sha256"] = table.sha256
        records += records_of(table, settings, answers, findings, source)
    _check_shared_ids(records, settings)
    if settings.closed:
        records, changes = with_clean_labels(records, settings, Path(data.path).name, findings)
        findings.counts["label_spellings"] = changes
    else:
        several = [record.place for record in records if len(record.references) > 1]
        findings.note("several_references", len(several), several)
    return records


def table_of(settings: Settings, folder: Path, key: str, name: str) -> Table:
    """The file that `[data] key` names. Raises SpecError and DataError."""
    data = settings.data
    if name.startswith(PREFIX):
        return hub_table(name)
    path = folder / name
    form = data.format or format_of(path)
    if form is None:
        raise SpecError(
            f"the ending of '{name}' does not say how it is written",
            where=f"{settings.where}, [data] {key}",
            fix='add format = "csv", "tsv", "jsonl" or "parquet"',
        )
    return read_table(path, Dialect(form, data.encoding, data.delimiter, data.quote))


def _check_shared_ids(records: Sequence[Record], settings: Settings) -> None:
    counts = Counter(record.id for record in records)
    shared = [name for name, count in counts.items() if count > 1]
    if shared:
        raise DataError(
            f"the id '{shared[0]}' stands in both files, [data] path and [data] test",
            where=settings.where,
            fix="make ids unique across both, or remove [data] id (line numbers serve then)",
        )


def _distinct(records: Sequence[Record], settings: Settings, findings: Findings) -> list[Distinct]:
    """The distinct inputs of each file; a copy in the other file is a matter of leakage, not of weight."""
    for name in ("exact_duplicates_merged", "conflicts_resolved", "conflicts_dropped"):
        findings.note(name, 0)
    distinct = [
        each
        for source in ("data", "test")
        for each in merge_exact([record for record in records if record.source == source], findings, settings.kind)
    ]
    findings.counts["distinct"] = len(distinct)
    if settings.closed and len({each.record.reference for each in distinct}) < 2:
        raise DataError(
            "without copies, and inputs whose copies disagree about the label, fewer than two classes are left",
            where=Path(settings.data.path).name,
            fix="add distinct examples of each class",
        )
    return distinct


def _spec(settings: Settings, schema: Schema | None, distinct: Sequence[Distinct], findings: Findings) -> TaskSpec:
    references = [each.record.reference for each in distinct]
    return TaskSpec(
        name=settings.name,
        kind=settings.kind,
        instruction=settings.instruction,
        labels=labels_of(references, settings, findings) if settings.closed else (),
        target=settings.target,
        constraints=settings.constraints,
        rungs=settings.rungs,
        models=settings.models,
        seed=settings.seed,
        search_tokens=settings.search_tokens,
        consistency=settings.consistency,
        max_tokens=settings.max_tokens,
        schema=None if schema is None else schema.content,
        rubric=settings.rubric,
        scale=settings.scale,
        training=settings.training,
    )


def _placed(rules: GuardRules, folder: Path) -> GuardRules:
    """The same rules with absolute paths: a rung that is being fitted does not know the task's folder."""
    text, probe = (None if name is None else str(folder / name) for name in (rules.text, rules.probe))
    return replace(rules, text=text, probe=probe, tasks=tuple(str(folder / name) for name in rules.tasks))


def _units(distinct: Sequence[Distinct], settings: Settings, findings: Findings) -> list[Unit]:
    """What may not be parted: near-copies, the user's groups, and copies of one input in both files."""
    threshold = settings.data.near_duplicates
    union = Union(len(distinct))
    named: dict[str, int] = {}
    for position, each in enumerate(distinct):
        for name in (*(f"group {group}" for group in sorted(each.groups)), f"form {each.form}"):
            union.join(named.setdefault(name, position), position)
    if threshold:
        pairs = measure([each.likeness for each in distinct]).above(threshold)
        for left, right in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
            union.join(left, right)
        _tell_near(pairs.clusters(), len(pairs), settings, distinct, findings)
    return [_unit([distinct[position] for position in members], settings) for members in union.sets()]


def _unit(members: Sequence[Distinct], settings: Settings) -> Unit:
    groups = sorted(group for each in members for group in each.groups)
    name = None
    if groups:
        name = f"group {groups[0]}"
    elif len(members) > 1:
        name = f"near {members[0].record.id}"
    return Unit(
        members=tuple(
            Member(
                _example(each, name),
                each.form,
                each.record.source == "test",
            )
            for each in members
        ),
        whole=bool(groups),
        stratified=settings.closed,
    )


def _example(each: Distinct, group: str | None) -> Example:
    record = each.record
    return Example(record.id, record.input, record.references, group, float(each.copies), record.columns)


def _tell_near(
    clusters: list[list[int]], pairs: int, settings: Settings, distinct: Sequence[Distinct], findings: Findings
) -> None:
    sizes = [len(cluster) for cluster in clusters]
    at_odds = [cluster for cluster in clusters if len({distinct[each].record.reference for each in cluster}) > 1]
    findings.counts["near_duplicate_threshold"] = settings.data.near_duplicates
    findings.note("near_duplicate_pairs", pairs)
    places = [[distinct[each].record.place for each in cluster[: Findings.EXAMPLES]] for cluster in clusters]
    findings.note("near_duplicate_groups", len(clusters), places)
    findings.note("near_duplicate_members", sum(sizes))
    if settings.closed:
        findings.note(
            "near_duplicate_groups_with_several_labels",
            len(at_odds),
            [[distinct[each].record.place for each in cluster[: Findings.EXAMPLES]] for cluster in at_odds],
        )
    if max(sizes, default=0) > _LARGE_CLUSTER * len(distinct) and max(sizes) > Findings.EXAMPLES:
        findings.warnings.append(
            f"{max(sizes)} of {len(distinct)} inputs are linked as near-copies of each other, and at most one of them "
            "is tested: if they are different, raise [data] near_duplicates"
        )


def _split(units: Sequence[Unit], settings: Settings, findings: Findings) -> Splits:
    findings.note("set_aside", 0)
    if settings.data.test is None:
        return split(units, settings.split, findings, where=settings.where)
    fixed, free = [], []
    for unit in units:
        tested = tuple(member for member in unit.members if member.fixed)
        if tested:
            leaked = [member.example.id for member in unit.members if not member.fixed]
            findings.note("leaked_from_train", len(leaked), leaked)
            fixed.append(replace(unit, members=tested))
        else:
            free.append(unit)
    return split(free, settings.split, findings, where=settings.where, fixed_test=fixed)


def _tell(splits: Splits, spec: TaskSpec, findings: Findings) -> None:
    names = spec.label_names
    parts = {"train": splits.train, "dev": splits.dev, "test": splits.test.order}
    findings.counts["splits"] = {name: summary(examples, names) for name, examples in parts.items()}
    seen = Counter(example.reference for example in splits.train)
    unseen = [name for name in names if not seen[name]]
    if unseen:
        findings.warnings.append(f"train has no example of {', '.join(repr(name) for name in unseen)}")
    tested = Counter(example.reference for example in splits.test.order)
    rare = [name for name in names if tested[name] < _FEW_TEST_EXAMPLES]
    if rare:
        findings.warnings.append(
            f"test has fewer than {_FEW_TEST_EXAMPLES} examples of {', '.join(repr(name) for name in rare)}: "
            "the verdict says little about them"
        )


def spec_content(spec: TaskSpec) -> dict[str, Any]:
    """The spec's fields that say something for its kind: a key that is new for one kind changes no other's address."""
    content = asdict(spec)
    content["guard"] = {**content["guard"], **_named(spec.guard)}
    if spec.guard == GuardRules():
        del content["guard"]
    if spec.kind == "classification":
        for name in ("max_tokens", "schema", "rubric", "scale"):
            del content[name]
    if not spec.constraints.allow_unknown_licence:
        del content["constraints"]["allow_unknown_licence"]
    for name in CHOOSING:
        del content["constraints"][name]
    del content["slices"]  # they choose among what was measured, too
    if spec.training == Training():  # as before there was a choice
        del content["training"]
    return content


def _named(rules: GuardRules) -> dict[str, Any]:
    """The paths of the rules without where they stand: what their files hold is in what the guard keeps."""
    text, probe = (None if name is None else Path(name).name for name in (rules.text, rules.probe))
    return {"text": text, "probe": probe, "tasks": [Path(name).parent.name for name in rules.tasks]}


def _fingerprint(spec: TaskSpec, splits: Splits, settings: Settings, extra: Extra, documents: Documents | None) -> str:
    """What could change a verdict: spec, content of each split, order and groups of the race, and what is asked where.

    No paths, no dates, no budgets: a run that stopped at a limit resumes when the limit is raised.
    """
    names = [example.group or example.id for example in splits.test.order]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return digest(
        spec_content(spec),
        content_hash(splits.train),
        content_hash(splits.dev),
        splits.test.hash,
        [[str(example.input), numbers[name]] for example, name in zip(splits.test.order, names, strict=True)],
        sorted([str(example.input), example.weight] for example in (*splits.train, *splits.dev, *splits.test.order)),
        *({name: endpoint.identity} for name, endpoint in settings.remote.items()),
        # not in the identity: it changes how many examples a prompt shows, and no answer to a given prompt
        *({name: each.context_tokens} for name, each in settings.remote.items() if each.context_tokens is not None),
        *([extra] if extra != Extra() else []),
        *([] if documents is None else [documents_content(documents), Path(documents.reranker or "").name]),
    )
