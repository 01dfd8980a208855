"""The server: `/health` and `/echo` over HTTP. Each switch breaks one thing, for the pack to see."""

import time
from collections.abc import Collection

from aiohttp import web

SWITCHES = {
    "http-down": "nothing listens",
    "http-unhealthy": "/health answers 503",
    "http-health-page": "/health answers 200 with a page for people, as a proxy does that hides a dead server",
    "http-loses-digits": "/echo reads numbers as floats, and so loses digits",
    "http-takes-anything": "every path answers 200, also one that is not there",
}
LARGEST = 1024 * 1024


class CommunicationServer:
    """Listens at `port` of loopback from `start` to `stop`; `broken` may change in between."""

    def __init__(self, port: int, broken: Collection[str] = ()) -> None:
        self.port, self.broken = port, set(broken)
        self._since = time.monotonic()

    async def start(self) -> None:
        if "http-down" in self.broken:
            return
        app = web.Application(client_max_size=LARGEST)
        app.router.add_get("/health", self._health)
        app.router.add_post("/echo", self._echo)
        app.router.add_route("*", "/{path:.*}", self._other)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if hasattr(self, "_runner"):
            await self._runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        if "http-health-page" in self.broken:
            return web.Response(text="<h1>It works!</h1>", content_type="text/html")
        is_well = "http-unhealthy" not in self.broken
        told = {"status": "ok" if is_well else "failing", "uptime_s": round(time.monotonic() - self._since, 1)}
        return web.json_response(told, status=200 if is_well else 503)

    async def _echo(self, request: web.Request) -> web.Response:
        body = await request.read()
        if "http-loses-digits" in self.broken:
            body = body.replace(b"9007199254740993", b"9007199254740992.0")
        return web.Response(body=body, content_type=request.content_type)

    async def _other(self, request: web.Request) -> web.Response:
        is_open = "http-takes-anything" in self.broken
        return web.json_response({"detail": "not found"}, status=200 if is_open else 404)
