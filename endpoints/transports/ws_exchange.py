"""What goes over a WebSocket connection: the handshake that opens it, and messages that wait for their turn to end."""

import asyncio
import logging
import os
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode, apply_mask
from websockets.http11 import Response
from websockets.uri import WebSocketURI

from endpoints.transports.bodies import is_json
from endpoints.transports.ws_answers import Answer, Name

_log = logging.getLogger("endpoints.websockets")  # the library tells every frame at DEBUG: payloads stay out of logs
_log.setLevel(logging.WARNING)
_MEDIUM, _LONG = struct.Struct("!BBH"), struct.Struct("!BBQ")


class Refused(Exception):
    """The handshake was answered with something else than 101."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"handshake answered {response.status_code}")
        self.response = response


class Unresponsive(ClientProtocol):
    """Answers no ping, so that its peer takes it for dead."""

    def send_frame(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.PONG:
            super().send_frame(frame)


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a connection asks for; `max_size` is the most decoded bytes of one message of the peer."""

    uri: WebSocketURI
    headers: Mapping[str, str]
    subprotocols: tuple[str, ...] = ()
    compresses: bool = False
    max_size: int = 1024 * 1024
    answers_pings: bool = True

    def with_headers(self, headers: Mapping[str, str]) -> "Handshake":
        """Return it with these headers as well."""
        return replace(self, headers={**self.headers, **headers}) if headers else self

    def protocol(self) -> ClientProtocol:
        """Return the protocol of a new connection."""
        # Small windows, as the library's own client has them: 64 KiB a connection instead of 300.
        deflate = ClientPerMessageDeflateFactory(
            server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
        )
        return (ClientProtocol if self.answers_pings else Unresponsive)(
            self.uri,
            extensions=[deflate] if self.compresses else None,
            subprotocols=list(self.subprotocols) or None,  # type: ignore[arg-type]  # a NewType of str
            max_size=self.max_size,
            logger=_log,
        )


def whole_frame(body: bytes, *, is_text: bool) -> bytes:
    """Return a message as one masked frame without extensions (RFC 6455, 5.2)."""
    size = len(body)
    if size < 126:
        head = bytes((0x81 if is_text else 0x82, 0x80 | size))
    elif size < 65536:
        head = _MEDIUM.pack(0x81 if is_text else 0x82, 0xFE, size)
    else:
        head = _LONG.pack(0x81 if is_text else 0x82, 0xFF, size)
    mask = os.urandom(4)
    return head + mask + apply_mask(body, mask)


@dataclass(slots=True, eq=False)
class Turn:
    """One message on its way: its frame, what it may be called, and what it waits for.

    `names` is empty where one message at a time is under way. Times are those of
    `time.perf_counter`, 0.0 until they come.
    """

    body: bytes
    is_text: bool
    until: float
    wants_reply: bool
    names: Callable[[], set[Name]]
    coming: "asyncio.Future[Answer | None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_first: bool = True  # over its connection: then nothing was stale
    was_alone: bool = True
    connected_at: float = 0.0
    answered_at: float = 0.0

    def end(self) -> None:
        """Wait no longer: the time is over."""
        self.settle(TimeoutError())

    def settle(self, result: "Answer | BaseException | None") -> None:
        """Tell who waits, once."""
        if self.coming.done():
            return
        self.answered_at = time.perf_counter()
        if isinstance(result, BaseException):
            self.coming.set_exception(result)
        else:
            self.coming.set_result(result)


def is_text(body: bytes, content_type: str) -> bool:
    """Say whether a text frame can carry it: what calls itself text, and is UTF-8."""
    if not _calls_itself_text(content_type):
        return False
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@lru_cache(256)
def _calls_itself_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return is_json(content_type) or kind.startswith("text/") or kind.endswith(("+xml", "/xml"))
