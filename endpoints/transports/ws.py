"""WebSocket, plain and over TLS: pooled connections that last, messages as frames, answers matched to them."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from websockets.uri import WebSocketURI

from endpoints.transports.acknowledgements import REFUSALS, refused
from endpoints.transports.base import KEPT_BODY, AckLevel, ErrorClass, Outgoing, Reply, TransportError
from endpoints.transports.bodies import body_maker, is_json
from endpoints.transports.credentials import Authorization, authorization
from endpoints.transports.failures import Stale
from endpoints.transports.http_config import check_authorization
from endpoints.transports.http_exchange import DEFAULTS
from endpoints.transports.http_request import Target
from endpoints.transports.masking import Masking
from endpoints.transports.placeholders import cannot_be_made
from endpoints.transports.pool import closed
from endpoints.transports.pooled import PooledTransport, peer_of
from endpoints.transports.timing import in_ms
from endpoints.transports.ws_answers import Answer, Closed, Name, names_of
from endpoints.transports.ws_config import WS_CONFIG, check_ws_config
from endpoints.transports.ws_connection import WsConnection
from endpoints.transports.ws_conversation import Opening, WsConversation, open_conversation, opened_as
from endpoints.transports.ws_exchange import Handshake, Refused, Turn, is_text
from endpoints.transports.ws_failures import CAUGHT, refused_with, what_ended
from endpoints.transports.ws_pool import WsPool

LEAST_CAP = 1024 * 1024
FRAME_CAP = 1.5  # of the message cap
PORTS = {"ws": 80, "wss": 443}
UNWELCOME = frozenset({ErrorClass.AUTH, ErrorClass.THROTTLED})


class WsTransport(PooledTransport[WsPool]):
    """Sends messages as frames; delivered by a pong, an ack or a reply, as the endpoint says."""

    CONFIG_SCHEMA: ClassVar[dict[str, Any]] = WS_CONFIG

    @classmethod
    def check_config(cls, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return (field, fault) for what the schema cannot say; see `Transport.check_config`."""
        return check_ws_config(config)

    @classmethod
    def check_credential(cls, kind: str, config: Mapping[str, Any]) -> str:
        """Return why a credential of this kind cannot be shown; see `Transport.check_credential`."""
        return "an hmac credential signs bodies, and a handshake has none" if kind == "hmac" else ""

    async def open(self) -> None:
        """Prepare handshake, credential, TLS and pool; settings that cannot work are told by each `send`."""
        address, config = self.address, self.address.config
        self._wants = str(config.get("reply", "none"))
        self._refusals = REFUSALS if self._wants == "ack" else {"nack"}  # an error may be what was asked for
        self._is_shared = self._wants == "none" or config.get("match") == "id"
        self._make_body = body_maker(config)
        self._plain_body = config.get("body", "payload") == "payload"
        try:
            target = self._target = Target(address)
            self._auth: Authorization = authorization(address.credential, target.origin)
            check_authorization(self._auth)
            if address.credential is not None and (why := self.check_credential(address.credential.kind, config)):
                raise TransportError(why, error_class=ErrorClass.AUTH)
            self._masking = Masking(self._auth)
            if target.fixed is None:
                raise cannot_be_made("the handshake is made once for many messages, so its path holds no placeholders")
            self._url = target.origin + target.fixed
            self._peer = peer_of(address, address.port or PORTS[address.protocol], is_tls=address.protocol == "wss")
            self._handshake = self._prepared(target.fixed)
            shown = {name.lower(): value for name, value in self._handshake.headers.items()}
            self._recorded = shown | self._auth.recorded(self._auth.masked)
        except TransportError as exc:
            self._fault = exc
            return
        limit = int(config.get("connections") or (1 if self._is_shared else address.max_in_flight))
        self._pool = WsPool(self._connected, limit, address.max_in_flight if self._is_shared else 1)

    def _prepared(self, target: str) -> Handshake:
        config, address = self.address.config, self.address
        path, _, query = target.partition("?")
        headers = {"User-Agent": DEFAULTS["user-agent"]}
        headers |= {name: str(value) for name, value in (config.get("headers") or {}).items()}
        return Handshake(
            WebSocketURI(address.protocol == "wss", address.host, self._peer.port, path, query),
            headers,
            tuple(config.get("subprotocols") or ()),
            compresses=bool(config.get("compression", False)),
            max_size=int(FRAME_CAP * max(address.max_reply_bytes, LEAST_CAP)),
        )

    async def send(self, outgoing: Outgoing) -> Reply:
        """Send one message within `timeout_s`; what was sent over a line that proves dead is sent once more."""
        pool = self._require_pool()
        started = time.perf_counter()
        turn = self._turn(outgoing, started + self.address.timeout_s)
        # A retry goes alone: what ended the line the time before may have been this very message.
        is_alone = outgoing.attempt > 1
        try:
            try:
                answer = await self._exchange(pool, turn, is_alone=is_alone)
            except Stale:
                turn.coming, turn.is_first = asyncio.get_running_loop().create_future(), True
                answer = await self._exchange(pool, turn, is_alone=is_alone)
        except TransportError as exc:
            exc.request, exc.phases_ms = self._record(turn), _phases_ms(turn, started)
            raise
        except CAUGHT as exc:
            error = self._translated(exc, pool, is_alone=turn.was_alone)
            error.request, error.phases_ms = self._record(turn), _phases_ms(turn, started)
            raise error from exc
        if answer is None:
            return self._confirmed(turn, started)
        reply = self._reply(turn, answer, started, outgoing)
        if answer.members is not None and answer.members.get("type") in self._refusals:
            error = refused(answer.members)
            words, wait_s = self._masking.text(error.detail), error.retry_after_s
            raise TransportError(words, error_class=error.error_class, reply=reply, retry_after_s=wait_s)
        return self.answered(outgoing, reply)

    async def probe(self) -> Reply:
        """Make a handshake and ask for a pong, over a connection of its own."""
        pool = self._require_pool()
        started = time.perf_counter()
        turn = Turn(b"", is_text=False, until=started + self.address.timeout_s, wants_reply=False, names=set)
        connection = None
        try:
            with pool.deadlines.until(turn.until):
                connection = await self._connected()
                turn.connected_at = time.perf_counter()
                connection.ping(turn)
                await turn.coming
        except TransportError as exc:
            exc.request, exc.phases_ms = self._record(turn), _phases_ms(turn, started)
            raise
        except CAUGHT as exc:
            error = self._translated(exc, pool, is_alone=True)
            error.request = self._record(turn)
            raise error from exc
        finally:
            if connection is not None:
                await connection.aclose()
        return self._confirmed(turn, started)

    async def converse(self, opening: Opening) -> WsConversation:
        """Open a connection for the caller alone, who closes it; raises TransportError."""
        self._require_pool()
        asked = opened_as(self._handshake, opening, self._target.plain(opening.path, opening.query))
        return await open_conversation(self._egress, self._peer, asked, self._auth, self.address.timeout_s)

    async def aclose(self) -> None:
        """Close every connection as the protocol asks for; messages under way end with an error."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()
            await asyncio.sleep(0)  # the sockets are closed in the loop's next round

    # -- one exchange -------------------------------------------------------------------

    def _turn(self, outgoing: Outgoing, until: float) -> Turn:
        body, content_type = self._make_body(outgoing)
        known: list[set[Name]] = []

        def names() -> set[Name]:
            if not known:
                known.append(names_of(outgoing, outgoing.payload if is_json(outgoing.content_type) else b""))
            return known[0]

        return Turn(body, is_text(body, content_type), until, self._wants != "none", names)

    async def _exchange(self, pool: WsPool, turn: Turn, *, is_alone: bool) -> Answer | None:
        connection = await pool.take(turn.until, is_alone=is_alone)
        waiting = pool.deadlines.waiting
        try:
            turn.connected_at = time.perf_counter()
            waiting[turn] = turn.until
            pool.deadlines.watch()
            connection.connection.post(turn)
            return await turn.coming
        except Closed as exc:
            error = self._translated(exc, pool, is_alone=turn.was_alone)
            if error.error_class in UNWELCOME:
                pool.refused(error)
            raise error from exc
        finally:
            waiting.pop(turn, None)
            connection.connection.forget(turn)
            pool.give_back(connection)

    async def _connected(self, lost: Callable[[WsConnection], None] = lambda _: None) -> WsConnection:
        """Connect and make the handshake; a shared token that is refused is renewed once."""
        try:
            return await self._shaken(lost)
        except Refused as exc:
            error = refused_with(exc.response, self._masking)
            if error.error_class is not ErrorClass.AUTH or not await self._auth.renew():
                self._refused(error)
                raise error from exc
        try:
            return await self._shaken(lost)
        except Refused as exc:
            error = refused_with(exc.response, self._masking)
            self._refused(error)
            raise error from exc

    def _refused(self, error: TransportError) -> None:
        if self._pool is not None:
            self._pool.refused(error)

    async def _shaken(self, lost: Callable[[WsConnection], None]) -> WsConnection:
        """Return a connection whose handshake is made."""
        auth, peer = self._auth, self._peer
        shown = await auth.headers(b"") if auth.per_request else auth.fixed
        handshake = self._handshake.with_headers(shown)
        connection = await self._egress.connect(
            lambda: WsConnection(handshake, lost, is_shared=self._is_shared),
            peer.host,
            peer.port,
            tls=peer.tls,
            server_name=peer.server_name,
        )
        try:
            await asyncio.shield(connection.opened)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _translated(self, exc: BaseException, pool: WsPool, *, is_alone: bool) -> TransportError:
        """Return what ended a send in the words of the outcome table."""
        return closed() if pool.is_closed else what_ended(exc, self._masking, is_alone=is_alone)

    # -- what is told -------------------------------------------------------------------

    def _confirmed(self, turn: Turn, started: float) -> Reply:
        """Return what a pong says: the peer has read what came before it."""
        return Reply(
            ack_level=AckLevel.TRANSPORT,
            took_ms=(time.perf_counter() - started) * 1000,
            phases_ms=_phases_ms(turn, started),
            request=self._record(turn),
        )

    def _reply(self, turn: Turn, answer: Answer, started: float, outgoing: Outgoing) -> Reply:
        """Return what may be kept of an answer; an ack is no answer to a request."""
        cap = self.address.reply_cap(outgoing)
        data = self._masking.body(answer.data, truncated=False) if self._auth.hidden else answer.data
        if self._wants == "ack" and outgoing.message_type == "request":
            data = b""
        return Reply(
            ack_level=AckLevel.APPLICATION,
            took_ms=(time.perf_counter() - started) * 1000,
            headers={"content-type": answer.content_type},
            body=data[:cap],
            truncated=len(data) > cap,
            phases_ms=_phases_ms(turn, started),
            request=self._record(turn),
        )

    def _record(self, turn: Turn) -> dict[str, Any]:
        """Return what was sent as it may be stored: the handshake's headers masked, the body only if it is ours."""
        method = "TEXT" if turn.is_text else "BINARY"
        record: dict[str, Any] = {"method": method, "url": self._url, "headers": self._recorded}
        if not self._plain_body:
            record["body"] = turn.body[:KEPT_BODY].decode("utf-8", "replace")
        return record


def _phases_ms(turn: Turn, started: float) -> dict[str, float]:
    """Return how long getting a connection and the answer took, in milliseconds."""
    done, connected = time.perf_counter(), turn.connected_at
    if not connected:
        return {"connect": in_ms(done - started)}
    return {"connect": in_ms(connected - started), "first_byte": in_ms((turn.answered_at or done) - connected)}
