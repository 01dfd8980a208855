"""The front gate for request bodies: capped, plain, and of known length before Django sees them.

Django would spool a chunked body of any size to disk, and DRF takes a body
without a length for an empty one: a change sent so would look done and change
nothing. Here a chunked body is read up to the cap and handed on with its length.
Few paths take more: such a body goes to a file, few at once and within a time.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import IO, Any

from endpoints.edge import wire
from endpoints.edge.json_api import MAX_BODY_BYTES
from endpoints.edge.wire import Send
from endpoints.errors import ControlPlaneError, Malformed, Overloaded, TooLarge

LARGE_AT_ONCE, LARGE_WITHIN_S = 4, 120.0
PART = 256 * 1024
NONE_LARGER: Mapping[str, int] = MappingProxyType({})

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Application = Callable[[Any, Any, Any], Awaitable[None]]


class BodyGate:
    """An ASGI application in front of another; everything but HTTP passes by.

    `larger` says which paths take more, and how many bytes.
    """

    def __init__(
        self, application: Application, max_bytes: int = MAX_BODY_BYTES, larger: Mapping[str, int] = NONE_LARGER
    ) -> None:
        self._application = application
        self._max_bytes, self._larger = max_bytes, larger
        self._large = 0  # under way

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        with ExitStack() as held:
            try:
                scope, receive = await self._admit(scope, receive, held)
            except ControlPlaneError as error:
                status, headers, body = wire.refusal(error)
                await wire.answer(send, status, [*headers, (b"connection", b"close")], body)
                return
            await self._application(scope, receive, send)

    async def _admit(self, scope: Event, receive: Receive, held: ExitStack) -> tuple[Event, Receive]:
        """Return the request with a body of known length; `held` is let go of once it is answered.

        Raises TooLarge, UnsupportedMediaType, Malformed or Overloaded.
        """
        most = self._larger.get(scope["path"], self._max_bytes)
        headers = wire.headers_of(scope)
        wire.require_plain(headers)
        length = headers.get(b"content-length")
        if length is not None:
            if not length.isdigit():
                raise Malformed("Content-Length is not a number")
            if int(length) > most:
                raise _too_large(most)
            if int(length) > self._max_bytes:
                receive = self._in_time(receive, held)
        elif b"transfer-encoding" in headers:
            if most > self._max_bytes:
                receive = self._in_time(receive, held)
            scope, receive = await _spooled(scope, receive, held, most)
        return scope, receive

    def _in_time(self, receive: Receive, held: ExitStack) -> Receive:
        """Return a `receive` for a large body, for which it takes a place: it breaks off when that takes too long."""
        if self._large >= LARGE_AT_ONCE:
            raise Overloaded(f"{LARGE_AT_ONCE} large bodies are being received", retry_after_s=5)
        self._large += 1
        held.callback(self._let_go)
        until = asyncio.get_running_loop().time() + LARGE_WITHIN_S
        is_whole = False

        async def soon() -> Event:
            nonlocal is_whole
            if is_whole:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    event = await receive()
            except TimeoutError:
                return {"type": "http.disconnect"}
            is_whole = not event.get("more_body")
            return event

        return soon

    def _let_go(self) -> None:
        self._large -= 1


async def _spooled(scope: Event, receive: Receive, held: ExitStack, most: int) -> tuple[Event, Receive]:
    """Return a request with the length of its body; raises TooLarge, or Malformed when it breaks off."""
    size, file = 0, held.enter_context(tempfile.SpooledTemporaryFile(MAX_BODY_BYTES))  # noqa: SIM115 (held has it)
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Malformed("the body broke off")
        size += len(event.get("body", b""))
        if size > most:
            raise _too_large(most)
        file.write(event.get("body", b""))
        if not event.get("more_body"):
            file.seek(0)
            return _with_length(scope, size), _replay_file(file, receive)


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"the body is larger than {most} bytes ({most / 1024**2:g} MiB)")


def _with_length(scope: Event, size: int) -> Event:
    known = [pair for pair in scope["headers"] if pair[0] != b"transfer-encoding"]
    return {**scope, "headers": [*known, (b"content-length", str(size).encode())]}


def _replay_file(file: IO[bytes], receive: Receive) -> Receive:
    """Return a `receive` that gives the file once, then what the server says."""
    is_given = False

    async def again() -> Event:
        nonlocal is_given
        if is_given:
            return await receive()
        part = file.read(PART)
        is_given = len(part) < PART
        return {"type": "http.request", "body": part, "more_body": not is_given}

    return again
