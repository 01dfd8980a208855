"""Subscribers of event streams over real sockets, cut off at random moments, that go on from their last cursor."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.stack import Stack

CREDIT = 200  # renewed when half of it is used
PATIENCE_S = 60


@dataclass(frozen=True)
class Door:
    """Where to connect: a web process, and who comes."""

    url: str
    headers: dict[str, str]


def doors(stacks: Sequence[Stack]) -> list[Door]:
    """Return the gateway of each web process, for an operator."""
    key = stacks[0].key("operator")
    return [
        Door(f"{stack.url.replace('http', 'ws')}/ws/v1/gateway/", {"Authorization": f"Bearer {key}"})
        for stack in stacks
    ]


@dataclass
class Subscriber:
    """One reader; `received` is what it was sent, in order, over all its connections."""

    doors: Sequence[Door]
    chance: random.Random
    filter: dict[str, Any] = field(default_factory=dict)
    after: str | None = None
    received: list[str] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    cuts: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, count: int, cuts: int) -> None:
        """Read until `count` messages came, cut `cuts` times on the way, at random."""
        while self.cuts < cuts and len(self.received) < count:
            await self._read(min(count, len(self.received) + self.chance.randint(0, max(2, 2 * count // cuts))))
            self.cuts += 1
        if len(self.received) < count:
            await self._read(count)

    async def _read(self, count: int) -> None:
        """Connect to any of the processes, read until there are `count`, and vanish without a word."""
        door = self.chance.choice(self.doors)
        async with self._line(door) as line:
            asked = {"type": "subscribe", "id": "s", "filter": self.filter, "after": self.after, "credit": CREDIT}
            await line.send(orjson.dumps(asked).decode())
            unrenewed = 0
            while not self.ready.is_set() or len(self.received) < count:
                frame = orjson.loads(await line.recv(decode=False))
                if frame["type"] == "ready":
                    continue
                if frame["type"] == "subscribed":
                    self.after = frame["cursor"]
                    self.ready.set()
                    continue
                assert frame["type"] == "event", frame
                self.after = frame["cursor"]
                self.received.append(frame["message"]["message_id"])
                self._time(frame["message"])
                unrenewed += 1
                if unrenewed == CREDIT // 2:
                    unrenewed = 0
                    await line.send(orjson.dumps({"type": "credit", "id": "s", "n": CREDIT // 2}).decode())

    def _time(self, message: dict[str, Any]) -> None:
        """Note how long ago its sender sent it, by the stamp that it put in the correlation id."""
        stamp = message["correlation_id"]
        if stamp and stamp.startswith("t"):
            self.lags_s.append(time.time() - float(stamp[1:]))

    @asynccontextmanager
    async def _line(self, door: Door) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            line = await connect(door.url, additional_headers=door.headers, compression=None, proxy=None)
        try:
            yield line
        finally:
            await _cut(line)


async def _cut(line: ClientConnection) -> None:
    """End a connection as a pulled plug would."""
    line.transport.abort()
    with suppress(ConnectionClosed):
        await line.wait_closed()
