"""Caps divided among processes: whatever joins, leaves and is seen late, the parts never add up to more."""

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from messaging.engine.shares import Announced, Counted, Shares, part_of

ENDPOINTS = [UUID(int=number) for number in range(3)]


@given(total=st.integers(0, 50), count=st.integers(1, 9), endpoint=st.uuids())
def test_the_parts_of_a_view_add_up(total: int, count: int, endpoint: UUID) -> None:
    """None gets two more than another, and who is no member gets nothing."""
    view = tuple(UUID(int=number) for number in range(count))
    parts = [part_of(total, view, member, endpoint) for member in view]

    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1
    assert part_of(total, view, UUID(int=99), endpoint) == 0


@given(total=st.integers(0, 50), count=st.integers(1, 9), endpoint=st.uuids())
def test_a_smaller_total_gives_nobody_more(total: int, count: int, endpoint: UUID) -> None:
    """So processes whose clocks differ a little may be in different seconds of a slow start."""
    view = tuple(UUID(int=number) for number in range(count))

    assert all(part_of(total, view, member, endpoint) <= part_of(total + 1, view, member, endpoint) for member in view)


def test_one_alone_has_all_as_soon_as_it_announced() -> None:
    me = Shares(UUID(int=1))
    me.follow({me.member: Announced()})
    me.follow({me.member: Announced(me.view)})

    assert me.part(4, ENDPOINTS[0]) == 4
    assert me.is_settled


def test_who_counts_has_all_once_all_know_of_it_and_counts_from_then_on() -> None:
    """One alone need not; a newcomer takes nothing before the other one knows, and counts, too."""
    old, new = Counted(UUID(int=1)), Counted(UUID(int=2))
    alone, both = (old.member,), (old.member, new.member)
    old.follow({old.member: Announced()})
    old.follow({old.member: Announced(alone)})
    assert (old.part(4, ENDPOINTS[0]), old.has_others) == (4, False)

    new.follow({old.member: Announced(alone), new.member: Announced()})
    assert (new.part(4, ENDPOINTS[0]), new.rate_share(4, ENDPOINTS[0])) == (0, 0.0)
    old.follow({old.member: Announced(alone), new.member: Announced(both)})
    assert (old.part(4, ENDPOINTS[0]), old.has_others) == (4, True)
    for shares in (old, new):
        shares.follow({old.member: Announced(both), new.member: Announced(both)})
        assert (shares.part(4, ENDPOINTS[0]), shares.has_others) == (4, True)
        assert shares.rate_share(4, ENDPOINTS[0]) == 0.5


def test_who_is_still_over_its_part_keeps_the_others_waiting() -> None:
    """A newcomer gets its part of an endpoint when the sends of the others that exceed theirs have ended."""
    old, new = Shares(UUID(int=1)), Shares(UUID(int=2))
    busy, idle = ENDPOINTS[:2]
    alone, both = (old.member,), (old.member, new.member)
    old.follow({old.member: Announced()})
    old.follow({old.member: Announced(alone)})
    loads = {busy: (4, 4), idle: (1, 4)}
    new.follow({old.member: Announced(alone), new.member: Announced()})
    old.follow({old.member: Announced(alone), new.member: Announced(both)})
    assert (old.part(4, busy), new.part(4, busy)) == (2, 0)

    said = Announced(old.view, frozenset(old.still_over(loads)))
    assert said == Announced(both, frozenset({busy}))
    for shares in (old, new):
        shares.follow({old.member: said, new.member: Announced(both)})
    assert (new.part(4, busy), new.part(4, idle), new.is_settled) == (0, 2, False)

    for shares in (old, new):
        shares.follow({old.member: Announced(both), new.member: Announced(both)})
    assert (new.part(4, busy), new.is_settled) == (2, True)


def test_a_view_that_some_may_have_settled_on_binds_until_a_later_one_is_settled() -> None:
    """Cap 1: the part goes from b to c and back to b, and c, who has not seen the last change yet, still uses it."""
    a, b, c, d = (UUID(int=number) for number in range(1, 5))
    first, second, third = (a, b), (a, b, c), (a, b, c, d)
    endpoint = next(
        endpoint
        for endpoint in map(UUID, (f"{number:032x}" for number in range(100)))
        if [part_of(1, *which, endpoint) for which in ((first, b), (second, c), (third, b))] == [1, 1, 1]
    )
    mine = Shares(b)
    mine.follow({a: Announced(first), b: Announced()})
    mine.follow({a: Announced(first), b: Announced(first)})
    assert mine.part(1, endpoint) == 1
    mine.follow({a: Announced(first), b: Announced(first), c: Announced()})
    mine.follow({a: Announced(second), b: Announced(second), c: Announced(second), d: Announced()})

    assert mine.part(1, endpoint) == 0
    mine.follow({member: Announced(third) for member in third})
    assert mine.part(1, endpoint) == 1


def test_who_was_silent_for_too_long_begins_without_a_part() -> None:
    """The others may have divided everything among themselves meanwhile."""
    me, other = Shares(UUID(int=1)), UUID(int=2)
    both = (me.member, other)
    me.follow(dict.fromkeys(both, Announced()))
    me.follow(dict.fromkeys(both, Announced(both)))
    me.leave()
    me.follow({me.member: Announced(), other: Announced((other,))})
    assert me.part(4, ENDPOINTS[0]) == 0

    me.follow(dict.fromkeys(both, Announced(both)))
    assert me.part(4, ENDPOINTS[0]) == 2


class Crowd(RuleBasedStateMachine):
    """Members that follow a shared table at moments of their own, and send as much as they may."""

    cap = 4

    @initialize()
    def begin(self) -> None:
        self.table: dict[UUID, Announced] = {}
        self.members: dict[UUID, Shares] = {}
        self.flying: dict[UUID, dict[UUID, int]] = {}
        self.next_id = 1

    @rule(position=st.integers(0, 999))
    def join(self, position: int) -> None:
        """Ids come in any order, so that ranks move."""
        member = UUID(int=position * 1000 + self.next_id)
        self.next_id += 1
        if len(self.members) < 5:
            self.members[member] = Shares(member)
            self.flying[member] = dict.fromkeys(ENDPOINTS, 0)
            self.table[member] = Announced()

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """By SIGTERM after draining, or killed and seen to be gone: nothing of it is on its way."""
        if self.members:
            member = data.draw(st.sampled_from(sorted(self.members)))
            del self.members[member], self.flying[member], self.table[member]

    @rule(data=st.data(), steps=st.integers(1, 3))
    def attend(self, data: st.DataObject, steps: int) -> None:
        """Announce, read, follow: as a process does four times a second."""
        if not self.members:
            return
        member = data.draw(st.sampled_from(sorted(self.members)))
        shares, flying = self.members[member], self.flying[member]
        for _ in range(steps):
            loads = {endpoint: (count, self.cap) for endpoint, count in flying.items()}
            over = frozenset() if shares.is_settled else frozenset(shares.still_over(loads))
            self.table[member] = Announced(shares.view, over)
            shares.follow(dict(self.table))

    @rule(data=st.data(), endpoint=st.sampled_from(ENDPOINTS))
    def send(self, data: st.DataObject, endpoint: UUID) -> None:
        if self.members:
            member = data.draw(st.sampled_from(sorted(self.members)))
            self.flying[member][endpoint] = max(
                self.flying[member][endpoint], self.members[member].part(self.cap, endpoint)
            )

    @rule(data=st.data(), endpoint=st.sampled_from(ENDPOINTS))
    def end_one(self, data: st.DataObject, endpoint: UUID) -> None:
        if self.members:
            member = data.draw(st.sampled_from(sorted(self.members)))
            self.flying[member][endpoint] = max(0, self.flying[member][endpoint] - 1)

    @invariant()
    def the_cap_holds(self) -> None:
        for endpoint in ENDPOINTS:
            assert sum(flying[endpoint] for flying in getattr(self, "flying", {}).values()) <= self.cap

    def teardown(self) -> None:
        """However it went, those who are left share everything in the end."""
        if not getattr(self, "members", None):
            return
        for flying in self.flying.values():
            flying.update(dict.fromkeys(ENDPOINTS, 0))
        for _ in range(4):
            for member, shares in self.members.items():
                self.table[member] = Announced(shares.view)
                shares.follow(dict(self.table))
        for endpoint in ENDPOINTS:
            assert sum(shares.part(self.cap, endpoint) for shares in self.members.values()) == self.cap


Crowd.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_the_cap_holds_whoever_joins_and_leaves = Crowd.TestCase
