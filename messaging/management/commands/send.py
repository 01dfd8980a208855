"""`controlplane send`: one message from the command line."""

import sys
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from endpoints.access.principal import COMMAND
from endpoints.edge import strict_json
from endpoints.edge.arguments import seconds
from endpoints.errors import ControlPlaneError
from messaging.intake.commit import Accepted
from messaging.models import OPEN_STATES, Delivery, Message, State
from messaging.services.sending import send

POLL_S = 0.1
OPTIONS = {"type": "message_type", "event_type": "event_type", "priority": "priority", "ordering_key": "ordering_key"}


class Command(BaseCommand):
    help = (
        "Send one message. Exit codes: 0 accepted (with --wait: delivered), 1 with --wait: not delivered in time, "
        "dead, or a broadcast that nobody takes, 2 refused."
    )
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", help="the sending system's slug")
        parser.add_argument("target", help="system, system/interface, or * for every system that takes broadcasts")
        parser.add_argument("--type", help="event (default), request, command, query, notification, ...")
        parser.add_argument("--event-type", help="such as invoice.paid")
        parser.add_argument("--priority", help="low, normal (default), high, critical, emergency")
        parser.add_argument("--payload", default="{}", help="JSON, @file, or - for standard input")
        parser.add_argument("--header", action="append", default=[], metavar="K=V", help="may be given many times")
        parser.add_argument("--ordering-key", help="messages with the same key arrive in order")
        parser.add_argument("--ttl", type=float, metavar="S", help="seconds after which it expires unsent")
        parser.add_argument("--wait", type=seconds, metavar="S", nargs="?", const=30.0, help="wait for the outcome")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            accepted = send(self._message(options), by=COMMAND)
        except ControlPlaneError as exc:
            raise CommandError(exc.detail, returncode=2) from exc
        self.stdout.write(f"{accepted.status} {accepted.message_id}, {accepted.deliveries} to deliver")
        if not accepted.deliveries:  # only a broadcast has none: whom it names is refused where it is nobody
            self.stderr.write(f"accepted, but nobody takes broadcasts of {options['source']}: it reaches nobody")
        if options["wait"] is not None:
            self._wait(options["source"], accepted, options["wait"])

    def _message(self, options: dict[str, Any]) -> dict[str, Any]:
        message = {field: options[name] for name, field in OPTIONS.items() if options[name] is not None}
        if options["ttl"] is not None:
            message["ttl"] = options["ttl"]
        if wrong := [header for header in options["header"] if "=" not in header[1:]]:
            raise CommandError(f"--header takes K=V, not '{wrong[0]}'", returncode=2)
        headers = dict(header.partition("=")[::2] for header in options["header"])
        return {
            "source_system": options["source"],
            "target_system": options["target"],
            "payload": strict_json.parse(_read(options["payload"]), exact_numbers=True),
            "headers": headers,
            **message,
        }

    def _wait(self, source: str, accepted: Accepted, wait_s: float) -> None:
        """Say how each delivery ended; exit code 1 unless all were delivered in time."""
        message = Message.objects.get(source__slug=source, message_id=accepted.message_id)
        until = time.monotonic() + wait_s
        while message.deliveries.filter(state__in=OPEN_STATES).exists() and time.monotonic() < until:
            time.sleep(POLL_S)
        deliveries = list(message.deliveries.select_related("system").order_by("id"))
        for delivery in deliveries:
            self.stdout.write(_line(delivery))
        if not deliveries or any(delivery.state != State.DELIVERED for delivery in deliveries):
            sys.exit(1)


def _line(delivery: Delivery) -> str:
    error = f": {delivery.error}" if delivery.error else ""
    tries = f"{delivery.attempts} {'try' if delivery.attempts == 1 else 'tries'}"
    return f"  {delivery.system.slug}/{delivery.interface} {delivery.state} ({delivery.reason}) after {tries}{error}"


def _read(payload: str) -> bytes:
    """Return the payload's bytes: given, from a file, or from standard input."""
    if payload == "-":
        return sys.stdin.buffer.read()
    if payload.startswith("@"):
        try:
            return Path(payload[1:]).read_bytes()
        except OSError as exc:
            raise CommandError(f"cannot read {payload[1:]}: {exc.strerror}", returncode=2) from exc
    return payload.encode()
