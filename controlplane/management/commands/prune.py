"""`controlplane prune`: delete what retention no longer keeps, now."""

from typing import Any

from django.core.management.base import BaseCommand

from messaging.services import retention
from testing.services import retention as runs


class Command(BaseCommand):
    help = (
        "Delete bodies, attempts, messages and runs older than the settings keep; what is open or dead stays. "
        "The worker does this every hour. Exit code 0."
    )
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Show what is going while it goes, and what went."""
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,}"))
        console = Console(stderr=True)
        with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as bars:
            tasks: dict[str, Any] = {}

            def show(kind: str, count: int) -> None:
                if kind not in tasks:
                    tasks[kind] = bars.add_task(kind, total=None)
                bars.update(tasks[kind], completed=count)

            gone = retention.prune(show) | runs.prune(show)
        for kind, count in gone.items():
            self.stdout.write(f"{kind:<17} {count:,}")
