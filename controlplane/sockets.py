"""WebSockets as uvicorn speaks them, with an end for lines that take nothing more, and frames as large as allowed."""

import asyncio
import socket
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

CLOSE_S = 2.0  # a client that does not answer our close has no more time than this


MAX_FRAGMENTS = 4096  # of one message: empty ones count for nothing else
MOST_UNREAD = 256 * 1024  # what a client that asks and asks may leave unread of our answers
SEND_BUFFER = 64 * 1024  # of the kernel's, for each: else it takes megabytes for a client that does not read
# Each message is packed by itself: between messages a compressed connection costs no memory.
DEFLATE = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True,
    client_no_context_takeover=True,
    server_max_window_bits=12,
    client_max_window_bits=12,
    compress_settings={"memLevel": 5},
)


# To a handshake that is none: one with a body, for example.
REFUSED = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class SocketProtocol(WebSocketsSansIOProtocol):
    """One connection; `controlplane.line` among the extensions of its scope lets the application `cut` and `allow`."""

    _cutting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.conn.available_extensions = [DEFLATE]
        if found := transport.get_extra_info("socket"):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:  # nobody else would ever end it
            self.transport.write(REFUSED)
            self.transport.close()

    async def run_asgi(self) -> None:
        self.scope["extensions"]["controlplane.line"] = {"cut": self.cut, "allow": self.allow}
        await super().run_asgi()

    def handle_cont(self, event: Any) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self.frames = []
            self.cut(1009, "too many fragments")
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        super().handle_ping()
        if self.transport.get_write_buffer_size() > MOST_UNREAD:
            self.transport.abort()

    def allow(self, size: int) -> None:
        """Take messages of up to `size` bytes from now on, if that is more."""
        self.conn.max_message_size = max(self.conn.max_message_size or 0, size)

    def cut(self, code: int, reason: str) -> None:
        """Close without waiting for room: what cannot be told within a moment is not told."""
        self.stop_keepalive()
        if self.transport.is_closing():
            self._abort_soon()
            return
        if not self.close_sent:
            self.conn.send_close(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            if self.read_paused:
                self.read_paused = False
                self.transport.resume_reading()
        self.close_timer = self._abort_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._cutting is not None:
            self._cutting.cancel()
        super().connection_lost(exc)

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.close" and self.close_timer is not None:
            self.close_timer.cancel()
            self.close_timer = self._abort_soon()

    def keepalive_timeout(self) -> None:
        if self.read_paused:  # we do not read at the moment, so the answer may be there
            self.pong_timer = self.loop.call_later(self.ping_timeout or CLOSE_S, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self._abort_soon()

    def shutdown(self) -> None:
        super().shutdown()
        self._abort_soon()

    def _abort_soon(self) -> asyncio.TimerHandle:
        """A transport that closes waits for its buffer, for ever if need be: that much time it has."""
        if self._cutting is None:
            self._cutting = self.loop.call_later(CLOSE_S, self.transport.abort)
        return self._cutting
