"""Live pages: numbers pushed once a second while somebody looks, read once a second for all who look."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth import get_user_model
from django.db import Error as DatabaseError
from django.urls import path
from django.utils import timezone

from endpoints.access.authenticate import principal_of_user
from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError
from messaging import panels

EVERY_S = 1.0
REST = 4  # a reading that takes long is repeated the more seldom: at most a fifth of the time is spent reading
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


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """One open dashboard. Sends `{"panels": {name: html}}` with the panels that changed."""

    pusher: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Accept first: a refusal before it would reach the page as a bare HTTP 403, without its code."""
        await self.accept()
        principal = await self._principal()
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
                current = await self._principal()
                if current is None or current.team_ids != principal.team_ids:
                    await self.close(code=FORBIDDEN)
                    return
            found = await snapshots.of(principal)
            changed = {name: html for name, html in found.items() if shown.get(name) != html}
            await self.send_json({"panels": changed})
            shown = found
            await asyncio.sleep(EVERY_S)

    @database_sync_to_async
    def _principal(self) -> Principal | None:
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


urlpatterns = [path("ws/v1/live/", LiveConsumer.as_asgi())]
