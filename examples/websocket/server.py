"""The hub's socket side: who may come in, what frames mean, and who is taken for dead. See docs/packs/websocket.md."""

import asyncio
import contextlib
import json
import time
from collections.abc import Collection
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from examples.websocket.hub import Frame, Hub

SECRET = "hub-secret"  # noqa: S105  # everybody may know it
SUBPROTOCOL = "hub.v1"
LARGEST = 64 * 1024
AUTH_S = 0.7
HEARTBEAT_S = 1.2
UNWELCOME = 4401


class HubServer:
    """Listens at `port` of loopback from `start` to `stop`; `broken` may change in between."""

    def __init__(self, port: int, broken: Collection[str] = ()) -> None:
        self.port, self.broken = port, set(broken)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        if "down" in self.broken:
            return
        self._hub, self._turn, self._frames, self._clients = Hub(self.broken), asyncio.Lock(), 0, 0
        self._last_at = 0.0
        app = web.Application()
        app.router.add_get("/hub", self._handshake)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            self._hub.close()
            await runner.cleanup()

    # -- coming in -------------------------------------------------------------------------

    async def _handshake(self, request: web.Request) -> web.StreamResponse:
        shown = request.headers.get("Authorization")
        who = self._who(shown.removeprefix("Bearer ")) if shown else None
        if shown and who is None:
            return web.json_response({"detail": "the token is not good"}, status=401)
        offered = () if "forgets-subprotocols" in self.broken else (SUBPROTOCOL,)
        socket = web.WebSocketResponse(
            protocols=offered,
            heartbeat=None if "keeps-the-dead" in self.broken else HEARTBEAT_S,
            max_msg_size=0 if "takes-anything" in self.broken else LARGEST,
        )
        if (name := request.headers.get("X-Request-Id")) and "drops-headers" not in self.broken:
            socket.headers["X-Request-Id"] = name
        await socket.prepare(request)
        who = who or await self._authenticated(socket)
        if who is None:
            await socket.close(code=UNWELCOME, message=b"no good token in time")
        else:
            await self._serve(socket, *who)
        return socket

    def _who(self, token: Any) -> tuple[str, str] | None:
        """Return (tenant, user) of a token `tenant/user/secret`."""
        parts = str(token).split("/")
        is_good = len(parts) == 3 and all(parts) and (parts[2] == SECRET or "lets-anyone-in" in self.broken)
        return (parts[0], parts[1]) if is_good else None

    async def _authenticated(self, socket: web.WebSocketResponse) -> tuple[str, str] | None:
        """Return who shows a token in the first frame, in time."""
        try:
            async with asyncio.timeout(None if "waits-for-ever" in self.broken else AUTH_S):
                message = await socket.receive()
        except TimeoutError:
            return None
        frame = _object(message.data) if message.type == WSMsgType.TEXT else None
        return self._who(frame.get("token")) if frame and frame.get("type") == "auth" else None

    # -- being there -----------------------------------------------------------------------

    async def _serve(self, socket: web.WebSocketResponse, tenant: str, user: str) -> None:
        async def say(frame: Frame) -> None:
            with contextlib.suppress(ConnectionError):  # who is gone is told when they come back
                await socket.send_str(json.dumps(frame))

        self._clients += 1
        await say({"type": "welcome", "tenant": tenant, "user": user})
        await self._hub.enter(tenant, user, say)
        try:
            async for message in socket:
                frame = _object(message.data) if message.type == WSMsgType.TEXT else None
                if frame is None and "takes-offence" in self.broken and str(message.data).startswith("{"):
                    await socket.close(code=WSCloseCode.INTERNAL_ERROR)
                    return
                await self._delay(is_alone=len(self._hub.tenants[tenant].users) == 1)
                answer = await self._answer(tenant, user, frame)
                if answer is not None:
                    await say(answer)
        finally:
            self._clients -= 1
            self._hub.leave(tenant, user, say)

    async def _answer(self, tenant: str, user: str, frame: Frame | None) -> Frame | None:
        kind = frame.get("type") if frame else None
        if frame is None or kind not in ("ping", "send", "confirm", "history", "search", "dead"):
            return {"type": "error", "code": "bad_frame"}
        if kind == "ping":
            return None if "ignores-pings" in self.broken else {"type": "pong", "n": frame.get("n")}
        if kind == "send":
            return await self._hub.take(tenant, user, frame)
        if kind == "confirm":
            self._hub.confirm(tenant, user, frame)
            return None
        found = {
            "history": lambda: self._hub.history(tenant, user, frame.get("thread")),
            "search": lambda: self._hub.found(tenant, user, str(frame.get("text", ""))),
            "dead": lambda: self._hub.dead(tenant, user),
        }
        return {"type": kind, "messages": found[kind]()}

    async def _delay(self, *, is_alone: bool) -> None:
        """Take the time that a broken hub takes."""
        self._frames += 1
        if "takes-turns" in self.broken and self._clients == 1:
            await asyncio.sleep(0.01)
        if "crowded" in self.broken and self._clients > 5:
            async with self._turn:
                await asyncio.sleep(0.01)
        before, self._last_at = self._last_at, time.monotonic()
        is_calm = is_alone and self._last_at - before > 0.01
        if "stumbles" in self.broken and is_calm and self._frames % 3 == 0:
            await asyncio.sleep(0.3)
        if "crammed" in self.broken and self._clients > 20:
            await asyncio.sleep(0.25)


def _object(text: str) -> Frame | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
