"""All lanes of one process: one for each interface, and one for each delivery that must be alone."""

import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from messaging.engine.attempt import postponed
from messaging.engine.doors import Door, Interface, Registry
from messaging.engine.lane import Lane, TrialLane
from messaging.engine.record import Ended, Wanted
from messaging.store import Claim

# A suspect is alone while it is likely to take us down, which is at once. One that merely
# hangs must not hold back the others: a crash beside a hanging receiver leaves many such.
SUSPECT_ALONE_S = 0.5
MAX_SUSPECTS = 32
HELD = 3  # for each send: one on its way, and what it ends with while the next are claimed
ANY = sys.maxsize // 4  # however many sends the endpoints allow


class Lanes:
    """Gives each claim to the lane it belongs to; what cannot be sent is handed to `report` at once.

    All together have no more than `sends` on their way, and hold no more than HELD times as many beside
    what waits for a rate: what would only wait here for its place is left to other processes.
    """

    def __init__(self, report: Callable[[Ended], None], may_begin: Callable[[], bool], sends: int) -> None:
        self._report, self._may_begin, self._sends = report, may_begin, sends
        self._places = asyncio.Semaphore(sends)
        self._lanes: dict[Interface, Lane] = {}
        self._suspects: list[Lane] = []  # one each
        self._trials: list[Lane] = []
        self._suspect_at = float("-inf")
        self._starved: set[Interface] = set()  # what had no room left when there was more to claim
        self._had_suspect = False

    def all(self) -> list[Lane]:
        return [*self._lanes.values(), *self._suspects, *self._trials]

    def tokens(self) -> set[UUID]:
        """Return the lease tokens of everything held."""
        return set[UUID]().union(*(lane.tokens() for lane in self.all()))

    def use(self, doors: dict[Interface, list[Door]]) -> None:
        """Send through these, closed breakers only; what is queued for others is given back by whoever tends us."""
        for interface in self._lanes.keys() - doors.keys():
            self._lanes[interface].use(())
        for interface, usable in doors.items():
            lane = self._lanes.setdefault(interface, self._lane())
            lane.use([door for door in usable if not door.gate.is_open])
        known = {door.id: door for usable in doors.values() for door in usable}
        for lane in (*self._suspects, *self._trials):
            lane.keep(known)

    def rooms(self) -> dict[Interface, int]:
        """Return how much to claim for which interface."""
        rooms = {interface: room for interface, lane in self._lanes.items() if (room := lane.room()) > 0}
        left = HELD * self._sends - sum(lane.held for lane in self._lanes.values() if not lane.is_rate_bound)
        if left < self._sends:
            return {}  # until there is more to fetch at once: to claim a few takes as long
        return rooms if sum(rooms.values()) <= left else _divided(rooms, left)

    def capacity(self, interface: Interface) -> int:
        """Return how many of an interface may be on their way at once."""
        return self._lanes[interface].capacity

    def held(self, interface: Interface) -> int:
        """Return how many of an interface are ours now."""
        return self._lanes[interface].held

    def may_claim_more(self, rooms: dict[Interface, int]) -> bool:
        """Say whether room came back where the last claim left something due."""
        return not self._starved.isdisjoint(rooms) or (self._had_suspect and self.may_take_suspect())

    @property
    def has_suspects(self) -> bool:
        """Say whether a suspect was on its way a moment ago: its end lets the next one go."""
        return bool(self._suspects)

    def may_take_suspect(self) -> bool:
        """Say whether no suspect is on its way, or none that just began."""
        self._suspects = [lane for lane in self._suspects if lane.held]
        is_alone = time.monotonic() - self._suspect_at < SUSPECT_ALONE_S
        return not self._suspects or (not is_alone and len(self._suspects) < MAX_SUSPECTS)

    def claimed(
        self, before: Iterable[Interface], left: dict[Interface, int], claims: Sequence[Claim], wanted: Wanted
    ) -> None:
        """Learn from a claim of what was `wanted`: `before` are the interfaces it was for, `left` the room it left."""
        full = self._lanes.keys() - set(before)
        known = self._starved if wanted.only_next else set()
        self._starved = known | full | {interface for interface, room in left.items() if room <= 0}
        if wanted.with_suspect:
            self._had_suspect = any(claim.losses and claim.trial is None for claim in claims)

    def rate_bound(self) -> set[Interface]:
        """Return the interfaces that had more to send than their rate allows."""
        return {interface for interface in self._starved if self._lanes[interface].is_rate_bound}

    def put(self, registry: Registry, claims: Iterable[Claim], held_until: float, ahead: timedelta) -> None:
        """Hand claims on, ours until `held_until` (monotonic)."""
        by_lane: dict[Lane, list[Claim]] = {}
        for claim in claims:
            interface = (claim.system_id, claim.interface)
            doors = registry.doors.get(interface, [])
            if claim.trial is not None:
                by_lane[self._trial([door for door in doors if door.id == claim.trial])] = [claim]
            elif not claim.losses:
                by_lane.setdefault(self._lanes[interface], []).append(claim)
            elif usable := [door for door in doors if not door.gate.is_open]:
                by_lane[self._alone(usable)] = [claim]
            else:  # its endpoint cannot be used as it stands: the next suspect must have its turn
                self._report(Ended(postponed(claim)))
        for lane, mine in by_lane.items():
            lane.clock_ahead = ahead
            lane.put(mine, held_until)

    def _lane(self, kind: type[Lane] = Lane) -> Lane:
        return kind(self._report, self._may_begin, self._places)

    def _alone(self, doors: Sequence[Door]) -> Lane:
        lane = self._lane()
        lane.use(doors)
        self._suspects.append(lane)
        self._suspect_at = time.monotonic()
        return lane

    def _trial(self, doors: Sequence[Door]) -> Lane:
        """Return a lane for a delivery on trial; without its door it is given back, and tried by another."""
        self._trials = [lane for lane in self._trials if lane.held]
        lane = self._lane(TrialLane)
        lane.use(doors)
        self._trials.append(lane)
        return lane


def _divided(rooms: dict[Interface, int], left: int) -> dict[Interface, int]:
    """Return what of `rooms` there is place for: equal parts, and where they are too many, another choice each time."""
    part = max(left // len(rooms), 1)
    chosen = random.sample(list(rooms), min(left, len(rooms)))
    return {interface: min(rooms[interface], part) for interface in chosen}
