"""Make a system's secret for signed datagrams and hooks, and print it, this once."""

from argparse import ArgumentParser
from typing import Any

import orjson

from endpoints import services
from endpoints.access.principal import COMMAND
from endpoints.management.command import RegistryCommand, add_json, system_named


class Command(RegistryCommand):
    help = (
        "Make a secret that SYSTEM signs UDP datagrams and hooks with, and print it. It is shown this once; "
        "it is kept encrypted. Two may live at once, to change from one to the other."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("system", metavar="SYSTEM", help="the slug of the system that signs")
        add_json(parser)

    def run(self, options: dict[str, Any]) -> None:
        """Make the key; the plain form is id and secret, so that a script can split it."""
        key, secret = services.create_signing_key(system_named(options["system"]), by=COMMAND)
        if options["json"]:
            self.stdout.write(orjson.dumps({"id": str(key.pk), "secret": secret}).decode())
        else:
            self.stdout.write(f"{key.pk} {secret}")
            self.stderr.write("Keep the secret now: it cannot be shown again.")
