"""Encrypt every stored secret with the newest key."""

from typing import Any

from rich.console import Console
from rich.progress import Progress

from endpoints import services
from endpoints.access.secrets import current_key_id
from endpoints.management.command import RegistryCommand


class Command(RegistryCommand):
    help = (
        "Encrypt every stored secret with the newest key (the first of CONTROLPLANE_ENCRYPTION_KEYS). "
        "Runs beside traffic; afterwards the older keys can be dropped."
    )

    def run(self, options: dict[str, Any]) -> None:
        with Progress(console=Console(stderr=True), disable=not self.stderr.isatty()) as bar:
            task = bar.add_task("Re-encrypting", total=None)
            done = services.rotate_keys(lambda now, total: bar.update(task, completed=now, total=total))
        self.stdout.write(f"{done} secrets re-encrypted; all are under key '{current_key_id()}' now.")
