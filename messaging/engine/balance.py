"""Which of an interface's endpoints takes the next delivery: pure, one function a policy."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Choice(Protocol):
    """What a policy looks at."""

    in_flight: int
    sent: int
    weight: int
    tier: int

    def room(self) -> int:
        """Return how many more it takes at this moment."""
        ...


T = TypeVar("T", bound=Choice)


def _round_robin(free: Sequence[T]) -> T:
    return min(free, key=lambda door: door.sent)


def _weighted(free: Sequence[T]) -> T:
    return min(free, key=lambda door: (door.sent + 1) / door.weight)


def _least_in_flight(free: Sequence[T]) -> T:
    return min(free, key=lambda door: (door.in_flight, door.sent))


def _failover(free: Sequence[T]) -> T:
    return free[0]


POLICIES: dict[str, Callable[[Sequence[T]], T]] = {
    "round_robin": _round_robin,
    "weighted": _weighted,
    "least_in_flight": _least_in_flight,
    "failover": _failover,
}


def pick(doors: Sequence[T], policy: str) -> T | None:
    """Return the endpoint to use, None when all are full; `doors` come in order of tier and name.

    Only the lowest tier is used: a higher one takes over when no endpoint of it is usable.
    """
    if len(doors) == 1:
        return doors[0] if doors[0].room() > 0 else None
    free = [door for door in doors if door.tier == doors[0].tier and door.room() > 0]
    return POLICIES[policy](free) if free else None
