"""One HTTP/1.1 connection as a client: one request at a time, its answer read up to a limit."""

import asyncio
import time
import zlib
from collections.abc import Callable
from typing import cast

import httptools

from endpoints.transports.failures import BadAnswer, HungUp, Stale
from endpoints.transports.http_exchange import Answer, Exchange
from endpoints.transports.http_unpack import Unpacker, unpacker

MAX_HEAD = 64 * 1024
MAX_HEADERS = 128
MAX_VALUE = 8190
PIECE = 128 * 1024  # of a large body: so much is written at a time, that one does not hold up the loop
# Of what frames a body (chunk sizes, trailers) so many bytes for each of its own are read; more is an attack.
MOST_FRAMING = 8
MAX_KNOWN = 4096
_NONE = Exchange(0, 0.0)
_NOTHING = memoryview(b"")


class Connection(asyncio.Protocol):
    """A connection that is kept alive as long as every answer ends where it says.

    `lost` is called when it ends while nobody waits for an answer on it. What waits
    gets BadAnswer, HungUp, Stale, TimeoutError or the error of the line.
    """

    def __init__(self, lost: Callable[["Connection"], None] = lambda _: None) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._may_be_stale = self._is_paused = self._keeps_alive = False
        self._waiting: asyncio.Future[Answer] | None = None
        self._exchange = _NONE
        self._unsent = _NOTHING
        self._known: tuple[bytes, Answer] = (b"", Answer(0, "", [], b"", is_cut=False))
        self._renew_parser()
        self._clear()

    def _renew_parser(self) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        # What many servers do and every client takes: bare LF, odd bytes in values, spaces after a chunk size.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def _clear(self) -> None:
        self._status, self._reason = 0, b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._unpacker: Unpacker | None = None
        self._size = self._framed = self._received = 0  # body bytes unpacked and as they came; all bytes
        self._is_complete = self._is_enough = self._is_broken = self._has_more = False

    # -- asking -------------------------------------------------------------------------

    @property
    def is_free(self) -> bool:
        """Say whether another request may be made over it."""
        return self._transport is not None and self._waiting is None and not self._transport.is_closing()

    def ask(self, exchange: Exchange) -> "asyncio.Future[Answer]":
        """Send a request and return what its answer will be; nobody else may be waiting for one."""
        self._exchange = exchange
        self._waiting = waiting = self._loop.create_future()
        if self._transport is None:  # lost while it was handed over
            self._settle(Stale() if self._may_be_stale else HungUp())
            return waiting
        self._transport.write(exchange.head)
        if exchange.rest:
            self._unsent = memoryview(exchange.rest)
            self._write_on()
        return waiting

    def end(self) -> None:
        """Wait no longer: the time is over."""
        if self._waiting is None:
            return
        self._is_broken = True
        self._settle(None if self._exchange.headed_at else TimeoutError())

    def close(self) -> None:
        """Cut the line. There is no farewell, which a peer could draw out."""
        transport, self._transport, self._parser = self._transport, None, None
        self._unsent = _NOTHING
        if transport is not None:
            transport.abort()
        if self._waiting is not None:
            self._settle(HungUp())

    def _write_on(self) -> None:
        """Write the next piece of a large body, and so on until the line is full or the answer there."""
        if not self._unsent or self._waiting is None or self._transport is None:
            return
        piece, self._unsent = self._unsent[:PIECE], self._unsent[PIECE:] or _NOTHING
        self._transport.write(piece)
        if self._unsent and not self._is_paused:
            self._loop.call_soon(self._write_on)

    # -- what the line says -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by descent

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._write_on()

    def data_received(self, data: bytes) -> None:
        if self._waiting is None or self._parser is None:
            self.close()  # nobody asked
            self._lost(self)
            return
        if data == self._known[0] and self._says_it_again(self._known[1]):
            return
        self._may_be_stale = False
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as exc:
            if not isinstance(exc.__context__, BadAnswer):
                raise
            self._broke(exc.__context__)
            return
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._broke(exc)
            return
        if self._is_complete:
            self._settle(whole=data)
        elif self._is_enough or self._is_broken:
            self._is_broken = True
            self._settle()
        elif self._received > MAX_HEAD + MOST_FRAMING * self._framed:
            self._broke(BadAnswer("the head is too big" if not self._exchange.headed_at else "framing without end"))

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self._transport = self._transport, None
        if transport is None:
            return  # we cut it ourselves
        if self._waiting is None:
            self._lost(self)
        elif self._exchange.headed_at:
            self._is_broken = exc is not None or not self._ends_with_the_line()
            self._settle()
        elif self._may_be_stale:
            self._settle(Stale())
        else:
            self._settle(exc or HungUp())
        self._parser = None

    def _broke(self, exc: Exception) -> None:
        """Take an answer that stopped being HTTP for what came before that; nothing of a body is nothing."""
        if self._is_complete:
            self._has_more = True
            self._settle()
        elif self._exchange.headed_at and self._framed:
            self._is_broken = True
            self._settle()
        else:
            self._settle(exc if isinstance(exc, BadAnswer) else BadAnswer(str(exc)))

    def _ends_with_the_line(self) -> bool:
        """Say whether this answer's body has no other end than the connection's (RFC 9112, 6.3)."""
        framing = {name.lower(): value for name, value in self._headers if len(name) in (14, 17)}
        encoding = framing.get(b"transfer-encoding", b"").rpartition(b",")[2].strip().lower()
        return b"content-length" not in framing and encoding != b"chunked"

    def _settle(self, error: Exception | None = None, whole: bytes = b"") -> None:
        """Tell who waits, once, and be ready for the next request if the answer ended as it should.

        `whole` is the answer as it came, if it came at once.
        """
        waiting, self._waiting = self._waiting, None
        answer = self._answer() if error is None else None
        if waiting is not None and not waiting.done():
            if answer is not None:
                waiting.set_result(answer)
            else:
                waiting.set_exception(error or HungUp())
        if self._is_complete and not (self._has_more or self._is_paused or self._unsent) and self._keeps_alive:
            if self._exchange.is_head:
                self._renew_parser()  # it would take what comes next for the body
            elif answer is not None and len(whole) == self._received <= MAX_KNOWN and not self._is_enough:
                self._known = (whole, answer)
            self._exchange = _NONE  # which may hold a large body
            self._may_be_stale = True
            self._clear()
        else:
            self.close()

    def _says_it_again(self, known: Answer) -> bool:
        """Take these bytes for what the same bytes were before: under load receivers say the same over and over."""
        exchange, waiting = self._exchange, self._waiting
        if self._received or exchange.is_head or self._is_paused or self._unsent:
            return False
        exchange.headed_at = time.perf_counter()
        self._exchange, self._waiting = _NONE, None
        if waiting is not None and not waiting.done():
            waiting.set_result(known)
        return True

    def _answer(self) -> Answer:
        headers = [
            (name.decode("utf-8", "surrogateescape"), value.rstrip(b" \t").decode("utf-8", "surrogateescape"))
            for name, value in self._headers
        ]
        is_cut = self._is_broken or (self._unpacker is not None and not self._unpacker.is_finished)
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        return Answer(self._status, self._reason.decode("utf-8", "surrogateescape"), headers, body, is_cut=is_cut)

    # -- what the parser says -----------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise BadAnswer("more than one answer")

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._exchange.headed_at:
            return  # a trailer
        if len(self._headers) >= MAX_HEADERS or len(name) + len(value) > MAX_VALUE or b"\0" in value:
            raise BadAnswer("too many headers, or one that is too long or holds NUL")
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self._status = status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        self._exchange.headed_at = time.perf_counter()
        if self._exchange.is_head:
            self._end()

    def on_body(self, data: bytes) -> None:
        if self._is_complete:
            raise BadAnswer("a body after an answer to HEAD")
        if not self._framed:
            self._unpacker = unpacker(self._headers)
        self._framed += len(data)
        room = self._exchange.limit - self._size
        if room <= 0 or self._is_broken:
            return
        if self._unpacker is None:
            data = data if len(data) <= room else data[:room]
        else:
            try:
                data = self._unpacker.unpack(data, room)
            except zlib.error:
                self._is_broken = True
                return
        self._size += len(data)
        self._is_enough = self._size >= self._exchange.limit
        self._parts.append(data)

    def on_message_complete(self) -> None:
        if not self._exchange.headed_at:  # 1xx: the answer is still to come
            self._clear()
        elif not self._is_complete:
            self._end()

    def _end(self) -> None:
        assert self._parser is not None
        self._is_complete = True
        self._keeps_alive = self._parser.should_keep_alive()
