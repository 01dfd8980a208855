"""Make an API key and print it, this once."""

from argparse import ArgumentParser
from typing import Any

import orjson

from endpoints import services
from endpoints.access.principal import COMMAND, ROLES
from endpoints.management.command import RegistryCommand, add_json, moment, system_named, team_named


class Command(RegistryCommand):
    help = "Make an API key and print it. It is shown this once; only a hash of it is kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="what it is for; the audit names it")
        parser.add_argument("--role", required=True, choices=ROLES)
        parser.add_argument("--system", metavar="SLUG", help="the only system it speaks as")
        parser.add_argument("--team", help="the team whose rows it sees")
        parser.add_argument("--expires", metavar="TIME", help="2026-12-31, an RFC 3339 time, or 90d")
        add_json(parser)

    def run(self, options: dict[str, Any]) -> None:
        """Make the key; the plain form is the key alone, so that a script can take it as it is."""
        key, plaintext = services.create_api_key(
            options["name"],
            options["role"],
            by=COMMAND,
            team=team_named(options["team"]) if options["team"] else None,
            system=system_named(options["system"]) if options["system"] else None,
            expires_at=moment(options["expires"]) if options["expires"] else None,
        )
        if options["json"]:
            self.stdout.write(orjson.dumps({"id": str(key.pk), "key": plaintext}).decode())
        else:
            self.stdout.write(plaintext)
            self.stderr.write(f"Key {key.pk} ({key.role}). Keep it now: it cannot be shown again.")
