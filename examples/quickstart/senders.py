"""Who of the company sends, and how: one row for each, one small class a way in."""

import asyncio
import json
import random
from abc import ABC, abstractmethod
from itertools import count

import aiohttp

from examples.quickstart.client import Client
from examples.quickstart.company import next_message

LIVELY = 60  # messages; then the shop grows quiet, since an example that is left alone should cost next to nothing
QUIET = 10
BEAT_S = 60.0
OPENED_EVERY = 100


class Sender(ABC):
    """Sends for ever, from when the company is registered; raises OSError or Refused when it is to start over."""

    def __init__(self, client: Client, pause_s: float) -> None:
        self.client, self.pause_s = client, pause_s

    @abstractmethod
    async def run(self) -> None:
        """Send, one after the other, with pauses."""


class Shop(Sender):
    """The web shop tells its stories over HTTP: many at first, fewer later."""

    numbers = count()  # goes on where it was when it starts over

    async def run(self) -> None:
        while True:
            number = next(self.numbers)
            await self.client.post("messages/", next_message(number))
            await asyncio.sleep(self.pause_s * random.uniform(0.5, 1.5) * (1 if number < LIVELY else QUIET))


class Heartbeats(Sender):
    """The warehouse says once a minute that it is there, since nobody can ask it."""

    async def run(self) -> None:
        while True:
            beat = {"source_system": "warehouse", "message_type": "heartbeat", "payload": {"doors": "open"}}
            await self.client.post("messages/", beat)
            await asyncio.sleep(BEAT_S)


class Phones(Sender):
    """The app says over the gateway, now and then, that somebody opened it."""

    async def run(self) -> None:
        while True:
            message = {"target_system": "crm", "event_type": "app.opened", "payload": {"customer": "c-100"}}
            try:
                async with self.client.connect("app") as socket:
                    await socket.send_json({"type": "send", "message": message})
                    while json.loads((await socket.receive()).data or "{}").get("type", "") == "ready":
                        pass  # the answer to our message follows
            except (aiohttp.ClientError, TypeError, ValueError) as exc:
                raise OSError(f"no answer from the gateway: {exc}") from exc
            await asyncio.sleep(self.pause_s * OPENED_EVERY)


SENDERS: dict[str, type[Sender]] = {
    "webshop": Shop,
    "warehouse": Heartbeats,
    "app": Phones,
}
