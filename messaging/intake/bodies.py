"""Request bodies as they come over the wire: capped one by one and in sum, and given up when they stall."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from endpoints.errors import Overloaded, TooLarge, TooSlow
from endpoints.models import MAX_MESSAGE_BYTES

MAX_BODY_BYTES = MAX_MESSAGE_BYTES * 3 // 2
MAX_HELD_BYTES = 96 * 1024 * 1024  # over all connections of a process
NDJSON_CHUNK = 500
QUIET_S = 30  # how long a sender may pause within a body
SLOWEST = 8 * 1024  # bytes a second that a body, or a line of a stream, must make on the whole, beyond the first pause

ROOM_POLL_S = 0.05

Receive = Callable[[], Awaitable[dict[str, Any]]]


class ClientGone(Exception):
    """The caller hung up before the body was complete; there is nobody to answer."""


class Budget:
    """How many bytes of bodies this process holds at once, from the first byte to the answer; one loop's alone."""

    def __init__(self, limit: int = MAX_HELD_BYTES) -> None:
        self._limit = limit
        self.held = 0

    def take(self, size: int) -> None:
        """Count `size` bytes as held; raises Overloaded when that is too much."""
        if self.held + size > self._limit:
            raise Overloaded("too many bodies are being read, try again in a second", retry_after_s=1)
        self.held += size

    def give(self, size: int) -> None:
        """Count `size` bytes as held no more."""
        self.held -= size


class Body:
    """One request's body; `close` gives back what it took of the budget."""

    __slots__ = ("_begun", "_budget", "_came", "_quiet_s", "_taken", "receive")

    def __init__(self, receive: Receive, budget: Budget, quiet_s: float = QUIET_S) -> None:
        self.receive, self._budget, self._quiet_s = receive, budget, quiet_s
        self._taken = 0  # of the budget
        self._came = 0  # of the whole body, or of the line that is being read
        self._begun = 0.0

    def close(self) -> None:
        self._budget.give(self._taken)
        self._taken = 0

    async def read(self, headers: Mapping[bytes, bytes], limit: int) -> bytes:
        """Return the whole body; raises TooLarge as soon as it is known to exceed `limit` bytes."""
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            raise TooLarge(f"the body has {int(declared)} bytes, at most {limit} are taken")
        part, has_more = await self._next()  # nearly always the whole body, which is then not copied
        if not has_more and len(part) <= limit:
            self._take(len(part))
            return part
        whole = bytearray()
        while True:
            self._take(len(part))
            whole += part
            if not has_more or len(whole) > limit:
                break
            part, has_more = await self._next()
        if len(whole) > limit:
            raise TooLarge(f"the body has more than {limit} bytes")
        return bytes(whole)

    async def lots(self) -> AsyncIterator[list[bytes]]:
        """Yield the lines of an endless body in bounded lots; raises TooLarge for a line beyond the cap.

        Nothing more is read while a lot is worked on: the sender is slowed down, not buffered.
        """
        rest = bytearray()  # of a line that is not complete yet; only what is new is searched for its end
        has_more = True
        while has_more:
            part, has_more = await self._next()
            whole, newline, tail = part.rpartition(b"\n")
            lines = [line for line in (bytes(rest) + whole).split(b"\n") if line.strip()] if newline else []
            if newline:
                rest.clear()
                self._came = len(tail)
                self._begun = time.monotonic()
            rest += tail
            await self._hold(len(part) + len(rest))
            if len(rest) > MAX_BODY_BYTES:
                raise TooLarge(f"a line has more than {MAX_BODY_BYTES} bytes")
            for start in range(0, len(lines), NDJSON_CHUNK):
                yield lines[start : start + NDJSON_CHUNK]
            if newline:
                self._begun = time.monotonic()  # what we took to store them is not the sender's fault
        if rest.strip():
            yield [bytes(rest)]

    def _take(self, size: int) -> None:
        self._budget.take(size)
        self._taken += size

    async def _hold(self, size: int) -> None:
        """Hold exactly `size` from now on; a stream waits for its share a while before it is refused."""
        deadline = time.monotonic() + self._quiet_s
        while True:
            try:
                return self._take(size - self._taken)
            except Overloaded:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(ROOM_POLL_S)

    async def _next(self) -> tuple[bytes, bool]:
        """Return the next part and whether there is more; raises TooSlow for one that stalls or drips."""
        step = Step(self.receive())
        event: dict[str, Any] = step.result if step.is_done else await self._patiently(step)
        if event["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = event.get("body", b"")
        self._came += len(part)
        return part, bool(event.get("more_body"))

    async def _patiently(self, step: "Step") -> dict[str, Any]:
        now = time.monotonic()
        self._begun = self._begun or now
        left_s = min(self._quiet_s, self._begun + self._quiet_s + self._came / SLOWEST - now)
        try:
            async with asyncio.timeout(max(left_s, 0)):
                event: dict[str, Any] = await step
        except TimeoutError as exc:
            raise TooSlow(
                f"the body came too slowly: pause at most {self._quiet_s:g} s, send {SLOWEST} bytes a second"
            ) from exc
        return event


class Step:
    """A coroutine that was run up to its first wait: most bodies are there already, and need no timer.

    `await` it to go on where it stopped, unless it `is_done`.
    """

    __slots__ = ("_coroutine", "_waits_for", "is_done", "result")

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine
        self.is_done = False
        self.result: Any = None
        self._waits_for: Any = None
        try:
            self._waits_for = coroutine.send(None)
        except StopIteration as done:
            self.is_done, self.result = True, done.value

    def __await__(self) -> "Step":
        return self

    def __iter__(self) -> "Step":
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        if self._waits_for is not None:
            waits_for, self._waits_for = self._waits_for, None
            return waits_for
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()
