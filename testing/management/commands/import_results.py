"""`controlplane import_results`: keep what other tools found as runs."""

import sys
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError, CommandParser

from endpoints.access.principal import COMMAND
from endpoints.edge.arguments import unread
from endpoints.errors import ControlPlaneError
from testing.services import imports


class Command(BaseCommand):
    help = (
        "Keep reports of other tools, JUnit XML or CTRF, as runs; the same report again is the same run. "
        "Exit codes: 0 all are kept, 2 one was refused."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
        parser.add_argument("--suite", default="", metavar="NAME", help="what they are runs of; else their own name")
        parser.add_argument("--owner", metavar="TEAM", help="whose they are to be; else everyone's")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = Group.objects.filter(name=options["owner"]).first() if options["owner"] else None
        if options["owner"] and owner is None:
            raise CommandError(f"there is no team '{options['owner']}'", returncode=2)
        sys.exit(2 if [file for file in options["files"] if not self._kept(file, options["suite"], owner)] else 0)

    def _kept(self, file: Path, suite: str, owner: Group | None) -> bool:
        """Import one file, and say what became of it."""
        try:
            with file.open("rb") as opened:
                run, is_new = imports.import_results(opened, suite=suite, owner=owner, by=COMMAND)
        except (OSError, ControlPlaneError) as exc:
            self.stderr.write(f"{file}: {unread(exc)}")
            return False
        counts = ", ".join(f"{count} {name}" for name, count in sorted(run.counts.items())) or "no case"
        self.stdout.write(f"{run.verdict} {run.slug} ({counts}), run {run.pk}{'' if is_new else ', as before'}")
        return True
