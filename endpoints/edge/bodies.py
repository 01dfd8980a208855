"""The front gate for request bodies: capped, plain, and of known length before Django sees them.

Django would spool a chunked body of any size to disk, and DRF takes a body
without a length for an empty one: a change sent so would look done and change
nothing. Here a chunked body is read up to the cap and handed on with its length.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from endpoints.edge import wire
from endpoints.edge.json_api import MAX_BODY_BYTES
from endpoints.edge.wire import Send
from endpoints.errors import ControlPlaneError, Malformed, TooLarge, UnsupportedMediaType

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Application = Callable[[Any, Any, Any], Awaitable[None]]


class BodyGate:
    """An ASGI application in front of another; everything but HTTP passes by."""

    def __init__(self, application: Application, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._application = application
        self._max_bytes = max_bytes

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope, receive = await self._admit(scope, receive)
            except ControlPlaneError as error:
                status, headers, body = wire.refusal(error)
                await wire.answer(send, status, [*headers, (b"connection", b"close")], body)
                return
        await self._application(scope, receive, send)

    async def _admit(self, scope: Event, receive: Receive) -> tuple[Event, Receive]:
        """Return the request with a body of known length; raises TooLarge, UnsupportedMediaType or Malformed."""
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
            raise UnsupportedMediaType("send the body as it is, without Content-Encoding")
        length = headers.get(b"content-length")
        if length is not None:
            if not length.isdigit():
                raise Malformed("Content-Length is not a number")
            if int(length) > self._max_bytes:
                raise self._too_large()
        elif b"transfer-encoding" in headers:
            body = await self._read(receive)
            known = [pair for pair in scope["headers"] if pair[0] != b"transfer-encoding"]
            scope = {**scope, "headers": [*known, (b"content-length", str(len(body)).encode())]}
            receive = _replay(body, receive)
        return scope, receive

    async def _read(self, receive: Receive) -> bytes:
        parts, size = [], 0
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise Malformed("the body broke off")
            parts.append(event.get("body", b""))
            size += len(parts[-1])
            if size > self._max_bytes:
                raise self._too_large()
            if not event.get("more_body"):
                return b"".join(parts)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._max_bytes} bytes")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once, then what the server says."""
    waiting = [body]

    async def again() -> Event:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again
