"""`controlplane monitor`: the process that opens and resolves incidents, and tells people of them."""

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from messaging.monitor.judgement import Limits
from messaging.monitor.loop import Monitor
from messaging.services.processes import Heartbeat, settle


class Command(BaseCommand):
    help = (
        "Open and resolve incidents and send notices of them, until SIGTERM or Ctrl-C. Any number of these may run, "
        "on any number of hosts: each thing is told once. Exit code 0."
    )
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def handle(self, *args: Any, **options: Any) -> None:
        monitor = make_monitor()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: monitor.stop())
        settle()
        with Heartbeat("monitor"):
            monitor.run()


def make_monitor() -> Monitor:
    """Return a monitor within the limits that the settings give it."""
    env = settings.ENV
    return Monitor(
        Limits(
            late_s=env.incident_late_s,
            dead=env.incident_dead,
            settle_s=env.incident_settle_s,
            reopen_s=env.incident_reopen_s,
            gather_s=env.incident_gather_s,
        )
    )
