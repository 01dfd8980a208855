"""Clients that keep books of their own: what was acknowledged to them, and what they acknowledged."""

import asyncio
import threading
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from tests.stack import Stack

BROKEN = (OSError, WebSocketException, InvalidHandshake, TimeoutError)
IN_FLIGHT = 8


class Clients(threading.Thread):
    """Connections that send numbered messages over and over until acknowledged, and take what comes; each reconnects.

    Connection n sends `n-1`, `n-2`, ... one after the other, a few in flight.
    """

    def __init__(self, stack: Stack, source: str, target: str, *, senders: int = 3, receivers: int = 3) -> None:
        super().__init__(daemon=True)
        self._url = stack.url.replace("http", "ws") + "/ws/v1/gateway/"
        self._keys = {slug: stack.key("operator", system=slug) for slug in (source, target)}
        self._source, self._target, self._senders, self._receivers = source, target, senders, receivers
        self._no_more, self._stopping = threading.Event(), threading.Event()
        self.acknowledged: list[str] = []
        self.received: list[tuple[str, str]] = []
        self.sent_all = threading.Event()
        self.connects = 0

    def finish_sending(self, timeout: float = 90) -> None:
        """Begin no new message; return when each one begun is acknowledged."""
        self._no_more.set()
        assert self.sent_all.wait(timeout), "a message was never acknowledged"

    def stop(self) -> None:
        """Take nothing more."""
        self._stopping.set()
        self.join(30)

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        receiving = [asyncio.create_task(self._receive()) for _ in range(self._receivers)]
        await asyncio.gather(*(self._send(number) for number in range(self._senders)))
        self.sent_all.set()
        await asyncio.to_thread(self._stopping.wait)
        for task in receiving:
            task.cancel()
        await asyncio.gather(*receiving, return_exceptions=True)

    def _open(self, slug: str) -> Any:
        self.connects += 1
        return connect(self._url, additional_headers={"Authorization": f"Bearer {self._keys[slug]}"}, proxy=None)

    async def _send(self, connection: int) -> None:
        waiting: list[str] = []
        number = 0
        while True:
            try:
                async with self._open(self._source) as socket:
                    await socket.recv()
                    for message_id in waiting:  # of these nobody told us: the same again, under the same id
                        await self._say(socket, message_id)
                    while waiting or not self._no_more.is_set():
                        while len(waiting) < IN_FLIGHT and not self._no_more.is_set():
                            number += 1
                            waiting.append(f"{connection}-{number}")
                            await self._say(socket, waiting[-1])
                        async with asyncio.timeout(20):
                            answer = orjson.loads(await socket.recv())
                        if answer["type"] == "ack":
                            waiting.remove(answer["ref"])
                            self.acknowledged.append(answer["ref"])
                            await asyncio.sleep(0.005)
                        else:
                            await asyncio.sleep(0.05)
                            await self._say(socket, answer["ref"])
                    return
            except BROKEN:
                await asyncio.sleep(0.05)

    async def _say(self, socket: ClientConnection, message_id: str) -> None:
        message = {"message_id": message_id, "target_system": self._target, "payload": {"id": message_id}}
        await socket.send(orjson.dumps({"type": "send", "ref": message_id, "message": message}).decode())

    async def _receive(self) -> None:
        while True:
            try:
                async with self._open(self._target) as socket:
                    async for text in socket:
                        frame = orjson.loads(text)
                        if frame["type"] == "delivery":
                            self.received.append((frame["delivery_id"], frame["message"]["message_id"]))
                            answer = {"type": "ack", "delivery_id": frame["delivery_id"]}
                            await socket.send(orjson.dumps(answer).decode())
            except BROKEN:
                await asyncio.sleep(0.05)
