"""`controlplane listen_udp`: one UDP listener alone, for signed datagrams."""

from argparse import ArgumentParser
from typing import Any

import uvloop
from django.core.management.base import BaseCommand, CommandError

from endpoints.edge.arguments import port
from messaging.intake.counter import Intake
from messaging.listening.alone import run_alone
from messaging.listening.tally import Tally
from messaging.listening.udp import UdpServer
from messaging.services.processes import Heartbeat, settle


class Command(BaseCommand):
    help = (
        "Take signed datagrams, until SIGTERM or Ctrl-C; `create_signing_key` makes the secrets. "
        "Exit codes: 0 stopped, 2 the address cannot be used."
    )
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=port, default=9102, help="0: any free one; it is printed")

    def handle(self, *args: Any, **options: Any) -> None:
        async def open_server(intake: Intake) -> UdpServer:
            server = UdpServer(intake, Tally("listen_udp"))
            bound = await server.open(options["host"], options["port"])
            self.stdout.write(f"Listening for datagrams on {options['host']}:{bound}.")
            settle()
            return server

        try:
            with Heartbeat("listen_udp"):
                uvloop.run(run_alone(open_server))
        except OSError as exc:
            place = f"{options['host']}:{options['port']}"
            raise CommandError(f"Cannot listen on {place}: {exc.strerror or exc}", returncode=2) from exc
