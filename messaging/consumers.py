"""Live pages: numbers pushed once a second while somebody looks, read once a second for all who look; and streams."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from importlib import import_module
from typing import Any

import orjson
import structlog
from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from django.contrib.auth.models import User
from django.db import Error as DatabaseError
from django.urls import path
from django.utils import timezone

from endpoints.access.authenticate import principal_of_user
from endpoints.access.principal import Principal
from endpoints.edge import strict_json
from endpoints.edge.places import Place, address_of
from endpoints.errors import ControlPlaneError, LimitExceeded, Malformed
from messaging import panels
from messaging.gateway.outgoing import Outgoing
from messaging.gateway.streams import Frame, Subscriptions

EVERY_S = 1.0
REST = 4  # a reading that takes long is repeated the more seldom: at most a fifth of the time is spent reading
MOST_FRAME = 16 * 1024  # characters that a page may say at once
CHECK_EVERY_S = 2.0  # whether the viewer may still look: a line that may not is closed within 5 s
CLOSE_S = 1.0  # how long a page has to take what we close its line with
UNAUTHENTICATED, FORBIDDEN, SLOW, FAILED, FULL = 4401, 4403, 4408, 1011, 1013
CHANGED = 1012  # it may look, and sees something else now: the page connects anew

log = structlog.get_logger(__name__)


class Snapshots:
    """The panels by team, at most one reading a second of each however many look."""

    def __init__(self, read: Callable[[Principal], dict[str, str]]) -> None:
        self._read = read
        self._kept: dict[Any, tuple[float, dict[str, str]]] = {}
        self._locks: dict[Any, asyncio.Lock] = {}
        self._viewers = 0

    async def of(self, principal: Principal) -> dict[str, str]:
        """Return panels as this principal may see them, no older than a second unless reading them takes long."""
        key = (asyncio.get_running_loop(), principal.team_ids)
        async with self._locks.setdefault(key, asyncio.Lock()):
            next_at, kept = self._kept.get(key, (float("-inf"), {}))
            started = time.monotonic()
            if started >= next_at:
                kept = await database_sync_to_async(self._read)(principal)
                took_s = time.monotonic() - started
                self._kept[key] = (started + max(EVERY_S * 0.9, took_s * (1 + REST)), kept)
            return kept

    def enter(self) -> None:
        """Count one who looks."""
        self._viewers += 1

    def leave(self) -> None:
        """Count one less, and drop everything once nobody looks."""
        self._viewers -= 1
        if self._viewers == 0:
            self._kept.clear()
            self._locks.clear()


def read_panels(principal: Principal) -> dict[str, str]:
    return panels.dashboard(principal, timezone.now())


snapshots = Snapshots(read_panels)


class PageConsumer(AsyncJsonWebsocketConsumer):
    """The line of one open page; its session says who looks, and is asked again for as long as the line is open."""

    place: Place | None = None
    tasks: tuple[asyncio.Task[None], ...] = ()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the line; however it ends, nothing of it is left: who breaks off is not said to disconnect."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.place is not None:
                self.place.leave()
            if self.tasks:
                await self.end()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    async def connect(self) -> None:
        """Accept first: a refusal before it would reach the page as a bare HTTP 403, without its code."""
        await self.accept()
        try:
            self.place = self.scope["places"].enter(address_of(self.scope))
            principal = await self.principal()
            if principal is None:
                await self.close(code=UNAUTHENTICATED)
                return
            self.place.belong_to(principal)
        except LimitExceeded as exc:
            await self.close(code=FULL, reason=exc.detail)
            return
        except DatabaseError as exc:
            await self._fail(exc)
            return
        work = await self.begin(principal)
        self.tasks = tuple(asyncio.create_task(each) for each in (*work, self._check(principal)))

    async def begin(self, principal: Principal) -> list[Coroutine[Any, Any, None]]:
        """Serve `principal`; return what is to run for as long as the line is open."""
        raise NotImplementedError

    async def end(self) -> None:
        """Serve no more."""

    def is_slow(self) -> bool:
        """Say whether the page does not read what it is sent."""
        return False

    async def principal(self) -> Principal | None:
        """Return who looks, as the database knows them now; None for nobody, or no member of the staff.

        The session is read anew: who signed out, or has another password, has none any more.
        """
        key = self.scope["session"].session_key
        stored = import_module(settings.SESSION_ENGINE).SessionStore(key) if key else None
        user = await get_user({"session": stored}) if stored is not None else None
        return await _principal_of(user) if isinstance(user, User) and user.is_staff else None

    async def _check(self, principal: Principal) -> None:
        """Close the line once who looks may not any more, or may see something else."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            if self.is_slow():
                await self._cut(SLOW)
                return
            try:
                current = await self.principal()
            except DatabaseError as exc:
                await self._fail(exc)
                return
            if current != principal:
                await self._cut(FORBIDDEN if current is None else CHANGED)
                return

    async def _fail(self, error: DatabaseError) -> None:
        log.warning("live_line_failed", error=str(error))
        await self._cut(FAILED)

    async def _cut(self, code: int) -> None:
        """Close, also when the page takes nothing."""
        line = self.scope.get("extensions", {}).get("controlplane.line", {})
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.close(code=code)
        except TimeoutError:
            if "cut" in line:
                line["cut"](code, "")


@database_sync_to_async
def _principal_of(user: User) -> Principal | None:
    try:
        return principal_of_user(user)
    except ControlPlaneError:
        return None


class LiveConsumer(PageConsumer):
    """One open dashboard. Sends `{"panels": {name: html}}` with the panels that changed."""

    async def begin(self, principal: Principal) -> list[Coroutine[Any, Any, None]]:
        snapshots.enter()
        return [self._push(principal)]

    async def end(self) -> None:
        snapshots.leave()

    async def receive(self, text_data: Any = None, bytes_data: Any = None, **kwargs: Any) -> None:
        """Take anything and say nothing back: pages only listen, and what is no JSON must not break the line."""

    async def _push(self, principal: Principal) -> None:
        """Push until the page leaves; a line that cannot go on is closed, so that the page opens a new one."""
        shown: dict[str, str] = {}
        try:
            while True:
                found = await snapshots.of(principal)
                changed = {name: html for name, html in found.items() if shown.get(name) != html}
                await self.send_json({"panels": changed})
                shown = found
                await asyncio.sleep(EVERY_S)
        except DatabaseError as exc:
            await self._fail(exc)


class StreamConsumer(PageConsumer):
    """One open page of an event stream: the frames of the gateway's streams, of messages without their payloads."""

    streams: Subscriptions | None = None
    outgoing: Outgoing | None = None

    async def begin(self, principal: Principal) -> list[Coroutine[Any, Any, None]]:
        tail = self.scope.get("tail")
        if tail is None:  # a server that does not tell its applications when it starts
            await self.close(code=FAILED)
        else:
            self.outgoing = Outgoing(self._put, lambda: None)
            self.streams = Subscriptions(tail, principal, self._tell, self.outgoing, with_payload=False)
        return []

    async def end(self) -> None:
        if self.streams is not None:
            await self.streams.aclose()
        if self.outgoing is not None:
            await self.outgoing.aclose()

    def is_slow(self) -> bool:
        return self.outgoing is not None and self.outgoing.is_slow(time.monotonic())

    async def receive(self, text_data: str | None = None, bytes_data: Any = None, **kwargs: Any) -> None:
        """Do what a frame asks for; what is wrong with it is said, and the line goes on."""
        if self.streams is None:
            return
        frame: Any = {}
        try:
            frame = _read_frame(text_data)
            await _asked_of(self.streams, frame.get("type"))(frame)
        except ControlPlaneError as exc:
            id = frame.get("id") if isinstance(frame, dict) else None
            await self._tell({"type": "error", "id": id, "code": exc.code, "detail": exc.detail})

    async def _tell(self, frame: Frame) -> None:
        """Queue a frame once there is room: no page of the past is held while this line is full."""
        assert self.outgoing is not None
        await self.outgoing.room()
        self.outgoing.push(orjson.dumps(frame))

    async def _put(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


def _read_frame(text: str | None) -> Frame:
    if text is None or len(text) > MOST_FRAME:
        raise Malformed(f"a frame must be JSON text of at most {MOST_FRAME} characters")
    frame = strict_json.parse(text.encode())
    if not isinstance(frame, dict):
        raise Malformed("a frame must be a JSON object")
    return frame


def _asked_of(streams: Subscriptions, kind: object) -> Callable[[Frame], Awaitable[None]]:
    asked = {"subscribe": streams.subscribe, "unsubscribe": streams.unsubscribe, "credit": streams.credit}
    if not isinstance(kind, str) or kind not in asked:
        raise Malformed(f"type: must be one of {', '.join(asked)}")
    return asked[kind]


async def nowhere(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Refuse a line of any other path with 404, where the server can say so before it accepts."""
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "websocket.http.response.body", "body": b""})


PAGES = {"ws/v1/live/": LiveConsumer, "ws/v1/live/stream/": StreamConsumer}
urlpatterns = [path(place, consumer.as_asgi()) for place, consumer in PAGES.items()]


def serves(scope: Mapping[str, Any]) -> bool:
    """Say whether a socket is for a page here."""
    return scope["path"].removeprefix("/") in PAGES
