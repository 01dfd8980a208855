"""The worker: runs Celery's tasks, keeps their clock, and works jobs and runs of suites."""

import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand

from messaging.jobs import runner
from messaging.services.processes import Heartbeat
from testing.runner import worker as runs

THREADS = 4
FIRST_PRUNE_S = 60  # so that one who restarts every hour is pruned too


class Command(BaseCommand):
    help = (
        "Run background tasks and their clock, and work jobs and runs of suites. "
        "Exit codes: 0 stopped on request, 1 could not start."
    )
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-beat", action="store_true", help="leave the clock to another worker")

    def handle(self, *args: Any, **options: Any) -> None:
        """Work until SIGTERM or SIGINT."""
        from controlplane.celery import app

        # Celery warns that root could run pickled code; we take JSON only.
        warnings.filterwarnings("ignore", message=r"\s*You're running the worker with superuser")
        app.set_current()
        worker = app.Worker(
            pool="threads",
            concurrency=THREADS,
            loglevel="WARNING",
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        with Heartbeat("worker"), clock(app, enabled=not options["no_beat"]), runner.running(), runs.running():
            worker.start()
        sys.exit(worker.exitcode)


@contextmanager
def clock(app: Any, *, enabled: bool) -> Iterator[None]:
    """Run Celery's beat beside the worker, as a thread and with its times in memory.

    A thread, since on the in-memory transport a forked clock would send into a
    queue that nobody else sees. Any number of clocks is harmless: what they wake
    looks into the database first.
    """
    if not enabled:
        yield
        return
    from celery.beat import EmbeddedService, Scheduler

    beat = EmbeddedService(app, thread=True, scheduler_cls=Scheduler)
    beat.start()
    for task in ("messaging.tasks.prune", "testing.tasks.prune"):
        app.send_task(task, countdown=FIRST_PRUNE_S)
    try:
        yield
    finally:
        beat.stop()
