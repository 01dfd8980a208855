"""`controlplane apply`: store what files say, all of it or nothing."""

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import CommandError

from endpoints.access.principal import COMMAND
from endpoints.edge.arguments import unread
from endpoints.errors import ControlPlaneError
from endpoints.management.command import RegistryCommand, add_json, team_named
from testing.services import documents
from testing.services.documents import Document

ENDINGS = frozenset({".yaml", ".yml", ".json"})
MAX_BYTES = 1024 * 1024


class Command(RegistryCommand):
    help = (
        "Store the suites in files, and in all files of folders: new ones, and new versions of those there are. "
        "Exit codes: 0 stored, 2 refused, each fault with its file, line and column, and nothing is stored."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "paths",
            nargs="+",
            metavar="FILE|DIR",
            help="suites; of a folder all .yaml, .yml and .json that are not hidden",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
        parser.add_argument("--prune", action="store_true", help="delete the suites that no file names")
        parser.add_argument("--team", metavar="NAME", help="whose new ones are to be")
        add_json(parser)

    def run(self, options: dict[str, Any]) -> None:
        found = [Document(str(path), _read(path)) for given in options["paths"] for path in _files(Path(given))]
        owner = team_named(options["team"]) if options["team"] else None
        try:
            done = documents.take(found, by=COMMAND, owner=owner, dry_run=options["dry_run"], prune=options["prune"])
        except ControlPlaneError as exc:
            for error in exc.errors[1:]:
                self.stderr.write(documents.told(error))
            raise
        if options["json"]:
            told = [
                {"file": row.name, "suite": row.suite, "outcome": row.outcome, "version": row.version} for row in done
            ]
            self.stdout.write(orjson.dumps({"dry_run": options["dry_run"], "results": told}).decode())
            return
        would = "would be " * options["dry_run"]
        for row in done:
            version = f", version {row.version}" if row.version else ""
            self.stdout.write(f"{row.suite}: {would}{row.outcome}{version}")


def _files(path: Path) -> Iterator[Path]:
    """Yield the file, or all of a folder and those below it, in order; raises CommandError."""
    if path.is_dir():
        found = sorted(below for below in path.rglob("*") if below.suffix in ENDINGS and _is_meant(below, path))
        if not found:
            raise CommandError(f"there is no {', '.join(sorted(ENDINGS))} in {path}", returncode=2)
        yield from found
    elif path.is_file():
        yield path
    else:
        raise CommandError(f"there is no file or folder {path}", returncode=2)


def _is_meant(file: Path, folder: Path) -> bool:
    """Say whether it is a file, and nothing hidden is on the way to it: `.git` and `.venv` hold no suites of ours."""
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)


def _read(path: Path) -> str:
    """Return the text of a file, no further than tells that it is too large.

    What is no UTF-8 is told by whoever reads the suite, beside the faults of the other files.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode(errors="surrogateescape")
    except OSError as exc:
        raise CommandError(f"cannot read {path}: {unread(exc)}", returncode=2) from exc
