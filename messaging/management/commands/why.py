"""`controlplane why`: where it is, since when, what it waits for or died of, and what to do."""

import sys
from argparse import ArgumentParser
from typing import Any

import orjson
from django.conf import settings
from django.core.management.base import BaseCommand

from endpoints.access.principal import COMMAND
from messaging import store
from messaging.services.why import marks
from messaging.services.why.asked import Asked, ask, asked_json
from messaging.services.why.facts import Why

COLOURS = {"delivered": "green", "dead": "red", "pending": "yellow", "expired": "yellow", "unrouted": "yellow"}


class Command(BaseCommand):
    help = (
        "Say where a delivery or message is, since when, what it waits for or died of, how many others share the "
        "reason, and what to do. Exit codes: 0 found, 1 nothing is known under this name."
    )
    requires_system_checks = []  # they import every page; `up` runs them once for all

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "key",
            metavar="ID|SEARCH_KEY",
            help="id of a delivery (webhook-id) or message, correlation id, ordering key, 4711 or order=4711",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        now = store.now()
        asked = ask(options["key"], COMMAND, now)
        if options["json"]:
            self.stdout.write(orjson.dumps(asked_json(asked, now), option=orjson.OPT_INDENT_2).decode())
        else:
            show(asked, now)
        if asked.answer is None:
            sys.exit(1)


def show(asked: Asked, now: Any) -> None:
    """Print the matches in a line each, then the paragraph."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    for line in asked.lines:
        console.print(f"[{COLOURS.get(line.state, 'default')}]*[/] {escape(marks.plain(line.marked, now))}")
    if asked.more:
        console.print("  ... and older ones: see the page of Find")
    if asked.lines:
        console.print()
    if asked.answer is None:
        console.print(f"[yellow]{escape(marks.plain(asked.marked, now))}[/]")
        return
    colour = COLOURS.get(asked.answer.state, "default")
    said = marks.plain(asked.answer.marked, now)
    head, comma, rest = said.partition(", ")
    console.print(f"[bold]{escape(head)}[/]{comma}[{colour}]{escape(rest)}[/]")
    for todo in _todo(asked.answer):
        console.print(escape(todo))


def _todo(answer: Why) -> list[str]:
    base = str(settings.PUBLIC_URL).rstrip("/")
    width = max((len(action.label) for action in answer.actions), default=0) + 2
    return [f"  {f'[{action.label}]':{width}}  {action.command or base + action.url}" for action in answer.actions]
