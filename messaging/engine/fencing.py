"""Which ends are still ours to tell, where the write that refuses the others comes too late to know.

The write ends a delivery under its lease alone. What counts tries before it, and what takes its answer by the
delivery's id, must not be told of an end whose lease another process took over meanwhile.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from messaging import store

if TYPE_CHECKING:
    from messaging.engine.record import Ended

Lease = tuple[UUID, UUID]  # delivery, token


def held(ended: Sequence["Ended"]) -> set[Lease]:
    """Return the leases of these deliveries as they are now."""
    return store.leases([item.finish.id for item in ended])


def lease_of(item: "Ended") -> Lease:
    """Return the lease under which it ended: by delivery, since of one claim another process may have taken a part."""
    return item.finish.id, item.finish.token


def one_each(ended: Sequence["Ended"]) -> Sequence["Ended"]:
    """Return the ends with one of each delivery: a process that was frozen may hold it under an old lease and a new."""
    if len({item.finish.id for item in ended}) == len(ended):
        return ended
    ours = held(ended)
    return [item for item in ended if lease_of(item) in ours]
