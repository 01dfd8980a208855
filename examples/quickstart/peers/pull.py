"""By fetching: for a system that cannot be called, since it is behind a firewall or not always there."""

import asyncio
import contextlib
import json
from typing import Any

from examples.quickstart.client import Refused
from examples.quickstart.peers.base import Peer

WAIT_S = 50
AGAIN_S = 5.0  # when the control plane is away, or does not know us yet


class PullPeer(Peer):
    """Waits at its inbox, and acknowledges what it got."""

    async def start(self) -> None:
        self._fetching = asyncio.create_task(self._fetch())

    def address(self) -> dict[str, Any]:
        return {"protocol": "pull", "config": {"lease_s": 30}}

    async def aclose(self) -> None:
        self._fetching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._fetching

    async def _fetch(self) -> None:
        path = f"systems/{self.party.slug}/inbox/?interface={self.door.interface}&wait={WAIT_S}"
        while True:
            try:
                for fetched in (await self.client.get(path, timeout_s=WAIT_S + 10))["results"]:
                    await self._answer(fetched)
            except (OSError, Refused):
                await asyncio.sleep(AGAIN_S)

    async def _answer(self, fetched: dict[str, Any]) -> None:
        message, lease = fetched["message"], {"attempt": fetched["attempt"]}
        body = json.dumps(message["payload"]).encode()
        status = await self.take(message["event_type"] or "", fetched["attempt"], body)
        word, said = ("ack", {}) if status < 300 else ("nack", {"reason": f"it would have answered {status}"})
        await self.client.post(f"deliveries/{fetched['delivery_id']}/{word}/", {**lease, **said})
