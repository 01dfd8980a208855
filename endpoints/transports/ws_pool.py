"""The WebSocket connections to one endpoint: opened when needed, kept while used, pinged, handed out in turn."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from endpoints.transports.base import Advice, TransportError
from endpoints.transports.deadlines import Deadlines
from endpoints.transports.idle import IDLE
from endpoints.transports.pool import closed
from endpoints.transports.ws_connection import WsConnection

IDLE_S = 60.0
TICK_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0

Opener = Callable[[Callable[[WsConnection], None]], Awaitable[WsConnection]]


@dataclass(slots=True, eq=False)
class Kept:
    """A connection of the pool: how many use it, whether one wants it for itself, and since when nobody does."""

    connection: WsConnection
    users: int = 0
    is_reserved: bool = False
    idle_since: float = 0.0


@dataclass(slots=True)
class Place:
    """One in the queue; `coming` is a connection, or None: go and open one."""

    is_alone: bool
    coming: "asyncio.Future[Kept | None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class WsPool:
    """At most `limit` connections with at most `share` users each; who came first is served first.

    A peer that refused a handshake is left alone for a while, growing to `LONGEST_PAUSE_S`:
    meanwhile whoever asks is told to wait, and that is no attempt.
    """

    def __init__(self, opener: Opener, limit: int, share: int, *, idle_s: float = IDLE_S) -> None:
        self._open, self._limit, self._share, self._idle_s = opener, limit, share, idle_s
        self._kept: dict[WsConnection, Kept] = {}
        self._idle: dict[Kept, None] = {}  # those nobody uses; the longest first
        self._making = 0
        self._queue: deque[Place] = deque()
        self._tick: asyncio.TimerHandle | None = None
        self._farewells: set[asyncio.Task[None]] = set()
        self._pause_s, self._pause_until = 0.0, 0.0
        self._refusal: TransportError | None = None
        self._is_proven = False  # the last connection that was asked for was made
        self.deadlines = Deadlines()
        self.is_closed = False

    async def take(self, until: float, *, is_alone: bool) -> Kept:
        """Return a connection, for one user alone if asked; raises what opening one does, or TimeoutError."""
        if self.is_closed:
            raise closed()
        if not self._queue and (found := self._pick(is_alone)) is not None:
            return found
        with self.deadlines.until(until):
            place = Place(is_alone)
            self._queue.append(place)
            self._serve()
            found = await self._called(place)
            if found is None:
                found = await self._opened(is_alone)
        return found

    async def _called(self, place: Place) -> Kept | None:
        try:
            return await place.coming
        except asyncio.CancelledError:
            if place.coming.done() and not place.coming.cancelled():  # our turn came just then
                found = place.coming.result()
                if found is None:
                    self._making -= 1
                else:
                    self._leave(found)
            self._serve()
            raise

    async def _opened(self, is_alone: bool) -> Kept:
        try:
            self._check_pause()
            connection = await self._open(self._lost)
            if self.is_closed:
                connection.abort()
                raise closed()
            self._is_proven = True
        except BaseException:
            self._is_proven = False
            raise
        finally:
            self._making -= 1
            if self._queue:
                asyncio.get_running_loop().call_soon(self._serve)
        kept = self._kept[connection] = Kept(connection, users=1, is_reserved=is_alone)
        self._pause_s, self._refusal = 0.0, None
        if not connection.is_open:
            del self._kept[connection]  # it ended already: who posts over it is told
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_S, self._look)
        return kept

    def give_back(self, kept: Kept) -> None:
        """Use a connection no more."""
        self._leave(kept)
        self._serve()

    def _leave(self, kept: Kept) -> None:
        kept.users -= 1
        kept.is_reserved = False
        if not kept.users and kept.connection in self._kept:
            kept.idle_since = time.perf_counter()
            self._idle[kept] = None
            IDLE.add(kept, partial(self._say_farewell, kept.connection))

    def _pick(self, is_alone: bool) -> Kept | None:
        """Return a connection that has room, marked as used; where each is for one, the one used last."""
        best: Kept | None = None
        while self._idle and best is None:
            last = self._idle.popitem()[0]
            IDLE.discard(last)
            best = last if last.connection.is_open else None
        if best is None and not is_alone and self._share > 1 and not self._may_open():
            shared = [kept for kept in self._kept.values() if self._has_room(kept)]
            best = min(shared, key=lambda kept: kept.users, default=None)
        if best is None:
            return None
        best.users += 1
        best.is_reserved = is_alone
        return best

    def _has_room(self, kept: Kept) -> bool:
        return kept.users < self._share and not kept.is_reserved and kept.connection.is_open

    def _serve(self) -> None:
        """Give whoever is first what there is, or the task of opening one more."""
        while self._queue:
            place = self._queue[0]
            if not place.coming.done():
                found = self._pick(place.is_alone)
                if found is None and not self._may_open():
                    return
                if found is None:
                    self._making += 1
                place.coming.set_result(found)
            self._queue.popleft()

    def _may_open(self) -> bool:
        """Say whether one more may be opened; a peer of whom nothing good is known is asked by one at a time."""
        most = self._limit - len(self._kept) if self._is_proven else 1
        return self._making < most and len(self._kept) + self._making < self._limit

    def _lost(self, connection: WsConnection) -> None:
        if self._forget(connection):
            self._serve()

    def _forget(self, connection: WsConnection) -> bool:
        """Say whether it was one of ours, which it is no more."""
        kept = self._kept.pop(connection, None)
        if kept is None:
            return False
        self._idle.pop(kept, None)
        IDLE.discard(kept)
        return True

    # -- peers that refuse --------------------------------------------------------------

    def refused(self, error: TransportError) -> None:
        """Leave the peer alone for a while: it answered, and wants us not."""
        self._pause_s = min(max(self._pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        self._pause_until = time.perf_counter() + self._pause_s
        self._refusal = error

    def _check_pause(self) -> None:
        left_s = self._pause_until - time.perf_counter()
        if self._refusal is not None and left_s > 0:
            raise TransportError(
                f"not asked again so soon: {self._refusal.detail}"[:200],
                error_class=self._refusal.error_class,
                advice=Advice.THROTTLED,
                retry_after_s=left_s,
            )

    # -- their ends ---------------------------------------------------------------------

    def _look(self) -> None:
        """Ping what is silent, find what is dead, and let go of what nobody used for long."""
        self._tick = None
        now = time.perf_counter()
        for kept in list(self._kept.values()):
            if not kept.users and now - kept.idle_since > self._idle_s:
                self._say_farewell(kept.connection)
            else:
                kept.connection.watch(now)
        if self._kept:
            self._tick = asyncio.get_running_loop().call_later(TICK_S, self._look)

    def _say_farewell(self, connection: WsConnection) -> None:
        self._forget(connection)
        task = asyncio.ensure_future(connection.aclose())
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    async def aclose(self) -> None:
        """Close every connection; whoever waits for one, or for an answer, is told."""
        self.is_closed = True
        self.deadlines.close()
        if self._tick is not None:
            self._tick.cancel()
        for connection in list(self._kept):
            self._say_farewell(connection)
        while self._farewells:
            await asyncio.gather(*self._farewells)
