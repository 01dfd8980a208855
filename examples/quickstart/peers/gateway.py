"""Over the gateway: an app that connects to the control plane, and is sent what is for it."""

import asyncio
import contextlib
import json
from typing import Any

import aiohttp

from examples.quickstart.peers.base import Peer

AGAIN_S = 5.0  # when the control plane is away, or does not know us yet
# An app is not always there: what comes for it meanwhile waits. It stays while somebody is likely to look.
STAYS_S, THERE_S, AWAY_S = 180.0, 20.0, 60.0


class GatewayPeer(Peer):
    """Keeps a connection, and acknowledges what comes over it."""

    async def start(self) -> None:
        self._staying = asyncio.create_task(self._stay())

    def address(self) -> dict[str, Any]:
        return {"protocol": "gateway"}

    async def aclose(self) -> None:
        self._staying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._staying

    async def _stay(self) -> None:
        there_s = STAYS_S
        while True:
            pause_s = AGAIN_S
            with contextlib.suppress(OSError, aiohttp.ClientError):
                if await self._listen(there_s):
                    there_s, pause_s = THERE_S, AWAY_S
            await asyncio.sleep(pause_s)

    async def _listen(self, there_s: float) -> bool:
        """Take what comes for a while; say whether we stayed that long, and were not cut off before."""
        try:
            async with asyncio.timeout(there_s), self.client.connect(self.party.slug) as socket:
                async for frame in socket:
                    await self._hear(socket, json.loads(frame.data))
        except TimeoutError:
            return True
        return False

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse, frame: dict[str, Any]) -> None:
        if frame["type"] != "delivery":
            return
        message = frame["message"]
        body = json.dumps(message.get("payload")).encode()
        status = await self.take(message.get("event_type") or "", frame["attempt"], body)
        word = {"type": "ack"} if status < 300 else {"type": "nack", "reason": f"it would have answered {status}"}
        await socket.send_json({**word, "delivery_id": frame["delivery_id"]})
