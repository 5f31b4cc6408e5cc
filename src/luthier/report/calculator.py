"""Calculator: the costs of a luthier.toml without a run, or with what its last run measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from luthier.economics.calculation import Calculation
from luthier.economics.measured import Measured
from luthier.economics.service import check_labels
from luthier.economics.ways import DO_NOTHING, Setting, prices_used, ways
from luthier.errors import SpecError
from luthier.report.choosable import eligible
from luthier.report.plain import REPORT, level
from luthier.report.worth import RACED, told
from luthier.store import Store
from luthier.task.parse import FILE_NAME, read_worth
from luthier.types import Target

STORE_FOLDER = ".luthier"


@dataclass(frozen=True)
class Calculated:
    """What was calculated, from which file, and whether figures of a run are in it; `run` says when it finished."""

    name: str
    calculation: Calculation
    told: dict[str, Any]
    run: str | None


def calculate(path: Path, changes: Sequence[str] = (), *, today: date) -> Calculated:
    """The costs of the task at a path (or in its folder). `changes` are "section.key = value", as TOML.

    Without [task], [data] and [target] the file needs [economics] and options only. Errors: SpecError, StoreError.
    """
    file = path / FILE_NAME if path.is_dir() else path
    worth = read_worth(file, changes)
    if worth.economics is None:
        raise SpecError(
            "there is no [economics] section, so nothing says how much is asked",
            where=str(file.name),
            fix="add [economics] with monthly_requests = 300000; `luthier keys` lists what else it may say",
        )
    summary = None if worth.name is None else _last_run(file.parent, worth.name)
    raced = [] if summary is None else _raced(summary)
    if not raced and not worth.economics.options:
        raise SpecError(
            "there is nothing to price: no run has finished, and no option is stated",
            where=file.name,
            fix="run `luthier run`, or state a way: [option.NAME] with model, prompt_tokens and output_tokens",
        )
    train = (summary or {}).get("splits", {}).get("train", 0)
    setting = Setting.of(worth.economics, today, worth.remote, train)
    found = Calculation(
        tuple(ways(raced, setting)),
        setting.world,
        worth.economics,
        seed=worth.seed,
        prices=prices_used(raced, setting),
    )
    verdict = (summary or {}).get("verdict", {})
    labels = [each["name"] for each in (summary or {}).get("task", {}).get("labels", ())]
    if labels:
        check_labels(worth.economics, labels)
    outcomes = verdict.get("candidates", ())
    among, excluded = eligible(found, worth.constraints, worth.target, outcomes)
    values = told(
        found,
        setting.book,
        among=among,
        chosen=verdict.get("chosen"),
        excluded=excluded,
        latency={each["name"]: each["latency"] for each in outcomes if each.get("latency")},
    )
    values["warnings"] = [*_moved_target(verdict.get("target"), worth.target), *values["warnings"]]
    return Calculated(worth.name or file.parent.resolve().name, found, values, _when(summary))


def _moved_target(then: Mapping[str, Any] | None, now: Target | None) -> list[str]:
    """A run judged its candidates by the target it had: another one since then asks for another run."""
    if then is None or now is None or (then["metric"], then["at_least"]) == (now.metric, now.at_least):
        return []
    return [
        f"the last run judged by {then['metric']} of at least {level(then['at_least'])}, and luthier.toml says "
        f"{now.metric} of at least {level(now.at_least)}: what may be chosen is as of that run; luthier run judges anew"
    ]


def _last_run(folder: Path, name: str) -> dict[str, Any] | None:
    """The last finished run of the task with this name; nothing where there is none, or it is of another version."""
    if not (folder / STORE_FOLDER).is_dir():
        return None
    store = Store(folder / STORE_FOLDER)
    try:
        summary = store.last_summary(task=name)
    finally:
        store.close()
    return summary if summary is not None and summary.get("report") == REPORT else None


def _raced(summary: Mapping[str, Any]) -> list[Measured]:
    kept = (candidate.get("measured") for candidate in summary["verdict"]["candidates"])
    return [Measured.read(each) for each in kept if each]


def _when(summary: Mapping[str, Any] | None) -> str | None:
    return None if summary is None else str(summary.get("made", {}).get("finished") or "") or None


def page_numbers(found: Calculated) -> dict[str, Any]:
    """What the interactive page calculates with: the world, and each way as numbers."""
    rows = {row["name"]: row for row in found.told["ways"]}
    # the pair that says most first: one that pays back some day, then one that never does
    rank = sorted(found.told["break_even"], key=lambda pair: (not pair["months"], pair["months"] == 0))
    pairs = [(pair["of"], pair["against"]) for pair in rank]
    return {
        "world": {name: float(value) for name, value in asdict(found.calculation.world).items()},
        "counts_errors": found.calculation.counting,
        "chosen": found.told["hero"] if found.run else None,
        "pair": pairs[0] if pairs else _plain_pair(found.calculation),
        "ways": [
            {
                "name": way.name,
                "numbers": way.numbers().plain(),
                "accuracy": None if way.accuracy is None else way.accuracy.mean,
                "measured": way.kind in RACED,
                "error_usd": way.error_usd,
                "usd_per_error": way.usd_per_error,
                "may_be_chosen": rows[way.name]["may_be_chosen"],
                "excluded": rows[way.name]["excluded"],
            }
            for way in found.calculation.comparable
        ],
    }


def _plain_pair(found: Calculation) -> tuple[str, str]:
    """Where nothing may be chosen: the cheapest way against today's, else against the next cheapest."""
    ordered = sorted(found.comparable, key=lambda way: (way.name == DO_NOTHING, float(found.total(way))))
    others = sorted(ordered[1:], key=lambda way: way.kind != "today")
    return found.pair(ordered[0].name, (others or ordered)[0].name)
