"""A TCP or TLS connection as a conversation: frames are said and heard in the framing of the endpoint."""

import asyncio
import time
from collections.abc import Callable
from typing import cast

from endpoints.egress import Egress
from endpoints.transports.base import ErrorClass, TransportError
from endpoints.transports.conversation import Conversation, Heard, Inbox
from endpoints.transports.failures import CAUGHT, BadFrame, HungUp, translate
from endpoints.transports.framing import FrameError, Framing, Unframable
from endpoints.transports.masking import Masking
from endpoints.transports.pool import Peer

LARGEST = 16 * 1024 * 1024  # frame of the peer
FAREWELL_S = 1.0

IsWelcome = Callable[[bytes], TransportError | None]


class StreamConversation(asyncio.Protocol, Conversation):
    """In a framing without frames (`raw`) what is heard is the bytes as they came, in pieces."""

    def __init__(self, framing: Framing, masking: Masking) -> None:
        self.inbox = Inbox()
        self._framing, self._masking, self._decoder = framing, masking, framing.decoder(LARGEST)
        self._transport: asyncio.Transport | None = None
        self._room = asyncio.Event()
        self._ended = asyncio.Event()

    async def say(self, data: bytes, *, is_text: bool = True) -> None:
        try:
            frame = self._framing.encode(data)
        except Unframable as exc:
            raise TransportError(str(exc), error_class=ErrorClass.TRANSFORM) from exc
        await self.write(frame)

    async def write(self, frame: bytes) -> None:
        """Write bytes as they are, once there is room for them."""
        await self._room.wait()
        self._require_open()
        assert self._transport is not None
        self._transport.write(frame)

    async def say_no_more(self) -> None:
        """Tell the peer that nothing more will be said; it may go on."""
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    async def aclose(self) -> None:
        transport, self._transport = self._transport, None
        if transport is None:
            return
        self._end(HungUp())
        transport.close()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._ended.wait()
        except TimeoutError:
            transport.abort()

    # -- what the line says ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._room.set()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def data_received(self, data: bytes) -> None:
        try:
            frames, fault = self._decoder.feed(data), None
        except FrameError as exc:
            frames, fault = exc.frames, BadFrame(exc.detail)
        for frame in frames:
            self.inbox.put(Heard(self._masking.body(frame, truncated=False)))
        if fault is not None:
            self._end(fault)
        if self.inbox.fault is not None and self._transport is not None:
            self._transport.abort()

    def eof_received(self) -> None:
        self._end(BadFrame("it broke off within a frame") if self._decoder.is_inside else HungUp("the peer hung up"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or HungUp("the peer hung up"))
        self._transport = None
        self._ended.set()

    def _end(self, error: BaseException) -> None:
        self.inbox.end(_told(error, self._masking))
        self._room.set()


async def open_stream(
    egress: Egress,
    peer: Peer,
    framing: Framing,
    masking: Masking,
    timeout_s: float,
    greeting: bytes,
    is_welcome: IsWelcome,
) -> StreamConversation:
    """Return a connection on which the credential, if there is one to show, was taken; raises TransportError."""
    started = time.perf_counter()
    made: StreamConversation | None = None
    try:
        async with asyncio.timeout(timeout_s):
            made = await egress.connect(
                lambda: StreamConversation(framing, masking),
                peer.host,
                peer.port,
                tls=peer.tls,
                server_name=peer.server_name,
            )
            if greeting:
                await _greet(made, greeting, is_welcome)
    except BaseException as exc:
        if made is not None:
            await made.aclose()
        if isinstance(exc, CAUGHT):
            error = _told(exc, masking)
            error.phases_ms = {"connect": (time.perf_counter() - started) * 1000}
            raise error from exc
        raise
    made.connect_ms = (time.perf_counter() - started) * 1000
    return made


async def _greet(made: StreamConversation, greeting: bytes, is_welcome: IsWelcome) -> None:
    await made.write(greeting)
    said = await made.inbox.get()
    if said is None:
        raise TransportError("the peer hung up when it was shown the credential", error_class=ErrorClass.AUTH)
    if refusal := is_welcome(said.data):
        raise refusal


def _told(exc: BaseException, masking: Masking) -> TransportError:
    error = translate(exc)
    return TransportError(masking.text(error.detail), error_class=error.error_class)
