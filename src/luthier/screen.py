"""The live ladder: what a climb tells its listener, drawn on stderr while a person waits."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from luthier.report.plain import duration, interval, level
from luthier.types import CandidateResult, Estimate, Event, Outcome, Target

SECONDS_BETWEEN_LINES = 20  # where there is no terminal to draw on
BAR = 41  # characters from 0 to 1, where there is room
LEAST_BAR = 11
WIDE = 240  # wider than any table
# characters of the columns beside the picture and the names, with the spaces between, live and at the end
LIVE_COLUMNS = 66
FINAL_COLUMNS = 65
STYLES = {
    Outcome.MEETS: "bold green",
    Outcome.DOES_NOT_MEET: "red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.NOT_MEASURED: "dim",
}


@dataclass
class _Line:
    """One candidate's line of the ladder."""

    doing: str = "waiting"
    style: str = "dim"
    estimate: Estimate | None = None
    scored: str = ""
    ended: bool = False


@dataclass
class Ladder:
    """Keeps the state of the ladder and draws it: live on a terminal, a line an event elsewhere.

    Without a target it only tells what is being done (a download, before there is a task).
    """

    console: Console
    target: Target | None = None
    candidates: tuple[str, ...] = ()
    _lines: dict[str, _Line] = field(default_factory=dict, init=False)
    _live: Live | None = field(default=None, init=False)
    _task: tuple[str, str] = field(default=("", ""), init=False)
    _since: float = field(default=0.0, init=False)
    _from: float = field(default=0.0, init=False)
    _told: float = field(default=0.0, init=False)
    _status: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self._lines = {name: _Line() for name in self.candidates}

    @contextmanager
    def watching(self) -> Iterator[Ladder]:
        """Draw until the block ends; the last picture of the ladder stays."""
        if not self.console.is_terminal:
            yield self
            return
        with Live(self._picture(), console=self.console, refresh_per_second=8, transient=self.target is None) as live:
            self._live = live
            try:
                yield self
            finally:
                self._status = ""
                live.update(self._picture())
                self._live = None

    def __call__(self, event: Event) -> None:
        if event.kind == "note":
            self._print(Text(event.text, style="dim"))
            return
        line = self._lines.get(event.candidate or "", _Line())
        if event.kind == "working":
            # below the table, whose columns would move with every message; an outcome stays, whatever is asked later
            self._status = f"{event.candidate}: {self._working(event)}" if event.candidate else self._working(event)
            if not line.ended:
                line.doing, line.style = "at work", "cyan"
        elif event.kind == "racing" and event.run is not None:
            line.doing, line.style, line.estimate, self._status = "racing", "cyan", event.estimate, ""
            line.scored = f"{len(event.run.rows):,} of {event.run.population:,}"
        elif event.kind == "finished":
            line.doing, line.estimate, self._status = event.outcome or "", event.estimate, ""
            line.style, line.ended = STYLES[Outcome(line.doing)], True
        if self._live is not None:
            self._live.update(self._picture())
        elif event.kind == "finished":
            self._print(self._plain(event, line))

    def _print(self, line: str | Text) -> None:
        """A line; where nobody watches it stays one, for a log to be searched."""
        self.console.print(line, soft_wrap=not self.console.is_terminal)

    def _working(self, event: Event) -> str:
        """What is being done, how far it is, and, from its pace so far, the time left."""
        task = (event.candidate or "", event.text.split(",")[0])
        if task != self._task:
            self._task, self._since, self._told = task, time.monotonic(), 0.0
            self._from = event.done / event.total if event.total else 0.0
        if self._live is None and time.monotonic() - self._told > SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            done = f" {event.done / event.total:.0%}" if event.total and event.done else ""
            self._print(Text(f"{event.candidate or 'luthier'}: {event.text}{done}", style="dim"))
        if not event.total:
            return event.text
        share = min(1.0, event.done / event.total)
        passed = time.monotonic() - self._since
        here = share - self._from  # what was resumed took no time now
        left = f", {duration(passed * (1 - share) / here)} left" if here > 0.02 and passed > 1 else ""
        full = round(10 * share)
        return f"{event.text} {'━' * full}{'╌' * (10 - full)} {share:.0%}{left}"

    def _plain(self, event: Event, line: _Line) -> str:
        figure = f"  {interval(asdict(line.estimate))}  {line.scored} examples" if line.estimate else ""
        note = f"  ({event.text})" if event.text else ""
        return f"{event.candidate}: {line.doing}{figure}{note}"

    def _picture(self) -> Group:
        parts: list[Table | Text] = [self._table(self.target)] if self.target else []
        return Group(*parts, Text(self._status, style="cyan"))

    def _table(self, target: Target) -> Table:
        table = Table(box=None, padding=(0, 1), title_justify="left", show_edge=False)
        cells = _bar_cells(self.console.width - LIVE_COLUMNS, self._lines)
        titles = ["candidate", "0 %" + " " * (cells - 8) + "100 %", target.metric_name, "scored"]
        # where it is narrow, the picture goes before a figure does
        keep = [True, cells > 0, True, cells > 0, True]
        for title, kept in zip(titles, keep, strict=False):
            if kept:
                table.add_column(title, no_wrap=True, justify="right" if title == "scored" else "left")
        table.add_column(f"at least {level(target.at_least)}?", overflow="ellipsis", no_wrap=True)
        for name, line in self._lines.items():
            row = [
                name,
                bar(line.estimate, target.at_least, line.style, cells) if cells else "",
                interval(asdict(line.estimate)) if line.estimate else "",
                line.scored,
                Text(line.doing, style=line.style),
            ]
            table.add_row(*(cell for cell, kept in zip(row, keep, strict=True) if kept))
        return table


def _bar_cells(room: int, names: Iterable[str]) -> int:
    """How many characters the picture may have beside the names; 0: there is no room for one."""
    left = room - max(map(len, names), default=0)
    return min(BAR, left) if left >= LEAST_BAR else 0


def answers() -> Console:
    """The console on stdout: as wide as a terminal is; a file or a pipe takes what a table needs."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, markup=False, soft_wrap=True, width=WIDE)


def print_table(console: Console, results: tuple[CandidateResult, ...], target: Target, chosen: str | None) -> None:
    """The ladder as it ended, on a console from `answers`."""
    console.print(final_table(results, target, chosen, console.width if console.is_terminal else None))


def bar(estimate: Estimate | None, target: float, style: str, cells: int = BAR) -> Text:
    """An interval from 0 to 1 in characters, with the target as an upright stroke.

    >>> print(bar(Estimate(0.5, 0.25, 0.75, 10, "ppr"), 0.9, ""))
    ··········━━━━━━━━━━●━━━━━━━━━━·····│····
    """

    def at(value: float) -> int:
        return min(cells - 1, max(0, round(value * (cells - 1))))

    text = Text("·" * cells, style="dim")
    if estimate is not None:
        low, high = at(estimate.low), at(estimate.high)
        text = Text("·" * low, style="dim") + Text("━" * (high - low + 1), style=style)
        text += Text("·" * (cells - 1 - high), style="dim")
        text = _put(text, at(estimate.mean), "●", style)
    return _put(text, at(target), "│", "bold")


def _put(text: Text, at: int, mark: str, style: str) -> Text:
    return text[:at] + Text(mark, style=style) + text[at + 1 :]


def final_table(results: tuple[CandidateResult, ...], target: Target, chosen: str | None, width: int | None) -> Table:
    """The ladder as it ended; where it is narrow, the picture, then seconds and examples go, never a figure."""
    names = [result.candidate.name for result in results]
    room = BAR + FINAL_COLUMNS + max(map(len, names), default=0) if width is None else width
    cells = _bar_cells(room - FINAL_COLUMNS, names)
    slim = room < FINAL_COLUMNS + max(map(len, names), default=0)
    titles = [
        "",
        "candidate",
        *[""] * bool(cells),
        target.metric_name,
        "outcome",
        *["examples", "seconds"] * (not slim),
    ]
    table = Table(box=None, padding=(0, 1), show_edge=False)
    for title in titles:
        table.add_column(title, no_wrap=True, justify="right" if title in ("examples", "seconds") else "left")
    for result in results:
        style, estimate = STYLES[result.outcome], result.estimate
        row: list[str | Text] = ["→" if result.candidate.name == chosen else "", result.candidate.name]
        picture = [bar(estimate, target.at_least, style, cells)] * bool(cells)
        figure: list[str | Text] = [
            interval(asdict(estimate)) if estimate else "",
            Text(str(result.outcome), style=style),
        ]
        spent = [f"{estimate.n:,}", f"{result.fit_seconds + result.seconds:.1f}"] if estimate else ["", ""]
        table.add_row(*row, *picture, *figure, *([] if slim else spent))
    return table
