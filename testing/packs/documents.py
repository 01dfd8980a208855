"""A pack's suite: read from its folder, and written anew for the systems of whoever installs it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import structlog

from endpoints.errors import NotFound, Refused
from testing.document.kinds import SLUG, TARGET
from testing.document.nodes import Node, unknown
from testing.document.reader import read_suite
from testing.document.suite import Suite
from testing.document.yaml_text import read_yaml
from testing.errors import BadDocument
from testing.packs import PACKS, Pack, added

FOLDER = Path(__file__).parent
PREFIX = "pack:"  # before a pack's name, wherever a suite's could stand; no slug holds a colon
LABEL = "pack:"  # every suite that was made of a pack is labelled so, with the pack's name

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PackSuite:
    """A pack with its suite, read and checked."""

    name: str
    pack: Pack
    suite: Suite

    @property
    def label(self) -> str:
        return f"{LABEL}{self.name}"


def find(name: str) -> PackSuite:
    """Return a pack by its name; raises NotFound naming the nearest, or saying why it cannot be used."""
    found = _read(name)
    if isinstance(found, PackSuite):
        return found
    raise NotFound(found or unknown("pack", name, names()), code="unknown_pack")


def names() -> list[str]:
    """Return the names of all packs there are: our own, and those of packages that can be used."""
    return sorted({*PACKS, *(name for name in added.offered() if isinstance(_read(name), PackSuite))})


def everything() -> Iterator[PackSuite]:
    """Yield all packs in the order of their names."""
    return map(find, names())


def unusable() -> list[str]:
    """Return what to say of each pack that a package offers and that cannot be used."""
    return [found for name in added.offered() if isinstance(found := _read(name), str)]


@cache
def _read(name: str) -> PackSuite | str:
    """Return a pack, or why there is none; "" when nobody offers it."""
    if name in PACKS:
        path = FOLDER / name / "suite.yaml"
        return PackSuite(name, PACKS[name], read_suite(path.read_bytes(), path.name))
    if name not in added.offered():
        return ""
    found = added.loaded(name)
    whole = found if isinstance(found, str) else _whole(name, *found)
    if isinstance(whole, PackSuite):
        return whole
    told = f"pack '{name[:60]}' of package '{added.package_of(added.offered()[name])}' {whole}"
    log.error("pack_not_usable", pack=name, reason=told)
    return told


def _whole(name: str, pack: Pack, body: bytes) -> PackSuite | str:
    """Return a pack of others, or in what its suite does not fit its row."""
    try:
        suite = read_suite(body, "suite.yaml")
    except BadDocument as exc:
        return f"has a bad suite: {exc.detail}"
    if set(suite.systems) != set(pack.targets):
        return f"names the systems {sorted(suite.systems)} in its suite, and {sorted(pack.targets)} in its row"
    if f"{LABEL}{name}" not in suite.labels:
        return f"lacks the label '{LABEL}{name}' in its suite"
    return PackSuite(name, pack, suite)


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
