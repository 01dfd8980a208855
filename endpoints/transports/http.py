"""HTTP and HTTPS: one pooled session per endpoint; what can be worked out beforehand is worked out in `open`."""

import asyncio
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, ClassVar

import aiohttp
from yarl import URL

from endpoints.egress import Egress, connected_at, default_egress, read_into
from endpoints.transports.base import AckLevel, Address, ErrorClass, Outgoing, Reply, Transport, TransportError
from endpoints.transports.credentials import SHORTEST_SECRET, Authorization, authorization
from endpoints.transports.deadlines import Deadlines
from endpoints.transports.failures import CAUGHT, translate
from endpoints.transports.http_answers import refusal
from endpoints.transports.http_config import HTTP_CONFIG, check_http_config
from endpoints.transports.http_request import RequestMaker, origin
from endpoints.transports.tls import client_context

KEPT_BODY = 16 * 1024
KEPT_HEADERS = 64
KEPT_HEADER = 1024
STREAMED = 512 * 1024  # larger bodies are written piece by piece, so that one does not hold up the loop


@dataclass(slots=True)
class Exchange:
    """One request and what may be kept of its answer."""

    method: str
    url: URL
    headers: dict[str, str]
    body: bytes
    cap: int
    started: float
    body_record: str | None = None
    recorded: dict[str, str] | None = None

    def record(self) -> dict[str, Any]:
        """Return the request as it may be stored: no secret in it, the body only when it is not the payload."""
        kept: dict[str, Any] = {"method": self.method, "url": str(self.url), "headers": self.recorded or self.headers}
        if self.body_record is not None:
            kept["body"] = self.body_record
        return kept

    def phases_ms(self, headed: float | None, done: float) -> dict[str, float]:
        """Return how long connecting (names and TLS included), waiting and reading took, in milliseconds."""
        connected = connected_at.get(0.0)
        if connected < self.started:  # of an earlier request: this one never got a connection
            return {"connect": _ms(done - self.started)}
        phases = {"connect": _ms(connected - self.started), "first_byte": _ms((headed or done) - connected)}
        if headed is not None:
            phases["body"] = _ms(done - headed)
        return phases


class HttpTransport(Transport):
    """Sends messages as HTTP requests; a 2xx is delivered as soon as its head is read."""

    CONFIG_SCHEMA: ClassVar[dict[str, Any]] = HTTP_CONFIG

    def __init__(self, address: Address, egress: Egress | None = None) -> None:
        super().__init__(address)
        self._egress = egress or default_egress()
        self._session: aiohttp.ClientSession | None = None
        self._deadlines = Deadlines()
        self._fault: TransportError | None = None

    @classmethod
    def check_config(cls, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return (field, fault) for what the schema cannot say; see `Transport.check_config`."""
        return check_http_config(config)

    async def open(self) -> None:
        """Prepare request, credential, TLS and session; settings that cannot work are told by each `send`."""
        address = self.address
        try:
            self._maker = RequestMaker(address)
            self._auth: Authorization = authorization(address.credential, origin(address))
            self._tls = _tls_options(address)
        except TransportError as exc:
            self._fault = exc
            return
        self._session = self._egress.session(limit=address.max_in_flight, timeout_s=None)

    async def send(self, outgoing: Outgoing) -> Reply:
        """Send one message within `timeout_s`; a refused shared token is renewed once and the message sent again."""
        session = self._require_session()
        started = time.perf_counter()
        request = self._maker.make(outgoing, str(int(time.time())))
        cap = max(self.address.max_reply_bytes, KEPT_BODY) if outgoing.message_type == "request" else KEPT_BODY
        exchange = Exchange(
            self._maker.method, request.url, request.headers, request.body, cap, started, request.body_record
        )
        try:
            return await self._exchange(session, exchange)
        except TransportError as exc:
            if exc.reply is None or exc.error_class is not ErrorClass.AUTH or not await self._renewed(exchange):
                raise
        return await self._exchange(session, exchange)

    async def probe(self) -> Reply:
        """Ask for the endpoint's path; any answer below 500 shows that somebody is there."""
        session = self._require_session()
        method = str(self.address.config.get("probe_method", "GET"))
        exchange = Exchange(method, self._maker.probe_url, {}, b"", KEPT_BODY, time.perf_counter())
        try:
            return await self._exchange(session, exchange)
        except TransportError as exc:
            if exc.reply is None or (exc.reply.status_code or 500) >= 500:
                raise
            return exc.reply

    async def aclose(self) -> None:
        """Close every connection; requests under way end with an error."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        self._deadlines.close()

    def _require_session(self) -> aiohttp.ClientSession:
        if self._fault is not None:
            fault = self._fault
            raise TransportError(fault.detail, error_class=fault.error_class, advice=fault.advice)
        if self._session is None or self._session.closed:
            raise TransportError("the connection is closed", error_class=ErrorClass.CONNECT)
        return self._session

    async def _exchange(self, session: aiohttp.ClientSession, exchange: Exchange) -> Reply:
        """Send one request; return the reply to a 2xx, raise what anything else means."""
        try:
            with self._deadlines.until(exchange.started + self.address.timeout_s):
                options = await self._authorize(exchange) if self._auth.secret is not None else self._tls
                answer = await session.request(
                    exchange.method,
                    exchange.url,
                    data=_data(exchange.body),
                    headers=exchange.headers,
                    allow_redirects=False,
                    **options,
                )
        except TransportError as exc:
            exc.request, exc.phases_ms = exchange.record(), exchange.phases_ms(None, time.perf_counter())
            raise
        except CAUGHT as exc:
            error = translate(exc)
            error.args = (self._masked(error.detail),)
            error.detail = error.args[0]
            error.request, error.phases_ms = exchange.record(), exchange.phases_ms(None, time.perf_counter())
            raise error from exc
        reply = await self._read(answer, exchange)
        if 200 <= answer.status < 300:
            return reply
        raise refusal(answer.status, self._masked(answer.reason or ""), reply, datetime.now(UTC))

    async def _authorize(self, exchange: Exchange) -> dict[str, Any]:
        """Add the credential to the request and its masked form to the record; return the request's options."""
        auth = self._auth
        if not auth.per_request:
            exchange.recorded = exchange.headers | auth.masked
            exchange.headers |= auth.fixed
            return self._tls
        left_s = self.address.timeout_s - (time.perf_counter() - exchange.started)
        async with asyncio.timeout(left_s):
            made = await auth.headers(exchange.body)
        exchange.recorded = exchange.headers | auth.recorded(made)
        exchange.headers |= made
        left_s = self.address.timeout_s - (time.perf_counter() - exchange.started)
        return self._tls | {"timeout": aiohttp.ClientTimeout(total=max(left_s, 0.001))}

    async def _renewed(self, exchange: Exchange) -> bool:
        """Renew the credential in what is left of the time; False when there is nothing to renew."""
        left_s = self.address.timeout_s - (time.perf_counter() - exchange.started)
        try:
            async with asyncio.timeout(left_s):
                return await self._auth.renew()
        except TimeoutError as exc:
            raise translate(exc, "token renewal") from exc

    async def _read(self, answer: aiohttp.ClientResponse, exchange: Exchange) -> Reply:
        """Read the body up to the cap; one that is bigger, slow, broken or a bomb is cut, and its connection closed."""
        headed = time.perf_counter()
        parts: list[bytes] = []
        try:
            if not answer.content.at_eof():
                with self._deadlines.until(exchange.started + self.address.timeout_s):
                    await read_into(parts, answer, exchange.cap + 1 + (self._longest if self._auth.hidden else 0))
            broken = False
        except CAUGHT:  # the head is what counts
            broken = True
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        truncated = broken or len(body) > exchange.cap
        if truncated:
            if answer.connection is not None and answer.connection.transport is not None:
                answer.connection.transport.abort()  # a polite farewell would go on reading what we do not want
            answer.close()
        else:
            answer.release()
        done = time.perf_counter()
        headers = dict(islice(answer.headers.items(), KEPT_HEADERS))
        if self._auth.hidden:
            body = self._redacted(body, truncated=truncated)
            headers = {name: self._masked(value) for name, value in headers.items()}
        return Reply(
            ack_level=AckLevel.APPLICATION,
            took_ms=_ms(done - exchange.started),
            status_code=answer.status,
            headers={name: value[:KEPT_HEADER] for name, value in headers.items()},
            body=body[: exchange.cap],
            truncated=truncated,
            phases_ms=exchange.phases_ms(headed, done),
            request=exchange.record(),
        )

    @property
    def _secrets(self) -> list[str]:
        """Return what must not be recorded of an answer that echoes what it was sent."""
        return [secret for secret in self._auth.hidden if len(secret) >= SHORTEST_SECRET]

    @property
    def _longest(self) -> int:
        return max((len(secret.encode()) for secret in self._secrets), default=0)

    def _masked(self, text: str) -> str:
        """Take our secrets out of a text; do it before the text is cut, or a part of one stays."""
        for secret in self._secrets:
            text = text.replace(secret, self._auth.mask)
        return text

    def _redacted(self, body: bytes, *, truncated: bool) -> bytes:
        """Take our secrets out of a body; the end of one that is cut may hold the beginning of one."""
        for secret in self._secrets:
            body = body.replace(secret.encode(), self._auth.mask.encode())
        return body[: max(len(body) - self._longest, 0)] if truncated else body


def _tls_options(address: Address) -> dict[str, Any]:
    """Return what every request needs to say about TLS; nothing over plain HTTP."""
    if address.protocol != "https":
        return {}
    tls = address.config.get("tls") or {}
    own = address.credential
    certificate = address.client_credential or (own if own is not None and own.kind == "mtls" else None)
    options: dict[str, Any] = {"ssl": client_context(tls, certificate)}
    return options | ({"server_hostname": tls["server_name"]} if tls.get("server_name") else {})


def _data(body: bytes) -> bytes | io.BytesIO | None:
    if len(body) > STREAMED:
        return io.BytesIO(body)
    return body or None


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
