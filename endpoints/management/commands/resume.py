"""Let deliveries to a system or one of its doors go again."""

from argparse import ArgumentParser
from typing import Any

from endpoints import services
from endpoints.access.principal import COMMAND
from endpoints.management.command import RegistryCommand, system_named


class Command(RegistryCommand):
    help = "Let deliveries to SYSTEM, or to SYSTEM/INTERFACE, go again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", metavar="SYSTEM[/INTERFACE]")

    def run(self, options: dict[str, Any]) -> None:
        slug, _, interface = options["target"].partition("/")
        system = system_named(slug)
        if interface:
            services.resume_interface(system, interface, by=COMMAND)
        else:
            services.resume(system, by=COMMAND)
        self.stdout.write(f"{options['target']} is resumed.")
