"""`controlplane seed_history N`: make N deliveries of history, for size tests."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from endpoints.edge.arguments import whole
from endpoints.errors import ControlPlaneError
from messaging import seed


class Command(BaseCommand):
    help = (
        "Make N deliveries with their messages, attempts, search keys and counts, spread over the last days, "
        "for size tests. Only into a database without messages, unless forced, and never in production. "
        "Exit codes: 0 made, 2 refused."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("deliveries", type=whole(1), metavar="N")
        parser.add_argument("--systems", type=whole(1), default=20, metavar="K", help="over how many systems (20)")
        parser.add_argument("--days", type=whole(1), default=60, metavar="D", help="over how many days, up to now (60)")
        parser.add_argument("--dead", type=whole(0, 1000), default=20, metavar="M", help="dead ones of each 1,000 (20)")
        parser.add_argument("--causes", type=whole(1), default=3, metavar="C", help="of each error class to die of (3)")
        parser.add_argument("--force", action="store_true", help="add to what is there")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show how far it is, and say what was made."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        names = ("deliveries", "systems", "days", "dead", "causes")
        shape = seed.Shape(**{name: options[name] for name in names})
        console = Console(stderr=True)
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
            task = bars.add_task("deliveries", total=shape.deliveries)
            try:
                seed.seed(shape, force=options["force"], progress=lambda done: bars.update(task, completed=done))
            except ControlPlaneError as exc:
                raise CommandError(exc.detail, returncode=2) from exc
        self.stdout.write(f"{shape.deliveries:,} deliveries made")
