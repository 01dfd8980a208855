"""`controlplane rerun`: run what a run ran again, all of it or only what did not pass."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from endpoints.access.principal import COMMAND
from endpoints.errors import ControlPlaneError
from endpoints.management.command import by_prefix
from testing.management.running import EXIT_CODES, RunningCommand, reports_of
from testing.models import Run
from testing.services import reruns


class Command(RunningCommand):
    help = f"Run the document of a run again, on the same systems. {EXIT_CODES}"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", metavar="RUN", help="the id of a run that has ended, or how it begins")
        parser.add_argument("--failed", action="store_true", help="only what did not pass, and what that needs")
        self.add_report_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = reports_of(options["report"])
        first = by_prefix(Run.objects.select_related("document", "suite"), str(options["run"]), "run")
        try:
            run = reruns.rerun(first, only_failed=options["failed"], by=COMMAND)
        except ControlPlaneError as exc:
            sys.exit(self.refused(str(first.pk), [exc.detail]))
        sys.exit(self.finish(run, wanted))
