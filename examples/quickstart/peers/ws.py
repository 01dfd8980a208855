"""Over WebSocket: a screen that answers each frame with one."""

import json
from typing import Any

from aiohttp import WSMsgType, web

from examples.quickstart.peers.base import Peer


class WsPeer(Peer):
    """Has a path of the board's own web server."""

    async def start(self) -> None:
        """Have a path, before the server is started."""
        self.board.app.router.add_get(self.path, self._talk)

    @property
    def path(self) -> str:
        return f"/{self.party.slug}/{self.door.interface}"

    def address(self) -> dict[str, Any]:
        place = {"host": "127.0.0.1", "port": self.board.port, "path": self.path}
        return {"protocol": "ws", **place, "config": {"reply": "ack", "body": "envelope"}}

    async def _talk(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for frame in socket:
            if frame.type is not WSMsgType.TEXT:
                continue
            message = json.loads(frame.data)
            status = await self.take(message["event_type"] or "", "", frame.data.encode())
            kind = "ack" if status < 300 else "nack"
            await socket.send_json({"type": kind, "message_id": message["message_id"]})
        return socket
