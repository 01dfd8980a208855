"""What the registry's commands have in common: one-line errors, exit code 2, and finding what was named."""

from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from endpoints.errors import ControlPlaneError
from endpoints.models import System

EXIT_CODES = "Exit codes: 0 done, 2 refused, with the reason in one line."
MOST_LISTED = 10
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class RegistryCommand(BaseCommand):
    """Runs `run`; what it is refused becomes one line on stderr and exit code 2."""

    requires_system_checks = []  # they import every page; `up` runs them once for all

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, epilog=EXIT_CODES, **kwargs)

    def run(self, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.run(options)
        except ControlPlaneError as exc:
            raise CommandError(exc.detail, returncode=2) from exc


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_target(parser: ArgumentParser) -> None:
    """Ask for one of `SYSTEM[/INTERFACE]` and `--all`."""
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("target", metavar="SYSTEM[/INTERFACE]", nargs="?")
    one.add_argument("--all", action="store_true", help="everything: the emergency stop")


def system_named(slug: str) -> System:
    """Return the system; raises CommandError when there is none."""
    found: System | None = System.objects.filter(slug=slug).first()
    if found is None:
        raise CommandError(f"there is no system '{slug}'", returncode=2)
    return found


def team_named(name: str) -> Group:
    """Return the team; raises CommandError when there is none."""
    found = Group.objects.filter(name=name).first()
    if found is None:
        raise CommandError(f"there is no team '{name}'", returncode=2)
    return found


def by_prefix(rows: QuerySet[Any], text: str, kind: str) -> Any:
    """Return the row whose id, a UUID, begins with `text`; raises CommandError that lists them unless it is one."""
    wanted = text.replace("-", "").lower()
    try:
        first, last = (UUID(wanted.ljust(32, digit)) for digit in "0f")
    except ValueError:
        first = last = UUID(int=0)
    found = list(rows.filter(pk__range=(first, last)).order_by("-pk")[: MOST_LISTED + 1]) if wanted else []
    if len(found) == 1:
        return found[0]
    if not found:
        raise CommandError(f"there is no {kind} {text}", returncode=2)
    listed = ", ".join(str(row.pk) for row in found[:MOST_LISTED])
    more = " and more" if len(found) > MOST_LISTED else ""
    raise CommandError(f"several of the {kind}s begin with '{text}': {listed}{more}", returncode=2)


def moment(text: str) -> datetime:
    """Read a time: RFC 3339, a date (its start, UTC), or a span from now such as `30m`, `12h`, `90d`."""
    if text[-1:] in UNITS and text[:-1].isascii() and text[:-1].isdigit() and len(text) < 7:
        return timezone.now() + timedelta(**{UNITS[text[-1]]: int(text[:-1])})
    try:
        if (found := parse_datetime(text)) is not None:
            return found if timezone.is_aware(found) else timezone.make_aware(found)
        if (day := parse_date(text)) is not None:
            return timezone.make_aware(datetime(day.year, day.month, day.day))  # noqa: DTZ001 made aware here
    except ValueError:
        pass  # a day that no month has: told below like any other
    raise CommandError(f"'{text}' is not a time; use 2026-12-31, 2026-12-31T12:00:00Z, 30m, 12h or 90d", returncode=2)
