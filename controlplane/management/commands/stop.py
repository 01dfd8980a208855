"""Stop what `up` started."""

import os
import signal
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import CommandError
from django.core.management.base import BaseCommand

from controlplane.runfile import Run
from endpoints.edge.arguments import seconds

LONGEST_S = 40  # the supervisor kills after 30 s
POLL_S = 0.05


class Command(BaseCommand):
    help = "Stop this installation's processes and wait until they are gone. Exit codes: 0 stopped, 1 still running."
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--timeout", type=seconds, default=LONGEST_S, help="seconds to wait (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask the supervisor, which asks its children; its lock tells when it is gone."""
        run = Run(settings.VAR_DIR)
        if not run.is_held():
            self.stdout.write("Nothing is running here.")
            return
        pid = run.read().get("pid")
        if not isinstance(pid, int):
            raise CommandError("It is just starting; try again in a moment.")
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        while run.is_held():
            if time.monotonic() - began > options["timeout"]:
                raise CommandError(f"Still running after {options['timeout']:g} s (pid {pid}).")
            time.sleep(POLL_S)
        self.stdout.write(f"Stopped in {time.monotonic() - began:.1f} s.")
