"""HTTP and HTTPS: one pool of connections per endpoint; what can be worked out beforehand is worked out in `open`."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from endpoints.transports.base import KEPT_BODY, AckLevel, ErrorClass, Outgoing, Reply, TransportError
from endpoints.transports.credentials import Authorization, authorization
from endpoints.transports.failures import CAUGHT, translate
from endpoints.transports.http1 import Connection
from endpoints.transports.http_answers import refusal
from endpoints.transports.http_config import HTTP_CONFIG, check_authorization, check_http_config
from endpoints.transports.http_exchange import Answer, Exchange, kept
from endpoints.transports.http_request import Request, RequestMaker, origin
from endpoints.transports.masking import Masking
from endpoints.transports.pool import Pool, closed
from endpoints.transports.pooled import PooledTransport, peer_of
from endpoints.transports.timing import in_ms

STREAMED = 512 * 1024  # larger bodies are written piece by piece
PORTS = {"http": 80, "https": 443}

HttpPool = Pool[Exchange, Answer]


class HttpTransport(PooledTransport[HttpPool]):
    """Sends messages as HTTP requests; a 2xx is delivered as soon as its head is read."""

    CONFIG_SCHEMA: ClassVar[dict[str, Any]] = HTTP_CONFIG

    @classmethod
    def check_config(cls, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return (field, fault) for what the schema cannot say; see `Transport.check_config`."""
        return check_http_config(config)

    async def open(self) -> None:
        """Prepare request, credential, TLS and pool; settings that cannot work are told by each `send`."""
        address = self.address
        try:
            self._maker = RequestMaker(address)
            self._auth: Authorization = authorization(address.credential, origin(address))
            check_authorization(self._auth)
            self._masking = Masking(self._auth)
            peer = peer_of(address, address.port or PORTS[address.protocol], is_tls=address.protocol == "https")
            self._pool = Pool(self._egress, peer, address.max_in_flight, Connection)
        except TransportError as exc:
            self._fault = exc

    async def send(self, outgoing: Outgoing) -> Reply:
        """Send one message within `timeout_s`; a refused shared token is renewed once and the message sent again."""
        pool = self._require_pool()
        started = time.perf_counter()
        request = self._maker.make(outgoing, str(int(time.time())))
        cap = self.address.reply_cap(outgoing)
        try:
            return self.answered(outgoing, await self._exchange(pool, request, cap, started))
        except TransportError as exc:
            if exc.reply is None or exc.error_class is not ErrorClass.AUTH or not await self._renewed(started):
                raise
        return self.answered(outgoing, await self._exchange(pool, request, cap, started))

    async def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
        *,
        max_bytes: int = KEPT_BODY,
    ) -> Reply:
        """Make one request that carries no message, and return the answer whatever its status.

        Raises TransportError when there is none, or the request cannot be made (see `RequestMaker.plain`).
        """
        return await self.ask_planned(self.plan(method, path, query, headers, body), max_bytes=max_bytes)

    def plan(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Request:
        """Return a request that carries no message, to be made any number of times; raises as `RequestMaker.plain`."""
        self._require_pool()
        return self._maker.plain(method, path, query, headers, body)

    async def ask_planned(
        self, request: Request, *, max_bytes: int = KEPT_BODY, timeout_s: float | None = None
    ) -> Reply:
        """Make a planned request and return the answer whatever its status; raises TransportError when there is none.

        `timeout_s` may only shorten the endpoint's own.
        """
        pool = self._require_pool()
        if self._auth.secret is not None:  # which is added to the request: each gets its own
            request = replace(request, headers=dict(request.headers))
        try:
            return await self._exchange(pool, request, max_bytes, time.perf_counter(), timeout_s)
        except TransportError as exc:
            if exc.reply is None:
                raise
            return exc.reply

    async def probe(self) -> Reply:
        """Ask for the endpoint's path; any answer below 500 shows that somebody is there."""
        pool = self._require_pool()
        request = self._maker.probe(str(self.address.config.get("probe_method", "GET")))
        try:
            return await self._exchange(pool, request, KEPT_BODY, time.perf_counter())
        except TransportError as exc:
            if exc.reply is None or (exc.reply.status_code or 500) >= 500:
                raise
            return exc.reply

    async def aclose(self) -> None:
        """Cut every connection; requests under way end with an error."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
            await asyncio.sleep(0)  # the sockets are closed in the loop's next round

    async def _exchange(
        self, pool: HttpPool, request: Request, cap: int, started: float, timeout_s: float | None = None
    ) -> Reply:
        """Send one request; return the reply to a 2xx, raise what anything else means."""
        limit_s = self.address.timeout_s if timeout_s is None else min(timeout_s, self.address.timeout_s)
        exchange = Exchange(cap + 1 + self._masking.longest, started + limit_s, is_head=request.method == "HEAD")
        try:
            if self._auth.secret is not None:
                await self._authorize(request, exchange.until)
            exchange.head = self._maker.head(request)
            if len(request.body) > STREAMED:
                exchange.rest = request.body
            elif request.body:
                exchange.head += request.body
            answer = await pool.ask(exchange)
        except TransportError as exc:
            exc.request, exc.phases_ms = self._maker.record(request), _phases_ms(exchange, started)
            raise
        except CAUGHT as exc:
            error = closed() if pool.is_closed else translate(exc)
            error.args = (self._masking.text(error.detail),)
            error.detail = error.args[0]
            error.request, error.phases_ms = self._maker.record(request), _phases_ms(exchange, started)
            raise error from exc
        reply = self._reply(request, exchange, answer, cap, started)
        if 200 <= answer.status < 300:
            return reply
        raise refusal(answer.status, self._masking.text(answer.reason), reply, datetime.now(UTC))

    async def _authorize(self, request: Request, until: float) -> None:
        """Add the credential to the request and its masked form to the record."""
        auth = self._auth
        if auth.per_request:
            async with asyncio.timeout(until - time.perf_counter()):
                made = await auth.headers(request.body)
            masked = auth.recorded(made)
        else:
            made, masked = auth.fixed, auth.masked
        request.recorded = request.headers | masked
        request.headers |= made

    async def _renewed(self, started: float) -> bool:
        """Renew the credential in what is left of the time; False when there is nothing to renew."""
        try:
            async with asyncio.timeout(started + self.address.timeout_s - time.perf_counter()):
                return await self._auth.renew()
        except TimeoutError as exc:
            raise translate(exc, "token renewal") from exc

    def _reply(self, request: Request, exchange: Exchange, answer: Answer, cap: int, started: float) -> Reply:
        """Return what may be kept of an answer."""
        phases_ms = _phases_ms(exchange, started)
        headers, body = answer.kept, answer.body
        is_cut = answer.is_cut or len(body) > cap
        if self._auth.hidden:
            body = self._masking.body(body, truncated=is_cut)
            headers = kept((name, self._masking.text(value)) for name, value in answer.headers)
        return Reply(
            ack_level=AckLevel.APPLICATION,
            took_ms=in_ms(time.perf_counter() - started),
            status_code=answer.status,
            headers=headers,
            body=body[:cap],
            truncated=is_cut,
            phases_ms=phases_ms,
            request=self._maker.record(request),
        )


def _phases_ms(exchange: Exchange, started: float) -> dict[str, float]:
    """Return how long connecting (names and TLS included), waiting and reading took, in milliseconds."""
    done, connected, headed = time.perf_counter(), exchange.connected_at, exchange.headed_at
    if not connected:
        return {"connect": in_ms(done - started)}
    phases = {"connect": in_ms(connected - started), "first_byte": in_ms((headed or done) - connected)}
    if headed:
        phases["body"] = in_ms(done - headed)
    return phases
