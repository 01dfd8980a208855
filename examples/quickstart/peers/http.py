"""Over HTTP: a path of the board's own web server."""

from typing import Any

from aiohttp import web

from examples.quickstart.peers.base import Peer


class HttpPeer(Peer):
    """Takes the requests of one door."""

    async def start(self) -> None:
        """Have a path, before the server is started."""
        self.board.app.router.add_route("*", self.path, self._receive)

    @property
    def path(self) -> str:
        return f"/{self.party.slug}/{self.door.interface}"

    def address(self) -> dict[str, Any]:
        return {"protocol": "http", "host": "127.0.0.1", "port": self.board.port, "path": self.path, "timeout_s": 5}

    async def _receive(self, request: web.Request) -> web.Response:
        if request.method in ("GET", "HEAD"):  # somebody asks whether we are there
            return web.Response(status=self.board.standings[self.party.slug].broken or 200)
        told = request.headers
        status = await self.take(told.get("x-event-type", ""), told.get("x-attempt", ""), await request.read())
        return web.json_response({"ok": status < 300}, status=status)
