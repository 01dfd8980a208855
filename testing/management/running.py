"""What commands that run a suite share: they work it here, show it, write its reports and end with its code."""

import asyncio
import signal
import uuid
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import uvloop
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from rich.console import Console
from rich.markup import escape

from testing.errors import Unwritten
from testing.management.terminal import COLORS, Board
from testing.models import Run, RunState, Verdict
from testing.reports import FORMATS
from testing.runner import leases
from testing.runner.execute import Execution
from testing.services import results, runs

EXIT_CODES = "Exit codes: 0 passed, 1 failed, 2 errored, inconclusive, or refused."
CODES = {Verdict.PASSED: 0, Verdict.FAILED: 1}
WATCH_S = 0.3


class RunningCommand(BaseCommand):
    """A command that ends as its run does."""

    requires_system_checks = []  # they import every page

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, epilog=EXIT_CODES, **kwargs)

    def add_report_argument(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--report", action="append", default=[], metavar="FORMAT=PATH[,...]", help=", ".join(FORMATS)
        )

    @cached_property
    def console(self) -> Console:
        return Console(stderr=False, highlight=False, soft_wrap=True)

    def finish(self, run: Run, reports: dict[str, Path]) -> int:
        """Work a run that was just made, write its reports, and return the exit code."""
        try:
            if run.state == RunState.WAITING:
                self._work(run)
            run = runs.by_id(run.pk)
            complete = results.complete(run)
        except (Unwritten, DatabaseError) as exc:
            return self.refused(run.slug, [f"run {run.pk} has no verdict: {exc}"])
        if run.state != RunState.ENDED:
            return self.refused(run.slug, [f"run {run.pk} has no verdict yet: another worker took it"])
        for kind, path in reports.items():
            path.write_bytes(FORMATS[kind].write(complete))
        self._told(run)
        return CODES.get(Verdict(run.verdict), 2)

    def refused(self, name: str, lines: list[str]) -> int:
        for line in lines:
            self.stderr.write(f"{name}: {line}")
        return 2

    def _work(self, run: Run) -> None:
        token = uuid.uuid4()
        taken = None if run.location else leases.take(run.pk, token)
        # When it is for the workers of a location, or a worker was quicker, it is watched.
        uvloop.run(self._watch(run) if taken is None else self._execute(taken, token))

    async def _execute(self, run: Run, token: uuid.UUID) -> None:
        execution = Execution(run, token, lambda result: board.ended(result, execution.progress.total))
        execution.takes_shares = True  # there may be no worker
        board = Board(self.console, run.slug, execution.in_hand)
        for number, reason in ((signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")):
            asyncio.get_running_loop().add_signal_handler(number, execution.stop, reason)
        with board:
            await execution.work()

    async def _watch(self, run: Run) -> None:
        with Board(self.console, run.slug) as board:
            while (found := await asyncio.to_thread(runs.by_id, run.pk)).state != RunState.ENDED:
                board.so_far(found.total, Counter(found.counts))
                await asyncio.sleep(WATCH_S)

    def _told(self, run: Run) -> None:
        verdict = Verdict(run.verdict)
        color = COLORS.get(verdict, "yellow")
        counts = ", ".join(f"{count} {name}" for name, count in sorted(run.counts.items())) or "no case ran"
        flags = "".join(f", {flag}" for flag in ("flaky", "dirty") if getattr(run, flag))
        took = (run.finished_at - run.started_at).total_seconds() if run.started_at and run.finished_at else 0.0
        reason = f": {run.reason}" if run.reason and verdict != Verdict.PASSED else ""
        self.console.print(
            f"[{color}]{verdict}[/] {escape(run.slug)} ({counts}{flags}) in {took:.2f} s, run {run.pk}{escape(reason)}"
        )


def reports_of(given: list[str]) -> dict[str, Path]:
    """Return which reports are asked for and where to; raises CommandError."""
    found = {}
    for pair in ",".join(given).split(",") if given else []:
        kind, _, path = pair.partition("=")
        if kind not in FORMATS or not path:
            raise CommandError(
                f"--report needs FORMAT=PATH with one of {', '.join(FORMATS)}, not '{pair}'", returncode=2
            )
        if not Path(path).resolve().parent.is_dir():
            raise CommandError(f"--report: there is no folder for {path}", returncode=2)
        found[kind] = Path(path)
    return found
