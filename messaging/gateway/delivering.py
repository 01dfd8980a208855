"""The engine's loop for the clients connected to this process; there only while there are any."""

import asyncio
import time
from collections import Counter

import structlog

from endpoints.ids import new_id
from endpoints.transports.gateway import SEATS
from messaging.engine import holding, judging, presence
from messaging.engine.database import Database, hurry
from messaging.engine.doors import CLIENTS, Interface
from messaging.engine.record import Ended, Wanted
from messaging.engine.shares import Counted
from messaging.engine.worker import Worker

log = structlog.get_logger(__name__)

LINGER_S = 5.0  # after the last client left: many come back at once
AGAIN_S = 1.0
BEATS = 3  # a lease
LOOK_AFTER_S = (0.0, 1.0, 3.0)  # what was on its way comes back a while after its client left

Present = dict[int, set[str]]


class ClientWorker(Worker):
    """Claims what a client connected here may get, as much as the clients take."""

    def __init__(self, lease_s: float) -> None:
        super().__init__(lease_s, CLIENTS, Counted)
        self._process = new_id()
        self._told: Present = {}
        self._told_at = float("-inf")
        self._left: list[tuple[float, Interface]] = []  # where to look when for what waits, since somebody left

    def seats_changed(self) -> None:
        """Look again at what there is to claim."""
        self._wake.hint()

    def _wanted(self) -> Wanted:
        """Return what to claim: for each recipient as much as its clients take beyond what we hold already."""
        wanted = super()._wanted()
        wanted.credits = {}
        held = Counter((claim.system_id, claim.recipient) for lane in self._lanes.all() for claim in lane.claims())
        free: dict[int, dict[str, int]] = {}  # shared by the interfaces of a system, as its clients are
        for interface, room in list(wanted.rooms.items()):
            system_id = interface[0]
            if system_id not in free:
                free[system_id] = {
                    recipient: number - held[system_id, recipient]
                    for recipient, number in SEATS.free(system_id).items()
                    if number > held[system_id, recipient]
                }
            if allowed := sum(free[system_id].values()):
                wanted.rooms[interface] = min(room, allowed)
                wanted.credits[interface] = free[system_id]
            else:
                del wanted.rooms[interface]
        if self._gates.shares.has_others:
            self._count(wanted)
        for endpoint, (interface, _) in list(wanted.trials.items()):
            if not (credits := free.get(interface[0]) or SEATS.free(interface[0])):
                del wanted.trials[endpoint]
            else:
                wanted.credits.setdefault(interface, credits)
        return wanted

    def _count(self, wanted: Wanted) -> None:
        """Have what all processes hold counted, and hold nothing in advance: it would be missing elsewhere."""
        for interface, room in list(wanted.rooms.items()):
            wanted.caps[interface] = self._lanes.capacity(interface)
            wanted.rooms[interface] = min(room, wanted.caps[interface] - self._lanes.held(interface))
            if wanted.rooms[interface] <= 0:
                del wanted.rooms[interface]

    async def _turn(self, batch: list[Ended], wanted: Wanted, database: Database | None = None) -> None:
        await super()._turn(batch, wanted, database)
        if batch and self._gates.shares.has_others:  # there is room again, for us and for them
            self._wake.hint()
            self._due.notify()

    async def _attend(self) -> None:
        await super()._attend()
        present, now = SEATS.present(), time.monotonic()
        if present != self._told or now - self._told_at >= self._lease_s / BEATS:
            await self._tell(present, now)
        if gone := SEATS.take_gone():
            left = [interface for interface in self._registry.doors if interface[0] in gone]
            self._left += [(now + after_s, interface) for interface in left for after_s in LOOK_AFTER_S]
        for _, interface in [item for item in self._left if item[0] <= now]:
            self._marker.ask(holding.hold_without_client, interface)
        self._left = [item for item in self._left if item[0] > now]

    async def _tell(self, present: Present, now: float) -> None:
        """Say who is here; what waited for those who came is due, and of what waits for those who left it is said."""
        if await self._try(presence.announce, self._process, present, self._lease_s) is None:
            return  # the next round says it
        before, self._told, self._told_at = self._told, present, now
        for interface, doors in self._registry.doors.items():
            there, were = present.get(interface[0], set()), before.get(interface[0], set())
            if there - were:
                self._marker.ask(holding.release_to_clients, interface)
                if shut := {door.id for door in doors if door.gate.is_open}:
                    await self._try(judging.heal, shut)  # somebody new is there: try at once

    async def _close(self) -> None:
        await self._try(presence.leave, self._process)
        await super()._close()


class Delivering:
    """Keeps a worker while clients are connected."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._worker: ClientWorker | None = None
        self._running: asyncio.Task[None] | None = None
        self._is_stopped = False

    def open(self) -> None:
        """Follow the clients that come and go."""
        SEATS.on_change = self._seats_changed

    async def aclose(self) -> None:
        """Let what is on its way end, and deliver no more: the process stops."""
        self._is_stopped = True
        if self._worker is not None:
            hurry()
            self._worker.stop()
        if self._running is not None:
            await self._running
        SEATS.on_change = lambda: None

    def _seats_changed(self) -> None:
        if self._worker is not None:
            self._worker.seats_changed()
        elif self._running is None and not self._is_stopped and SEATS.present():
            self._running = asyncio.create_task(self._run(), name="gateway-delivering")

    async def _run(self) -> None:
        """Run one worker after the other: a new one when one failed, none when nobody is there."""
        while SEATS.present() and not self._is_stopped:
            try:
                await self._work()
            except Exception:
                log.exception("gateway_worker_failed")
                await asyncio.sleep(AGAIN_S)
            self._worker = None
        self._running = None

    async def _work(self) -> None:
        """Run one worker until it fails, or nobody has been there for a while."""
        self._worker = worker = ClientWorker(self._lease_s)
        working = asyncio.create_task(worker.run(), name="gateway-worker")
        leaving = asyncio.create_task(self._until_left(), name="gateway-leaving")
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        worker.stop()
        await working

    async def _until_left(self) -> None:
        """Return when nobody has been connected for a while."""
        left_at = time.monotonic()
        while time.monotonic() - left_at < LINGER_S:
            await asyncio.sleep(AGAIN_S)
            if SEATS.present():
                left_at = time.monotonic()
