"""Over UDP: a display that shows what a datagram says, and answers nothing."""

import asyncio
import json
from typing import Any

from examples.quickstart.peers.base import Peer


class UdpPeer(Peer, asyncio.DatagramProtocol):
    """Listens at any free port of this machine."""

    async def start(self) -> None:
        self._shown: set[asyncio.Task[int]] = set()
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))

    def address(self) -> dict[str, Any]:
        port = self._transport.get_extra_info("sockname")[1]
        return {"protocol": "udp", "host": "127.0.0.1", "port": port, "config": {"body": "envelope"}}

    async def aclose(self) -> None:
        self._transport.close()

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            event = json.loads(data)["event_type"] or ""
        except (ValueError, KeyError, TypeError):
            event = ""  # a probe, or a stranger's
        task = asyncio.create_task(self.take(event, "", data))
        self._shown.add(task)
        task.add_done_callback(self._shown.discard)
