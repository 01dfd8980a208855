"""The delivery engine of one process: claim -> send -> finish, and the sweeps that keep the table honest.

The row is the queue. `_turn_over` finishes in batches whatever ended and leases what is due for lanes with room, in
one transaction on SQLite; on PostgreSQL `_write_down` finishes beside it. `_tend` renews leases, recovers what others
lost, and looks twice a second at what became due or changed: registry, breakers, the processes that share the caps.
"""

import asyncio
import time
from datetime import datetime

import structlog

from endpoints.ids import new_id
from endpoints.models import Breaker
from endpoints.transports import protocols_claimed_by
from messaging import store
from messaging.engine import at_once, holding, judging, record
from messaging.engine.crowd import Crowd
from messaging.engine.database import Database
from messaging.engine.doors import DELIVER, Interface, Registry, Retiring, read, take_over
from messaging.engine.gates import Gates
from messaging.engine.lane import Lane
from messaging.engine.lanes import ANY, Lanes
from messaging.engine.marking import Marker, Step
from messaging.engine.record import Ended, Wanted
from messaging.engine.rounds import EVERY_S, make_rounds
from messaging.engine.shares import Shares
from messaging.engine.sharing import Target
from messaging.engine.sweeping import Sweeper
from messaging.store import Glance
from messaging.wakeups import DONE, DUE, Listener, Notifier

log = structlog.get_logger(__name__)

POLL_S = 0.5  # how late a due time may be noticed when no hint came
LOOK_S = 0.5
SWEEP_S = 1.0
READ_AGAIN_S = 30.0  # a change made on a host whose clock is behind does not show in the stamp
SEND_CUT_S, WRITE_CUT_S = 20.0, 21.0  # after `stop`: what is on its way is broken off, and what ended is left
MAX_ENDED = 1000


class Worker:
    """Run it with `run`, end it with `stop`; one per process and claimer (see `Transport.CLAIMED_BY`)."""

    def __init__(self, lease_s: float, claimer: str = DELIVER, shares: type[Shares] = Shares, sends: int = ANY) -> None:
        self._lease_s, self._claimer, self._protocols = lease_s, claimer, protocols_claimed_by(claimer)
        # SQLite has one writer: one transaction for all. On PostgreSQL no claim waits until what ended is on the disk.
        self._database = Database("engine-database")
        self._ledger = Database("engine-ledger") if store.is_postgresql() else self._database
        self._is_apart, self._try = self._ledger is not self._database, self._database.call
        self._lanes = Lanes(self._report, self._ledger.answers, sends)
        self._gates = Gates(shares(new_id()))
        self._crowd = Crowd(self._gates.shares, self._gates.loads, self._try, lease_s, claimer)
        self._tally = judging.Tally()
        self._looked_at: datetime | None = None
        self._seen_at = float("-inf")  # on the monotonic clock
        self._is_stopped = False  # everything is, by a person
        self._registry = Registry()
        self._ended: list[Ended] = []
        self._released: list[Target] = []  # where an end let the next of its ordering key go
        self._stopping = asyncio.Event()
        self._drained, self._cut_at = False, float("inf")
        self._wake = Listener(DUE)
        self._news = asyncio.Event() if self._is_apart else self._wake.event  # something ended
        self._done, self._due = Notifier(DONE), Notifier(DUE)
        self._retiring, self._read_again_at = Retiring(), 0.0
        self._marker, self._sweeper = Marker(self._try), Sweeper(self._try, self._wake.event.set)

    def stop(self) -> None:
        """Claim nothing more, let what is on its way end, then return from `run`."""
        self._cut_at = min(self._cut_at, time.monotonic() + WRITE_CUT_S)
        self._stopping.set()
        self._wake.event.set()

    async def run(self) -> None:
        """Deliver until `stop`."""
        await self._wake.open()
        await self._crowd.join()
        await self._look()
        turns = [asyncio.create_task(self._turn_over(), name="turn")]
        if self._is_apart:
            turns.append(asyncio.create_task(self._write_down(), name="write"))
        tending = asyncio.create_task(self._tend(), name="tend")
        marking = asyncio.create_task(self._marker.run(), name="mark")
        stopping = asyncio.create_task(self._stopping.wait(), name="stop")
        try:
            # A loop that ends by itself has failed: write down what is known, then let the supervisor start anew.
            await asyncio.wait((*turns, tending, marking, stopping), return_when=asyncio.FIRST_COMPLETED)
            self.stop()
            await self._drain()
            self._drained = True
            self._wake.event.set()
            self._news.set()
            await asyncio.wait(turns)  # one that failed leaves the other to write down what ended
            if self._ended:  # the one that failed was to do it
                await self._turn(self._ended[:], Wanted(only_next=True))
            for loop in filter(asyncio.Task.done, (*turns, tending, marking)):
                await loop
        finally:
            for task in (*turns, tending, marking, stopping):
                task.cancel()
            await asyncio.gather(*turns, tending, marking, stopping, return_exceptions=True)
            await self._close()

    async def _turn_over(self) -> None:
        """Lease what is due, again and again, and write down what ended; end when stopped and all is written."""
        polled_at = float("-inf")
        while not self._drained or (self._ended and not self._is_apart):
            wanted = Wanted() if self._stopping.is_set() else self._wanted()
            # A look hints at what is due, and costs less than a claim; we ask by ourselves when none came for long.
            is_polling = time.monotonic() - max(polled_at, self._seen_at) >= POLL_S
            is_asked = self._wake.take_hint() or is_polling or self._lanes.may_claim_more(wanted.rooms)
            wanted.only_next = not is_asked
            if is_asked:
                polled_at = time.monotonic()
            is_asked = is_asked or any(target[:2] in wanted.rooms for target in self._released)
            ended = [] if self._is_apart else self._ended[:MAX_ENDED]
            if ended or wanted.trials or (is_asked and wanted.rooms):
                await self._turn(ended, wanted)
            else:
                await self._wake.wait(POLL_S)

    async def _write_down(self) -> None:
        """Write down what ended beside the claims, as it comes; end when stopped and all is written."""
        while self._ended or not self._drained:
            if self._ended:
                self._wake.event.set()  # there may be room again
                await at_once.gather(self._ended)
                await self._turn(self._ended[:MAX_ENDED], Wanted(only_next=True), self._ledger)
                self._wake.event.set()  # the next of a key may go
            else:
                await self._news.wait()
                self._news.clear()

    def _wanted(self) -> Wanted:
        """Return what to claim: nothing when we were silent for so long that others may have taken over our part."""
        is_idle = self._is_stopped or self._crowd.is_silent
        return (
            Wanted() if is_idle else Wanted(self._lanes.rooms(), protocols=self._protocols, trials=self._gates.to_try())
        )

    async def _turn(self, batch: list[Ended], wanted: Wanted, database: Database | None = None) -> None:
        """Hand what ended to the database, and what it leases to the lanes."""
        held_until = time.monotonic() + self._lease_s
        rooms, before, dirty = wanted.rooms, list(wanted.rooms), self._gates.dirty()
        wanted.with_suspect = bool(rooms) and not wanted.only_next and self._lanes.may_take_suspect()
        if rooms:
            wanted.released, self._released = self._released, []
        turned = await (database or self._database).call(record.turn, batch, wanted, self._lease_s, self._tally, dirty)
        if turned is None:
            # Our leases outlive a short outage; what a longer one costs is a second try, not the message.
            if batch and self._drained and time.monotonic() > self._cut_at:
                log.error("stopped_unwritten", count=len(self._ended))
                self._ended.clear()
            return
        del self._ended[: len(batch)]
        if batch:
            self._done.notify()
        if any(ended.response for ended in batch):  # each may be due to somebody
            self._due.notify()
        self._gates.ahead = turned.ahead or self._gates.ahead
        self._released += turned.released
        self._learn(turned.breakers, judged=True)
        if turned.claims and self._stopping.is_set():  # leased while the stop came: nobody would wait for their sends
            await self._try(record.release, turned.claims)
            return
        self._lanes.put(self._registry, turned.claims, held_until, self._gates.ahead)
        if rooms:
            self._lanes.claimed(before, rooms, turned.claims, wanted)

    def _report(self, ended: Ended) -> None:
        if gate := self._gates.known(ended.finish.endpoint_id):
            gate.note(failed=judging.outcome(ended) in judging.FAILED)
        self._ended.append(ended)
        self._news.set()
        if self._lanes.has_suspects:
            self._wake.event.set()

    async def _tend(self) -> None:
        """Do what must be done every so often, whatever else goes on."""
        schedule = (
            (self._lease_s / 3, self._renew),
            (LOOK_S, self._look),
            (EVERY_S, self._attend),
            (SWEEP_S, self._sweeper.step),
            (SWEEP_S, self._mark),
        )
        await make_rounds(self._look_after_lanes, schedule)

    async def _look_after_lanes(self, elapsed_s: float) -> None:
        if self._gates.tick():
            self._wake.event.set()
        for lane in self._lanes.all():
            lane.measure(elapsed_s)
            lane.put()
            if not lane.capacity or lane.is_lapsed:
                await self._give_back(lane)

    async def _renew(self) -> None:
        tokens = self._lanes.tokens() | {ended.finish.token for ended in self._ended}
        held_until = time.monotonic() + self._lease_s
        if tokens and await self._try(record.renew, list(tokens), self._lease_s) is not None:
            for lane in self._lanes.all():
                lane.renewed(held_until)

    async def _look(self) -> None:
        """See what people and other processes changed, and what time did: all of it in one statement."""
        seen = await self._look_at_breakers()
        if seen is None:
            return
        self._seen_at, self._sweeper.is_overdue = time.monotonic(), seen.is_overdue
        if seen.is_due:
            self._wake.hint()
        if seen.is_pause_over:
            await self._try(holding.end_pauses)
        if seen.registry != self._registry.stamp or time.monotonic() >= self._read_again_at:
            await self._follow_registry(seen.registry)

    async def _follow_registry(self, stamp: str) -> None:
        """Take changed endpoints over: new transports for what changed, none for what may not be sent to."""
        fresh = await self._try(read, stamp, self._registry, self._gates, self._claimer)
        if fresh is None:
            return
        self._read_again_at = time.monotonic() + READ_AGAIN_S
        change = await take_over(fresh, self._registry)
        is_first, self._registry = self._registry.stamp is None, fresh
        self._gates.keep({door.id for doors in fresh.doors.values() for door in doors})
        if change.healing:
            await self._try(judging.heal, change.healing)
        if change.is_new:
            self._looked_at = None
            await self._look_at_breakers()
        self._gates.divide()
        self._use(change.interfaces, is_first=is_first)
        self._retiring.add(change.retired)  # not before: until now the lanes sent through them

    async def _look_at_breakers(self) -> Glance | None:
        """See which breakers opened or closed in other processes, and whether everything is stopped."""
        found = await self._try(judging.look, self._looked_at)
        if found is None:
            return None
        seen, self._gates.ahead, rows = found
        self._looked_at = seen.now
        if seen.is_stopped and not self._is_stopped:
            self._lanes.use({})  # at once; the registry follows
        self._is_stopped = seen.is_stopped
        self._learn(rows)
        return seen

    def _learn(self, rows: list[Breaker], *, judged: bool = False) -> None:
        turned = self._gates.learn(rows, judged=judged)
        if turned:
            doors = [(interface, door) for interface, doors in self._registry.doors.items() for door in doors]
            self._use({interface for interface, door in doors if door.id in turned and not door.gate.is_open})

    def _use(self, changed: set[Interface], *, is_first: bool = False) -> None:
        """Send through what may be used; hold what waits for the rest, and let go what is in `changed`."""
        self._lanes.use({} if self._is_stopped else self._registry.doors)
        held: dict[Interface, Step] = holding.holds(self._registry)
        for interface, doors in self._registry.doors.items():
            if doors and all(door.gate.is_open for door in doors) and interface not in self._registry.elsewhere:
                held[interface] = holding.hold_behind_breaker
        self._marker.follow(held, changed, is_first=is_first)
        self._wake.event.set()

    async def _attend(self) -> None:
        if await self._crowd.attend():
            self._gates.divide()
            self._wake.event.set()

    async def _mark(self) -> None:
        """End drains that are over, hold what slipped in while a hold began, and say what a rate holds up."""
        if paced := self._gates.paced():
            await self._try(holding.end_drains, paced)
        self._marker.look_again()
        self._marker.limit(self._lanes.rate_bound())

    async def _give_back(self, lane: Lane) -> None:
        if unsent := lane.take_unsent():
            await self._try(record.release, unsent)

    async def _drain(self) -> None:
        lanes = self._lanes.all()
        unsent = [claim for lane in lanes for claim in lane.take_unsent()]  # at once: each call may be in vain
        await asyncio.gather(self._try(record.release, unsent), *(lane.drain(SEND_CUT_S) for lane in lanes))
        await asyncio.gather(*map(self._give_back, lanes))  # what waited for a rate

    async def _close(self) -> None:
        self._wake.close()
        self._done.close()
        self._due.close()
        self._retiring.stop()
        for doors in self._registry.doors.values():
            for door in doors:
                await door.transport.aclose()
        await self._crowd.leave()
        for database in {self._database, self._ledger}:
            await database.close()
