"""Protocols that other packages bring, by entry point: group `controlplane.transports`, `protocol = "module:Class"`.

What is installed is asked once per process, and a class is loaded when it is first
needed. A package that cannot be used takes nothing down: it is told in the log and
by `controlplane check` and `doctor`, and its endpoints fail with that very reason.
"""

import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points

import structlog

from endpoints.errors import Refused
from endpoints.transports.base import Transport

GROUP = "controlplane.transports"
NAME = re.compile(r"[a-z][a-z0-9+.-]{0,19}")  # a scheme (RFC 3986, 3.1) that the table of endpoints has room for

log = structlog.get_logger(__name__)


@cache
def offered() -> dict[str, EntryPoint]:
    """Return the entry points by protocol; of several with one name the first found."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=_package):
        if point.name in found:
            log.warning("transport_offered_twice", protocol=point.name, package=_package(point))
        found.setdefault(point.name, point)
    return found


@cache
def added_class(protocol: str) -> type[Transport] | str | None:
    """Return the class that a package brings for `protocol`, or why it cannot be used; None when nobody offers one."""
    point = offered().get(protocol)
    if point is None:
        return None
    found = _loaded(point)
    if isinstance(found, str):
        log.error("transport_not_usable", protocol=protocol, package=_package(point), reason=found)
    return found


def require(protocol: str) -> type[Transport] | None:
    """Return the class, None when nobody offers one; raises Refused with the reason when it cannot be used."""
    found = added_class(protocol)
    if isinstance(found, str):
        package = _package(offered()[protocol])
        raise Refused(f"protocol '{protocol}' of package '{package}' {found}", code="unknown_protocol")
    return found


def faults(built_in: frozenset[str]) -> list[tuple[str, str, str]]:
    """Return (protocol, package, what is wrong with it) of all that is offered and cannot be used."""
    found = []
    for protocol, point in offered().items():
        reason = "is one of ours, which is used" if protocol in built_in else added_class(protocol)
        if isinstance(reason, str):
            found.append((protocol, _package(point), reason))
    return found


def _loaded(point: EntryPoint) -> type[Transport] | str:
    if not NAME.fullmatch(point.name):
        return "has no name that a protocol can have: letters in lower case, digits, + . -, at most 20"
    try:
        found = point.load()
    except Exception as exc:  # noqa: BLE001  # told by whoever asks
        return f"cannot be loaded: {type(exc).__name__}: {exc}"[:300]
    if not (isinstance(found, type) and issubclass(found, Transport)):
        return f"is no Transport: {point.value}"
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        return f"does not implement {', '.join(missing)}"
    return found


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else ""
