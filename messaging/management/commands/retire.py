"""Take a system out of use for good, or put a retired one to use again."""

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

import orjson

from endpoints import services as registry
from endpoints.access.principal import COMMAND
from endpoints.management.command import RegistryCommand, add_json, system_named
from messaging.services import retirement


class Command(RegistryCommand):
    help = (
        "Retire SYSTEM: new messages to and from it are refused, its API keys stop within a second, what waits for it "
        "is still delivered (--drain, the default) or cancelled (--cancel). History keeps its name."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("system", metavar="SYSTEM")
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--drain", action="store_true", help="deliver what waits (default)")
        how.add_argument("--cancel", action="store_true", help="cancel what waits, also of one that drains")
        how.add_argument("--undo", action="store_true", help="use it again; revoked keys and cancelled deliveries stay")
        parser.add_argument("--dry-run", action="store_true", help="only say who depends on it and what would end")
        add_json(parser)

    def run(self, options: dict[str, Any]) -> None:
        system = system_named(options["system"])
        if options["undo"]:
            registry.unretire(system, by=COMMAND)
            self.stdout.write(f"{system} is active again. Its keys stay revoked: make new ones.")
            return
        seen = retirement.preview(system, COMMAND)
        if not options["dry_run"]:
            registry.retire(system, drain=not options["cancel"], by=COMMAND)
        if options["json"]:
            self.stdout.write(orjson.dumps(asdict(seen), option=orjson.OPT_INDENT_2).decode())
            return
        what = "is cancelled" if options["cancel"] else "is still delivered"
        if not options["dry_run"]:
            self.stdout.write(f"{system} is retired; what waits for it {what}.")
        self.stdout.write(
            f"dependents   {', '.join(seen.dependents) or 'none'}\n"
            f"waiting      {seen.waits:,} to it, {seen.sent_waiting:,} from it (those go on)\n"
            f"dead letters {seen.dead:,}\n"
            f"API keys     {', '.join(seen.keys) or 'none'}"
        )
