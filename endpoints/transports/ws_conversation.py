"""A WebSocket connection as a conversation: all messages, pings and the close of the peer are heard."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.uri import WebSocketURI

from endpoints.egress import Egress
from endpoints.transports.base import ErrorClass, TransportError
from endpoints.transports.conversation import Conversation, Heard, Inbox
from endpoints.transports.credentials import Authorization
from endpoints.transports.http_exchange import kept
from endpoints.transports.http_request import check_headers
from endpoints.transports.masking import Masking
from endpoints.transports.placeholders import cannot_be_made
from endpoints.transports.pool import Peer
from endpoints.transports.ws_answers import Closed
from endpoints.transports.ws_connection import FAREWELL_S, WsConnection
from endpoints.transports.ws_exchange import Handshake, Refused, Turn
from endpoints.transports.ws_failures import CAUGHT, refused_with, what_ended

ABNORMAL = 1006  # RFC 6455, 7.4.1: what a connection has that ended without a close frame


@dataclass(frozen=True, slots=True)
class Opening:
    """What a handshake asks for beside what the endpoint says; the names of `headers` are in lower case.

    A `path` from `/` stands instead of the endpoint's, any other below it. With
    `answers_pings` false the connection is one whose peer must think it dead.
    """

    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    subprotocols: tuple[str, ...] | None = None
    answers_pings: bool = True


class WsConversation(WsConnection, Conversation):
    """`status` and `headers` are the handshake's; `ending` is how it ended, `events` what happened on the line."""

    def __init__(self, handshake: Handshake, masking: Masking) -> None:
        super().__init__(handshake)
        self.inbox = Inbox()
        self.events: list[dict[str, Any]] = []
        self.ending: dict[str, Any] | None = None
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._masking, self._is_leaving = masking, False
        self._room = asyncio.Event()
        self._room.set()

    async def say(self, data: bytes, *, is_text: bool = True) -> None:
        await self._room.wait()
        self._require_open()
        (self._ws.send_text if is_text else self._ws.send_binary)(data)
        self._flush()

    async def ping_and_wait(self) -> float:
        """Ping, and return after how many milliseconds the pong came; raises TransportError."""
        self._require_open()
        started = time.perf_counter()
        turn = Turn(b"", is_text=False, until=0.0, wants_reply=False, names=set)
        self.ping(turn)
        try:
            await turn.coming
        except CAUGHT as exc:
            raise self.inbox.fault or what_ended(exc, self._masking, is_alone=True) from exc
        took_ms = (time.perf_counter() - started) * 1000
        self.events.append({"event": "pong", "took_ms": round(took_ms, 3)})
        return took_ms

    async def hang_up(self, code: int, reason: str) -> None:
        """Say that it ends, and wait a moment for the peer to say so too; raises TransportError."""
        if self.is_open:
            try:
                self._ws.send_close(code, reason)
            except ProtocolError as exc:
                raise TransportError(f"{code} cannot be sent: {exc}", error_class=ErrorClass.TRANSFORM) from exc
            self._is_leaving = True
            self._flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await asyncio.shield(self._ended)
        self.abort()

    def opened_with(self, status: int, headers: Mapping[str, str], connect_ms: float) -> None:
        """Note how the handshake went; the peer may have said something, or hung up, since."""
        self.status, self.headers, self.connect_ms = status, headers, connect_ms
        self.events.insert(0, {"event": "open", "status": status, "subprotocol": self._ws.subprotocol})

    # -- what the line says ---------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._room.clear()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._room.set()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            self.events.append({"event": "ping"})
        super()._take(frame)

    def _give(self, data: bytes) -> None:
        self.inbox.put(Heard(self._masking.body(data, truncated=False), self._is_text))
        if self.inbox.fault is not None:
            self.abort()

    def _finish(self) -> None:
        """Hear the peer out when it is we who leave."""
        fault = self._ws.handshake_exc or self._ws.parser_exc
        if not self._is_leaving or fault is not None or self._ws.close_rcvd is not None:
            super()._finish()

    def _end(self, error: Exception) -> None:
        was_open = self.opened.done() and self.opened.exception() is None
        super()._end(error)
        if was_open and self.ending is None:
            code, reason = (error.code, error.reason) if isinstance(error, Closed) else (ABNORMAL, "")
            self.ending = {"code": code, "reason": self._masking.text(reason)}
            self.events.append({"event": "close", **self.ending})
        self.inbox.end(what_ended(self._fault or error, self._masking, is_alone=True))
        self._room.set()


async def open_conversation(
    egress: Egress, peer: Peer, handshake: Handshake, auth: Authorization, timeout_s: float
) -> WsConversation:
    """Return a connection whose handshake is made; raises TransportError, with the answer to it when it is refused."""
    masking, started = Masking(auth), time.perf_counter()
    request = _record(handshake, auth)
    try:
        async with asyncio.timeout(timeout_s):
            try:
                made = await _shaken(egress, peer, handshake, auth)
            except Refused:
                if not await auth.renew():
                    raise
                made = await _shaken(egress, peer, handshake, auth)
    except Refused as exc:
        error = refused_with(exc.response, masking)
        error.request, error.phases_ms = request, {"connect": (time.perf_counter() - started) * 1000}
        raise error from exc
    except (*CAUGHT, UnicodeEncodeError) as exc:
        error = _not_opened(exc, masking)
        error.request, error.phases_ms = request, {"connect": (time.perf_counter() - started) * 1000}
        raise error from exc
    made.request = request
    return made


def opened_as(handshake: Handshake, opening: Opening, target: str) -> Handshake:
    """Return a handshake as a conversation asks for it; raises TransportError for headers that cannot be set."""
    check_headers(opening.headers)
    if reserved := [name for name in opening.headers if name.startswith("sec-websocket-")]:
        raise cannot_be_made(f"header {reserved[0]} belongs to the handshake and cannot be set")
    uri, (path, _, query) = handshake.uri, target.partition("?")
    return replace(
        handshake,
        uri=WebSocketURI(uri.secure, uri.host, uri.port, path, query),
        headers={name.lower(): value for name, value in handshake.headers.items()} | dict(opening.headers),
        subprotocols=handshake.subprotocols if opening.subprotocols is None else opening.subprotocols,
        answers_pings=opening.answers_pings,
    )


def _record(handshake: Handshake, auth: Authorization) -> dict[str, Any]:
    uri = handshake.uri
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    url = f"{'wss' if uri.secure else 'ws'}://{host}:{uri.port}{uri.resource_name}"
    return {"method": "CONNECT", "url": url, "headers": {**handshake.headers, **auth.recorded(auth.masked)}}


def _not_opened(exc: BaseException, masking: Masking) -> TransportError:
    if isinstance(exc, UnicodeEncodeError):
        return TransportError("a header would hold what is no character", error_class=ErrorClass.TRANSFORM)
    return what_ended(exc, masking, is_alone=True)


async def _shaken(egress: Egress, peer: Peer, handshake: Handshake, auth: Authorization) -> WsConversation:
    started = time.perf_counter()
    shown = await auth.headers(b"") if auth.per_request else auth.fixed
    asked, masking = handshake.with_headers(shown), Masking(auth)
    made = await egress.connect(
        lambda: WsConversation(asked, masking), peer.host, peer.port, tls=peer.tls, server_name=peer.server_name
    )
    try:
        response = await asyncio.shield(made.opened)
    except BaseException:
        made.abort()
        raise
    headers = kept((name, masking.text(value)) for name, value in response.headers.raw_items())
    made.opened_with(response.status_code, headers, (time.perf_counter() - started) * 1000)
    return made
