"""The worker: runs Celery's tasks, keeps their clock, and works jobs and runs of suites."""

import re
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from messaging.jobs import runner
from messaging.services.processes import Heartbeat
from testing.document.kinds import SLUG
from testing.runner import worker as runs
from testing.runner.looking import Look
from testing.services.clock import begin as begin_runs
from testing.wakeups import queue_of

THREADS = 4
FAILED = 1
FIRST_PRUNE_S = 60  # so that one who restarts every hour is pruned too


class Command(BaseCommand):
    help = (
        "Run background tasks and their clock, and work jobs and runs of suites. "
        "Exit codes: 0 stopped on request, 1 could not start or go on."
    )
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-beat", action="store_true", help="leave the clock and schedules to another worker")
        parser.add_argument(
            "--location",
            action="append",
            default=[],
            metavar="NAME",
            help="take the runs of this location, and only those; may be given several times. "
            "'default' stands for runs that name none",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Work until SIGTERM or SIGINT."""
        from controlplane.celery import app

        # Celery warns that root could run pickled code; we take JSON only.
        warnings.filterwarnings("ignore", message=r"\s*You're running the worker with superuser")
        app.set_current()
        locations = tuple("" if name == "default" else _location(name) for name in options["location"]) or ("",)
        worker = app.Worker(
            queues=[app.conf.task_default_queue, *map(queue_of, locations)],
            pool="threads",
            concurrency=THREADS,
            loglevel="WARNING",
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        keeps_clock = not options["no_beat"]
        with (
            Heartbeat("worker"),
            clock(app, enabled=keeps_clock),
            runner.running(),
            runs.running(locations, begin if keeps_clock else None, end),
        ):
            worker.start()
        sys.exit(worker.exitcode)


def begin(look: Look) -> None:
    """Make the runs that a look found due."""
    begin_runs(look.now, due=look.due, changed=look.changed)


def end() -> None:
    """End this process, for whoever supervises it to see: it no longer works runs."""
    from celery.worker import state

    state.should_stop = FAILED


def _location(name: str) -> str:
    if not re.fullmatch(SLUG, name):
        raise CommandError(f"--location: '{name}' is no name of a location: lower-case letters, digits and hyphens")
    return name


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
