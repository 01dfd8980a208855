"""Index the business keys of a system in the messages that it sent before they were declared."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from endpoints.models import System
from messaging.models import JobState
from messaging.services.indexing import index_now


class Command(BaseCommand):
    help = (
        "Look for the search keys of SYSTEM in the messages it sent before they were declared. The worker does so "
        "by itself within a minute of a change; this does it now. Exit codes: 0 done, 1 somebody else is at it, "
        "2 there is no such system or it declares no keys."
    )
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("system", metavar="SYSTEM", help="its slug")

    def handle(self, *args: Any, **options: Any) -> None:
        system = System.objects.filter(slug=options["system"]).first()
        if system is None:
            raise CommandError(f"there is no system '{options['system']}'", returncode=2)
        if not system.search_keys:
            raise CommandError(f"{system.slug} declares no search keys", returncode=2)
        job = index_now(system)
        if job.state != JobState.DONE:
            self.stderr.write(f"job {job.pk} is {job.state}, and somebody else is at it")
            sys.exit(1)
        self.stdout.write(f"{job.done:,} messages of {system.slug} looked at")
