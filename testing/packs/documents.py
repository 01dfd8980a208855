"""A pack's suite: read from its folder, and written anew for the systems of whoever installs it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from endpoints.errors import NotFound, Refused
from testing.document.kinds import SLUG, TARGET
from testing.document.nodes import Node, unknown
from testing.document.reader import read_suite
from testing.document.suite import Suite
from testing.document.yaml_text import read_yaml
from testing.packs import PACKS, Pack

FOLDER = Path(__file__).parent
PREFIX = "pack:"  # before a pack's name, wherever a suite's could stand; no slug holds a colon
LABEL = "pack:"  # every suite that was made of a pack is labelled so, with the pack's name


@dataclass(frozen=True, slots=True)
class PackSuite:
    """A pack with its suite, read and checked."""

    name: str
    pack: Pack
    suite: Suite

    @property
    def label(self) -> str:
        return f"{LABEL}{self.name}"


@cache
def find(name: str) -> PackSuite:
    """Return a pack by its name; raises NotFound naming the nearest."""
    if name not in PACKS:
        raise NotFound(unknown("pack", name, sorted(PACKS)), code="unknown_pack")
    path = FOLDER / name / "suite.yaml"
    return PackSuite(name, PACKS[name], read_suite(path.read_bytes(), path.name))


def everything() -> Iterator[PackSuite]:
    """Yield all packs in the order of their names."""
    return map(find, sorted(PACKS))


def written_for(found: PackSuite, systems: Mapping[str, str], slug: str = "") -> str:
    """Return the pack's text with other systems behind its aliases, and another slug if one is given.

    Only those words change; comments and layout stay. Raises Refused for an alias that
    the pack does not have, and for what is no slug.
    """
    for alias, target in systems.items():
        if alias not in found.suite.systems:
            raise Refused(unknown("system", alias, list(found.suite.systems)), code="unknown_system")
        if not TARGET.fullmatch(target):
            raise Refused(f"'{target[:60]}' is not a system, nor system/interface", code="unknown_system")
    if slug and not SLUG.fullmatch(slug):
        raise Refused(f"'{slug[:60]}' is not a slug: it must match {SLUG.pattern}", code="bad_slug")
    root = read_yaml(found.suite.text)
    changes = [(root.value["systems"].value[alias], target) for alias, target in systems.items()]
    changes += [(root.value["suite"], slug)] if slug else []
    return _replaced(found.suite.text, changes)


def _replaced(text: str, changes: list[tuple[Node, str]]) -> str:
    """Return the text with plain words put in place of others; packs write slugs without quotes."""
    lines = text.splitlines(keepends=True)
    for node, word in sorted(changes, key=lambda change: change[0].mark, reverse=True):
        line, column = node.mark[0] - 1, node.mark[1] - 1
        behind = column + len(node.value)
        assert lines[line][column:behind] == node.value, "a pack's slugs are written plainly"
        lines[line] = f"{lines[line][:column]}{word}{lines[line][behind:]}"
    return "".join(lines)
