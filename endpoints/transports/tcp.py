"""TCP and TLS: framed messages over kept connections, one at a time on each, with or without an answer."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson

from endpoints.egress import Egress
from endpoints.transports.acknowledgements import json_object
from endpoints.transports.base import (
    KEPT_BODY,
    AckLevel,
    Address,
    Advice,
    ErrorClass,
    Outgoing,
    Reply,
    TransportError,
    Unfit,
)
from endpoints.transports.credentials import Authorization, authorization
from endpoints.transports.failures import CAUGHT, translate
from endpoints.transports.framing import Unframable
from endpoints.transports.http_request import origin
from endpoints.transports.masking import Masking
from endpoints.transports.pool import Peer, Pool, closed
from endpoints.transports.pooled import PooledTransport, peer_of
from endpoints.transports.stream import Answer, Answered, Exchange, StreamConnection, part
from endpoints.transports.tcp_config import (
    FRAMING,
    GREETS,
    REPLY,
    TCP_CONFIG,
    check_tcp_config,
    frame_maker,
    framing_of,
    unframable,
    what_answers,
)
from endpoints.transports.tcp_conversation import StreamConversation, open_stream

LONGEST_FRAME = 256 * 1024 * 1024  # of an answer: the connection itself takes no more of one than is kept
BEARER = "Bearer "
# Kinds that are a token, which the first frame of a connection shows.
TOKENS = frozenset({"bearer", "jwt", "oauth2_client"})

ACK_LEVELS = {"none": AckLevel.WRITTEN, "ack": AckLevel.TRANSPORT, "message": AckLevel.APPLICATION}

StreamPool = Pool[Exchange, Answer]


class TcpTransport(PooledTransport[StreamPool]):
    """Sends each message as one frame; `reply` says what has to come back before it is delivered."""

    CONFIG_SCHEMA: ClassVar[dict[str, Any]] = TCP_CONFIG
    NEEDS_PORT: ClassVar[bool] = True
    IS_TLS: ClassVar[bool] = False

    def __init__(self, address: Address, egress: Egress | None = None) -> None:
        super().__init__(address, egress)
        self._connections: set[StreamConnection] = set()

    @classmethod
    def check_config(cls, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return (field, fault) for what the schema cannot say; see `Transport.check_config`."""
        return check_tcp_config(config, is_tls=cls._speaks_tls(config))

    @classmethod
    def check_credential(cls, kind: str, config: Mapping[str, Any]) -> str:
        """Return why a credential of this kind cannot be shown; see `Transport.check_credential`."""
        if kind == "mtls":
            return "" if cls._speaks_tls(config) else "a certificate is shown in the TLS handshake, and there is none"
        if kind not in TOKENS:
            return f"a credential of kind '{kind}' cannot be shown over TCP: a token or a certificate can"
        if config.get("framing", FRAMING) not in GREETS:
            return f"a token is shown in a JSON frame, so the framing must be one of {', '.join(sorted(GREETS))}"
        return ""

    @classmethod
    def unfit(cls, config: Mapping[str, Any]) -> Unfit | None:
        """Return what tells of payloads that the framing cannot carry; see `Transport.unfit`."""
        return unframable(config)

    @classmethod
    def _speaks_tls(cls, config: Mapping[str, Any]) -> bool:
        return cls.IS_TLS or "tls" in config

    async def open(self) -> None:
        """Prepare framing, credential, TLS and pool; settings that cannot work are told by each `send`."""
        address, config = self.address, self.address.config
        try:
            self._url = origin(address)
            self._auth: Authorization = authorization(address.credential, self._url)
            self._masking = Masking(self._auth)
            if address.credential and (fault := self.check_credential(address.credential.kind, config)):
                raise TransportError(fault, error_class=ErrorClass.AUTH)
            self._frame, self._framing = frame_maker(config), framing_of(config)
            self._reply_kind = str(config.get("reply", REPLY))
            self._answered, self._judge = what_answers(config)
            self._shows_token = address.credential is not None and address.credential.kind in TOKENS
            self._plain_record = self._record_of(b"") if config.get("body", "payload") == "payload" else None
            self._peer = self._make_peer()
            self._pool = Pool(self._egress, self._peer, address.max_in_flight, self._make_connection)
        except TransportError as exc:
            self._fault = exc
        except ValueError as exc:
            self._fault = TransportError(f"the config cannot be used: {exc}", error_class=ErrorClass.PROTOCOL)

    async def send(self, outgoing: Outgoing) -> Reply:
        """Send one message within `timeout_s`, and wait for what `reply` says; see `Transport.send`."""
        pool = self._require_pool()
        started = time.perf_counter()
        cap = self.address.reply_cap(outgoing)
        limit = cap + 1 + (self._masking.longest if self._auth.hidden else 0)
        exchange = Exchange(self._answered, limit, started + self.address.timeout_s)
        body = b""
        try:
            body, exchange.frame = self._frame(outgoing)
            if self._shows_token:
                exchange.greeting = await self._greeting(exchange.until)
            answer = await pool.ask(exchange)
            reply = self._reply(outgoing, body, exchange, answer, cap, started)
            self._judge_answer(answer, body, outgoing, reply)
        except TransportError as exc:
            exc.request = exc.request or self._record(body)
            exc.phases_ms = exc.phases_ms or exchange.phases_ms(started)
            raise
        except Unframable as exc:
            raise TransportError(
                str(exc), error_class=ErrorClass.PROTOCOL, advice=Advice.DEAD, request=self._record(body)
            ) from exc
        except CAUGHT as exc:
            error = self._translated(exc, exchange)
            error.request, error.phases_ms = self._record(body), exchange.phases_ms(started)
            raise error from exc
        return self.answered(outgoing, reply)

    async def probe(self) -> Reply:
        """Connect, with TLS and the credential where there are any, and hang up: nothing is sent."""
        self._require_pool()
        started = time.perf_counter()
        exchange = Exchange(Answered.WRITTEN, 0, started + self.address.timeout_s)
        try:
            async with asyncio.timeout(self.address.timeout_s):
                if self._shows_token:
                    exchange.greeting = await self._greeting(exchange.until)
                peer = self._peer
                connection = await self._egress.connect(
                    lambda: self._make_connection(lambda _: None),
                    peer.host,
                    peer.port,
                    tls=peer.tls,
                    server_name=peer.server_name,
                )
                exchange.connected_at = time.perf_counter()
                try:
                    if exchange.greeting:
                        await connection.ask(exchange)
                finally:
                    connection.close()
        except CAUGHT as exc:
            raise self._translated(exc, exchange) from exc
        took_ms = (time.perf_counter() - started) * 1000
        return Reply(AckLevel.TRANSPORT, took_ms, phases_ms=exchange.phases_ms(started), request=self._record(b""))

    async def converse(self) -> StreamConversation:
        """Open a connection for the caller alone, who closes it; raises TransportError."""
        self._require_pool()
        greeting = await self._greeting(time.perf_counter() + self.address.timeout_s) if self._shows_token else b""
        made = await open_stream(
            self._egress, self._peer, self._framing, self._masking, self.address.timeout_s, greeting, self._is_welcome
        )
        made.request = self._record_of(b"") | {"method": "CONNECT"}
        return made

    async def aclose(self) -> None:
        """Close every connection, politely where nothing is under way; messages under way end with an error."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        pool.close()
        await part(list(self._connections))

    # -- what a connection is made of ---------------------------------------------------

    def _make_peer(self) -> Peer:
        """Return where to connect to; raises TransportError when the TLS settings cannot be used."""
        address = self.address
        if address.port is None:
            raise TransportError("the endpoint has no port", error_class=ErrorClass.CONNECT)
        return peer_of(address, address.port, is_tls=self._speaks_tls(address.config))

    def _make_connection(self, lost: Any) -> StreamConnection:
        connection = StreamConnection(lost, self._framing.decoder(LONGEST_FRAME), self._is_welcome)
        self._connections.add(connection)
        connection.ended.add_done_callback(lambda _: self._connections.discard(connection))
        return connection

    async def _greeting(self, until: float) -> bytes:
        """Return the frame that shows the credential: what listeners of a control plane take first."""
        headers = self._auth.fixed
        if self._auth.per_request:
            async with asyncio.timeout(until - time.perf_counter()):
                headers = await self._auth.headers(b"")
        token = headers.get("authorization", "").removeprefix(BEARER)
        return self._framing.encode(orjson.dumps({"type": "auth", "token": token}))

    def _is_welcome(self, frame: bytes) -> TransportError | None:
        """Return why the credential was refused, None when it was taken."""
        said = json_object(frame) or {}
        if said.get("type") == "ready":
            return None
        words = " ".join(str(said[name]) for name in ("code", "detail", "reason") if said.get(name))
        return TransportError(
            self._masking.text(f"the peer refused {self._auth.mask}: {words or 'it does not say why'}")[:300],
            error_class=ErrorClass.AUTH,
        )

    # -- what came of it ----------------------------------------------------------------

    def _judge_answer(self, answer: Answer, body: bytes, outgoing: Outgoing, reply: Reply) -> None:
        """Raise TransportError when the answer refuses the message, or is none to it."""
        if self._judge is None:
            return
        try:
            self._judge(answer.body, body, outgoing)
            if answer.is_early:
                raise TransportError("it was answered before it was sent", error_class=ErrorClass.PROTOCOL)
        except TransportError as exc:
            detail = self._masking.text(exc.detail)
            raise TransportError(
                detail, error_class=exc.error_class, reply=reply, retry_after_s=exc.retry_after_s
            ) from exc

    def _translated(self, exc: BaseException, exchange: Exchange) -> TransportError:
        if self._pool is None:
            return closed()
        error = translate(exc)
        if error.error_class is ErrorClass.TIMEOUT:
            error.detail = exchange.stage.value
        error.detail = self._masking.text(error.detail)
        error.args = (error.detail,)
        return error

    def _reply(
        self, outgoing: Outgoing, body: bytes, exchange: Exchange, answer: Answer, cap: int, started: float
    ) -> Reply:
        is_cut = answer.is_cut or len(answer.body) > cap
        said = self._masking.body(answer.body, truncated=is_cut) if self._auth.hidden else answer.body
        return Reply(
            ack_level=ACK_LEVELS[self._reply_kind],
            took_ms=(time.perf_counter() - started) * 1000,
            body=said[:cap],
            truncated=is_cut,
            phases_ms=exchange.phases_ms(started),
            request=self._record(body),
        )

    def _record(self, body: bytes) -> Mapping[str, Any]:
        """Return a message as it was sent, as far as it may be stored: the body only when it is not the payload."""
        return self._plain_record or self._record_of(body)

    def _record_of(self, body: bytes) -> dict[str, Any]:
        config = self.address.config
        kept: dict[str, Any] = {
            "method": "SEND",
            "url": self._url,
            "headers": {"framing": str(config.get("framing", FRAMING)), "reply": self._reply_kind},
        }
        if self._shows_token:
            kept["headers"]["token"] = self._auth.mask
        if config.get("body", "payload") != "payload":
            kept["body"] = body[:KEPT_BODY].decode("utf-8", "replace")
        return kept


class TlsTransport(TcpTransport):
    """The same over TLS, whether its settings are named or not."""

    IS_TLS: ClassVar[bool] = True
