"""`controlplane draft_suite`: print a first suite to edit, made from what is there already."""

import sys
import uuid
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import CommandError

from endpoints.access.principal import COMMAND
from endpoints.edge.arguments import unread
from endpoints.errors import NotFound
from endpoints.management.command import RegistryCommand, add_json
from testing.services import drafts, suites


class Command(RegistryCommand):
    help = (
        "Print a first suite, made from a message, a dead letter, an OpenAPI document, a curl line or a system. It "
        "parses, runs as it stands, and holds no secret. Exit codes: 0 printed, 2 refused, with the reason in one line."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        one = parser.add_mutually_exclusive_group()
        one.add_argument("--message", metavar="ID", help="of a message, or of a delivery such as a dead letter")
        one.add_argument("--openapi", metavar="URL|FILE", help="an OpenAPI 3 document")
        one.add_argument("--curl", metavar="LINE", help="a curl line; - reads it from the standard input")
        parser.add_argument("system", nargs="?", default="", metavar="SYSTEM", help="the system to look at, or to ask")
        parser.add_argument("--source", metavar="SYSTEM", help="whose message it is, when several used its id")
        parser.add_argument("--save", action="store_true", help="store it as a suite as well")
        add_json(parser)

    def run(self, options: dict[str, Any]) -> None:
        found = drafts.make(_asked(options), by=COMMAND)
        if options["save"]:
            suites.create(found.text, by=COMMAND)
        if options["json"]:
            told = {"suite": found.slug, "text": found.text, "remarks": list(found.remarks)}
            self.stdout.write(orjson.dumps(told).decode())
        else:
            self.stdout.write(found.text, ending="")


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    """Return what was asked for in the API's fields."""
    asked: dict[str, Any] = {"system": options["system"]}
    if options["message"]:
        asked |= _message(options["message"], options["source"])
    elif options["curl"]:
        asked["curl"] = sys.stdin.read() if options["curl"] == "-" else options["curl"]
    elif given := options["openapi"]:
        asked |= {"openapi_url": given} if given.startswith(("http://", "https://")) else {"openapi": _read(given)}
    elif not options["system"]:
        raise CommandError("name a system, or give one of --message, --openapi and --curl", returncode=2)
    return asked


def _message(given: str, source: str | None) -> dict[str, Any]:
    """Return the id as that of a delivery where there is such a one: a dead letter is shown with it."""
    try:
        return {"delivery": drafts.delivery_named(uuid.UUID(given), by=COMMAND).pk}
    except (ValueError, NotFound):
        return {"message": given, **({"source_system": source} if source else {})}


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandError(f"cannot read {path}: {unread(exc)}", returncode=2) from exc
