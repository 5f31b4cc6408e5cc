"""The command line: a command a stage. A command's body calls the library and prints; stdout is the answer."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from luthier import audit as audits
from luthier import demo as demos
from luthier.audit import review as reviews
from luthier.climb import STORE_FOLDER, Options, look_ahead, measure_latency, plan, run
from luthier.climb import diagnose as find_out_why
from luthier.errors import LuthierError, SpecError, StoreError
from luthier.models import cache as responses
from luthier.models.budget import spent_in
from luthier.models.cache import ResponseCache
from luthier.pages import write_page, write_reports
from luthier.printing import print_cache, print_forecast, print_json, print_release, print_verdict, print_written
from luthier.release import export as exports
from luthier.release.parity import Bar
from luthier.report import auditing, receipt, render
from luthier.report.calculator import calculate, page_numbers
from luthier.report.diagnosing import diagnosis_lines
from luthier.report.plain import plain
from luthier.report.waiting import latency_sentence
from luthier.report.why import masked_diagnosis
from luthier.screen import Ladder
from luthier.store import Store
from luthier.task import load_task
from luthier.task.guess import propose
from luthier.task.parse import read_worth
from luthier.task.reference import configuration_markdown, every_key
from luthier.types import Event, Outcome, Task

EXIT_MEETS, EXIT_NONE, EXIT_USER, EXIT_STOPPED, EXIT_FAULT = 0, 1, 2, 3, 70

app = typer.Typer(
    name="luthier",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help=(
        "Measures which way to customize an LLM is enough for your task: none, a prompt, examples, retrieval or a "
        "fine-tune.\n\nExit codes: 0 an eligible candidate meets the target, 1 none does, 2 something you can mend, "
        "3 interrupted (the same command resumes), 70 a fault of luthier."
    ),
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]
AllRungs = Annotated[
    bool, typer.Option("--all-rungs", help="Climb on after the first candidate that meets the target.")
]
Exhaustive = Annotated[
    bool, typer.Option("--exhaustive", help="Score the whole test split for every candidate, for comparison.")
]
TaskPath = Annotated[Path, typer.Argument(metavar="TASK", help="The task, or the folder that holds it.")]
TASK_FILE = Path("luthier.toml")


@app.command()
def init(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A CSV, TSV, JSONL or Parquet file of examples with right answers.")
    ],
    output: Annotated[Path, typer.Option(help="Where to write the task.")] = TASK_FILE,
    input: Annotated[str | None, typer.Option(help="The column that holds the input.")] = None,
    reference: Annotated[str | None, typer.Option(help="The column that holds the right answer.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Look at a data file and write a commented luthier.toml."""
    if output.exists() and not force:
        raise SpecError(
            "it is there already", where=str(output), fix="choose another --output, or replace it with --force"
        )
    proposal = propose(data, folder=output.parent, input=input, reference=reference)
    try:
        output.write_text(proposal.text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write: {error}", where=str(output), fix="choose another --output") from error
    for warning in proposal.warnings:
        _say(f"check this: {warning}")
    if as_json:
        guessed = {key: value for key, value in asdict(proposal).items() if key != "text"}
        print_json({"schema": 1, "path": str(output), **guessed})
        return
    for reason in proposal.reasons:
        print(reason)
    run_it = "luthier run" if output == TASK_FILE else f"luthier run {output}"
    print(f"wrote {output}: set the target in it, then run: {run_it}")


@app.command("run")
def run_command(
    task: TaskPath = TASK_FILE, all_rungs: AllRungs = False, exhaustive: Exhaustive = False, as_json: JsonFlag = False
) -> None:
    """Climb the ladder and print the verdict. Interrupted, the same command goes on where it was."""
    _run(_load(task), Options(all_rungs, exhaustive), as_json=as_json)


@app.command()
def audit(
    task: TaskPath = TASK_FILE,
    html: Annotated[Path | None, typer.Option(help="Where to write the audit as a page.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 where anything is worse than a note: for CI.")
    ] = False,
    review: Annotated[
        Path | None, typer.Option(help="Where to write the probable label errors, as a CSV to edit.")
    ] = None,
    apply: Annotated[
        Path | None, typer.Option(help="A review whose column `correct` was filled in; needs --out.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Where to write a copy of the data with personal data masked.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --apply: where to write the corrected copy.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Look for what is wrong with the data. Nothing that exists is overwritten, but a page of before."""
    if (apply is None) != (out is None):
        raise SpecError("--apply and --out go together", where="luthier audit", fix="name both, or neither")
    if sum((apply is not None, mask is not None, bool(strict or html is not None or review is not None))) > 1:
        raise SpecError(
            "--apply and --mask each write a copy and audit nothing",
            where="luthier audit",
            fix="give one of them alone, then audit the copy",
        )
    if review is not None:
        reviews.check_free(review)
    with Ladder(_stderr()).watching() as telling:
        telling(Event("working", "audit", "reading"))
        material = audits.material_at(task)
        if apply is not None and out is not None:
            return print_written(
                [reviews.apply_review(material, reviews.read_review(apply, material), out)], as_json=as_json
            )
        if mask is not None:
            return print_written(reviews.write_masked(material, mask), as_json=as_json)
        found, suspects = audits.audit_of(
            material, note=lambda text: telling(Event("working", "audit", f"looking at the data, {text}"))
        )
    if review is not None:
        named = reviews.write_review(suspects, review).rows
        _say(
            f"wrote {review}: {named:,} labels to check; fill in the column 'correct'"
            if named
            else f"wrote {review}, which is empty: {suspects.skipped or 'no label looks wrong'}"
        )
    plain = found.plain()
    if html is not None:
        write_page(html, auditing.audit_html(plain))
    if as_json:
        print_json(plain)
    else:
        print(auditing.audit_text(plain))
    raise typer.Exit(EXIT_NONE if strict and not found.passes() else EXIT_MEETS)


@app.command()
def report(
    task: TaskPath = TASK_FILE,
    html: Annotated[Path | None, typer.Option(help="Where to write the HTML report.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Where to write the Markdown report.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Render the last finished run again; nothing is measured."""
    folder = task if task.is_dir() else task.parent
    summary = _last_summary(task, folder)
    paths = write_reports(folder, summary, html, markdown)
    if as_json:
        print_json(summary["verdict"])
    else:
        print(summary["verdict"]["sentence"])
        print(f"report: {paths[0]}")


@app.command()
def cost(
    task: TaskPath = TASK_FILE,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key: economics.monthly_requests=3e6. Repeatable."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Where to write the page with sliders; it works offline.")] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Measure, too, how long requests wait for what the last run chose.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say what each way costs, and when it pays; with the last run's measurements where there is one."""
    found = calculate(task, changes or (), today=_today())
    latency = {}
    if probe and found.run is None:
        raise SpecError(
            "no run of this task has finished, so there is nothing to probe",
            where="luthier cost --probe",
            fix="run: luthier run",
        )
    if probe:
        with Ladder(_stderr()).watching() as telling:
            latency = measure_latency(_load(task), listen=telling)
    if html is not None:
        write_page(html, render.calculator(found.name, found.run, found.told, page_numbers(found)))
        _say(f"page: {html}")
    if as_json:
        print_json(
            {"schema": 1, "task": found.name, "run": found.run, **found.told, **({"latency": latency} if probe else {})}
        )
        return
    _say(f"with what the run of {found.run} measured" if found.run else "without a run: only what is stated is priced")
    for line in receipt.cost_lines(found.told):
        print(line)
    if latency:
        print(f"\nHow long requests wait for {latency['candidate']}:\n  {latency_sentence(latency)}")


@app.command()
def prices(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, PROVIDER:MODEL, or `hosts`.")],
    task: Annotated[
        Path, typer.Option(help="The luthier.toml whose own prices count first, where there is one.")
    ] = TASK_FILE,
    as_json: JsonFlag = False,
) -> None:
    """Show what a model costs, from whom and from when; `hosts` lists machines by the hour."""
    economics = read_worth(task / TASK_FILE if task.is_dir() else task).economics if task.exists() else None
    book = receipt.book_of(economics, _today())
    if model == "hosts":
        if as_json:
            print_json({"schema": 1, "hosts": plain(book.hosts())})
            return
        lines = receipt.host_lines(book.hosts(), book.today)
    else:
        found = book.model(model)
        if as_json:
            print_json({"schema": 1, **receipt.price_json(found, book.today)})
            return
        lines = receipt.price_lines(found, book.today)
    for line in lines:
        print(line)


@app.command()
def demo(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(demos.demos())}.")] = "question-routing",
    folder: Annotated[Path | None, typer.Option(help="Where to put the task; luthier-demo/NAME by default.")] = None,
    all_rungs: AllRungs = False,
    exhaustive: Exhaustive = False,
    as_json: JsonFlag = False,
) -> None:
    """Run a real task end to end."""
    home = folder or Path("luthier-demo") / name
    with Ladder(_stderr()).watching() as telling:
        path = demos.prepare(name, home, telling)
    _say(f"the task is in {path}")
    _run(load_task(path), Options(all_rungs, exhaustive), as_json=as_json)


@app.command()
def forecast(
    task: TaskPath = TASK_FILE,
    rung: Annotated[
        str | None, typer.Option(help="Which rung; the best one of the last run that learns by default.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what two and four times the data would give."""
    loaded = _load(task)
    with Ladder(_stderr()).watching() as telling:
        found = look_ahead(loaded, rung, listen=telling)
    if as_json:
        print_json({"schema": 1, "task": loaded.spec.name, **found})
    else:
        print_forecast(found)


@app.command()
def diagnose(
    task: TaskPath = TASK_FILE,
    rung: Annotated[
        str | None, typer.Option(help="Which rung that asks a model; the first one of the ladder by default.")
    ] = None,
    examples: Annotated[
        int | None, typer.Option(min=30, help="How many failures to look for on dev; [diagnose] says by default.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say why a rung misses: what repairs its failures on dev, and what to do about it."""
    loaded = _load(task)
    if examples is not None:
        loaded = replace(loaded, diagnosing=replace(loaded.diagnosing, examples=examples))
    with Ladder(_stderr()).watching() as telling:
        found = masked_diagnosis(find_out_why(loaded, rung, listen=telling))
    if as_json:
        print_json({"schema": 1, "task": loaded.spec.name, **found})
        return
    for line in diagnosis_lines(found):
        print(line)


@app.command()
def keys(as_json: JsonFlag = False) -> None:
    """Print what each key of luthier.toml means."""
    if as_json:
        print_json({"schema": 1, "keys": [asdict(key) for key in every_key()]})
    else:
        print(configuration_markdown(), end="")


@app.command()
def cache(
    task: TaskPath = TASK_FILE,
    purge: Annotated[bool, typer.Option("--purge", help="Delete the replies; what was spent stays counted.")] = False,
    model: Annotated[
        str | None, typer.Option(help="With --purge: only the replies of the models of this name.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show or delete the kept replies of models."""
    folder = (task if task.is_dir() else task.parent) / STORE_FOLDER
    replies = ResponseCache(folder / responses.FILE_NAME)
    found = replies.contents()
    if model is not None and not purge:
        raise SpecError("--model says what to delete", where="luthier cache", fix="add --purge")
    if model is not None and model not in [each.model for each in found]:
        known = ", ".join(each.model for each in found) or "no model"
        raise SpecError(f"there are no replies of '{model}'", where="luthier cache", fix=f"the cache knows {known}")
    purged = replies.purge(model) if purge else 0
    found = replies.contents()
    replies.close()
    if as_json:
        totals = {"entries": sum(each.entries for each in found), "bytes": sum(each.bytes for each in found)}
        spent = asdict(spent_in(folder))
        models = [asdict(each) for each in found]
        print_json(
            {"schema": 1, "path": str(replies.path), **totals, "purged": purged, "models": models, "spent": spent}
        )
        return
    if purge:
        print(f"deleted {purged:,} replies")
    print_cache(found, spent_in(folder))


@app.command("export")
def export_command(
    task: TaskPath = TASK_FILE,
    candidate: Annotated[
        str | None, typer.Option(help="A fine-tuned candidate of the last run; the chosen one by default.")
    ] = None,
    formats: Annotated[
        str | None, typer.Option(help=f"Some of {','.join(exports.FORMATS)}; all that can be made by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to make; one below releases/ by default.")] = None,
    examples: Annotated[
        int | None, typer.Option(help="Dev examples that each export is asked; by default 64, or 160 of real scores.")
    ] = None,
    margin: Annotated[float, typer.Option(help="What the mean score may lose at most, an example.")] = Bar.margin,
    quantize: Annotated[str, typer.Option(help="How a GGUF stores weights: f16 or q8_0.")] = "f16",
    base_gguf: Annotated[
        Path | None, typer.Option(help="The base model's own GGUF, for a student that is a folder.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Export a fine-tuned candidate, and test each export. Exit code 1 where one does not pass."""
    settings = exports.Settings(
        candidate,
        None if formats is None else tuple(name.strip() for name in formats.split(",") if name.strip()),
        Bar(examples, margin),
        quantize,
        base_gguf,
    )
    loaded = _load(task)
    with Ladder(_stderr()).watching() as telling:
        release = exports.export(loaded, out, settings, telling)
    if as_json:
        print_json({"schema": 1, "folder": str(release.folder), "passed": release.passed, **release.manifest})
    else:
        print_release(release)
    raise typer.Exit(EXIT_MEETS if release.passed else EXIT_NONE)


def _today() -> date:
    return datetime.now(UTC).date()


def _last_summary(path: Path, folder: Path) -> dict[str, Any]:
    """The last finished run of a task as it stands now, else of the task with its name; of a folder, the last of all.

    Errors: StoreError where nothing has been finished yet.
    """
    nothing = StoreError(
        "there is no finished run yet", where=str(folder), fix="run: luthier run (interrupted, it goes on)"
    )
    if not (folder / STORE_FOLDER).is_dir():
        raise nothing
    store = Store(folder / STORE_FOLDER)
    if path.is_dir():
        found = store.last_summary()
    else:
        task = _load(path)
        found = store.last_summary(task_fingerprint=task.fingerprint)
        if found is None and (found := store.last_summary(task=task.spec.name)) is not None:
            _say(f"{path.name} or its data changed since: this is the last run of a task named {task.spec.name}")
    if found is None:
        raise nothing
    return found


def _load(path: Path) -> Task:
    return load_task(path / TASK_FILE if path.is_dir() else path)


def _run(task: Task, options: Options, *, as_json: bool) -> None:
    ladder = Ladder(_stderr(), task.spec.target, tuple(candidate.name for candidate in plan(task)))
    with ladder.watching():
        verdict = run(task, options=options, listen=ladder)
    if as_json:
        print_json(verdict.to_dict())
    else:
        print_verdict(verdict)
    paths = write_reports(task.folder, verdict.to_summary(), None, None)
    if not as_json:
        print(f"report: {paths[0]}")
    if verdict.outcome is Outcome.NOT_MEASURED:  # no rung is bad here: something is missing, and the reasons say what
        raise typer.Exit(EXIT_USER)
    raise typer.Exit(EXIT_MEETS if verdict.outcome is Outcome.MEETS else EXIT_NONE)


def _stderr() -> Console:
    return Console(stderr=True, highlight=False, markup=False)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"luthier {metadata.version('luthier')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options that stand before the command."""


def main(args: Sequence[str] | None = None) -> None:
    """The entry point: errors become one message on stderr and an exit code."""
    try:
        app(args)
    except LuthierError as error:
        _say(f"luthier: {error}")
        sys.exit(error.exit_code)
    except OSError as error:  # a path that may not be looked at, an output that cannot be written
        _say(f"luthier: {error}\n  fix: choose another path, or make this one readable and writable")
        sys.exit(EXIT_USER)
    except KeyboardInterrupt:
        _say("luthier: interrupted")
        sys.exit(EXIT_STOPPED)
    except SystemExit as end:
        if end.code == 130:  # typer's own word for Ctrl-C
            _say("luthier: interrupted")
            sys.exit(EXIT_STOPPED)
        raise
    except Exception:
        traceback.print_exc()
        _say("luthier: this is a fault of luthier; nothing measured is lost. Please report the lines above.")
        sys.exit(EXIT_FAULT)
