"""`controlplane doctor`: look at everything an installation needs, and say what to do."""

import sys
from argparse import ArgumentParser
from typing import Any

import orjson
from django.conf import settings
from django.core.management.base import BaseCommand

from controlplane.checks import BAD, Finding, examine
from controlplane.env_table import DEVELOPMENT, PRODUCTION, STAGING, VARIABLES

MARKS = {"good": "[green]ok  [/]", "warning": "[yellow]warn[/]", "bad": "[red]bad [/]"}


class Command(BaseCommand):
    help = (
        "Check settings, database, disk and processes, and say what to do. Exit codes: 0 nothing bad, 1 something is."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--environment", choices=[DEVELOPMENT, STAGING, PRODUCTION], help="judge as this profile would"
        )
        parser.add_argument("--json", action="store_true", help="print a JSON list of findings")
        parser.add_argument("--settings-table", action="store_true", help="print every setting as Markdown instead")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the findings and end with the exit code."""
        if options["settings_table"]:
            self.stdout.write(settings_table())
            return
        findings = examine(options["environment"] or settings.ENVIRONMENT)
        if options["json"]:
            self.stdout.write(orjson.dumps(findings, option=orjson.OPT_INDENT_2).decode())
        else:
            show(findings)
        sys.exit(any(finding.level == BAD for finding in findings))


def show(findings: list[Finding]) -> None:
    """Print one line a finding, and under it what to do."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        console.print(f"{MARKS[finding.level]}  {escape(finding.subject)}: {escape(finding.text)}")
        if finding.do:
            console.print(f"      -> {escape(finding.do)}")


def settings_table() -> str:
    """Return every variable with its default and meaning, from the table that reads them."""
    rows = [f"| `{v.name}` | {f'`{v.default}`' if v.default else ''} | {v.help} |" for v in VARIABLES]
    head = ["# Settings", "", "Environment variables; an empty one counts as not set.", ""]
    return "\n".join([*head, "| variable | default | meaning |", "|---|---|---|", *rows])
