"""What goes over a WebSocket connection: the handshake that opens it, and messages that wait for their turn to end."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.http11 import Response
from websockets.uri import WebSocketURI

from endpoints.transports.ws_answers import Answer

_log = logging.getLogger("endpoints.websockets")  # the library tells every frame at DEBUG: payloads stay out of logs
_log.setLevel(logging.WARNING)


class Refused(Exception):
    """The handshake was answered with something else than 101."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"handshake answered {response.status_code}")
        self.response = response


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a connection asks for; `max_size` is the most decoded bytes of one message of the peer."""

    uri: WebSocketURI
    headers: Mapping[str, str]
    subprotocols: tuple[str, ...] = ()
    compresses: bool = False
    max_size: int = 1024 * 1024

    def with_headers(self, headers: Mapping[str, str]) -> "Handshake":
        """Return it with these headers as well."""
        return replace(self, headers={**self.headers, **headers}) if headers else self

    def protocol(self) -> ClientProtocol:
        """Return the protocol of a new connection."""
        # Small windows, as the library's own client has them: 64 KiB a connection instead of 300.
        deflate = ClientPerMessageDeflateFactory(
            server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
        )
        return ClientProtocol(
            self.uri,
            extensions=[deflate] if self.compresses else None,
            subprotocols=list(self.subprotocols) or None,  # type: ignore[arg-type]  # a NewType of str
            max_size=self.max_size,
            logger=_log,
        )


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
    names: Callable[[], set[str]]
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
