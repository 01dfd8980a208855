"""One connection of a sender: frames in, answers out once they are durable, and everything bounded.

Messages are queued and stored in lots, one lot at a time so that they keep their order;
while one is being made durable the next gathers. A connection with too much that is not
stored yet, or whose answers nobody reads, is read no further until that is better.
"""

import asyncio
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError, Malformed
from endpoints.transports.framing import Decoder, FrameError
from messaging.intake.commit import Answer
from messaging.intake.envelope import Draft
from messaging.listening.opening import OtherProtocol, other_protocol

if TYPE_CHECKING:
    from messaging.listening.tcp import TcpServer

PATIENCE_S = 30.0  # how long a lot waits for room before its messages are refused
LOT = 1000  # half of what may be unanswered: the next lot gathers while one is made durable
ITEM_BYTES = 512  # what a message costs us beside its frame: a flood of empty ones is one, too
WRITE_HIGH_BYTES = 256 * 1024
LINGER_S = 1.0


@dataclass(slots=True)
class Item:
    """A message that came, its place in the sender's own words, and how many bytes it holds until it is answered."""

    draft: Draft | ControlPlaneError
    ref: Any
    size: int
    message_id: str | None = None  # of a message that is refused for something else


class Connection(asyncio.Protocol):
    """What both kinds of sender have in common: those who speak our envelope, and devices that know nothing of it."""

    def __init__(self, server: "TcpServer") -> None:
        self.server, self.limits, self.tally = server, server.limits, server.tally
        self.decoder: Decoder | None = None
        self.address = ""
        self.is_closing = self.is_stopping = False
        self.is_refused = False  # a message was, and the peer has no words for that but a closed connection
        self.opened_at = self.last_at = server.loop.time()
        self.frame_at: float | None = None  # when the frame that is not complete yet began
        self.slow_at: float | None = None  # since when our answers wait to be read
        self._transport: asyncio.Transport
        self._queue: list[Item] = []
        self._owed = self._owed_bytes = 0  # of messages that are not answered yet
        self._inside = 0  # bytes of the frame that is not complete yet
        self._is_held_up = self._has_ended = False
        self._task: asyncio.Task[None] | None = None

    # -- what the kinds differ in

    @property
    def is_known(self) -> bool:
        """Say whether it is known who speaks; before that the deadline is short."""
        return True

    @property
    def is_owed(self) -> bool:
        """Say whether there are messages that are not answered yet."""
        return self._owed > 0

    @abstractmethod
    async def principal(self) -> Principal:
        """Return on whose behalf messages are taken now; raises Unauthenticated or Forbidden."""

    @abstractmethod
    def take(self, frame: bytes) -> None:
        """Take one frame: queue what it holds with `put`, or answer it."""

    @abstractmethod
    def answer(self, item: Item, answer: Answer) -> bytes:
        """Return the bytes that tell what became of a message."""

    def farewell(self, error: ControlPlaneError) -> bytes:
        """Return the bytes that tell why the connection is closed."""
        return b""

    def arrive(self) -> ControlPlaneError | None:
        """Look at who is there; returns why it is not let in."""
        return None

    # -- asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport  # uvloop's is no subclass of asyncio.Transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"
        unknown, full = self.arrive(), self.server.enter(self)
        if refusal := unknown or full:
            self.close(refusal)

    def data_received(self, data: bytes) -> None:
        if self.is_closing:
            return
        self.last_at = self.server.loop.time()
        try:
            self._read(data)
        except OtherProtocol as exc:
            self._tell_off(exc)
        except FrameError as exc:
            self._end_with(exc)
        except ControlPlaneError as exc:
            self.close(exc)

    def _end_with(self, bad: FrameError) -> None:
        """Take what came before the bytes that are no frame, as far as there is room for it, and close."""
        reason: ControlPlaneError = Malformed(bad.detail, code=bad.code)
        try:
            for frame in bad.frames:
                self.take(frame)
        except ControlPlaneError as exc:
            reason = exc
        self.close(reason)

    def _read(self, data: bytes) -> None:
        if self.decoder is None:
            self.open_with(data)
            return
        frames = self.decoder.feed(data)
        self._note_inside(len(data), bool(frames))
        for frame in frames:
            self.take(frame)
        if self._queue and self._task is None:
            self._task = self.server.start(self._store())
        self._hold_up()

    def tells_off(self, data: bytes) -> bool:
        """Say whether these first bytes are another protocol's, and the connection is closed for it."""
        try:
            other_protocol(data)
        except OtherProtocol as exc:
            self._tell_off(exc)
            return True
        return False

    def _tell_off(self, other: OtherProtocol) -> None:
        self._write(other.answer)
        self.close(Malformed(str(other), code="other_protocol"), says=False)

    def open_with(self, data: bytes) -> None:
        """Read the first bytes; only a kind that does not know its sender at once has no decoder yet."""
        raise NotImplementedError

    def eof_received(self) -> bool:
        """Answer what was sent before the sender closed its side, and only then close ours."""
        self._has_ended = True
        return (
            self._task is not None
            and not self._transport.is_closing()
            and not self._transport.get_extra_info("sslcontext")
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the peer; what it sent is stored all the same, as far as it came."""
        self.is_closing = True
        self._count_inside(0)
        if self._queue and self._task is None:  # a bug ended us between taking a message and storing it
            self._task = self.server.start(self._store())
        self.server.leave(self)

    def pause_writing(self) -> None:
        self.slow_at = self.server.loop.time()
        self._hold_up()

    def resume_writing(self) -> None:
        self.slow_at = None
        self._hold_up()

    # -- taking and answering

    def put(self, draft: Draft | ControlPlaneError, ref: Any, size: int, message_id: str | None = None) -> None:
        """Queue what a frame of `size` bytes held; raises Overloaded when the process holds too much."""
        size += ITEM_BYTES
        self.server.held.change(size)
        self._queue.append(Item(draft, ref, size, message_id))
        self._owed += 1
        self._owed_bytes += size

    def close(self, error: ControlPlaneError, *, says: bool = True) -> None:
        """Close for a reason, which the sender is told; what it sent before is still stored."""
        if self.is_closing:
            return
        self.is_closing = True
        self.tally.refuse(self.address, error.code, error.detail)
        if says:
            self._write(self.farewell(error))
        if self._queue and self._task is None:
            self._task = self.server.start(self._store())
        if self._task is None:
            self._finish()
        else:
            self._pause(True)

    def abort(self, error: ControlPlaneError) -> None:
        """Close at once: the peer reads nothing that we could tell it."""
        self.is_closing = True
        self.tally.refuse(self.address, error.code, error.detail)
        self._transport.abort()

    def end(self) -> None:
        """Close because we stop; what came is stored and answered first."""
        self.is_closing = self.is_stopping = True
        if self._task is None:
            self._finish()

    async def _store(self) -> None:
        """Store what is queued, lot after lot, and answer it; the one task of a connection."""
        try:
            while self._queue and not self.is_refused:
                lot = self._queue[:LOT]
                answers = await self._accept(lot)
                self._let_go(len(lot))
                self.tally.take(answers, self.address)
                self.last_at = self.server.loop.time()
                self._write(b"".join(map(self.answer, lot, answers)))
                self._hold_up()
        except BaseException:  # we stop, or have a bug: nothing more is answered, least of all what comes later
            self.is_closing = True
            self._transport.abort()
            raise
        finally:
            self._task = None
            self._let_go(len(self._queue))  # what can be answered no more
        if self.is_refused or self.is_closing or self._has_ended:
            self._finish()

    def _let_go(self, count: int) -> None:
        """Hold the first messages of the queue no longer: they are answered, or will never be."""
        size = sum(item.size for item in self._queue[:count])
        del self._queue[:count]
        self._owed -= count
        self._owed_bytes -= size
        self.server.held.change(-size)

    async def _accept(self, lot: list[Item]) -> list[Answer]:
        """Return an answer for each; one that no message of the lot got past is the answer of all."""
        try:
            return await self.server.intake.accept([item.draft for item in lot], await self.principal(), PATIENCE_S)
        except ControlPlaneError as exc:
            if exc.status in (401, 403):
                self.server.loop.call_soon(self.close, exc)
            return [item.draft if isinstance(item.draft, ControlPlaneError) else exc for item in lot]

    # -- keeping within bounds

    def _hold_up(self) -> None:
        """Read on, or not: too much is not stored yet, or our answers are not read."""
        full = self._owed >= self.limits.unacknowledged or self._owed_bytes >= self.limits.unacknowledged_bytes
        some = self._owed * 2 >= self.limits.unacknowledged or self._owed_bytes * 2 >= self.limits.unacknowledged_bytes
        self._pause(self.slow_at is not None or full or (self._is_held_up and some))

    def _pause(self, wanted: bool) -> None:
        if wanted != self._is_held_up and not self._transport.is_closing():
            self._is_held_up = wanted
            if wanted:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _note_inside(self, came: int, has_frames: bool) -> None:
        """Keep count of the frame that is not complete; it has its time from its first byte on."""
        assert self.decoder is not None
        if not self.decoder.is_inside:
            self.frame_at = None
            self._count_inside(0)
            return
        if has_frames or self.frame_at is None:
            self.frame_at = self.last_at
        self._count_inside(came if has_frames else self._inside + came)

    def _count_inside(self, size: int) -> None:
        self.server.held.change(size - self._inside)
        self._inside = size

    def _write(self, data: bytes) -> None:
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _finish(self) -> None:
        """Close; a peer that still sends is let finish for a moment, or the reset would take our last words with it."""
        self.is_closing = True
        transport = self._transport
        if transport.is_closing():
            return
        if self._has_ended or self.is_stopping or not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        self._pause(False)
        self.server.loop.call_later(LINGER_S, transport.close)
