"""Hold every delivery to a system or one of its doors."""

from argparse import ArgumentParser
from typing import Any

from endpoints import services
from endpoints.access.principal import COMMAND
from endpoints.management.command import RegistryCommand, moment, system_named


class Command(RegistryCommand):
    help = "Hold every delivery to SYSTEM, or to SYSTEM/INTERFACE; nothing is lost, no attempt is spent."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", metavar="SYSTEM[/INTERFACE]")
        parser.add_argument("--until", metavar="TIME", help="an RFC 3339 time, or a span such as 30m")
        parser.add_argument("--reason", default="", help="shown wherever the pause is")

    def run(self, options: dict[str, Any]) -> None:
        slug, _, interface = options["target"].partition("/")
        system = system_named(slug)
        until = moment(options["until"]) if options["until"] else None
        if interface:
            services.pause_interface(system, interface, by=COMMAND, until=until, reason=options["reason"])
        else:
            services.pause(system, by=COMMAND, until=until, reason=options["reason"])
        self.stdout.write(f"{options['target']} is paused{f' until {until:%Y-%m-%d %H:%M:%S} UTC' if until else ''}.")
