"""`controlplane listen_tcp`: one TCP listener alone, for senders that speak our envelope."""

import ssl
from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

import uvloop
from django.core.management.base import BaseCommand, CommandError

from endpoints.edge.arguments import port, seconds, whole
from messaging.intake.counter import Intake
from messaging.listening.alone import run_alone
from messaging.listening.limits import Limits
from messaging.listening.opening import ENDS
from messaging.listening.tally import Tally
from messaging.listening.tcp import TcpServer
from messaging.listening.tls import context_of_files
from messaging.services.processes import Heartbeat, settle

DEADLINES = {
    "auth_s": "to authenticate",
    "frame_s": "within a frame",
    "idle_s": "with nothing coming",
    "slow_s": "for answers that are not read",
}


class Command(BaseCommand):
    help = (
        "Take messages over TCP, until SIGTERM or Ctrl-C. Any number of these may run on addresses of their own; "
        "listeners that are registered run in `up` and need no command. "
        "Exit codes: 0 stopped, 2 the address or the certificate cannot be used."
    )
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=port, default=9101, help="0: any free one; it is printed")
        parser.add_argument("--framing", choices=tuple(ENDS), default="line")
        parser.add_argument("--tls-cert", metavar="FILE", help="PEM chain; with --tls-key the port speaks TLS alone")
        parser.add_argument("--tls-key", metavar="FILE")
        parser.add_argument(
            "--connections", type=whole(1), default=Limits().connections, help="how many to serve at once"
        )
        for name, text in DEADLINES.items():
            default = getattr(Limits(), name)
            option = f"--{name.removesuffix('_s')}-timeout"
            parser.add_argument(option, dest=name, type=seconds, default=default, metavar="S", help=f"seconds {text}")

    def handle(self, *args: Any, **options: Any) -> None:
        tls = _context(options["tls_cert"], options["tls_key"])
        limits = replace(Limits(), connections=options["connections"], **{name: options[name] for name in DEADLINES})

        async def open_server(intake: Intake) -> TcpServer:
            server = TcpServer(intake, Tally("listen_tcp"), framing=options["framing"], limits=limits)
            bound = await server.open(options["host"], options["port"], tls)
            self.stdout.write(f"Listening for TCP{' with TLS' if tls else ''} on {options['host']}:{bound}.")
            settle()
            return server

        try:
            with Heartbeat("listen_tcp"):
                uvloop.run(run_alone(open_server))
        except OSError as exc:
            place = f"{options['host']}:{options['port']}"
            raise CommandError(f"Cannot listen on {place}: {exc.strerror or exc}", returncode=2) from exc


def _context(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise CommandError("--tls-cert and --tls-key go together", returncode=2)
    try:
        return context_of_files(certificate, key)
    except ValueError as exc:
        raise CommandError(f"TLS: {exc}", returncode=2) from exc
