"""HTTP as uvicorn speaks it, with an answer in one write, and with bounds on connections and slow heads.

A request that is here at once, head and body, may be taken by the application without a
task of its own: it offers `begin` for that in the state of its lifespan (`QUICK`).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

MAX_CONNECTIONS = 12_000  # of one process: what one address may keep open, sockets and waiting calls, is not all of it
HEAD_S = 20.0  # how long the head of a request may take
MAX_HEAD_BYTES = 64 * 1024
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s"
)
FULL_BODY = (
    b'{"type":"urn:controlplane:error:full","title":"Full","status":503,"code":"full",'
    b'"detail":"too many connections, try again in a second","errors":[]}'
)


QUICK = "quick"
Answer = tuple[int, Sequence[tuple[bytes, bytes]], bytes]  # status, headers, body


class Quick(Protocol):
    """A request that was taken: its answer, once `done` is."""

    done: "asyncio.Future[Any]"

    def answer(self) -> Answer: ...


def _take_nothing(scope: Any, body: bytes) -> Quick | None:
    return None


def _say_nothing() -> None:
    pass


class Corked:
    """A transport that writes once a turn of the loop: head and body of an answer become one packet."""

    __slots__ = ("_loop", "_parts", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)

    def flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self._transport.write(data)

    def write_now(self, data: bytes) -> None:
        """Write, after what waits to be written."""
        self.flush()
        self._transport.write(data)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. What is too much, or never gets its request said, is closed before it costs anything."""

    max_connections = MAX_CONNECTIONS
    _heads = 0
    _head_bytes = 0
    _is_in_head = False
    _head_timer: asyncio.TimerHandle | None = None
    _held_back: RequestResponseCycle | None = None  # a request that is not begun before we saw whether it is all here
    _is_reading = False
    _begin: Callable[[Any, bytes], Quick | None] = staticmethod(_take_nothing)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.access_log = False
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.write(FULL % (len(FULL_BODY), FULL_BODY))
            transport.close()
            return
        self.transport = Corked(transport, self.loop)  # type: ignore[assignment]
        self._begin = self.app_state.get(QUICK, _take_nothing)
        self._head_timer = self.loop.call_later(HEAD_S, self._look_at_head, 0)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._is_reading = True
        super().data_received(data)
        self._is_reading = False
        if self._held_back is not None:
            self._start(self._held_back)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        self._is_in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._heads += 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        cycle = self._held_back
        if cycle is None:
            return
        taken = None if self.flow.write_paused else self._begin(cycle.scope, bytes(cycle.body))
        if taken is None:
            self._start(cycle)
        else:
            self._held_back = None
            taken.done.add_done_callback(lambda _: self._answer(cycle, taken))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin a request, one that may turn out to be here at once only when we know."""
        if self._is_reading and cycle.more_body and not cycle.waiting_for_100_continue:
            self._held_back = cycle
        else:
            super()._start_asgi_task(cycle, app)

    def _start(self, cycle: RequestResponseCycle) -> None:
        self._held_back = None
        super()._start_asgi_task(cycle, self.app)

    def _answer(self, cycle: RequestResponseCycle, taken: Quick) -> None:
        """Answer as uvicorn does, with one write; to one that hung up, nothing."""
        status, headers, body = taken.answer()
        cycle.response_complete = True
        cycle.on_response = _say_nothing
        if cycle.disconnected:
            return
        parts = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"content-length: %d\r\n" % len(body))
        parts += (b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", body)
        self.transport.write_now(b"".join(parts))  # type: ignore[attr-defined]
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def handle_websocket_upgrade(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        if isinstance(self.transport, Corked):
            self.transport.flush()
            self.transport = self.transport._transport
        super().handle_websocket_upgrade()

    def _look_at_head(self, heads: int) -> None:
        """Close a connection that has said no head since the last look and has nothing to be answered."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and heads == self._heads:
            self.transport.close()
        else:
            self._head_timer = self.loop.call_later(HEAD_S, self._look_at_head, self._heads)
