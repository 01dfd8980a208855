"""Protocol `serial`: devices on a serial line, reached over TCP through a device server such as ser2net.

A frame is STX, the data, ETX and a checksum (all bytes after STX, xored). The three
control characters within the data are written as DLE and the character with bit 6
flipped. The device answers ACK, NAK (it did not understand; try again) or a frame of
its own. ENQ asks whether it is there, and is answered ACK.
"""

import asyncio
import time
from collections.abc import Callable
from functools import reduce
from operator import xor
from typing import Any, ClassVar, cast

from endpoints.egress import Egress, default_egress
from endpoints.transports.base import (
    KEPT_BODY,
    AckLevel,
    Address,
    ErrorClass,
    Outgoing,
    Reply,
    Transport,
    TransportError,
)
from endpoints.transports.failures import CAUGHT, BadFrame, HungUp, Stale, translate
from endpoints.transports.pool import Peer, Pool, closed

STX, ETX, ENQ, ACK, DLE, NAK = b"\x02", b"\x03", b"\x05", b"\x06", b"\x10", b"\x15"
FLIP = 0x40


def encode(data: bytes) -> bytes:
    """Return the frame that carries `data`."""
    for control in (DLE, STX, ETX):  # DLE first: the others bring more of them
        data = data.replace(control, DLE + bytes([control[0] ^ FLIP]))
    body = data + ETX
    return STX + body + bytes([reduce(xor, body)])


class Decoder:
    """Reads one answer: ACK, NAK or a frame, of which it keeps `cap` bytes."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._is_inside = self._is_escaped = self._is_at_end = False
        self._sum = 0
        self.data = bytearray()
        self.is_cut = False

    @property
    def is_begun(self) -> bool:
        """Say whether a frame has begun and is not complete."""
        return self._is_inside

    def feed(self, received: bytes) -> bytes | None:
        """Return what kind of answer it is (ACK, NAK, STX) once it is complete; raises BadFrame."""
        for byte in received:
            if self._is_at_end:
                if byte != self._sum:
                    raise BadFrame("the checksum is wrong")
                return STX
            if not self._is_inside:
                if bytes([byte]) in (ACK, NAK):
                    return bytes([byte])
                if byte != STX[0]:
                    raise BadFrame(f"byte {byte:#04x} where a frame should begin")
                self._is_inside = True
                continue
            self._take(byte)
        return None

    def _take(self, byte: int) -> None:
        self._sum ^= byte
        if byte == ETX[0]:
            self._is_at_end = True
        elif byte == DLE[0]:
            self._is_escaped = True
        else:
            if self._is_escaped:
                byte, self._is_escaped = byte ^ FLIP, False
            self.is_cut = self.is_cut or len(self.data) >= self._cap
            if not self.is_cut:
                self.data.append(byte)


class Question:
    """What is asked over a connection; a pool asks for `until` and sets `connected_at`."""

    def __init__(self, sent: bytes, cap: int, until: float) -> None:
        self.sent, self.until, self.connected_at = sent, until, 0.0
        self.answer = Decoder(cap)


class Line(asyncio.Protocol):
    """One connection: a question at a time. `lost` is called when it ends between two."""

    def __init__(self, lost: Callable[["Line"], None]) -> None:
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._question: Question | None = None
        self._waiting: asyncio.Future[bytes] | None = None
        self._is_used = False

    @property
    def is_free(self) -> bool:
        """Say whether something may be asked over it now."""
        return self._transport is not None and self._waiting is None and not self._transport.is_closing()

    def ask(self, question: Question) -> "asyncio.Future[bytes]":
        """Ask, and return what will be the answer."""
        self._question = question
        self._waiting = waiting = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._settle(Stale() if self._is_used else HungUp())
        else:
            self._transport.write(question.sent)
        return waiting

    def end(self) -> None:
        """Wait no longer: the time is over. An answer may come yet, so the line is given up."""
        self._settle(TimeoutError())
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._settle(HungUp())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._question is None or self._waiting is None:
            self.close()  # nobody asked
            self._lost(self)
            return
        try:
            kind = self._question.answer.feed(data)
        except BadFrame as exc:
            self._settle(exc)
            self.close()
            return
        if kind is not None:
            self._is_used = True
            self._settle(kind)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting is None:
            self._lost(self)
        self._settle(Stale() if self._is_used else exc or HungUp())

    def _settle(self, result: bytes | Exception) -> None:
        waiting, self._waiting, self._question = self._waiting, None, None
        if waiting is None or waiting.done():
            return
        if isinstance(result, Exception):
            waiting.set_exception(result)
        else:
            waiting.set_result(result)


class SerialTransport(Transport):
    """Sends payloads as frames; ACK or a frame in answer delivers them, and a frame is the reply."""

    CONFIG_SCHEMA: ClassVar[dict[str, Any]] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Serial endpoint",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "unit": {
                "type": "integer",
                "minimum": 0,
                "maximum": 255,
                "description": "Number of the device on the line: put before the data as one byte.",
            }
        },
    }
    NEEDS_HOST: ClassVar[bool] = True
    NEEDS_PORT: ClassVar[bool] = True

    def __init__(self, address: Address, egress: Egress | None = None) -> None:
        super().__init__(address)
        self._egress = egress or default_egress()
        self._pool: Pool[Question, bytes] | None = None

    @classmethod
    def check_credential(cls, kind: str, config: Any) -> str:
        """Return why a credential cannot be shown: there is no place for one."""
        return f"a credential of kind '{kind}' cannot be shown on a serial line"

    async def open(self) -> None:
        """Prepare the pool; nothing is connected yet, so a device that is off does no harm."""
        peer = Peer(self.address.host, self.address.port or 0)
        self._pool = Pool(self._egress, peer, self.address.max_in_flight, Line)
        unit = self.address.config.get("unit")
        self._prefix = b"" if unit is None else bytes([unit])

    async def send(self, outgoing: Outgoing) -> Reply:
        """Send one message within `timeout_s`; raises TransportError and nothing else."""
        cap = self.address.reply_cap(outgoing)
        return self.answered(outgoing, await self._asked(encode(self._prefix + outgoing.payload), cap))

    async def probe(self) -> Reply:
        """Ask whether the device is there."""
        return await self._asked(ENQ, KEPT_BODY)

    async def aclose(self) -> None:
        """Hang up; safe to call twice."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
            await asyncio.sleep(0)

    async def _asked(self, sent: bytes, cap: int) -> Reply:
        pool, started = self._pool, time.perf_counter()
        if pool is None:
            raise closed()
        if self.address.credential is not None:  # never leave out silently what somebody counts on
            why = self.check_credential(self.address.credential.kind, self.address.config)
            raise TransportError(why, error_class=ErrorClass.AUTH)
        question = Question(sent, cap, started + self.address.timeout_s)
        request = {"method": "SEND", "url": f"serial://{self.address.host}:{self.address.port}", "headers": {}}
        try:
            kind = await pool.ask(question)
        except TransportError as exc:
            exc.request = request
            raise
        except CAUGHT as exc:
            error = closed() if pool.is_closed else translate(exc)
            error.request = request
            raise error from exc
        reply = Reply(
            ack_level=AckLevel.APPLICATION,
            took_ms=(time.perf_counter() - started) * 1000,
            body=bytes(question.answer.data),
            truncated=question.answer.is_cut,
            request=request,
        )
        if kind == NAK:
            raise TransportError("the device said NAK", error_class=ErrorClass.NACK, reply=reply)
        return reply
