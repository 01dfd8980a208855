"""UDP: one message, one datagram. That it left is all there is to know, unless the peer is to answer it."""

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from endpoints.egress import Egress, default_egress
from endpoints.transports.acknowledgements import judge_reply
from endpoints.transports.base import (
    KEPT_BODY,
    AckLevel,
    Address,
    Advice,
    ErrorClass,
    Outgoing,
    Reply,
    Transport,
    TransportError,
    Unfit,
)
from endpoints.transports.bodies import body_maker
from endpoints.transports.failures import CAUGHT, translate
from endpoints.transports.http_request import origin
from endpoints.transports.pool import closed
from endpoints.transports.tcp_config import BODY, check_template
from endpoints.transports.udp_conversation import MAX_DATAGRAM, DatagramConversation

KEPT_S = 30.0  # then a name is looked up again
REFUSAL_S = 0.1  # how long a probe waits for somebody to say that nobody is there

UDP_CONFIG: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "UDP endpoint",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "reply": {
            "enum": ["none", "message"],
            "default": "none",
            "description": "Whether the peer answers each datagram with one.",
        },
        "broadcast": {"type": "boolean", "default": False, "description": "Whether the host is a broadcast address."},
        "body": BODY,
        "template": {"type": "string", "maxLength": 65536},
        "probe": {"type": "string", "maxLength": 1000, "description": "What a probe sends; nothing but a header else."},
    },
}


class UdpTransport(Transport):
    """Sends each message as one datagram from a connected socket, so that only its peer is heard."""

    CONFIG_SCHEMA: ClassVar[dict[str, Any]] = UDP_CONFIG
    NEEDS_HOST: ClassVar[bool] = True
    NEEDS_PORT: ClassVar[bool] = True

    def __init__(self, address: Address, egress: Egress | None = None) -> None:
        super().__init__(address)
        self._egress = egress or default_egress()
        self._idle: list[tuple[socket.socket, float]] = []  # and when each was made
        self._busy: set[socket.socket] = set()
        self._fault: TransportError | None = None
        self._is_open = False

    @classmethod
    def check_config(cls, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return (field, fault) for what the schema cannot say; see `Transport.check_config`."""
        found = check_template(config)
        if config.get("broadcast") and config.get("reply") == "message":
            found.append(("reply", "a broadcast has many receivers: none of them gives the answer"))
        return found

    @classmethod
    def check_credential(cls, kind: str, config: Mapping[str, Any]) -> str:
        """Return why a credential cannot be shown: a datagram has no place for one."""
        return f"a credential of kind '{kind}' cannot be shown in a datagram: there is no place for one"

    @classmethod
    def unfit(cls, config: Mapping[str, Any]) -> Unfit | None:
        """Return what tells of payloads that are too long; see `Transport.unfit`."""
        return _too_long if config.get("body", "payload") == "payload" else None

    async def open(self) -> None:
        """Prepare what makes the body; settings that cannot work are told by each `send`."""
        address = self.address
        try:
            self._url = origin(address)
            if address.credential is not None:
                raise TransportError(
                    self.check_credential(address.credential.kind, address.config), error_class=ErrorClass.AUTH
                )
            if address.port is None:
                raise TransportError("the endpoint has no port", error_class=ErrorClass.CONNECT)
            self._make_body: Callable[[Outgoing], tuple[bytes, str]] = body_maker(address.config)
            self._awaits_reply = address.config.get("reply") == "message"
            self._is_broadcast = bool(address.config.get("broadcast"))
            self._is_open = True
        except TransportError as exc:
            self._fault = exc

    async def send(self, outgoing: Outgoing) -> Reply:
        """Send one datagram, and wait for one back where the peer is to answer; see `Transport.send`."""
        self._require_open()
        started = time.perf_counter()
        cap = self.address.reply_cap(outgoing)
        body = b""
        try:
            body = self._make_body(outgoing)[0]
            if fault := _too_long(body):
                raise TransportError(fault, error_class=ErrorClass.PROTOCOL, advice=Advice.DEAD)
            with self._translating():
                async with asyncio.timeout(self.address.timeout_s):
                    said = await self._exchange(body, awaits_reply=self._awaits_reply)
            reply = self._reply(said, body, cap, started)
            self._judge(said, outgoing, reply)
        except TransportError as exc:
            exc.request = exc.request or self._record(body)
            raise
        return self.answered(outgoing, reply)

    async def probe(self) -> Reply:
        """Send a datagram, and listen whether its host says that nobody takes it; silence proves nothing."""
        self._require_open()
        started = time.perf_counter()
        config = self.address.config
        body = str(config.get("probe") or "").encode()
        with self._translating():
            async with asyncio.timeout(self.address.timeout_s):
                said = await self._exchange(body, awaits_reply=answers_probes(config), listens_s=REFUSAL_S)
        return self._reply(said, body, KEPT_BODY, started)

    async def converse(self) -> DatagramConversation:
        """Return a socket for the caller alone, who closes it; raises TransportError."""
        self._require_open()
        address = self.address
        assert address.port is not None
        with self._translating():
            made = await self._egress.datagram(address.host, address.port, broadcast=self._is_broadcast)
        return DatagramConversation(made, {**self._record(b""), "method": "CONNECT"})

    async def aclose(self) -> None:
        """Close every socket; who waits for a reply is told."""
        self._is_open = False
        for made, _ in self._idle:
            made.close()
        self._idle.clear()
        for made in list(self._busy):
            made.shutdown(socket.SHUT_RDWR)  # whoever waits on it reads its end

    # -- one datagram --------------------------------------------------------------------

    async def _exchange(self, body: bytes, *, awaits_reply: bool, listens_s: float = 0.0) -> bytes | None:
        """Return the reply, None without one; raises OSError, TimeoutError or TransportError."""
        loop = asyncio.get_running_loop()
        is_reused, made, made_at = await self._socket(alone=awaits_reply)
        self._busy.add(made)
        is_well = False
        try:
            if is_reused:
                made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # of a datagram before: not this one's
            await loop.sock_sendall(made, body) if body else made.send(body)
            if code := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            said = None
            if awaits_reply:
                said = await loop.sock_recv(made, 65_535)
            elif listens_s:
                said = await self._heard(made, listens_s)
            if not self._is_open:
                raise closed()
            is_well = not awaits_reply
            return said
        finally:
            self._busy.discard(made)
            if is_well and self._is_open:
                self._idle.append((made, made_at))
            else:
                made.close()

    async def _socket(self, *, alone: bool) -> tuple[bool, socket.socket, float]:
        """Return (whether it was used before, a socket, when it was made).

        One that is to hear a reply is its message's alone: what comes late for another never comes here.
        """
        now = time.perf_counter()
        while self._idle and not alone:
            made, made_at = self._idle.pop()
            if now - made_at < KEPT_S:
                return True, made, made_at
            made.close()
        address = self.address
        assert address.port is not None
        made = await self._egress.datagram(address.host, address.port, broadcast=self._is_broadcast)
        if not self._is_open:
            made.close()
            raise closed()
        return False, made, now

    async def _heard(self, made: socket.socket, listens_s: float) -> bytes | None:
        try:
            async with asyncio.timeout(listens_s):
                return await asyncio.get_running_loop().sock_recv(made, 65_535)
        except TimeoutError:
            return None

    # -- what came of it -----------------------------------------------------------------

    def _require_open(self) -> None:
        if self._fault is not None:
            raise TransportError(self._fault.detail, error_class=self._fault.error_class, advice=self._fault.advice)
        if not self._is_open:
            raise closed()

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except CAUGHT as exc:
            if not self._is_open:
                raise closed() from exc
            if isinstance(exc, OSError) and exc.errno == errno.EMSGSIZE:
                detail = "the datagram is too long for the way to the peer"
                raise TransportError(detail, error_class=ErrorClass.PROTOCOL, advice=Advice.DEAD) from exc
            raise translate(exc) from exc

    def _judge(self, said: bytes | None, outgoing: Outgoing, reply: Reply) -> None:
        """Raise TransportError when the reply refuses the message."""
        try:
            judge_reply(said or b"", b"", outgoing)
        except TransportError as exc:
            exc.reply = reply
            raise

    def _reply(self, said: bytes | None, body: bytes, cap: int, started: float) -> Reply:
        return Reply(
            ack_level=AckLevel.WRITTEN if said is None else AckLevel.APPLICATION,
            took_ms=(time.perf_counter() - started) * 1000,
            body=(said or b"")[:cap],
            truncated=len(said or b"") > cap,
            request=self._record(body),
        )

    def _record(self, body: bytes) -> dict[str, Any]:
        """Return a datagram as it may be stored: the body only when it is not the payload."""
        kept: dict[str, Any] = {
            "method": "BROADCAST" if self._is_broadcast else "SEND",
            "url": self._url,
            "headers": {"reply": "message" if self._awaits_reply else "none"},
        }
        if self.address.config.get("body", "payload") != "payload":
            kept["body"] = body[:KEPT_BODY].decode("utf-8", "replace")
        return kept


def answers_probes(config: Mapping[str, Any]) -> bool:
    """Say whether a probe waits for an answer: the peer gives some, and there is something to ask it with."""
    return config.get("reply") == "message" and config.get("probe") is not None


def _too_long(body: bytes) -> str:
    return f"{len(body)} bytes do not fit into a datagram of {MAX_DATAGRAM}" if len(body) > MAX_DATAGRAM else ""
