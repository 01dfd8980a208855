"""A TCP server: takes connections on one address, holds them to their deadlines, and closes those of revoked keys."""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

from endpoints.errors import ControlPlaneError, LimitExceeded, TooSlow
from endpoints.transports.framing import make_framing
from messaging.intake.counter import Intake
from messaging.listening.connection import Connection
from messaging.listening.envelopes import EnvelopeConnection
from messaging.listening.handshakes import Handshakes
from messaging.listening.limits import Held, Limits
from messaging.listening.revoking import still_known
from messaging.listening.sockets import listening_socket
from messaging.listening.tally import Tally

log = structlog.get_logger(__name__)

SWEEP_S = 1.0
ASK_AGAIN_S = 2.0  # who is connected is asked for again this often: a revoked key's connections end within 5 s
STOP_S = 5.0
LEAVE_S = 1.0


class TcpServer:
    """One listening socket and its connections; `make` makes a connection of the kind that the listener speaks."""

    def __init__(
        self,
        intake: Intake,
        tally: Tally,
        *,
        framing: str = "line",
        config: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        held: Held | None = None,
        make: "Callable[[TcpServer], Connection]" = EnvelopeConnection,
    ) -> None:
        self.intake, self.tally = intake, tally
        self.framing_name, self.framing = framing, make_framing(framing, config)
        self.limits, self.held = limits or Limits(), held or Held()
        self.loop = asyncio.get_running_loop()
        self._make = make
        self._connections: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._expected: dict[Connection, str] = {}  # who shakes hands, and from which address
        self._server: asyncio.Server | Handshakes | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._asked_at = self.loop.time()
        self._is_ending = False
        self._left = asyncio.Event()  # the last of them, after we began to end

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Begin to listen and return the port; raises OSError when the address cannot be had."""
        listener = listening_socket(host, port)
        opened = int(listener.getsockname()[1])
        try:
            if tls is None:
                self._server = await self.loop.create_server(lambda: self._make(self), sock=listener)
            else:
                listener.setblocking(False)
                self._server = Handshakes(self, listener, tls)
        except OSError:
            listener.close()
            raise
        return opened

    async def aclose(self) -> None:
        """Take nothing more; what came is stored and answered."""
        self._is_ending = True
        if isinstance(self._server, Handshakes):
            await self._server.aclose()
        elif self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.end()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=STOP_S)
        if self._connections:  # the last answers are on their way
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self._left.wait()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in [*self._tasks, *([self._sweeper] if self._sweeper else [])]:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for connection in list(self._connections):  # nobody would look after them any more
            connection.abort(TooSlow("the connection did not end in time", code="slow"))

    # -- for connections

    def enter(self, connection: Connection) -> ControlPlaneError | None:
        """Count a connection in; returns why there is no room for it."""
        self.expect_no_more(connection)
        refusal = self.no_room(connection.address)
        self._connections.add(connection)
        self._by_address[connection.address] += 1
        connection.tally.connections += 1
        if self._sweeper is None:
            self._sweeper = self.loop.create_task(self._sweep(), name="listener-sweep")
        return refusal

    def no_room(self, address: str) -> ControlPlaneError | None:
        """Return why one more from `address` cannot be let in; who still shakes hands counts, too."""
        if self._is_ending or len(self._connections) + len(self._expected) >= self.limits.connections:
            return LimitExceeded("there are too many connections, try again later", code="full", retry_after_s=10)
        if self._by_address[address] >= self.limits.per_address:
            return LimitExceeded("there are too many connections from this address", code="full", retry_after_s=10)
        return None

    def expect(self, address: str) -> Connection:
        """Return the connection for one from `address` that begins to shake hands."""
        connection = self._make(self)
        self._expected[connection] = address
        self._by_address[address] += 1
        return connection

    def expect_no_more(self, connection: Connection) -> None:
        """Count it no more as one that shakes hands: it did, or will not."""
        if (address := self._expected.pop(connection, None)) is not None:
            self._forget(address)

    def _forget(self, address: str) -> None:
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def leave(self, connection: Connection) -> None:
        """Count a connection out."""
        if connection in self._connections:
            self._connections.discard(connection)
            self._forget(connection.address)
            connection.tally.connections -= 1
        if self._is_ending and not self._connections:
            self._left.set()

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a connection's task; it is ended with the server."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- deadlines and revocation

    async def _sweep(self) -> None:
        """Close what is too late, and whoever may speak no longer; ends when nobody is connected."""
        try:
            while self._connections:
                await asyncio.sleep(SWEEP_S)
                try:
                    await self._look()
                except Exception:  # a sweeper that ended would leave every later connection without its deadlines
                    log.exception("listener_sweep_failed", listener=self.tally.name)
        finally:
            self._sweeper = None

    async def _look(self) -> None:
        now = self.loop.time()
        for connection in list(self._connections):
            self._judge(connection, now)
        if now - self._asked_at >= ASK_AGAIN_S:
            self._asked_at = now
            await still_known(self._connections)

    def _judge(self, connection: Connection, now: float) -> None:
        limits = self.limits
        if connection.slow_at is not None and now - connection.slow_at > limits.slow_s:
            connection.abort(TooSlow("the answers were not read", code="slow"))
        elif connection.is_closing:
            if now - connection.last_at > limits.slow_s:
                connection.abort(TooSlow("the connection did not end in time", code="slow"))
        elif not connection.is_known and now - connection.opened_at > limits.auth_s:
            connection.close(TooSlow(f"no valid auth frame came within {limits.auth_s:g} s", code="auth_timeout"))
        elif connection.frame_at is not None and now - connection.frame_at > limits.frame_s:
            connection.close(TooSlow(f"a frame was not complete after {limits.frame_s:g} s"))
        elif now - connection.last_at > limits.idle_s and not connection.is_owed:
            connection.close(TooSlow(f"nothing came for {limits.idle_s:g} s", code="idle"))
