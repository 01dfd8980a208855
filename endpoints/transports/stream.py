"""One connection over TCP or TLS as a client: one message at a time, with or without something said to it."""

import asyncio
import time
from collections.abc import Callable, Collection
from enum import Enum
from typing import cast

from endpoints.transports.base import ErrorClass, TransportError
from endpoints.transports.failures import BadFrame, HungUp, Stale
from endpoints.transports.framing import Decoder, FrameError
from endpoints.transports.timing import in_ms

PIECE = 128 * 1024  # of a large frame: so much is written at a time, that one does not hold up the loop
FAREWELL_S = 1.0
_NOTHING = memoryview(b"")


class Answered(Enum):
    """What ends an exchange."""

    WRITTEN = "written"  # all of it is with the operating system
    FRAME = "frame"  # the peer said one frame
    END = "end"  # the peer said all it had to say, and hung up


class Stage(Enum):
    """How far an exchange has come, as the words of a timeout."""

    CONNECT = "no connection in time"
    GREETING = "the credential was not answered in time"
    WRITE = "not all of it was taken in time"
    ANSWER = "no answer in time"


class Exchange:
    """One message on its way; times are those of `time.perf_counter`, 0.0 until they come.

    `greeting` is said, and must be answered by a frame that `is_welcome`, before anything
    else is said on a new connection. `limit` counts the bytes wanted of the answer.
    """

    __slots__ = ("answered", "connected_at", "frame", "greeting", "headed_at", "limit", "stage", "until", "written_at")

    def __init__(self, answered: Answered, limit: int, until: float, frame: bytes = b"", greeting: bytes = b"") -> None:
        self.answered, self.limit, self.until = answered, limit, until
        self.frame, self.greeting = frame, greeting
        self.connected_at = self.written_at = self.headed_at = 0.0
        self.stage = Stage.CONNECT

    def phases_ms(self, started: float) -> dict[str, float]:
        """Return how long connecting (name, TLS, credential included), writing and waiting took, in milliseconds."""
        done = time.perf_counter()
        if not self.connected_at:
            return {"connect": in_ms(done - started)}
        phases = {"connect": in_ms(self.connected_at - started)}
        phases["write"] = in_ms((self.written_at or done) - self.connected_at)
        if self.written_at and self.answered is not Answered.WRITTEN:
            phases["first_byte"] = in_ms((self.headed_at or done) - self.written_at)
        return phases


class Answer:
    """What was said to a message; `is_cut` when there was more of it, `is_early` when not all had been written yet."""

    __slots__ = ("body", "is_cut", "is_early")

    def __init__(self, body: bytes, *, is_cut: bool = False, is_early: bool = False) -> None:
        self.body, self.is_cut, self.is_early = body, is_cut, is_early


_NONE = Exchange(Answered.WRITTEN, 0, 0.0)


class StreamConnection(asyncio.Protocol):
    """A connection that is kept as long as no more is said on it than was asked for.

    `lost` is called when it ends while nobody waits on it. What waits gets BadFrame,
    HungUp, Stale, TimeoutError, TransportError or the error of the line. `ended` is done once it is closed.
    """

    def __init__(
        self,
        lost: Callable[["StreamConnection"], None],
        decoder: Decoder,
        is_welcome: Callable[[bytes], TransportError | None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost, self._decoder, self._is_welcome = lost, decoder, is_welcome
        self._transport: asyncio.Transport | None = None
        self._leaving: asyncio.Transport | None = None  # waits for the peer's farewell
        self._waiting: asyncio.Future[Answer] | None = None
        self._exchange = _NONE
        self._unsent = _NOTHING
        self._may_be_stale = self._is_paused = self._is_broken = self._is_greeted = self._is_deaf = False
        self._said = bytearray()  # by a peer that says all it has to say and hangs up
        self.ended: asyncio.Future[None] = self._loop.create_future()

    # -- asking -------------------------------------------------------------------------

    @property
    def is_free(self) -> bool:
        """Say whether another message may be sent over it."""
        return self._transport is not None and self._waiting is None and not self._transport.is_closing()

    def ask(self, exchange: Exchange) -> "asyncio.Future[Answer]":
        """Send a message and return what its answer will be; nobody else may be waiting for one."""
        self._exchange = exchange
        self._waiting = waiting = self._loop.create_future()
        if self._transport is None:  # lost while it was handed over
            self._settle_error(Stale() if self._may_be_stale else HungUp())
        elif exchange.greeting and not self._is_greeted:
            exchange.stage = Stage.GREETING
            self._transport.write(exchange.greeting)
        else:
            self._write()
        return waiting

    def end(self) -> None:
        """Wait no longer: the time is over."""
        if self._waiting is not None:
            self._settle_error(TimeoutError())

    def close(self) -> None:
        """Hang up: with a farewell when nothing is under way, else at once."""
        transport, self._transport = self._transport, None
        self._unsent = _NOTHING
        if transport is not None and (self._waiting is not None or self._is_paused or self._is_broken):
            transport.abort()
        elif transport is not None:
            self._leaving = transport
            transport.close()
        if self._waiting is not None:
            self._settle_error(HungUp())

    def cut(self) -> None:
        """Wait for no farewell any more, which over TLS a peer could draw out."""
        if self._leaving is not None:
            self._leaving.abort()

    def _write(self) -> None:
        self._exchange.stage = Stage.WRITE
        frame = self._exchange.frame
        if len(frame) > PIECE:
            self._unsent = memoryview(frame)
            self._write_on()
            return
        assert self._transport is not None
        self._transport.write(frame)
        if not self._is_paused and not self._transport.is_closing():
            self._written()

    def _write_on(self) -> None:
        """Write the next piece, and so on until all of it is with the operating system."""
        if self._transport is None or self._waiting is None or self._exchange.stage is not Stage.WRITE:
            return
        if self._unsent:
            piece, self._unsent = self._unsent[:PIECE], self._unsent[PIECE:] or _NOTHING
            self._transport.write(piece)
        if self._is_paused or self._transport.is_closing():
            return
        if self._unsent:
            self._loop.call_soon(self._write_on)
        else:
            self._written()

    def _written(self) -> None:
        exchange = self._exchange
        exchange.stage, exchange.written_at = Stage.ANSWER, time.perf_counter()
        if exchange.answered is Answered.WRITTEN:
            self._is_deaf = True
            self._settle(Answer(b""))
        elif exchange.answered is Answered.END and self._transport is not None:
            self._transport.write_eof()

    # -- what the line says -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by descent
        # Whatever the operating system does not take at once pauses us, so that we know when it has taken all.
        # Over TLS nothing is left behind when the buffer is at its low mark; there it may not be its high mark, too.
        self._transport.set_write_buffer_limits(high=0 if transport.get_extra_info("sslcontext") is None else 1, low=0)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._write_on()

    def data_received(self, data: bytes) -> None:
        is_greeting = self._exchange.stage is Stage.GREETING
        if self._waiting is None or (self._exchange.answered is Answered.WRITTEN and not is_greeting):
            if not self._is_deaf and self._waiting is None:
                self.close()  # nobody asked
                self._lost(self)
            return
        self._may_be_stale = False
        if self._exchange.answered is Answered.END:
            self._said += data
            if len(self._said) > self._exchange.limit:
                self._settle(Answer(bytes(self._said[: self._exchange.limit]), is_cut=True))
            return
        try:
            frames = self._decoder.feed(data)
        except FrameError as exc:
            self._settle_error(BadFrame(exc.detail))
            return
        if is_greeting and frames:
            self._welcome(frames)
        elif frames:
            self._answer(frames)
        elif self._decoder.size_inside > self._exchange.limit:
            self._is_broken = True
            self._settle(Answer(self._decoder.begun(self._exchange.limit), is_cut=True))

    def eof_received(self) -> None:
        if self._waiting is not None and self._exchange.answered is Answered.END:
            self._settle(Answer(bytes(self._said)))

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self._transport, self._leaving = self._transport, None, None
        if not self.ended.done():
            self.ended.set_result(None)
        if transport is None:
            return  # we hung up ourselves
        if self._waiting is None:
            self._lost(self)
        elif self._exchange.stage is Stage.GREETING:
            detail = "the peer hung up when it was shown the credential"
            self._settle_error(TransportError(detail, error_class=ErrorClass.AUTH))
        elif self._may_be_stale:
            self._settle_error(Stale())
        else:
            self._settle_error(exc or HungUp())

    def _welcome(self, frames: list[bytes]) -> None:
        refusal = self._is_welcome(frames[0])
        if refusal is not None:
            self._settle_error(refusal)
        elif len(frames) > 1 or self._decoder.is_inside:
            self._settle_error(BadFrame("more was said than asked for"))
        else:
            self._is_greeted = True
            self._write()

    def _answer(self, frames: list[bytes]) -> None:
        is_early = self._exchange.stage is not Stage.ANSWER
        # What else was said belongs to nothing: the next answer must not be taken from it.
        self._is_broken = is_early or len(frames) > 1 or self._decoder.is_inside
        body, limit = frames[0], self._exchange.limit
        self._settle(Answer(body[:limit], is_cut=len(body) > limit, is_early=is_early))

    # -- telling ------------------------------------------------------------------------

    def _settle(self, answer: Answer) -> None:
        """Tell who waits, and be ready for the next message if there can be one."""
        waiting, self._waiting = self._waiting, None
        ends = self._exchange.answered is Answered.END
        self._exchange.headed_at = time.perf_counter()
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
        self._exchange = _NONE  # which may hold a large frame
        if self._is_broken or ends:
            self.close()
        else:
            self._may_be_stale = True

    def _settle_error(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        self._is_broken = True
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
        self.close()


async def part(connections: Collection[StreamConnection]) -> None:
    """Give connections that were closed time for the peer's farewell, then cut their lines."""
    if connections:
        await asyncio.wait([connection.ended for connection in connections], timeout=FAREWELL_S)
    for connection in connections:
        connection.cut()
    await asyncio.sleep(0)  # the sockets are closed in the loop's next round
