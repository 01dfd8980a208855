"""Who may use how much of a cap when several processes send to the same endpoint: pure.

Every member divides each cap by the members it sees, its view. Views change at different
moments, so a member announces its new view first, and keeps to the least that any view
since the last settled one gives it, until all members have announced the same. On
an endpoint where some member is still over its new part, the others wait for that, too.
So the parts in use never add up to more than the cap.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

View = tuple[UUID, ...]  # in order


@dataclass(frozen=True, slots=True)
class Announced:
    """What a member said last: the view it keeps to, and the endpoints on which it is still over its part of it."""

    view: View = ()
    over: frozenset[UUID] = frozenset()


def part_of(total: int, view: View, member: UUID, endpoint: UUID) -> int:
    """Return the part of `total` that is `member`'s; the parts of all members of `view` add up to it.

    What cannot be divided goes to other members for other endpoints, so that many
    endpoints with a cap of one are spread over all.
    """
    if member not in view:
        return 0
    turn = (view.index(member) + endpoint.int) % len(view)
    return total // len(view) + (turn < total % len(view))


@dataclass(slots=True)
class Shares:
    """The parts of one member."""

    member: UUID
    views: list[View] = field(default_factory=lambda: [()])  # the settled one, and those seen since
    is_announced: bool = False  # all members have announced the last view
    over: frozenset[UUID] = frozenset()  # endpoints on which some member was still over its part

    @property
    def view(self) -> View:
        """Return the view to announce."""
        return self.views[-1]

    @property
    def is_settled(self) -> bool:
        return len(self.views) == 1 and bool(self.view)

    def leave(self) -> None:
        """Have no part any more: we were silent for so long that the others may count us as gone."""
        self.views, self.is_announced, self.over = [()], False, frozenset()

    def follow(self, members: Mapping[UUID, Announced]) -> bool:
        """Take in what the living members announced, we among them; return whether any part changed."""
        before = (len(self.views), self.view, self.is_announced, self.over)
        live = tuple(sorted(members))
        if self.member in members and live != self.view:
            self.views.append(live)
        self.is_announced = live == self.view and all(said.view == live for said in members.values())
        self.over = frozenset[UUID]().union(*(said.over for said in members.values()))
        if self.is_announced and not self.over:
            del self.views[:-1]
        return before != (len(self.views), self.view, self.is_announced, self.over)

    @property
    def has_others(self) -> bool:
        """Say whether somebody else may have a part."""
        return any(len(view) > 1 for view in self.views)

    def rate_share(self, cap: int, endpoint: UUID) -> float:
        """Return which share of an endpoint's rate is ours."""
        return self.part(cap, endpoint) / cap

    def part(self, total: int, endpoint: UUID) -> int:
        """Return how much of `total` may be used by us."""
        if self.is_announced and endpoint not in self.over:
            return part_of(total, self.view, self.member, endpoint)
        return min(part_of(total, view, self.member, endpoint) for view in self.views)

    def still_over(self, in_flight: Mapping[UUID, tuple[int, int]]) -> Collection[UUID]:
        """Return the endpoints of {endpoint: (in flight, cap)} on which we have more than our last view gives."""
        return [
            endpoint
            for endpoint, (count, cap) in in_flight.items()
            if count > part_of(cap, self.view, self.member, endpoint)
        ]


class Counted(Shares):
    """The parts of a member who counts what all of them hold before it takes more, as long as there are others.

    Then nothing need be divided, and nothing lies idle at members that nobody is connected to. A newcomer
    takes nothing before all know of it: until then one alone need not count. Rates are divided all the same.
    """

    def part(self, total: int, endpoint: UUID) -> int:
        return total if self.is_announced or all(self.member in view for view in self.views) else 0

    def rate_share(self, cap: int, endpoint: UUID) -> float:
        return 1 / max(map(len, self.views)) if self.part(cap, endpoint) else 0.0

    def still_over(self, in_flight: Mapping[UUID, tuple[int, int]]) -> list[UUID]:
        return []


def as_view(ids: Sequence[str]) -> View:
    """Read a view as it is stored."""
    return tuple(UUID(item) for item in ids)
