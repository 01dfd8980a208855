"""Packs that other packages bring, by entry point: group `controlplane.packs`, `name = "package:PACK"`.

`PACK` is a row as in our own table, and `suite.yaml` lies in the same package. What is
installed is asked once per process. A package that cannot be used takes nothing down:
it is told in the log and by `controlplane packs list`, and asking for its pack says why.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files

import structlog

from testing.document.kinds import SLUG
from testing.document.reader import MAX_BYTES
from testing.packs import PACKS, Pack

GROUP = "controlplane.packs"
Found = tuple[Pack, bytes]

log = structlog.get_logger(__name__)


@cache
def offered() -> dict[str, EntryPoint]:
    """Return the entry points by name; of several with one name the first found, of our own names none."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=package_of):
        if point.name in found or point.name in PACKS:
            log.warning("pack_offered_twice", pack=point.name, package=package_of(point))
        else:
            found[point.name] = point
    return found


@cache
def loaded(name: str) -> Found | str:
    """Return a row and the text of its suite, or why they cannot be used."""
    point = offered()[name]
    if not SLUG.fullmatch(name):
        return f"has no name that a pack can have: it must match {SLUG.pattern}"
    try:
        pack, file = point.load(), files(point.module) / "suite.yaml"
        body = file.read_bytes() if file.is_file() else None
    except Exception as exc:  # noqa: BLE001  # told by whoever asks
        return f"cannot be loaded: {type(exc).__name__}: {exc}"[:300]
    if not isinstance(pack, Pack):
        return f"is no Pack: {point.value}"
    if body is None or len(body) > MAX_BYTES:
        return "has no suite.yaml of at most 1 MiB in its package"
    return pack, body


def package_of(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else ""
