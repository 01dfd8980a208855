"""`controlplane run_suite`: run suites, stored ones by name and others from files, and say how they ended."""

import csv
import io
import math
import re
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from endpoints.access.principal import COMMAND
from endpoints.edge.arguments import unread
from endpoints.edge.strict_json import MAX_INTEGER, MIN_INTEGER
from endpoints.errors import ControlPlaneError
from testing.document.reader import MAX_BYTES, read_suite
from testing.document.suite import Suite as Document
from testing.errors import BadDocument
from testing.management.running import EXIT_CODES, RunningCommand, reports_of
from testing.models import Run, Suite
from testing.packs import documents as packs
from testing.services import packs as pack_runs
from testing.services import runs
from testing.services.runs import Wish

MAX_ROWS = 10_000


class Command(RunningCommand):
    help = f"Run suites. A FILE leaves the stored suites as they are. {EXIT_CODES}"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "suites", nargs="+", metavar="NAME|FILE|pack:NAME", help="a stored suite, a file of one, or a pack"
        )
        parser.add_argument("--system", action="append", default=[], metavar="ALIAS=SLUG", help="replace a system")
        parser.add_argument("--var", action="append", default=[], metavar="K=V", help="replace a variable")
        parser.add_argument("--case", action="append", default=[], metavar="NAME", help="this one only, and its needs")
        parser.add_argument("--parallel", type=int, metavar="N", help="so many cases at once")
        parser.add_argument("--allow-production", action="store_true", help="let steps write to production systems")
        parser.add_argument(
            "--during-maintenance", action="store_true", help="run although a system is in maintenance; else: skipped"
        )
        parser.add_argument("--location", metavar="L", help="leave it to the workers of this location, and wait")
        self.add_report_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        reports = reports_of(options["report"])
        wish = {
            "systems": pairs(options["system"], "--system"),
            "parallel": options["parallel"],
            "cases": options["case"],
            "allow_production": options["allow_production"],
            "during_maintenance": options["during_maintenance"],
            "location": options["location"],
            "is_quiet": True,
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
            return self.refused(name, [str(fault) for fault in exc.faults])
        except ControlPlaneError as exc:
            return self.refused(name, [exc.detail])
        return self.finish(run, reports)


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
            if path.is_dir():
                raise CommandError(f"'{name}' is a folder; name a file in it", returncode=2)
            hint = f"; there is a pack: {packs.PREFIX}{name}" if name in packs.names() else ""
            raise CommandError(f"there is no suite and no file '{name}'{hint}", returncode=2)
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
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows: list[dict[str, Any]] = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise CommandError(f"data.csv: cannot read {name}: {unread(exc)}", returncode=2) from exc
    names = reader.fieldnames or []
    if len(set(names)) < len(names):
        raise CommandError(f"data.csv: {name} names a column twice", returncode=2)
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
            number = type(example)(value)
        except ValueError as exc:
            raise CommandError(f"--var {name}: must be a number", returncode=2) from exc
        if not (math.isfinite(number) if isinstance(number, float) else MIN_INTEGER <= number <= MAX_INTEGER):
            raise CommandError(f"--var {name}: must be a finite number, an integer within 64 bits", returncode=2)
        return number
    return value


def pairs(given: list[str], option: str) -> dict[str, str]:
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise CommandError(f"{option} needs NAME=VALUE, not '{pair}'", returncode=2)
        found[name] = value
    return found


def _of(reports: dict[str, Path], name: str) -> dict[str, Path]:
    """Return the paths of one of several suites: the suite's name before the ending; a pack's without its colon."""
    part = Path(name).stem.replace(":", "-")
    return {kind: path.with_name(f"{path.stem}-{part}{path.suffix}") for kind, path in reports.items()}
