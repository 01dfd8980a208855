"""Say whether all is well, and if not, why."""

import sys
from argparse import ArgumentParser
from typing import Any

import orjson
from django.core.management.base import BaseCommand
from django.db import DatabaseError

from controlplane.database_trouble import explain, reason
from endpoints.edge.display import size, span
from messaging.services.status import EXIT_CODES, status

COLOURS = {"healthy": "green", "degraded": "yellow", "down": "red"}


class Command(BaseCommand):
    help = "Say whether all is well. Exit codes: 0 healthy, 1 degraded, 2 down."
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the status and end with its exit code."""
        found = read()
        if options["json"]:
            self.stdout.write(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        else:
            show(found)
        sys.exit(EXIT_CODES[found["state"]])


def read() -> dict[str, Any]:
    """Return the status; without a database there is none but `down`."""
    try:
        return status()
    except DatabaseError as error:
        empty: dict[str, Any] = {"processes": [], "waiting": None, "oldest_due_s": None, "dead_unresolved": None}
        empty |= {"retention_behind_s": None, "warnings": [], "database": {}, "disks": [], "incidents_open": None}
        told = explain(error) or f"the database does not answer: {reason(error)}"
        return {"state": "down", "reasons": [told], **empty, "endpoints": {}, "runs": {}}


def show(found: dict[str, Any]) -> None:
    """Print the status for people: the judgement first, then what it follows from."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold {COLOURS[found['state']]}]{found['state']}[/]")
    for told in found["reasons"]:
        console.print(f"  {escape(told)}")
    for warning in found["warnings"]:
        console.print(f"  [yellow]{escape(warning)}[/]")
    if found["waiting"] is None:
        return  # without its database nothing else is known
    if found["processes"]:
        console.print(_processes(found["processes"]))
    console.print(f"waiting      {_number(found['waiting'])}")
    oldest = found["oldest_due_s"]
    console.print(f"oldest due   {'nothing is due' if oldest is None else f'{oldest:.0f} s'}")
    console.print(f"dead letters {_number(found['dead_unresolved'])}")
    if found["incidents_open"]:
        console.print(f"incidents    {found['incidents_open']} open")
    if behind := found["retention_behind_s"]:
        console.print(f"retention    behind by {behind / 86400:.1f} days; the worker prunes, or: controlplane prune")
    if bytes_ := found["database"].get("bytes"):
        grows = found["database"]["grows_per_day"]
        told = "growth not known yet" if grows is None else f"grows by {size(max(0, grows))} a day"
        console.print(f"database     {size(bytes_)}, {told}")
    for disk in found["disks"]:
        full = disk["full_in_s"]
        told = "" if full is None else f", full in {span(full)}"
        console.print(
            f"disk         {size(disk['free_bytes'])} left{told} ({escape(disk['path'])} on {escape(disk['host'])})"
        )
    counts = ", ".join(f"{count} {name}" for name, count in sorted(found["endpoints"].items()))
    console.print(f"endpoints    {counts or 'none yet'}")
    if not found["processes"]:
        console.print("Start with: controlplane up")


def _processes(rows: list[dict[str, Any]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table("process", "host", "pid", "restarts", "seen", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        seen = f"{row['seen_s']:.0f} s ago" if row["alive"] else f"[red]gone for {row['seen_s']:.0f} s[/]"
        table.add_row(row["role"], row["host"], str(row["pid"]), str(row["restarts"]), seen)
    return table


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
