"""`controlplane run_suite`: run suites, stored ones by name and others from files, and say how they ended."""

import asyncio
import csv
import io
import re
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from endpoints.access.principal import COMMAND
from endpoints.errors import ControlPlaneError
from testing.document.reader import MAX_BYTES, read_suite
from testing.document.suite import Suite as Document
from testing.errors import BadDocument
from testing.models import Part, Run, RunState, Suite, Verdict
from testing.packs import documents as packs
from testing.reports import FORMATS
from testing.runner import leases
from testing.runner.execute import Execution
from testing.runner.results import CaseResult
from testing.services import packs as pack_runs
from testing.services import results, runs
from testing.services.runs import Wish

EXIT_CODES = "Exit codes: 0 passed, 1 failed, 2 errored, inconclusive, or refused."
CODES = {Verdict.PASSED: 0, Verdict.FAILED: 1}
COLORS = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.ERRORED: "red", Verdict.CANCELLED: "yellow"}
MAX_ROWS = 10_000


class Command(BaseCommand):
    help = f"Run suites. A FILE leaves the stored suites as they are. {EXIT_CODES}"
    requires_system_checks = []  # they import every page

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, epilog=EXIT_CODES, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "suites", nargs="+", metavar="NAME|FILE|pack:NAME", help="a stored suite, a file of one, or a pack"
        )
        parser.add_argument("--system", action="append", default=[], metavar="ALIAS=SLUG", help="replace a system")
        parser.add_argument("--var", action="append", default=[], metavar="K=V", help="replace a variable")
        parser.add_argument("--case", action="append", default=[], metavar="NAME", help="this one only, and its needs")
        parser.add_argument("--parallel", type=int, metavar="N", help="so many cases at once")
        parser.add_argument("--allow-production", action="store_true", help="let steps write to production systems")
        parser.add_argument("--report", action="append", default=[], metavar="FORMAT=PATH[,...]", help="json, junit")

    def handle(self, *args: Any, **options: Any) -> None:
        self.console = Console(stderr=False, highlight=False, soft_wrap=True)
        reports = _reports(options["report"])
        wish = {
            "systems": pairs(options["system"], "--system"),
            "parallel": options["parallel"],
            "cases": options["case"],
            "allow_production": options["allow_production"],
        }
        given = pairs(options["var"], "--var")
        codes = [
            self._one(name, wish, given, reports if len(options["suites"]) == 1 else _of(reports, name))
            for name in options["suites"]
        ]
        sys.exit(1 if 1 in codes else max(codes))

    def _one(self, name: str, wish: dict[str, Any], given: dict[str, str], reports: dict[str, Path]) -> int:
        """Run one suite and return its exit code."""
        try:
            suite, text, rows = _find(name)
            document = read_suite(text, name)
            options = Wish(**wish, vars=_typed(given, document), rows=rows)
            run = _start(name, suite, text, options)
        except BadDocument as exc:
            return self._refused(name, [str(fault) for fault in exc.faults])
        except ControlPlaneError as exc:
            return self._refused(name, [exc.detail])
        if run.state == RunState.WAITING:
            run = self._work(run, document)
        run = runs.by_id(run.pk)
        complete = results.complete(run)
        for kind, path in reports.items():
            path.write_bytes(FORMATS[kind].write(complete))
        self._told(run)
        return CODES.get(Verdict(run.verdict), 2)

    def _refused(self, name: str, lines: list[str]) -> int:
        for line in lines:
            self.stderr.write(f"{name}: {line}")
        return 2

    def _work(self, run: Run, document: Document) -> Run:
        token = uuid.uuid4()
        taken = leases.take(run.pk, token)
        if taken is None:  # a worker was quicker: watch it
            return asyncio.run(self._watch(run))
        asyncio.run(self._execute(taken, token))
        return taken

    async def _execute(self, run: Run, token: uuid.UUID) -> None:
        console = self.console
        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        shown = bar.add_task(escape(run.slug), total=None)

        def tell(result: CaseResult) -> None:
            if result.part == Part.CASE:
                bar.update(shown, advance=1, total=execution.progress.total)
            if result.verdict != Verdict.PASSED or result.flaky or result.dirty:
                bar.console.print(_line(result))

        execution = Execution(run, token, tell)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, execution.stop, "interrupted")
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, execution.stop, "terminated")
        with bar:
            await execution.work()

    async def _watch(self, run: Run) -> Run:
        while True:
            found = await asyncio.to_thread(runs.by_id, run.pk)
            if found.state == RunState.ENDED:
                return found
            await asyncio.sleep(0.3)

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


def _line(result: CaseResult) -> str:
    flags = "".join(f" {flag}" for flag in ("flaky", "dirty") if getattr(result, flag))
    color = COLORS.get(result.verdict, "yellow")
    reason = f": {result.reason}" if result.reason else ""
    return f"[{color}]{result.verdict}[/]{flags} {escape(result.instance.label)}{escape(reason)}"


def _start(name: str, suite: Suite | None, text: str, options: Wish) -> Run:
    if suite is not None:
        return runs.start(suite, options, by=COMMAND)
    if name.startswith(packs.PREFIX):
        return pack_runs.start(name.removeprefix(packs.PREFIX), options, by=COMMAND)
    return runs.start_text(text, options, by=COMMAND)


def _find(name: str) -> tuple[Suite | None, str, list[dict[str, Any]]]:
    """Return a stored suite, or the text of a pack or a file, with the rows beside it; raises CommandError."""
    if name.startswith(packs.PREFIX):
        return None, packs.find(name.removeprefix(packs.PREFIX)).suite.text, []
    path = Path(name)
    if not path.is_file():
        suite = Suite.objects.filter(slug=name).first()
        if suite is None:
            raise CommandError(f"there is no suite and no file '{name}'", returncode=2)
        return suite, suite.text, []
    with path.open("rb") as file:
        body = file.read(MAX_BYTES + 1)  # what is larger is refused without being read
    document = read_suite(body, name)
    return None, document.text, _rows(path, document)


def _rows(path: Path, document: Document) -> list[dict[str, Any]]:
    """Return the rows of the csv file that a suite names; it lies beside the suite's, and nowhere else."""
    if document.data is None or not document.data.csv:
        return []
    name = document.data.csv
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise CommandError(f"data.csv: '{name}' must be the name of a file beside the suite's", returncode=2)
    beside = path.parent / name
    try:
        with beside.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
        text = body.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandError(f"data.csv: cannot read {name}: {exc}", returncode=2) from exc
    rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(text, newline="")))
    if (
        len(body) > MAX_BYTES
        or not 1 <= len(rows) <= MAX_ROWS
        or any(None in row or None in row.values() for row in rows)
    ):
        raise CommandError(
            f"data.csv: {name} needs 1 to {MAX_ROWS} rows of as many values as names, in 1 MiB", returncode=2
        )
    return rows


def _typed(given: dict[str, str], document: Document) -> dict[str, Any]:
    """Return variables in the type that the document gives them: `--var n=5` is a number where `n` is one."""
    return {name: _as(document.vars.get(name), value, name) for name, value in given.items()}


def _as(example: Any, value: str, name: str) -> Any:
    if isinstance(example, bool):
        if value not in ("true", "false"):
            raise CommandError(f"--var {name}: must be true or false", returncode=2)
        return value == "true"
    if isinstance(example, (int, float)):
        try:
            return type(example)(value)
        except ValueError as exc:
            raise CommandError(f"--var {name}: must be a number", returncode=2) from exc
    return value


def pairs(given: list[str], option: str) -> dict[str, str]:
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise CommandError(f"{option} needs NAME=VALUE, not '{pair}'", returncode=2)
        found[name] = value
    return found


def _reports(given: list[str]) -> dict[str, Path]:
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


def _of(reports: dict[str, Path], name: str) -> dict[str, Path]:
    """Return the paths of one of several suites: the suite's name before the ending."""
    return {kind: path.with_name(f"{path.stem}-{Path(name).stem}{path.suffix}") for kind, path in reports.items()}
