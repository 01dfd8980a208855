"""`controlplane deliver`: the process that sends what is due."""

import asyncio
import signal
from typing import Any

import uvloop
from django.conf import settings
from django.core.management.base import BaseCommand

from messaging.engine.database import hurry
from messaging.engine.worker import Worker
from messaging.services.processes import Heartbeat, settle


class Command(BaseCommand):
    help = (
        "Send what is due, until SIGTERM or Ctrl-C. Any number of these may run, on any number of hosts. "
        "Stopping ends within 30 s and loses nothing. Exit code 0."
    )
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def handle(self, *args: Any, **options: Any) -> None:
        with Heartbeat("deliver"):
            uvloop.run(_deliver())


async def _deliver() -> None:
    worker = Worker(lease_s=settings.ENV.lease_s)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        hurry()
        worker.stop()

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop)
    settle()
    await worker.run()
