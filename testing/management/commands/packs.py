"""`controlplane packs`: the ready-made suites there are, and one made into a suite of your own."""

from argparse import ArgumentParser
from typing import Any

import orjson

from endpoints.access.principal import COMMAND
from endpoints.management.command import RegistryCommand, add_json, team_named
from testing.management.commands.run_suite import pairs
from testing.packs.documents import find, unusable
from testing.services import packs


class Command(RegistryCommand):
    help = (
        "List the packs, show one, or install one as a suite. To run one as it comes: run_suite pack:NAME. "
        "Exit codes: 0 done, 2 refused."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="step", required=True, metavar="list|show|install")
        add_json(commands.add_parser("list", help="what there is"))
        show = commands.add_parser("show", help="what one needs, and its suite")
        show.add_argument("name")
        add_json(show)
        install = commands.add_parser("install", help="make a suite of one")
        install.add_argument("name")
        install.add_argument("--system", action="append", default=[], metavar="ALIAS=SLUG", help="what an alias is")
        install.add_argument("--slug", default="", help="the suite's slug; the pack's name unless given")
        install.add_argument("--team", default="", help="whose it is to be")
        add_json(install)

    def run(self, options: dict[str, Any]) -> None:
        {"list": self._list, "show": self._show, "install": self._install}[options["step"]](options)

    def _list(self, options: dict[str, Any]) -> None:
        found = packs.listed(COMMAND)
        for line in unusable():
            self.stderr.write(line)
        if options["json"]:
            self._json([{name: value for name, value in pack.items() if name != "text"} for pack in found])
            return
        for pack in found:
            made = ", ".join(suite["slug"] for suite in pack["installed"])
            self.stdout.write(f"{pack['name']}: {pack['about']} {len(pack['cases'])} cases.")
            self.stdout.write(
                f"  needs {', '.join(map(_need, pack['targets']))}{f'; installed as {made}' * bool(made)}"
            )

    def _show(self, options: dict[str, Any]) -> None:
        pack = packs.described(find(options["name"]), COMMAND)
        if options["json"]:
            self._json(pack)
            return
        self.stdout.write(f"# {pack['about']}")
        for target in pack["targets"]:
            self.stdout.write(f"# needs {_need(target)}: {target['does']}")
        if pack["example"]:
            self.stdout.write(f"# to try it: {pack['example']}")
        self.stdout.write(pack["text"])

    def _install(self, options: dict[str, Any]) -> None:
        made = packs.install(
            options["name"],
            pairs(options["system"], "--system"),
            by=COMMAND,
            slug=options["slug"],
            owner=team_named(options["team"]) if options["team"] else None,
        )
        if options["json"]:
            self._json({"slug": made.slug, "version": made.version})
        else:
            self.stdout.write(f"installed as suite '{made.slug}'; run it: controlplane run_suite {made.slug}")

    def _json(self, value: Any) -> None:
        self.stdout.write(orjson.dumps(value).decode())


def _need(target: dict[str, Any]) -> str:
    return f"{target['alias']}={target['system']} ({' or '.join(target['protocols'])})"
