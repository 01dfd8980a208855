"""The delivery engine of one process: claim -> send -> finish, and the sweeps that keep the table honest.

The row is the queue. Two loops share one database thread: `_turn_over` finishes in
batches whatever ended meanwhile and leases what is due for lanes with room; `_tend`
renews leases, recovers what other workers lost, and follows the registry.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from django.db import Error as DatabaseError
from django.db import connection

from messaging.engine import holding, record
from messaging.engine.attempt import postponed
from messaging.engine.doors import Door, Interface, Registry, open_door, read, retire, stamp
from messaging.engine.lane import Lane
from messaging.engine.marking import Marker
from messaging.engine.record import Ended
from messaging.wakeups import DONE, DUE, Listener, Notifier

log = structlog.get_logger(__name__)
T = TypeVar("T")

POLL_S = 0.5  # how late a due time may be noticed when no hint came
TEND_S = 0.25
REGISTRY_S = 0.5
SWEEP_S = 1.0
SWEEPS = 10
READ_AGAIN_S = 30.0  # a change made on a host whose clock is behind does not show in the stamp
DATABASE_RETRY_S = 1.0
SEND_CUT_S = 20.0
MAX_ENDED = 1000
# A suspect is alone while it is likely to take us down, which is at once. One that merely
# hangs must not hold back the others: a crash beside a hanging receiver leaves many such.
SUSPECT_ALONE_S = 0.5
MAX_SUSPECTS = 32


class Worker:
    """Run it with `run`, end it with `stop`; one per process."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._lanes: dict[Interface, Lane] = {}
        self._suspects: list[Lane] = []  # one each
        self._suspect_at = float("-inf")
        self._registry = Registry()
        self._ended: list[Ended] = []
        self._stopping = asyncio.Event()
        self._drained = False
        self._starved: set[Interface] = set()  # what had no room left when there was more to claim
        self._had_suspect = False
        self._wake = Listener(DUE)
        self._done = Notifier(DONE)
        # One thread: SQLite has one writer anyway, and on PostgreSQL the loop's own work is the bound.
        self._database = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine-database")
        self._retiring: set[asyncio.Task[None]] = set()
        self._read_again_at = 0.0
        self._marker = Marker(self._try)

    def stop(self) -> None:
        """Claim nothing more, let what is on its way end, then return from `run`."""
        self._stopping.set()
        self._wake.event.set()

    async def run(self) -> None:
        """Deliver until `stop`."""
        await self._wake.open()
        await self._follow_registry()
        turning = asyncio.create_task(self._turn_over(), name="turn")
        tending = asyncio.create_task(self._tend(), name="tend")
        marking = asyncio.create_task(self._marker.run(), name="mark")
        stopping = asyncio.create_task(self._stopping.wait(), name="stop")
        try:
            # A loop that ends by itself has failed: write down what is known, then let the supervisor start anew.
            await asyncio.wait((turning, tending, marking, stopping), return_when=asyncio.FIRST_COMPLETED)
            self.stop()
            await self._drain()
            self._drained = True
            self._wake.event.set()
            await turning
            for loop in (tending, marking):
                if loop.done():
                    await loop
        finally:
            for task in (turning, tending, marking, stopping):
                task.cancel()
            await asyncio.gather(turning, tending, marking, stopping, return_exceptions=True)
            await self._close()

    async def _turn_over(self) -> None:
        """Write down what ended and lease what is due, again and again; end when stopped and all is written."""
        polled_at = float("-inf")
        while self._ended or not self._drained:
            rooms = {} if self._stopping.is_set() else self._rooms()
            is_polling = time.monotonic() - polled_at >= POLL_S
            is_asked = self._wake.take_hint() or is_polling or self._may_claim_more(rooms)
            if is_asked:
                polled_at = time.monotonic()
            if self._ended or (is_asked and rooms):
                await self._turn(rooms, only_next=not is_asked)
            else:
                await self._wake.wait(POLL_S)

    def _rooms(self) -> dict[Interface, int]:
        return {interface: room for interface, lane in self._lanes.items() if (room := lane.room()) > 0}

    def _may_claim_more(self, rooms: dict[Interface, int]) -> bool:
        """Say whether room came back where the last claim left something due."""
        return not self._starved.isdisjoint(rooms) or (self._had_suspect and self._may_take_suspect())

    def _may_take_suspect(self) -> bool:
        """Say whether no suspect is on its way, or none that just began."""
        self._suspects = [lane for lane in self._suspects if lane.held]
        is_alone = time.monotonic() - self._suspect_at < SUSPECT_ALONE_S
        return not self._suspects or (not is_alone and len(self._suspects) < MAX_SUSPECTS)

    async def _turn(self, rooms: dict[Interface, int], *, only_next: bool) -> None:
        """Hand what ended to the database, and what it leases to the lanes.

        `only_next`: beside what an end lets go in its order there is nothing new to claim.
        """
        batch = self._ended[:MAX_ENDED]
        held_until = time.monotonic() + self._lease_s
        with_suspect = bool(rooms) and not only_next and self._may_take_suspect()
        full = self._lanes.keys() - rooms.keys()
        found = await self._try(
            record.turn, batch, rooms, self._lease_s, with_suspect=with_suspect, only_next=only_next
        )
        if found is None:
            # Our leases outlive a short outage; what a longer one costs is a second try, not the message.
            if self._drained:
                log.error("stopped_unwritten", count=len(self._ended))
                self._ended.clear()
            return
        del self._ended[: len(batch)]
        if batch:
            self._done.notify()
        claims, ahead = found
        if self._stopping.is_set():  # leased while the stop came: nobody would wait for their sends
            await self._try(record.release, claims)
            return
        self._put(claims, held_until, ahead=ahead)
        self._starved = (self._starved if only_next else set()) | full | {i for i, room in rooms.items() if room <= 0}
        if rooms and not only_next:
            self._had_suspect = any(claim.losses for claim in claims)

    def _put(self, claims: list[Any], held_until: float, ahead: timedelta) -> None:
        by_lane: dict[Lane, list[Any]] = {}
        for claim in claims:
            interface = (claim.system_id, claim.interface)
            if not claim.losses:
                by_lane.setdefault(self._lanes[interface], []).append(claim)
            elif doors := self._registry.doors.get(interface, ()):
                by_lane[self._lane_alone(doors)] = [claim]
            else:  # its endpoint cannot be used as it stands: the next suspect must have its turn
                self._report(Ended(postponed(claim)))
        for lane, mine in by_lane.items():
            lane.clock_ahead = ahead
            lane.put(mine, held_until)

    def _lane_alone(self, doors: list[Door]) -> Lane:
        lane = Lane(self._report)
        lane.use(doors)
        self._suspects.append(lane)
        self._suspect_at = time.monotonic()
        return lane

    def _report(self, ended: Ended) -> None:
        self._ended.append(ended)
        self._wake.event.set()

    def _all_lanes(self) -> list[Lane]:
        return [*self._lanes.values(), *self._suspects]

    async def _tend(self) -> None:
        """Do what must be done every so often, whatever else goes on."""
        schedule: list[tuple[float, Callable[[], Any]]] = [
            (self._lease_s / 3, self._renew),
            (REGISTRY_S, self._follow_registry),
            (SWEEP_S, self._sweep),
            (SWEEP_S, self._watch_pauses),
        ]
        last = dict.fromkeys(range(len(schedule)), float("-inf"))  # at once: what the last one left may be over
        measured = time.monotonic()
        while True:
            await asyncio.sleep(TEND_S)
            now = time.monotonic()
            for lane in self._all_lanes():
                lane.measure(now - measured)
                lane.put()
                if not lane.capacity or lane.is_lapsed:
                    await self._give_back(lane)
            measured = now
            for index, (every_s, act) in enumerate(schedule):
                if now - last[index] >= every_s:
                    last[index] = now
                    await act()

    async def _renew(self) -> None:
        tokens = set().union(*(lane.tokens() for lane in self._all_lanes()))
        tokens |= {ended.finish.token for ended in self._ended}
        held_until = time.monotonic() + self._lease_s
        if tokens and await self._try(record.renew, list(tokens), self._lease_s) is not None:
            for lane in self._all_lanes():
                lane.renewed(held_until)

    async def _sweep(self) -> None:
        for _ in range(SWEEPS):  # a full one may have left some; the renewal of leases is not kept waiting for all
            found = await self._try(record.sweep)
            if found:
                self._wake.event.set()
            if found is None or found < record.SWEEP:
                return

    async def _follow_registry(self) -> None:
        """Take changed endpoints over: new transports for what changed, none for what may not be sent to."""
        now_stamp = await self._try(stamp)
        is_due = time.monotonic() >= self._read_again_at
        if now_stamp is None or (now_stamp == self._registry.stamp and not is_due):
            return
        fresh = await self._try(read, self._registry)
        if fresh is None:
            return
        self._read_again_at = time.monotonic() + READ_AGAIN_S
        old = {door.id: door for doors in self._registry.doors.values() for door in doors}
        changed = set()
        for interface, doors in fresh.doors.items():
            for door in list(doors):
                if (known := old.pop(door.id, None)) is not door:
                    if known is None or known.address != door.address:
                        changed.add(interface)
                    if not await open_door(door):
                        doors.remove(door)
                if known not in (door, None):
                    self._retire_later(known)
            for door in doors:
                door.sent = 0  # a new replica takes its share from now on, and makes up for nothing
            self._lanes.setdefault(interface, Lane(self._report)).use(doors)
        for door in old.values():
            self._retire_later(door)
        for interface in self._lanes.keys() - fresh.doors.keys():
            self._lanes[interface].use(())  # what it has queued is given back by `_tend`
        is_first, self._registry = self._registry.stamp is None, fresh
        self._marker.follow(fresh.unusable, changed, is_first=is_first)
        self._wake.event.set()

    async def _watch_pauses(self) -> None:
        """End pauses that are over, and hold what slipped in while a pause began."""
        await self._try(holding.end_pauses)
        self._marker.look_again()

    def _retire_later(self, door: Door) -> None:
        retiring = asyncio.create_task(retire(door))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _give_back(self, lane: Lane) -> None:
        unsent = lane.take_unsent()
        if unsent:
            await self._try(record.release, unsent)

    async def _drain(self) -> None:
        for lane in self._all_lanes():
            await self._give_back(lane)
        await asyncio.gather(*(lane.drain(SEND_CUT_S) for lane in self._all_lanes()))

    async def _close(self) -> None:
        self._wake.close()
        for task in self._retiring:
            task.cancel()
        for doors in self._registry.doors.values():
            for door in doors:
                await door.transport.aclose()
        await asyncio.get_running_loop().run_in_executor(self._database, lambda: connection.close())
        self._database.shutdown()

    async def _try(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
        """Run a call in the database thread; return None when the database failed, after dropping its connection."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._database, _call, call, arguments, options)
        except DatabaseError as exc:
            log.warning("database_failed", call=call.__name__, error=str(exc))
            await asyncio.sleep(DATABASE_RETRY_S)
            return None


def _call(call: Callable[..., T], arguments: tuple[Any, ...], options: dict[str, Any]) -> T:
    try:
        return call(*arguments, **options)
    except DatabaseError:
        connection.close()
        raise
