"""One interface's share of the engine: what is claimed for it, what is on its way, within its endpoints' caps."""

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from messaging.engine.attempt import cut_attempt, emptied, expired, make_attempt
from messaging.engine.balance import pick
from messaging.engine.doors import Door
from messaging.engine.record import Ended
from messaging.engine.responses import answer_of
from messaging.store import Claim

# How much is claimed beyond what is on its way: half a second's work, so a
# fast receiver never waits for the database and a slow one holds little of ours.
AHEAD_S = 0.5
MAX_AHEAD = 32
JUST_NOW_S = 0.05  # a rate is over so long at least: a few that ended together do not say much


class Lane:
    """Sends what it is given, as many at once as the endpoints allow; hands every end to `report`.

    It begins nothing while `may_begin` says no: what cannot be written down would only be sent twice.
    Each send takes one of `places`, which all lanes share; who waits longest for one is next.
    """

    def __init__(
        self, report: Callable[[Ended], None], may_begin: Callable[[], bool], places: asyncio.Semaphore
    ) -> None:
        self._report, self._may_begin, self._places = report, may_begin, places
        self._doors: Sequence[Door] = ()
        self._queue: deque[Claim] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._sending: dict[int, Claim] = {}  # by identity: after an outage a delivery may be here twice
        self._finished = 0
        self._rate = 0.0
        self._measured_at = time.monotonic()
        self._held_until = math.inf
        self.clock_ahead = timedelta()

    @property
    def capacity(self) -> int:
        """Return how many may be on their way at once, over all endpoints of the lowest usable tier."""
        return sum(door.gate.limit for door in self._doors if door.tier == self._doors[0].tier)

    @property
    def held(self) -> int:
        return len(self._queue) + len(self._sending)

    def claims(self) -> list[Claim]:
        """Return what is queued or on its way."""
        return [*self._queue, *self._sending.values()]

    def tokens(self) -> set[UUID]:
        """Return the lease tokens of everything held, to be renewed."""
        return {claim.token for claims in (self._queue, self._sending.values()) for claim in claims}

    def use(self, doors: Sequence[Door]) -> None:
        """Send through `doors` from now on; none of them means that what is not on its way must wait."""
        self._doors = doors

    def keep(self, usable: Mapping[UUID, Door]) -> None:
        """Send through what is still usable of the endpoints in use, with the settings they have now."""
        self._doors = [usable[door.id] for door in self._doors if door.id in usable]

    def room(self) -> int:
        """Return how many more to claim: none until half is used up or a place is idle, so that claims are worth it."""
        capacity = self.capacity
        allowed = capacity + min(int(self._pace() * AHEAD_S), MAX_AHEAD * capacity)
        room = allowed - self.held if self.held <= max(allowed // 2, capacity - 1) else 0
        return min(room, self._rate_room()) if room else 0

    def _pace(self) -> float:
        """Return the current rate; one that has just begun to rise is believed at once, or we would wait for claims."""
        return max(self._rate, self._finished / max(time.monotonic() - self._measured_at, JUST_NOW_S))

    @property
    def is_rate_bound(self) -> bool:
        """Say whether the next send must wait for a rate, through whichever endpoint."""
        now = time.monotonic()
        lowest = [door.gate for door in self._doors if door.tier == self._doors[0].tier]
        return self.capacity > 0 and all(gate.rate is not None and gate.next_at > now for gate in lowest)

    def _rate_room(self) -> int:
        """Return how many more the endpoints' rates let us take: no more than they send within a second."""
        now = time.monotonic()
        allowance = sum(door.gate.allowance(now) for door in self._doors if door.tier == self._doors[0].tier)
        queued = len(self._queue)
        if allowance == math.inf:
            return sys.maxsize
        return int(allowance) - queued if queued <= allowance // 2 else 0

    @property
    def is_lapsed(self) -> bool:
        """Say whether the leases of what is queued may have run out: another worker may be sending it by now."""
        return time.monotonic() >= self._held_until

    def renewed(self, held_until: float) -> None:
        """Go on with what is queued until then; what lapsed before stays so, since it may be another's already."""
        if not self.is_lapsed:
            self._held_until = held_until

    def put(self, claims: Iterable[Claim] = (), held_until: float = math.inf) -> None:
        """Take claims over, ours until `held_until` (monotonic); each ends in one report, or in `take_unsent`."""
        self._held_until = min(self._held_until, held_until) if self._queue else held_until
        self._queue.extend(claims)
        for _ in range(min(len(self._queue), self.capacity - len(self._workers))):
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    def take_unsent(self) -> list[Claim]:
        """Give up everything that is not on its way."""
        unsent = list(self._queue)
        self._queue.clear()
        return unsent

    def measure(self, elapsed_s: float) -> None:
        """Learn the current rate; called about four times a second."""
        self._rate = 0.5 * self._rate + 0.5 * self._finished / elapsed_s
        self._finished, self._measured_at = 0, time.monotonic()

    async def drain(self, timeout_s: float) -> None:
        """Let what is on its way end within `timeout_s`, then break it off; queue nothing meanwhile.

        What waits for a rate is not on its way: it is left to `take_unsent`.
        """
        self.use(())
        if not self._workers:
            return
        _, late = await asyncio.wait(self._workers, timeout=timeout_s)
        for worker in late:
            worker.cancel()
        if late:
            await asyncio.wait(late)

    async def _work(self) -> None:
        """Send one after the other until nothing is queued, no endpoint is free, or nothing may be begun."""
        while self._queue and not self.is_lapsed and self._may_begin():
            door = self._door()
            if door is None:
                return
            await self._take_next(door)

    async def _take_next(self, door: Door) -> None:
        claim = self._queue.popleft()
        self._sending[id(claim)] = claim
        door.begin()
        try:
            wait_s = door.gate.wait_s(time.monotonic())
            if wait_s:
                await asyncio.sleep(wait_s)  # in no place: it would be kept from who need not wait
            must_ask = wait_s or self._places.locked()
            async with self._places:
                if not must_ask or self._may_still(door):
                    self._report(await self._send(claim, door))
                    self._finished += 1
                else:
                    self._queue.appendleft(claim)
        except asyncio.CancelledError:  # by `drain`, and nothing was begun
            self._queue.appendleft(claim)
            raise
        finally:
            door.end()
            del self._sending[id(claim)]

    def _may_still(self, door: Door) -> bool:
        """Say whether what a claim was taken for still holds, however long it waited since."""
        is_used = any(door is one for one in self._doors) and time.monotonic() < door.closes_at
        return is_used and not self.is_lapsed and self._may_begin() and self._may_pass(door)

    def _may_pass(self, door: Door) -> bool:
        """Say whether what its endpoint did meanwhile lets a send through."""
        return door.gate.limit > 0 and not door.gate.is_open

    def _door(self) -> Door | None:
        return pick(self._doors, self._doors[0].balancing) if self._doors else None

    async def _send(self, claim: Claim, door: Door) -> Ended:
        started_at = datetime.now(UTC) + self.clock_ahead
        if claim.expires_at is not None and claim.expires_at <= started_at:
            return Ended(expired(claim), trial=claim.trial)
        if claim.payload is None:
            return Ended(emptied(claim), trial=claim.trial)
        started = time.perf_counter()
        try:
            finish, reply, is_gone = await make_attempt(claim, door, self.clock_ahead)
        except asyncio.CancelledError:
            # Only `drain` cancels: report what is known, which is that nothing is, and end.
            return Ended(
                cut_attempt(claim, door, started_at, (time.perf_counter() - started) * 1000), trial=claim.trial
            )
        response = answer_of(claim, reply) if reply else None
        return Ended(finish, response, door.id if is_gone else None, claim.trial)


class TrialLane(Lane):
    """Sends the one delivery that an open breaker lets through, to the endpoint it stands before."""

    @property
    def capacity(self) -> int:
        return int(self._door() is not None)

    def _door(self) -> Door | None:
        return next((door for door in self._doors if time.monotonic() < door.closes_at), None)

    def _may_pass(self, door: Door) -> bool:
        return True
