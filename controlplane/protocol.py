"""HTTP as uvicorn speaks it, with an answer in one write, and with bounds on connections and slow heads.

A request that is here at once, head and body, may be taken by the application without a
task of its own (`controlplane.heads`), and without parsing where its head is known already.
"""

import asyncio
import sys
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from controlplane.heads import NOTHING, QUICK, Answer, Head, Heads, Quick

HEAD_S = 20.0  # how long the head of a request may take
MAX_HEAD_BYTES = 64 * 1024
KEEP_ALIVE_POLL_S = 0.1
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s"
)
FULL_BODY = (
    b'{"type":"urn:controlplane:error:full","title":"Full","status":503,"code":"full",'
    b'"detail":"too many connections, try again in a second","errors":[]}'
)
NOT_FOR_US = frozenset({b"upgrade", b"http2-settings"})  # what an upgrade that we do not take adds to a request


class Unreadable(Exception):
    """What is said of how the body comes is not for us: we would take something else for it."""


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

    max_connections = sys.maxsize  # of this process; who serves says how many
    _heads: Heads = NOTHING
    _said = 0  # how many heads
    _head_bytes = 0
    _is_in_head = _is_in_message = _is_upgrade_passed_over = False
    _head_timer: asyncio.TimerHandle | None = None
    _held_back: RequestResponseCycle | None = None  # a request that is not begun before we saw whether it is all here
    _data: bytes | None = None  # what is being read
    _is_whole = False  # it begins with a request
    _is_refused = False  # it is one that was not taken
    # A request whose head was known: uvicorn has not seen it, and nothing else is read before it is answered.
    _taken: Quick | None = None
    _behind = b""
    _is_last = False
    _answered_at = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.access_log = False
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.write(FULL % (len(FULL_BODY), FULL_BODY))
            transport.close()
            return
        self.transport = Corked(transport, self.loop)  # type: ignore[assignment]
        self._heads = self.app_state.get(QUICK, NOTHING)
        self._head_timer = self.loop.call_later(HEAD_S, self._look_at_head, 0)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._taken is not None:
            self._behind += data
            self.flow.pause_reading()
            return
        is_idle = not self._is_in_message and self._is_answered()
        known = self._heads.find(data) if is_idle and not self.flow.write_paused else None
        if known is not None and self._take_known(*known):
            return
        # A whole request with a known head was refused on its short way, and would be again.
        self._data, self._is_whole, said = data, is_idle, self._said
        self._is_refused = known is not None
        self._unset_keepalive_if_required()
        self._parse(data)
        self._data, self._is_refused = None, False
        if self._held_back is not None:
            self._start(self._held_back)
        if self._is_in_head and said == self._said:  # else most of it may be other requests
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.close()

    def _parse(self, data: bytes) -> None:
        """Read what came, as uvicorn does; a request that would rather speak another protocol is one all the same.

        For such a one httptools reads no body and stops behind the head: it is read again without
        what asks for it. Clients ask so by themselves (`Upgrade: h2c`, RFC 9110, section 7.8).
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as exc:
            said = exc.__context__ if isinstance(exc.__context__, Unreadable) else "Invalid HTTP request received."
            self.send_400_response(str(said))
        except httptools.HttpParserUpgrade as exc:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
                return
            head = self._plain_head()
            self._is_upgrade_passed_over = False
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._parse(head + data[exc.args[0] :])

    def _plain_head(self) -> bytes:
        """Return the head that was read, without the wish for another protocol."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(part for part in value.split(b",") if part.strip().lower() not in NOT_FOR_US)
            if name not in NOT_FOR_US and (value or name != b"connection"):
                lines.append(name + b": " + value)
        return b"\r\n".join((*lines, b"", b""))

    def on_message_begin(self) -> None:
        self._is_in_head = self._is_in_message = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:  # what is said behind a body tells of nothing: whoever checks heads did not see it
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        coding = b",".join(value for name, value in self.headers if name == b"transfer-encoding")
        if coding and coding.strip().lower() != b"chunked":
            raise Unreadable("transfer-encoding: send bodies as they are, chunked or with their length")
        if self.parser.should_upgrade() and not self._should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise Unreadable("CONNECT: this is no proxy")
            self._is_upgrade_passed_over = True
            return
        self._is_in_head = False
        self._said += 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._is_upgrade_passed_over:  # only its head was read, and is again
            return
        self._is_in_message = False
        super().on_message_complete()
        cycle = self._held_back
        if cycle is None:
            return
        body = bytes(cycle.body)
        take = None if self.flow.write_paused or self._is_refused else self._heads.prepare(cycle.scope)
        taken = None if take is None else take(body)
        if take is None or taken is None:
            self._start(cycle)
            return
        self._held_back = None
        if self._is_whole and self._data is not None and cycle.keep_alive:
            self._heads.remember(self._data, body, take)
        taken.done.add_done_callback(lambda _: self._answer(cycle, taken))

    def shutdown(self) -> None:
        if self._taken is not None:
            self._is_last = True
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close what has idled for long enough; requests with a known head do not set the timer anew, each."""
        left_s = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if self._taken is None and left_s <= 0:
            super().timeout_keep_alive_handler()
        else:
            delay_s = max(left_s, KEEP_ALIVE_POLL_S)
            self.timeout_keep_alive_task = self.loop.call_later(delay_s, self.timeout_keep_alive_handler)

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin a request, one that may turn out to be here at once only when we know."""
        if self._data is not None and cycle.more_body and not cycle.waiting_for_100_continue:
            self._held_back = cycle
        else:
            super()._start_asgi_task(cycle, app)

    def _start(self, cycle: RequestResponseCycle) -> None:
        self._held_back = None
        super()._start_asgi_task(cycle, self.app)

    def _take_known(self, head: Head, body: bytes) -> bool:
        """Take a request whose head is known, and say whether it was."""
        self._taken = head.take(body)
        if self._taken is None:
            return False
        self._said += 1
        self._taken.done.add_done_callback(self._answer_known)
        return True

    def _answer_known(self, _: Any) -> None:
        taken, self._taken = self._taken, None
        assert taken is not None
        answer = taken.answer()
        if self.transport.is_closing():
            return
        self._write(answer, is_last=self._is_last)
        self.server_state.total_requests += 1
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_handler()
        if self._behind and not self._is_last:
            data, self._behind = self._behind, b""
            self.flow.resume_reading()
            self.data_received(data)

    def _answer(self, cycle: RequestResponseCycle, taken: Quick) -> None:
        """Answer as uvicorn does; to one that hung up, nothing."""
        answer = taken.answer()
        cycle.response_complete = True
        cycle.on_response = _say_nothing
        if not cycle.disconnected:
            self._write(answer, is_last=not cycle.keep_alive)
            self.on_response_complete()

    def _write(self, answer: Answer, *, is_last: bool) -> None:
        """Answer with one write."""
        status, headers, body = answer
        parts = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"content-length: %d\r\n" % len(body))
        parts += (b"connection: close\r\n\r\n" if is_last else b"\r\n", body)
        self.transport.write_now(b"".join(parts))  # type: ignore[attr-defined]
        if is_last:
            self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        if isinstance(self.transport, Corked):
            self.transport.flush()
            self.transport = self.transport._transport
        super().handle_websocket_upgrade()

    def _look_at_head(self, said: int) -> None:
        """Close a connection that has said no head since the last look and has nothing to be answered."""
        if said == self._said and self._taken is None and self._is_answered():
            self.transport.close()
        else:
            self._head_timer = self.loop.call_later(HEAD_S, self._look_at_head, self._said)
