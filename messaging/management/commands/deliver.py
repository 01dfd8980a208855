"""`controlplane deliver`: the process that sends what is due."""

import asyncio
import signal
from typing import Any

import uvloop
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from endpoints.edge.arguments import whole
from endpoints.transports.files import allow_files
from endpoints.transports.idle import IDLE
from messaging.engine.database import hurry
from messaging.engine.worker import Worker
from messaging.services.processes import Heartbeat, settle

SENDS = 4096
KEPT = 4096  # connections that are idle
FILES = 512  # beside the connections: database, wake-ups, farewells to what is being closed


class Command(BaseCommand):
    help = (
        "Send what is due, until SIGTERM or Ctrl-C. Any number of these may run, on any number of hosts. "
        "Stopping ends within 30 s and loses nothing. Exit code 0."
    )
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--sends",
            type=whole(1),
            default=SENDS,
            help=f"how many may be on their way at once, over all endpoints ({SENDS:,}, as far as it may open files)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        sends, IDLE.most = _affordable(options["sends"])
        with Heartbeat("deliver"):
            uvloop.run(_deliver(sends))


def _affordable(sends: int) -> tuple[int, int]:
    """Return how many of `sends` there are files for, and how many connections may wait idle for the next one."""
    files = allow_files(sends + KEPT + FILES)
    half = max((files - FILES) // 2, files // 4, 1)
    return min(sends, half), max(half, files - FILES - sends)


async def _deliver(sends: int) -> None:
    worker = Worker(lease_s=settings.ENV.lease_s, sends=sends)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        hurry()
        worker.stop()

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop)
    settle()
    await worker.run()
