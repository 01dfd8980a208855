"""`controlplane export schema KIND`: the JSON Schema of what can be written as a document."""

import json
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from testing.document.schema import suite_schema

SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {"suite": suite_schema}


class Command(BaseCommand):
    help = "Print what editors and other programs can check documents by. Exit codes: 0 printed, 2 unknown kind."
    requires_system_checks = []  # they import every page

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", choices=["schema"], help="a JSON Schema (2020-12)")
        parser.add_argument("kind", help=f"of what: {', '.join(SCHEMAS)}")

    def handle(self, *args: Any, **options: Any) -> None:
        schema = SCHEMAS.get(options["kind"])
        if schema is None:
            known = ", ".join(SCHEMAS)
            raise CommandError(f"there is no schema of '{options['kind']}'; known are {known}", returncode=2)
        self.stdout.write(json.dumps(schema(), indent=2))
