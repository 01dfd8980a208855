"""Request bodies as they come over the wire: capped, and given up when they stall."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from endpoints.errors import TooLarge, TooSlow
from endpoints.models import MAX_MESSAGE_BYTES

MAX_BODY_BYTES = MAX_MESSAGE_BYTES * 3 // 2
NDJSON_CHUNK = 500
QUIET_S = 30  # how long a sender may pause within a body

Receive = Callable[[], Awaitable[dict[str, Any]]]


class ClientGone(Exception):
    """The caller hung up before the body was complete; there is nobody to answer."""


async def next_event(receive: Receive) -> dict[str, Any]:
    """Return the next part of the body; raises TooSlow when the sender stalls, ClientGone when it hung up."""
    try:
        async with asyncio.timeout(QUIET_S):
            event = await receive()
    except TimeoutError as exc:
        raise TooSlow(f"nothing more of the body came within {QUIET_S} s") from exc
    if event["type"] == "http.disconnect":
        raise ClientGone
    return event


async def read_chunks(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the parts of the body as they come."""
    while True:
        event = await next_event(receive)
        yield event.get("body", b"")
        if not event.get("more_body"):
            return


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int) -> bytes:
    """Return the whole body; raises TooLarge as soon as it is known to exceed `limit` bytes."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"the body has {declared} bytes, at most {limit} are taken")
    event = await next_event(receive)  # nearly always the whole body, which is then not copied
    parts: list[bytes] = [event.get("body", b"")]
    size = len(parts[0])
    while event.get("more_body") and size <= limit:
        event = await next_event(receive)
        parts.append(event.get("body", b""))
        size += len(parts[-1])
    if size > limit:
        raise TooLarge(f"the body has more than {limit} bytes")
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_lines(receive: Receive) -> AsyncIterator[list[bytes]]:
    """Yield the lines of an endless body in bounded lots; raises TooLarge for a line beyond the cap."""
    rest = bytearray()  # of a line that is not complete yet; only what is new is searched for its end
    async for part in read_chunks(receive):
        whole, newline, tail = part.rpartition(b"\n")
        lines = [line for line in (bytes(rest) + whole).split(b"\n") if line.strip()] if newline else []
        if newline:
            rest.clear()
        rest += tail
        if len(rest) > MAX_BODY_BYTES:
            raise TooLarge(f"a line has more than {MAX_BODY_BYTES} bytes")
        for start in range(0, len(lines), NDJSON_CHUNK):
            yield lines[start : start + NDJSON_CHUNK]
    if rest.strip():
        yield [bytes(rest)]
