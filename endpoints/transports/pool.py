"""The connections to one endpoint: kept alive, never more than allowed, handed out in turn."""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from endpoints.egress import Egress
from endpoints.transports.base import ErrorClass, TransportError
from endpoints.transports.deadlines import Deadlines
from endpoints.transports.failures import Stale
from endpoints.transports.idle import IDLE

IDLE_S = 30.0


class Asked(Protocol):
    """What is asked over a connection: until when, and since when it has one (`time.perf_counter`)."""

    until: float
    connected_at: float


E_contra = TypeVar("E_contra", bound=Asked, contravariant=True)

E = TypeVar("E", bound=Asked)
A = TypeVar("A")


class Kept(Protocol[E_contra, A]):
    """A connection that a pool keeps: one thing is asked at a time. Stale is what nobody can have heard."""

    @property
    def is_free(self) -> bool:
        """Say whether something may be asked over it now."""

    def ask(self, exchange: E_contra, /) -> "asyncio.Future[A]":
        """Ask, and return what will be the answer; nobody else may be waiting for one."""

    def end(self) -> None:
        """Wait no longer: the time is over."""

    def close(self) -> None:
        """Hang up."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Where the connections go; with a context over TLS, asking for and verifying `server_name` if it is given."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None


class Pool(Generic[E, A]):
    """At most `limit` connections, none kept longer than `idle_s` (and a sixth of it) without use.

    `make` makes a connection that calls what it is given when it ends while it is idle.
    """

    def __init__(
        self,
        egress: Egress,
        peer: Peer,
        limit: int,
        make: Callable[[Callable[[Any], None]], Any],
        *,
        idle_s: float = IDLE_S,
    ) -> None:
        self._egress, self._peer, self._limit, self._idle_s = egress, peer, limit, idle_s
        self._make = make
        self._taken = 0  # connections there are, and those that are being made
        self._idle: dict[Kept[E, A], float] = {}  # since when; the longest first
        self._queue: deque[asyncio.Future[Kept[E, A] | None]] = deque()
        self._deadlines = Deadlines()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def ask(self, exchange: E) -> A:
        """Send a request and return its answer; what ends it is what the connection and `Egress.connect` raise.

        Over a connection that had been kept alive and then turns out to be closed, it is
        made once more over a new one: nothing says that it was heard.
        """
        connection = self._last() if self._idle else await self._turn(exchange)
        waiting = self._deadlines.waiting
        try:
            while True:
                exchange.connected_at = time.perf_counter()
                waiting[connection] = exchange.until
                self._deadlines.watch()
                coming = connection.ask(exchange)
                try:
                    return await coming
                except Stale:
                    del waiting[connection]
                    with self._deadlines.until(exchange.until):
                        connection = await self._connected()
                except asyncio.CancelledError:
                    if coming.done() and not coming.cancelled():
                        coming.exception()  # it has been looked at
                    raise
        finally:
            waiting.pop(connection, None)
            self._give_back(connection)

    def close(self) -> None:
        """Cut every connection; whoever waits for one, or for an answer, is told."""
        self._is_closed = True
        self._deadlines.close()
        if self._sweep is not None:
            self._sweep.cancel()
        while self._idle:
            self._last().close()

    @property
    def is_closed(self) -> bool:
        """Say whether it was closed: then nothing more can be asked."""
        return self._is_closed

    async def _turn(self, exchange: E) -> Kept[E, A]:
        """Return a connection to use: a new one, or when there are enough, the next that gets free."""
        if self._is_closed:
            raise closed()
        with self._deadlines.until(exchange.until):
            if self._taken >= self._limit:
                connection = await self._next()
                if connection is not None:
                    return connection
            else:
                self._taken += 1
            try:
                return await self._connected()
            except BaseException:
                self._free_place()
                raise

    async def _next(self) -> Kept[E, A] | None:
        """Wait in the queue; None is the place of a connection that is gone."""
        turn: asyncio.Future[Kept[E, A] | None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # our turn came just then
                connection = turn.result()
                if connection is None:
                    self._free_place()
                else:
                    self._give_back(connection)
            raise

    async def _connected(self) -> Kept[E, A]:
        peer = self._peer
        connection: Kept[E, A] = await self._egress.connect(
            lambda: self._make(self._lost), peer.host, peer.port, tls=peer.tls, server_name=peer.server_name
        )
        if self._is_closed:
            connection.close()
            raise closed()
        return connection

    def _give_back(self, connection: Kept[E, A]) -> None:
        if self._is_closed or not connection.is_free:
            connection.close()
            self._free_place()
        elif (turn := self._next_in_queue()) is not None:
            turn.set_result(connection)
        else:
            self._idle[connection] = time.perf_counter()
            IDLE.add(connection, partial(self._drop, connection))
            if self._sweep is None:
                self._sweep_later()

    def _free_place(self) -> None:
        turn = self._next_in_queue()
        if turn is None:
            self._taken -= 1
        else:
            turn.set_result(None)

    def _next_in_queue(self) -> "asyncio.Future[Kept[E, A] | None] | None":
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                return turn
        return None

    def _lost(self, connection: Kept[E, A]) -> None:
        """Forget a connection that the peer closed while it was idle."""
        if self._idle.pop(connection, None) is not None:
            IDLE.discard(connection)
            self._free_place()

    def _last(self) -> Kept[E, A]:
        """Return the connection that was used last, idle no more."""
        connection, _ = self._idle.popitem()
        IDLE.discard(connection)
        return connection

    def _drop(self, connection: Kept[E, A]) -> None:
        """Hang up a connection that is idle."""
        self._lost(connection)
        connection.close()

    def _sweep_later(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(self._idle_s / 6, self._sweep_idle)

    def _sweep_idle(self) -> None:
        self._sweep = None
        before = time.perf_counter() - self._idle_s
        while self._idle:
            connection, since = next(iter(self._idle.items()))
            if since > before:
                self._sweep_later()
                return
            self._drop(connection)


def closed() -> TransportError:
    """Return the error of asking over what was closed."""
    return TransportError("the connection is closed", error_class=ErrorClass.CONNECT)
