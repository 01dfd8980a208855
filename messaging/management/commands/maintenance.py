"""Plan, show and end the times in which a system is not sent to."""

from argparse import ArgumentParser
from typing import Any

import orjson
from django.core.management.base import CommandError
from django.utils import timezone

from endpoints import services as registry
from endpoints.access.principal import COMMAND
from endpoints.management.command import RegistryCommand, add_json, moment, system_named
from endpoints.models import Maintenance, System
from messaging.services.maintenance import Preview, preview


class Command(RegistryCommand):
    help = (
        "Hold every delivery to SYSTEM from one time to another; it begins and ends by itself, nobody is told of what "
        "fails meanwhile, nothing is lost and no attempt is spent. Without --until and --end: show its windows."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("system", metavar="SYSTEM")
        parser.add_argument("--from", dest="begins", metavar="TIME", help="an RFC 3339 time, or a span; default: now")
        parser.add_argument("--until", metavar="TIME", help="an RFC 3339 time, or a span from now such as 90m or 2h")
        parser.add_argument("--reason", default="", help="shown wherever the maintenance is")
        parser.add_argument("--dry-run", action="store_true", help="only say what it would hold, and what would expire")
        parser.add_argument("--end", action="store_true", help="end now what runs")
        parser.add_argument("--planned", action="store_true", help="with --end: take back what is planned, too")
        add_json(parser)

    def run(self, options: dict[str, Any]) -> None:
        system = system_named(options["system"])
        if options["end"]:
            self._end(system, options["planned"])
        elif options["until"]:
            self._plan(system, options)
        elif options["begins"] or options["dry_run"]:
            raise CommandError("--until is missing: when does it end?", returncode=2)
        else:
            self._show(list(Maintenance.objects.filter(system=system, ends_at__gt=timezone.now())), options)

    def _end(self, system: System, planned: bool) -> None:
        ended = registry.end_all_maintenance(system, by=COMMAND)
        self.stdout.write(f"Maintenance of {system} ended." if ended else f"{system} is in no maintenance now.")
        for window in Maintenance.objects.filter(system=system, starts_at__gt=timezone.now()):
            if planned:
                registry.end_maintenance(window, by=COMMAND)
                self.stdout.write(f"Maintenance of {window} will not be.")
            else:
                self.stdout.write(f"Maintenance of {window} is planned: --end --planned takes it back.")

    def _plan(self, system: System, options: dict[str, Any]) -> None:
        now = timezone.now()
        starts_at, ends_at = moment(options["begins"]) if options["begins"] else now, moment(options["until"])
        registry.check_window(starts_at, ends_at, options["reason"], now)
        seen = preview(system, starts_at, ends_at)
        if options["dry_run"]:
            self.stdout.write(_json(_numbers(seen)) if options["json"] else _sentence(seen))
            return
        window = registry.plan_maintenance(system, starts_at, ends_at, options["reason"], by=COMMAND)
        if options["json"]:
            self.stdout.write(_json({**_fields(window), **_numbers(seen)}))
        else:
            self.stdout.write(f"Maintenance of {window}. {_sentence(seen)}")

    def _show(self, windows: list[Maintenance], options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(_json([_fields(window) for window in windows]))
            return
        for window in windows:
            state = "running" if window.starts_at <= timezone.now() else "upcoming"
            self.stdout.write(f"{state:9} {window}  {window.reason}  ({window.created_by})")
        if not windows:
            self.stdout.write("No maintenance runs or is planned.")


def _fields(window: Maintenance) -> dict[str, Any]:
    return {"id": window.pk, "from": window.starts_at, "until": window.ends_at, "reason": window.reason}


def _numbers(seen: Preview) -> dict[str, int]:
    return {"waits": seen.waits, "sending": seen.sending, "would_expire": seen.would_expire, "overlaps": seen.overlaps}


def _sentence(seen: Preview) -> str:
    waits = "1 delivery waits" if seen.waits == 1 else f"{seen.waits:,} deliveries wait"
    return f"{waits} now, {seen.would_expire:,} of them would expire in it; what will come until then is not counted."


def _json(found: Any) -> str:
    return orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()
