"""`controlplane edge`: the process that watches over the installation, and keeps the registered listeners open."""

import asyncio
import signal
import threading
from typing import Any

import uvloop
from django.core.management.base import BaseCommand

from messaging.listening.alone import counter
from messaging.listening.house import House
from messaging.management.commands.monitor import make_monitor
from messaging.services.processes import Heartbeat, settle


class Command(BaseCommand):
    help = (
        "Keep the registered listeners open and open and resolve incidents, until SIGTERM or Ctrl-C; what `up` runs. "
        "Exit code 0."
    )
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def handle(self, *args: Any, **options: Any) -> None:
        monitor = make_monitor()
        watching = threading.Thread(target=monitor.run, name="monitor", daemon=True)
        with Heartbeat("monitor"):
            watching.start()
            try:
                uvloop.run(_listen())
            finally:
                monitor.stop()
                watching.join()


async def _listen() -> None:
    async with counter() as intake:
        house = House(intake)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, house.stop)
        settle()
        await house.run()
