"""A run in a terminal, live: how far it is, how cases ended, and what runs right now; in a log, a line now and then."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from testing.load.figures import lines_of
from testing.models import Part, Verdict
from testing.runner.results import CaseResult, InHand

COLORS = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.ERRORED: "red", Verdict.CANCELLED: "yellow"}
SHOWN = 5  # cases at a time
PER_S = 5  # how often the picture is drawn
LINE_EVERY_S = 15.0  # where there is no terminal


class Board:
    """Shows one run while the block runs; `in_hand` is asked for what runs right now."""

    def __init__(self, console: Console, name: str, in_hand: Callable[[], Sequence[InHand]] = tuple) -> None:
        self.total: int | None = None
        self.counts: Counter[str] = Counter()
        self._console, self._name, self._in_hand = console, name, in_hand
        self._started = self._told_at = time.perf_counter()
        self._spinner = Spinner("dots")
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, get_renderable=self._picture, refresh_per_second=PER_S, transient=True
            )
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def ended(self, result: CaseResult, total: int) -> None:
        """Count a case; one that did not simply pass is told for good."""
        if result.part == Part.CASE:
            self.so_far(total, self.counts + Counter([str(result.verdict)]))
        if result.verdict != Verdict.PASSED or result.flaky or result.dirty or result.load:
            self._console.print(_line(result))
        for line in lines_of(result.load) if result.load else ():
            self._console.print(f"  {escape(line)}")

    def so_far(self, total: int | None, counts: Counter[str]) -> None:
        """Take how many cases there are, and how those that ended did."""
        self.total, self.counts = total, counts
        now = time.perf_counter()
        if not self._console.is_terminal and now - self._told_at >= LINE_EVERY_S:
            self._told_at = now
            of = f" of {self.total}" if self.total else ""
            said = ", ".join(f"{count} {name}" for name, count in self.counts.items())
            self._console.print(
                f"{escape(self._name)}: {self.counts.total()}{of} cases after {_span(now - self._started)}, {said}"
            )

    def _picture(self) -> RenderableType:
        done, now = self.counts.total(), time.perf_counter()
        row = Table.grid(padding=(0, 1))
        row.add_row(
            self._spinner,
            Text(self._name, style="bold"),
            ProgressBar(total=self.total, completed=done, width=30, pulse=not self.total),
            Text(f"{done}/{self.total or '?'}"),
            _counted(self.counts),
            Text(self._clock(done, now - self._started), style="dim"),
        )
        running = list(self._in_hand())
        lines = [_running(found, now) for found in running[:SHOWN]]
        lines += [Text(f"  and {len(running) - SHOWN} more at once", style="dim")] if len(running) > SHOWN else []
        return Group(row, *lines)

    def _clock(self, done: int, passed_s: float) -> str:
        """Return how long it has taken, and what is left if it goes on so; a guess after a few cases only."""
        if not self.total or done < max(3, self.total // 20):
            return _span(passed_s)
        return f"{_span(passed_s)}, {_span(passed_s / done * (self.total - done))} left"


def _counted(counts: Counter[str]) -> Text:
    said = [(f"{count} {name}  ", COLORS.get(Verdict(name), "yellow")) for name, count in sorted(counts.items())]
    return Text.assemble(*said)


def _running(found: InHand, now: float) -> Text:
    step = (Text(" / ", "dim"), Text(found.step)) if found.step else ()
    return Text.assemble(
        "  ", (found.case, "cyan"), *step, (f"  {now - found.since:.1f} s", "dim"), overflow="ellipsis", no_wrap=True
    )


def _line(result: CaseResult) -> str:
    flags = "".join(f" {flag}" for flag in ("flaky", "dirty") if getattr(result, flag))
    color = COLORS.get(result.verdict, "yellow")
    reason = f": {result.reason}" if result.reason else ""
    return f"[{color}]{result.verdict}[/]{flags} {escape(result.instance.label)}{escape(reason)}"


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
