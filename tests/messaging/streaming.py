"""A subscriber of event streams at the counter of one connection: what it was sent, awaited with a deadline."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson

from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError
from messaging.gateway.streams import Subscriptions, Tail

PATIENCE_S = 20
OPERATOR = Principal(label="key:reader", role="operator")

Frame = dict[str, Any]


class Reader:
    """One connection; frames go through JSON, as they would to a client."""

    def __init__(self, tail: Tail, principal: Principal = OPERATOR, **options: Any) -> None:
        self.frames: list[Frame] = []
        self.block_at: int | None = None  # frames
        self.written: list[bytes] = []
        self._arrived = asyncio.Event()
        self._is_open = asyncio.Event()
        self._is_open.set()
        self.streams = Subscriptions(tail, principal, self._send, self, **options)

    @property
    def is_full(self) -> bool:
        return not self._is_open.is_set()

    async def ample_room(self) -> None:
        await self._is_open.wait()

    async def _send(self, frame: Frame) -> None:
        await self._is_open.wait()
        self.written.append(orjson.dumps(frame))
        self.frames.append(orjson.loads(self.written[-1]))
        self._arrived.set()
        if len(self.frames) == self.block_at:
            self.block()

    def block(self) -> None:
        """Take nothing any more, as a reader that hangs."""
        self._is_open.clear()

    def unblock(self) -> None:
        self._is_open.set()

    async def subscribe(self, id: str = "s", after: str | None = "start", credit: int = 1000, **more: Any) -> None:
        await self.streams.subscribe({"type": "subscribe", "id": id, "after": after, "credit": credit, **more})

    async def refused(self, **frame: Any) -> ControlPlaneError:
        """Return the error of a `subscribe` that must be refused."""
        try:
            await self.streams.subscribe({"type": "subscribe", **frame})
        except ControlPlaneError as exc:
            return exc
        raise AssertionError(f"{frame} was taken")

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not predicate():
                self._arrived.clear()
                await self._arrived.wait()

    def events(self, id: str = "s") -> list[Frame]:
        return [frame for frame in self.frames if frame["type"] == "event" and frame["id"] == id]

    def ids(self, id: str = "s") -> list[str]:
        return [frame["message"]["message_id"] for frame in self.events(id)]

    async def got(self, count: int, id: str = "s") -> list[str]:
        """Return the ids of the messages of a stream, once there are so many."""
        await self.until(lambda: len(self.events(id)) >= count)
        return self.ids(id)


@asynccontextmanager
async def opened_tail() -> AsyncIterator[Tail]:
    tail = Tail()
    await tail.open()
    try:
        yield tail
    finally:
        await tail.aclose()


@asynccontextmanager
async def reading(tail: Tail, principal: Principal = OPERATOR, **options: Any) -> AsyncIterator[Reader]:
    reader = Reader(tail, principal, **options)
    try:
        yield reader
    finally:
        await reader.streams.aclose()


async def eventually(predicate: Callable[[], bool]) -> None:
    """Await what nothing says when it comes true."""
    for _ in range(PATIENCE_S * 100):
        if predicate():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError
