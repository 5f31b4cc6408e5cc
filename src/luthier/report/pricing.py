"""Pricing: the runs of a task as money: what decides among those that meet the target, and whether a climb goes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from luthier.economics import service
from luthier.economics.book import THIS_MACHINE
from luthier.economics.calculation import Calculation
from luthier.economics.cost import Accuracy, replicas
from luthier.economics.measured import Measured, family_of, measured
from luthier.economics.usage import Tokens
from luthier.economics.ways import Setting, prices_used, raced_way, stated_way, ways
from luthier.evaluate.race import judge
from luthier.report.amounts import dollars
from luthier.report.choosable import eligible, money_of
from luthier.report.next_steps import next_steps
from luthier.report.plain import plain
from luthier.report.worth import told
from luthier.types import Candidate, EvalRun, Rung, Task, VerdictFacts

MATTERS = 0.01  # a candidate is raced for its price only where it could be cheaper by more than this share


class Pricing:
    """What the candidates of a task cost. Errors: SpecError for a model, machine or option without a known price."""

    def __init__(self, task: Task, setting: Setting) -> None:
        self.task, self.setting = task, setting
        for endpoint in task.remote.values():
            if not endpoint.on_this_machine:
                setting.book.endpoint(endpoint)
        for option in setting.economics.options:
            stated_way(option, setting)
        service.check(setting.economics, setting.book)
        service.check_labels(setting.economics, task.spec.label_names)

    @classmethod
    def of(cls, task: Task, today: date) -> Pricing | None:
        """None where the task has no [economics]."""
        if task.economics is None:
            return None
        return cls(task, Setting.of(task.economics, today, task.remote, len(task.train)))

    def check(self, model: str | None) -> None:
        """SpecError where nobody knows what asking this remote model costs: before anything is spent on it."""
        endpoint = self.task.remote.get(model or "")
        if endpoint is None:
            self.setting.book.model(model or "")

    def measured(self, runs: Iterable[EvalRun]) -> list[Measured]:
        spec = self.task.spec
        found = (measured(run, spec.target, judge(run, spec.target, spec.label_names).estimate) for run in runs)
        return [each for each in found if each is not None]

    def calculation(self, runs: Iterable[EvalRun]) -> Calculation:
        raced = self.measured(runs)
        found = tuple(ways(raced, self.setting))
        used = prices_used(raced, self.setting)
        return Calculation(found, self.setting.world, self.setting.economics, self.task.spec.seed, used)

    def money(self, runs: Sequence[EvalRun]) -> dict[str, dict[str, float]]:
        """By candidate the figures that ceilings are about, and what it costs over the horizon."""
        found = self.calculation(runs)
        return {run.candidate.name: money_of(found, run.candidate.name) for run in runs if run.rows}

    def costs(self, runs: Sequence[EvalRun], fit: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What `decide` needs to know, with the probability of being cheapest among those that may be chosen."""
        found = self.calculation(runs)
        chances = found.chances_of_being_cheapest(fit) if len(fit) > 1 else {}
        return {
            run.candidate.name: {
                **money_of(found, run.candidate.name),
                "months": found.world.months,
                "p_cheapest": chances[run.candidate.name].value if run.candidate.name in chances else None,
            }
            for run in runs
            if run.rows
        }

    def requests_per_s(self, found: Measured) -> tuple[float, str | None]:
        """What arrives at one of this way's machines in the busiest second, and where it is to run if not here.

        An endpoint gets everything; machines of one's own get their share, as a load balancer that draws lots gives it.
        """
        way, world = raced_way(found, self.setting), self.setting.world
        busiest = float(world.requests_per_s() * world.peak)
        here = next((host for host in way.hosts if host.name == THIS_MACHINE), None)
        if here is None:
            return busiest, None
        machines = float(replicas(way.numbers(here), world, world.requests))
        elsewhere = way.hosts[0].name if way.hosts[0].name != THIS_MACHINE else None
        return busiest * way.shared / max(1.0, machines), elsewhere

    # ------------------------------------------------------------ whether to go on

    def no_bargain(
        self, rung: Rung, candidate: Candidate, *, remote: bool, runs: Sequence[EvalRun], best: str
    ) -> str | None:
        """Why this candidate cannot undercut the best so far, even if all went well for it; None where it could."""
        least = self.optimistic(rung, candidate, remote=remote, runs=runs)
        own = self.money(runs)[best]["usd_total"]
        if least < own * (1.0 - MATTERS):
            return None
        months = self.setting.world.months
        return (
            f"{best} already meets the target, and {candidate.name} could not be cheaper: at the very least "
            f"{dollars(least)} over {months} months, against {dollars(own)}"
        )

    def optimistic(self, rung: Rung, candidate: Candidate, *, remote: bool, runs: Sequence[EvalRun]) -> float:
        """The least it could cost over the horizon: every answer right, fitting for nothing, and no more tokens and
        seconds a request than the leanest candidate that was raced with the same model (none: none at all)."""
        alike = [each for each in self.measured(runs) if each.model == candidate.model and candidate.model is not None]
        lean = Tokens(
            min((each.tokens.fresh for each in alike), default=0.0),
            min((each.tokens.prefix for each in alike), default=0.0),
            0.0,
            min((each.tokens.output for each in alike), default=0.0),
        )
        hoped = Measured(
            name=candidate.name,
            rung=candidate.rung,
            model=candidate.model,
            family=family_of(candidate.rung, guarded=rung.guarded),
            remote=remote,
            answers=0,
            tokens=lean,
            seconds=min((each.seconds for each in alike), default=0.0),
            fit_seconds=0.0,
            accuracy=Accuracy(1.0, 1.0, 1.0, 0, "assumed"),
        )
        way = raced_way(hoped, self.setting)
        alone = Calculation((way,), self.setting.world, self.setting.economics, self.task.spec.seed)
        return float(alone.total(way))

    # ------------------------------------------------------------ for the report

    def told(self, facts: VerdictFacts) -> dict[str, Any]:
        """All that was calculated, as plain values."""
        found = self.calculation(facts.runs)
        results = [
            {
                "name": result.candidate.name,
                "outcome": str(result.outcome),
                "eligible": result.eligible,
                "blocked_by": list(result.blocked_by),
            }
            for result in facts.candidates
        ]
        among, excluded = eligible(found, self.task.spec.constraints, self.task.spec.target, results)
        latency = {result.candidate.name: result.latency for result in facts.candidates if result.latency}
        values = told(found, self.setting.book, among=among, chosen=facts.chosen, excluded=excluded, latency=latency)
        return {**values, "next_steps": plain(next_steps(facts, found))}
