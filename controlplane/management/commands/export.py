"""`controlplane export`: suites as documents, and the JSON Schema of what can be written as one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from testing.document.schema import suite_schema
from testing.models import Suite
from testing.services import documents

SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {"suite": suite_schema}


class Command(BaseCommand):
    help = (
        "Print what is stored, byte for byte, or write it to files that `apply` takes; or print the JSON Schema of a "
        "kind of document. Exit codes: 0 written, 2 refused, with the reason in one line."
    )
    requires_system_checks = []  # they import every page

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", choices=["suite", "schema"], help="suites, or a JSON Schema (2020-12)")
        parser.add_argument(
            "names", nargs="*", metavar="NAME", help="which suites, all without; of which kind a schema"
        )
        parser.add_argument("--to", metavar="DIR", help="write a file for each suite, instead of printing one")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == "schema":
            self._schema(options["names"])
        else:
            self._suites(options["names"], options["to"])

    def _schema(self, kinds: list[str]) -> None:
        schema = SCHEMAS.get(kinds[0]) if len(kinds) == 1 else None
        if schema is None:
            known = ", ".join(SCHEMAS)
            raise _refused(f"there is no schema of '{' '.join(kinds)}'; known are {known}")
        self.stdout.write(json.dumps(schema(), indent=2))

    def _suites(self, names: list[str], to: str | None) -> None:
        rows = Suite.objects.filter(slug__in=names) if names else Suite.objects.all()
        found = list(rows.order_by("slug"))
        if missing := sorted(set(names) - {suite.slug for suite in found}):
            raise _refused(f"there is no suite '{missing[0]}'")
        if to is None and len(found) != 1:
            raise _refused(f"{len(found)} suites cannot be printed as one; name one, or a folder by --to")
        if to is None:
            self.stdout.write(found[0].text, ending="")
            return
        folder = Path(to)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for suite in found:
                (folder / documents.file_name(suite)).write_bytes(suite.text.encode())
        except OSError as exc:
            raise _refused(f"cannot write to {to}: {exc.strerror or exc}") from exc
        self.stdout.write(f"{len(found)} written to {to}")


def _refused(detail: str) -> CommandError:
    return CommandError(detail, returncode=2)
