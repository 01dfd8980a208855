"""How many connections that stay open one caller, and one address, may have at this process: each is memory of ours.

Counted apart for every kind of connection, by whoever serves it; one event loop's alone.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import structlog

from endpoints.access.principal import Principal
from endpoints.edge.seldom import Seldom
from endpoints.errors import LimitExceeded

RETRY_AFTER_S = 10

log = structlog.get_logger(__name__)


class Places:
    """The places of one kind of connection."""

    def __init__(self, kind: str, *, per_address: int, per_caller: int) -> None:
        self._kind = kind
        self._most = {"address": per_address, "key": per_caller}
        self._taken: Counter[tuple[str, str]] = Counter()
        self._lines = Seldom()

    def enter(self, address: str) -> "Place":
        """Return the place of a connection from `address`, to be left; raises LimitExceeded when it has too many."""
        place = Place(self)
        place.take("address", address)
        return place

    def take(self, what: str, who: str) -> None:
        """Count one more; raises LimitExceeded when that is too many, with nothing counted."""
        if self._taken[what, who] >= self._most[what]:
            if (left_out := self._lines.left_out(what)) is not None:
                log.warning("too_many_connections", kind=self._kind, of=what, who=who, left_out=left_out)
            raise LimitExceeded(
                f"this {what} has {self._most[what]} {self._kind} open here, close some or try again later",
                retry_after_s=RETRY_AFTER_S,
            )
        self._taken[what, who] += 1

    def give_back(self, what: str, who: str) -> None:
        """Count one less."""
        self._taken[what, who] -= 1
        if not self._taken[what, who]:
            del self._taken[what, who]


class Place:
    """What one connection takes up: a place of its address and, once it is known, one of its caller."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._taken: list[tuple[str, str]] = []

    def take(self, what: str, who: str) -> None:
        self._places.take(what, who)
        self._taken.append((what, who))

    def belong_to(self, caller: Principal) -> None:
        """Count the connection to `caller`, too; raises LimitExceeded when that one has too many."""
        self.take("key", caller.key_id or caller.label)

    def leave(self) -> None:
        """Give everything back; a second time does nothing."""
        while self._taken:
            self._places.give_back(*self._taken.pop())


def address_of(scope: Mapping[str, Any]) -> str:
    """Return where a connection comes from, as far as the server knows."""
    client = scope.get("client")
    return str(client[0]) if isinstance(client, (list, tuple)) and client else "unknown"
