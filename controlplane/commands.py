"""The product's own commands, by what they are for, and the help that names them before the framework's."""

import re
import sys
import textwrap
from difflib import get_close_matches

from django.core.management import BaseCommand, ManagementUtility, get_commands, load_command_class

GROUPS = {
    "Run": ("up", "stop", "status", "doctor", "migrate", "prune"),
    "Run one process of `up` by itself": ("deliver", "worker", "edge", "monitor", "listen_tcp", "listen_udp"),
    "Send and find": ("send", "why", "jobs", "index_keys"),
    "Hold and retire systems": ("pause", "resume", "maintenance", "retire"),
    "Keys": ("create_api_key", "revoke_api_key", "create_signing_key", "rotate_keys"),
    "Test": ("packs", "draft_suite", "apply", "export", "run_suite", "rerun", "import_results"),
    "Size tests": ("seed_history",),
}
NAMES = frozenset(name for names in GROUPS.values() for name in names)
# They run until they are stopped, and wait for a database that is about to start; the others have somebody waiting.
SERVICES = frozenset(("up", *GROUPS["Run one process of `up` by itself"]))
# They start an installation, or say what one would lack; every other command of ours needs one that is there.
BEGINNERS = SERVICES | {"doctor", "migrate"}
WIDTH = 100
COLUMN = max(map(len, NAMES)) + 4
NEAR = 0.8  # a command of the framework's is seldom what was meant
FIRST_CLAUSE = re.compile(r"[.;:](?:\s|$)")


class Commands(ManagementUtility):
    """Django's way from words to a command, with our own list of what there is."""

    def main_help_text(self, commands_only: bool = False) -> str:
        """Return what `help` prints: our commands; with `--all` the framework's behind them."""
        if commands_only:  # for shells that complete words
            return super().main_help_text(commands_only=True)
        known = get_commands()
        lines = ["Usage: controlplane COMMAND [OPTIONS]; `controlplane help COMMAND` says more of one."]
        for title, names in GROUPS.items():
            lines += ["", title, *(f"  {name:<{COLUMN - 2}}{summary(known[name], name)}" for name in names)]
        others = sorted(set(known) - NAMES)
        if "--all" in self.argv:
            listed = textwrap.wrap(", ".join(others), WIDTH, initial_indent="  ", subsequent_indent="  ")
            return "\n".join([*lines, "", "Of the framework", *listed])
        return "\n".join([*lines, "", f"{len(others)} more are the framework's: `controlplane help --all`."])

    def fetch_command(self, subcommand: str) -> BaseCommand:
        """Return the command; a word that is none ends the program with 2, and with the nearest that there is."""
        known = get_commands()
        if subcommand not in known:
            near = get_close_matches(subcommand, sorted(NAMES), n=1) or get_close_matches(
                subcommand, known, n=1, cutoff=NEAR
            )
            meant = f" Did you mean {near[0]}?" if near else ""
            sys.stderr.write(f"There is no command {subcommand!r}.{meant} `controlplane help` names them all.\n")
            sys.exit(2)
        return super().fetch_command(subcommand)


def summary(app: str, name: str) -> str:
    """Return the first clause of a command's help, in one line."""
    clause = FIRST_CLAUSE.split(load_command_class(app, name).help, maxsplit=1)[0]
    return textwrap.shorten(clause, WIDTH - COLUMN, placeholder=" ...")
