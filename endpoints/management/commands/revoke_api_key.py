"""Stop an API key for good."""

import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from endpoints import services
from endpoints.access.principal import COMMAND
from endpoints.management.command import RegistryCommand
from endpoints.models import ApiKey


class Command(RegistryCommand):
    help = "Stop an API key for good; every process refuses it within a second."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", help="the key's id, as create_api_key printed it")

    def run(self, options: dict[str, Any]) -> None:
        try:
            key = ApiKey.objects.filter(pk=uuid.UUID(options["id"])).first()
        except ValueError:
            key = None
        if key is None:
            raise CommandError(f"there is no key with the id '{options['id']}'", returncode=2)
        services.revoke_api_key(key, by=COMMAND)
        self.stdout.write(f"Key '{key.name}' is revoked.")
