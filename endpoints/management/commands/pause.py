"""Hold every delivery to a system, to one of its doors, or to everybody."""

from argparse import ArgumentParser
from typing import Any

from endpoints import services
from endpoints.access.principal import COMMAND
from endpoints.management.command import RegistryCommand, add_target, moment, system_named


class Command(RegistryCommand):
    help = (
        "Hold every delivery to SYSTEM or SYSTEM/INTERFACE; with --all to everybody, at once: what is on its way "
        "ends, nothing new is sent, messages are taken as ever. Nothing is lost, no attempt is spent."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_target(parser)
        parser.add_argument("--until", metavar="TIME", help="an RFC 3339 time, or a span such as 30m")
        parser.add_argument("--reason", default="", help="shown wherever the pause is")

    def run(self, options: dict[str, Any]) -> None:
        until = moment(options["until"]) if options["until"] else None
        how = {"by": COMMAND, "until": until, "reason": options["reason"]}
        slug, _, interface = (options["target"] or "").partition("/")
        if options["all"]:
            services.pause_all(**how)
        elif interface:
            services.pause_interface(system_named(slug), interface, **how)
        else:
            services.pause(system_named(slug), **how)
        what = "Everything" if options["all"] else options["target"]
        self.stdout.write(f"{what} is paused{f' until {until:%Y-%m-%d %H:%M:%S} UTC' if until else ''}.")
