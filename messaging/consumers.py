"""Live pages: numbers pushed once a second while somebody looks, read once a second for all who look; and streams."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth import get_user_model
from django.db import Error as DatabaseError
from django.urls import path
from django.utils import timezone

from endpoints.access.authenticate import principal_of_user
from endpoints.access.principal import Principal
from endpoints.edge import strict_json
from endpoints.errors import ControlPlaneError, Malformed
from messaging import panels
from messaging.gateway.streams import Frame, Subscriptions

EVERY_S = 1.0
REST = 4  # a reading that takes long is repeated the more seldom: at most a fifth of the time is spent reading
MOST_FRAME = 16 * 1024  # characters that a page may say at once
CHECK_EVERY = 5  # pushes between two looks at whether the viewer may still look
UNAUTHENTICATED, FORBIDDEN, FAILED = 4401, 4403, 1011

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
    """The line of one open page; its session says who looks."""

    @database_sync_to_async
    def principal(self) -> Principal | None:
        """Return who looks, as the database knows them now; None for nobody, or no member of the staff."""
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            return None
        current = get_user_model().objects.filter(pk=user.pk, is_active=True, is_staff=True).first()
        if current is None:
            return None
        try:
            return principal_of_user(current)
        except ControlPlaneError:
            return None


class LiveConsumer(PageConsumer):
    """One open dashboard. Sends `{"panels": {name: html}}` with the panels that changed."""

    pusher: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Accept first: a refusal before it would reach the page as a bare HTTP 403, without its code."""
        await self.accept()
        principal = await self.principal()
        if principal is None:
            await self.close(code=UNAUTHENTICATED)
            return
        snapshots.enter()
        self.pusher = asyncio.create_task(self._push(principal))

    async def disconnect(self, code: int) -> None:
        if self.pusher is None:
            return
        snapshots.leave()
        self.pusher.cancel()
        await asyncio.gather(self.pusher, return_exceptions=True)

    async def receive(self, text_data: Any = None, bytes_data: Any = None, **kwargs: Any) -> None:
        """Take anything and say nothing back: pages only listen, and what is no JSON must not break the line."""

    async def _push(self, principal: Principal) -> None:
        """Push until the page leaves; a line that cannot go on is closed, so that the page opens a new one."""
        try:
            await self._push_changes(principal)
        except DatabaseError as exc:
            log.warning("live_line_failed", error=str(exc))
            await self.close(code=FAILED)

    async def _push_changes(self, principal: Principal) -> None:
        shown: dict[str, str] = {}
        pushes = 0
        while True:
            pushes += 1
            if pushes % CHECK_EVERY == 0:
                current = await self.principal()
                if current is None or current.team_ids != principal.team_ids:
                    await self.close(code=FORBIDDEN)
                    return
            found = await snapshots.of(principal)
            changed = {name: html for name, html in found.items() if shown.get(name) != html}
            await self.send_json({"panels": changed})
            shown = found
            await asyncio.sleep(EVERY_S)


class StreamConsumer(PageConsumer):
    """One open page of an event stream: the frames of the gateway's streams, of messages without their payloads."""

    streams: Subscriptions | None = None
    checker: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Accept first, as above."""
        await self.accept()
        principal, tail = await self.principal(), self.scope.get("tail")
        if principal is None:
            await self.close(code=UNAUTHENTICATED)
        elif tail is None:  # a server that does not tell its applications when it starts
            await self.close(code=FAILED)
        else:
            self.streams = Subscriptions(tail, principal, self._tell, with_payload=False)
            self.checker = asyncio.create_task(self._check(principal))

    async def disconnect(self, code: int) -> None:
        if self.streams is not None and self.checker is not None:
            await self.streams.aclose()
            self.checker.cancel()
            await asyncio.gather(self.checker, return_exceptions=True)

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
        await self.send(text_data=orjson.dumps(frame).decode())

    async def _check(self, principal: Principal) -> None:
        """Close the line once who looks may not any more, or may see something else."""
        while True:
            await asyncio.sleep(EVERY_S * CHECK_EVERY)
            try:
                current = await self.principal()
            except DatabaseError as exc:
                log.warning("live_line_failed", error=str(exc))
                await self.close(code=FAILED)
                return
            if current != principal:
                await self.close(code=FORBIDDEN)
                return


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


urlpatterns = [
    path("ws/v1/live/", LiveConsumer.as_asgi()),
    path("ws/v1/live/stream/", StreamConsumer.as_asgi()),
]
