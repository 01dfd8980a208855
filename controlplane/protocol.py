"""HTTP as uvicorn speaks it, with an answer in one write, and with bounds on connections and slow heads."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_CONNECTIONS = 2000  # of one process
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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.access_log = False
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.write(FULL % (len(FULL_BODY), FULL_BODY))
            transport.close()
            return
        self.transport = Corked(transport, self.loop)  # type: ignore[assignment]
        self._head_timer = self.loop.call_later(HEAD_S, self._look_at_head, 0)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
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
