"""The server: one contract over HTTP and WebSocket (one port), TCP (the next) and UDP (the one after).

Over HTTP `/health` and `/echo`; over the others a JSON object per message: `{"type": "health"}`,
`{"type": "broadcast", ...}`, which goes to everybody who is connected, and whatever else, which is
sent back as it came. Each switch breaks one thing, for the pack to see.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from aiohttp import WSMsgType, web

SWITCHES = {
    "http-down": "nothing listens for HTTP, and so for WebSocket",
    "http-unhealthy": "/health answers 503",
    "http-health-page": "/health answers 200 with a page for people, as a proxy does that hides a dead server",
    "http-loses-digits": "/echo reads numbers as floats, and so loses digits",
    "http-takes-anything": "every path answers 200, also one that is not there",
    "ws-refuses": "the handshake is answered 503",
    "ws-unhealthy": "health over WebSocket is `failing`",
    "ws-loses-bytes": "bytes come back as text",
    "ws-whispers": "a broadcast over WebSocket comes to its sender alone",
    "tcp-down": "nothing listens for TCP",
    "tcp-unhealthy": "health over TCP is `failing`",
    "tcp-merges": "the line end after the first of two messages is lost, so that they come back as one",
    "tcp-whispers": "a broadcast over TCP comes to its sender alone",
    "udp-down": "nothing listens for UDP",
    "udp-unhealthy": "health over UDP is `failing`",
    "udp-cuts": "a datagram comes back cut at 100 bytes",
    "udp-silent": "a datagram is taken, and never answered",
}
LARGEST = 1024 * 1024
Say = Callable[[bytes], Awaitable[None]]


class CommunicationServer:
    """Listens at `port` of loopback from `start` to `stop`; `broken` may change in between."""

    def __init__(self, port: int, broken: Collection[str] = (), *, tcp_port: int = 0, udp_port: int = 0) -> None:
        self.port, self.broken = port, set(broken)
        self.tcp_port, self.udp_port = tcp_port or port + 1, udp_port or port + 2
        self._since = time.monotonic()
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._everybody: dict[str, set[Say]] = {"ws": set(), "tcp": set()}

    async def start(self) -> None:
        if "http-down" not in self.broken:
            await self._start_http()
        if "tcp-down" not in self.broken:
            await self._start_tcp()
        if "udp-down" not in self.broken:
            await self._start_udp()

    async def stop(self) -> None:
        while self._closing:
            await self._closing.pop()()

    # -- HTTP ------------------------------------------------------------------------------

    async def _start_http(self) -> None:
        app = web.Application(client_max_size=LARGEST)
        app.router.add_get("/health", self._health)
        app.router.add_post("/echo", self._echo)
        app.router.add_get("/ws", self._websocket)
        app.router.add_route("*", "/{path:.*}", self._other)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        self._closing.append(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", self.port).start()

    async def _health(self, request: web.Request) -> web.Response:
        if "http-health-page" in self.broken:
            return web.Response(text="<h1>It works!</h1>", content_type="text/html")
        told = self._told("http")
        return web.json_response(told, status=200 if told["status"] == "ok" else 503)

    async def _echo(self, request: web.Request) -> web.Response:
        body = await request.read()
        if "http-loses-digits" in self.broken:
            body = body.replace(b"9007199254740993", b"9007199254740992.0")
        return web.Response(body=body, content_type=request.content_type)

    async def _other(self, request: web.Request) -> web.Response:
        is_open = "http-takes-anything" in self.broken
        return web.json_response({"detail": "not found"}, status=200 if is_open else 404)

    def _told(self, way: str) -> dict[str, Any]:
        is_well = f"{way}-unhealthy" not in self.broken
        return {"status": "ok" if is_well else "failing", "uptime_s": round(time.monotonic() - self._since, 1)}

    # -- what is said over the others --------------------------------------------------------

    async def _answer(self, way: str, body: bytes, say: Say) -> None:
        """Answer one message; what is no JSON object is sent back as it came."""
        try:
            asked = json.loads(body)
        except ValueError:
            asked = None
        kind = asked.get("type") if isinstance(asked, dict) else None
        if kind == "health":
            await say(json.dumps({"type": "health", **self._told(way)}).encode())
        elif kind == "broadcast" and way in self._everybody:
            hear = {say} if f"{way}-whispers" in self.broken else set(self._everybody[way])
            await asyncio.gather(*(each(body) for each in hear), return_exceptions=True)
        else:
            await say(body)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if "ws-refuses" in self.broken:
            return web.json_response({"detail": "full"}, status=503)
        socket = web.WebSocketResponse(max_msg_size=LARGEST)
        await socket.prepare(request)

        async def say(body: bytes) -> None:
            await socket.send_str(body.decode())

        self._everybody["ws"].add(say)
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await self._answer("ws", message.data.encode(), say)
                elif "ws-loses-bytes" in self.broken:
                    await socket.send_str(message.data.decode("latin-1"))
                else:
                    await socket.send_bytes(message.data)
        finally:
            self._everybody["ws"].discard(say)
        return socket

    # -- TCP: a line is a message ------------------------------------------------------------

    async def _start_tcp(self) -> None:
        tasks: set[asyncio.Task[Any]] = set()

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await self._lines(reader, writer)
            except (OSError, asyncio.CancelledError):
                pass  # the client went away, or we do
            finally:
                tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(converse, "127.0.0.1", self.tcp_port, limit=LARGEST)

        async def close() -> None:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._closing.append(close)

    async def _lines(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(body: bytes) -> None:
            writer.write(body + (b" " if "tcp-merges" in self.broken and b'"n":1' in body else b"\n"))
            await writer.drain()

        self._everybody["tcp"].add(say)
        try:
            while line := await reader.readline():
                await self._answer("tcp", line[:-1], say)
        finally:
            self._everybody["tcp"].discard(say)

    # -- UDP: a datagram is a message --------------------------------------------------------

    async def _start_udp(self) -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=("127.0.0.1", self.udp_port)
        )

        async def close() -> None:
            transport.close()
            await asyncio.sleep(0)

        self._closing.append(close)

    async def take(self, body: bytes, say: Say) -> None:
        """Answer a datagram."""
        if "udp-silent" not in self.broken:
            await self._answer("udp", body[:100] if "udp-cuts" in self.broken else body, say)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: CommunicationServer) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, source: Any) -> None:
        async def say(body: bytes) -> None:
            self._transport.sendto(body, source)

        task = asyncio.ensure_future(self._server.take(data, say))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
