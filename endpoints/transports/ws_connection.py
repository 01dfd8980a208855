"""One WebSocket connection as a client: handshake, messages and their answers, pings, and a clean end.

The protocol itself (RFC 6455) is the `websockets` library's, without its input and
output: here bytes go in and out, and who waits for what is known.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import cast

from websockets.exceptions import InvalidStatus, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN

from endpoints.transports.failures import BadAnswer, HungUp, Stale
from endpoints.transports.ws_answers import Closed, NoPong, TooBig, read_answer
from endpoints.transports.ws_exchange import Handshake, Refused, Turn, whole_frame
from endpoints.transports.ws_waiting import Waiting

PING_AFTER_S = 15.0  # of silence
PONG_WITHIN_S = 15.0
PONG_LATEST_S = 60.0  # from a peer that says other things: no pong comes between the bytes of one large frame
FAREWELL_S = 1.0  # a peer may take so long to close, then the line is cut
MOST_UNREAD = 4 * 1024 * 1024  # of our pongs and echoes, by a peer that sends and never reads
AGAIN = frozenset({1000, 1001, 1006})  # says nothing of the message: it may go over another connection at once


class WsConnection(asyncio.Protocol):
    """A connection that lasts; `lost` is called once when it ends.

    `is_shared`: many messages may be under way, and an answer has to name its own.
    """

    def __init__(
        self, handshake: Handshake, lost: Callable[["WsConnection"], None] = lambda _: None, *, is_shared: bool = False
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._handshake, self._lost, self._is_shared = handshake, lost, is_shared
        self._ws = handshake.protocol()
        self._transport: asyncio.Transport | None = None
        self.opened: asyncio.Future[Response] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._waiting = Waiting(is_shared=is_shared)
        self._pings = self._pongs = 0  # the newest of each, by the ping's number
        self._is_ping_due = self._is_paused = self._is_text = False
        self._pinged_at = 0.0  # or when the last pong came, if others are waited for; 0.0: none is
        self._partial: bytearray | None = None
        self._served = 0
        self._fault: Exception | None = None  # what ended it
        self.heard_at = time.perf_counter()

    # -- asking -------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Say whether messages can be sent over it."""
        return self._transport is not None and self._ws.state is OPEN and not self._transport.is_closing()

    def post(self, turn: Turn) -> None:
        """Send a message; its turn is told what came of it."""
        if not self.is_open:
            turn.settle(self._fault or HungUp())
            return
        turn.is_first = self._served == 0
        self._served += 1
        if self._ws.extensions or self._transport is None:
            (self._ws.send_text if turn.is_text else self._ws.send_binary)(turn.body)
        else:  # the same in a fifth of the time
            self._transport.write(whole_frame(turn.body, is_text=turn.is_text))
        if turn.wants_reply:
            self._waiting.for_answer(turn)
        else:
            self._waiting.for_pong(turn, self._pings + 1)
            if not self._is_ping_due:  # one ping for all that are sent in this round of the loop
                self._is_ping_due = True
                self._loop.call_soon(self._confirm)
        if self._ws.writes:
            self._flush()

    def forget(self, turn: Turn) -> None:
        """Wait no longer for this one; where answers need no names, its answer would be taken for the next one's."""
        if self._waiting.remove(turn) and not self._is_shared:
            self.abort()
        elif self._is_paused:  # what nobody waits for any more is still to be written
            self._flush()

    def ping(self, turn: Turn | None = None) -> None:
        """Ask whether the peer is there; `turn` is told when its pong comes."""
        if turn is not None:
            self._waiting.for_pong(turn, self._pings + 1)
        self._confirm()

    def watch(self, now: float) -> None:
        """Ping after a silence; a peer is dead that stays silent, or that talks and answers no ping for long."""
        unanswered_s = now - self._pinged_at if self._pinged_at else 0.0
        is_silent = now - self.heard_at > PONG_WITHIN_S
        if unanswered_s > (PONG_WITHIN_S if is_silent else PONG_LATEST_S):
            self._end(NoPong("no pong came"))
            self.abort()
        elif not self._pinged_at and not self._is_paused and now - self.heard_at > PING_AFTER_S:
            self.ping()

    def _confirm(self) -> None:
        self._is_ping_due = False
        if not self.is_open:
            return
        self._pings += 1
        self._pinged_at = self._pinged_at or time.perf_counter()
        self._ws.send_ping(b"%d" % self._pings)
        self._flush()

    async def aclose(self) -> None:
        """Say farewell and wait a moment for the peer's; then cut the line."""
        if self.is_open:
            self._ws.send_close(1000)
            self._flush()
            self._end(HungUp())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await asyncio.shield(self._ended)
        self.abort()

    def abort(self) -> None:
        """Cut the line."""
        if self._transport is not None:
            self._transport.abort()
        self._gone(HungUp())

    # -- what the line says -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        request = self._ws.connect()
        for name, value in self._handshake.headers.items():
            request.headers[name] = value
        try:
            self._ws.send_request(request)
        except UnicodeEncodeError as exc:
            self._settle_opening(exc)
            self.abort()
            return
        self._flush()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.perf_counter()
        ws = self._ws
        ws.receive_data(data)
        for event in ws.events_received():
            if type(event) is Frame:
                self._take(event)
            elif isinstance(event, Response):
                self._answered(event)
        if ws.writes:
            self._flush()
        if ws.handshake_exc is not None or ws.parser_exc is not None or (ws.state is not OPEN and self.opened.done()):
            self._finish()

    def eof_received(self) -> None:
        self._ws.receive_eof()
        for event in self._ws.events_received():  # an answer may have no other end than the connection's
            if isinstance(event, Response):
                self._answered(event)
        self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._gone(exc or HungUp())

    def _take(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            self._is_text = opcode is Opcode.TEXT
            if frame.fin:
                self._heard(bytes(frame.data))
            else:
                self._partial = bytearray(frame.data)
        elif opcode is Opcode.CONT and self._partial is not None:
            self._partial += frame.data
            if frame.fin:
                whole, self._partial = bytes(self._partial), None
                self._heard(whole)
        elif opcode is Opcode.PONG:
            self._ponged(bytes(frame.data))
        elif opcode is Opcode.CLOSE and self._ws.close_rcvd is not None:
            self._end(Closed(self._ws.close_rcvd.code, self._ws.close_rcvd.reason))

    def _heard(self, data: bytes) -> None:
        if self._is_text:
            try:
                data.decode()
            except UnicodeDecodeError:
                self._ws.fail(1007, "not UTF-8")
                self._end(BadAnswer("a text frame is not UTF-8"))
                return
        self._give(data)

    def _give(self, data: bytes) -> None:
        """Give a message to whose answer it is; what nobody waits for is dropped."""
        if not self._waiting:
            return
        answer = read_answer(data, is_text=self._is_text)
        turn = self._waiting.answered_by(answer)
        if turn is not None:
            turn.settle(answer)

    def _ponged(self, data: bytes) -> None:
        if not data.isdigit() or len(data) > 18:
            return  # not of ours
        number = int(data)
        if self._pongs < number <= self._pings:
            self._pongs = number
            self._pinged_at = time.perf_counter() if number < self._pings else 0.0
            self._waiting.confirm(number)

    # -- its end ------------------------------------------------------------------------

    def _answered(self, response: Response) -> None:
        if not self.opened.done():
            if response.status_code == 101 and self._ws.handshake_exc is None:
                self.opened.set_result(response)
            elif isinstance(self._ws.handshake_exc, InvalidStatus):
                self._settle_opening(Refused(response))

    def _finish(self) -> None:
        """Tell what ended it, send what is left to say, and hang up."""
        fault = self._ws.handshake_exc or self._ws.parser_exc
        if isinstance(fault, PayloadTooBig):
            self._end(TooBig(str(fault)))
        elif isinstance(fault, EOFError) or (fault is not None and isinstance(fault.__cause__, EOFError)):
            self._end(HungUp())
        elif fault is not None:
            self._end(BadAnswer(str(fault.__cause__ or fault)))
        self._flush()
        if self._transport is not None:
            self._transport.close()
            # A peer that reads nothing any more would keep it for ever.
            self._loop.call_later(FAREWELL_S, self._transport.abort)

    def _end(self, error: Exception) -> None:
        """Tell all that wait."""
        self._settle_opening(error)
        self._fault = self._fault or error
        code = error.code if isinstance(error, Closed) else 1006 if isinstance(error, HungUp | OSError) else 0
        for turn in self._waiting.take_all():
            turn.settle(Stale(str(error)) if code in AGAIN and not turn.is_first else error)

    def _settle_opening(self, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # it may be that nobody looks any more

    def _gone(self, error: Exception) -> None:
        self._end(error)
        if not self._ended.done():
            self._ended.set_result(None)
            self._lost(self)

    def _flush(self) -> None:
        """Write what the protocol has to say; a peer that only sends is told nothing, and at last cut off."""
        transport, writes = self._transport, self._ws.data_to_send()
        if transport is None:
            return
        for data in writes:
            if data:
                transport.write(data)
        if self._is_paused:
            ours = sum(len(turn.body) for turn in self._waiting)
            if transport.get_write_buffer_size() > MOST_UNREAD + 2 * ours:
                self.abort()
