"""Let deliveries to a system, to one of its doors, or to everybody go again."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from endpoints import services
from endpoints.access.principal import COMMAND
from endpoints.management.command import RegistryCommand, add_target, system_named


class Command(RegistryCommand):
    help = (
        "Let deliveries to SYSTEM or SYSTEM/INTERFACE go again; --all ends what `pause --all` began, and leaves "
        "paused what was paused by itself."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_target(parser)
        parser.add_argument(
            "--rate",
            type=float,
            metavar="N",
            help="what waits now goes at most N a second, and what an open breaker holds is tried at once",
        )

    def run(self, options: dict[str, Any]) -> None:
        slug, _, interface = (options["target"] or "").partition("/")
        if options["rate"] is not None:
            if options["all"]:
                raise CommandError("--rate is for one system or interface, not for --all", returncode=2)
            services.drain(system_named(slug), by=COMMAND, rate_per_s=options["rate"], interface=interface)
        elif options["all"]:
            services.resume_all(by=COMMAND)
        elif interface:
            services.resume_interface(system_named(slug), interface, by=COMMAND)
        else:
            services.resume(system_named(slug), by=COMMAND)
        self.stdout.write(f"{'Everything' if options['all'] else options['target']} is resumed.")
