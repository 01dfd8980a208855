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


def held(ended: Sequence["Ended"]) -> set[UUID]:
    """Return the tokens of those whose leases are still theirs."""
    return store.leases([item.finish.id for item in ended])


def one_each(ended: Sequence["Ended"]) -> Sequence["Ended"]:
    """Return the ends with one of each delivery: a process that was frozen may hold it under an old lease and a new."""
    if len({item.finish.id for item in ended}) == len(ended):
        return ended
    tokens = held(ended)
    return [item for item in ended if item.finish.token in tokens]
