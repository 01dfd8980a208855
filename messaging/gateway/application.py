"""`/ws/v1/gateway/`: where systems' own clients connect, send, and get their deliveries. A bare ASGI application."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import structlog
from django.db import Error as DatabaseError

from endpoints.edge.places import Places
from messaging.gateway.connection import Connection, Event, Receive, Send
from messaging.gateway.delivering import Delivering
from messaging.gateway.streams import Tail
from messaging.gateway.watching import states_of
from messaging.intake.counter import Intake

log = structlog.get_logger(__name__)

PATH = "/ws/v1/gateway/"
PACE_S = 1.0
DRAIN_S = 8.0  # a little more than one connection takes at most
LOOK_UP_S = 2.5  # with the memory of callers and a look-up well within the promised 5 s


class Gateway:
    """All connections of this process, and the look-out for those that must end. Nothing runs while there are none."""

    def __init__(self, intake: Intake, tail: Tail, places: Places, lease_s: float) -> None:
        self._intake, self._tail, self._places = intake, tail, places
        self._delivering = Delivering(lease_s)
        self._connections: dict[Connection, asyncio.Task[Any] | None] = {}
        self._watching: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin with the server."""
        self._delivering.open()

    def serves(self, scope: Mapping[str, Any]) -> bool:
        return scope["type"] == "websocket" and scope["path"] in (PATH, PATH.rstrip("/"))

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        connection = Connection(scope, receive, send, self._intake, self._tail, self._places)
        self._connections[connection] = asyncio.current_task()
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="gateway-watch")
        try:
            await connection.run()
        finally:
            self._connections.pop(connection)

    async def drain(self) -> None:
        """End every connection; return once what they sent is answered, or it took too long."""
        if ending := [task for connection, task in self._connections.items() if connection.stop() and task]:
            await asyncio.wait(ending, timeout=DRAIN_S)

    async def aclose(self) -> None:
        """Deliver and watch no more; connections end with the server."""
        await self._delivering.aclose()
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    async def _watch(self) -> None:
        looked_at = time.monotonic()
        try:
            while self._connections:
                await asyncio.sleep(PACE_S)
                now = time.monotonic()
                try:
                    for connection in list(self._connections):
                        connection.check_pace(now)
                    if now - looked_at >= LOOK_UP_S:
                        looked_at = now
                        await self._look_again()
                except Exception:
                    log.exception("gateway_watch_failed")  # the next round looks again
        finally:
            self._watching = None

    async def _look_again(self) -> None:
        """Close the connections whose callers may not be here any more."""
        callers = [connection.caller for connection in self._connections if connection.caller]
        try:
            stored = await states_of(
                {caller.principal.key_id for caller in callers if caller.principal.key_id},
                {caller.party.id for caller in callers if caller.party},
                {team for caller in callers for team in caller.principal.team_ids or ()},
            )
        except DatabaseError as exc:
            log.warning("gateway_callers_not_looked_up", error=str(exc))
            return
        await asyncio.gather(*(connection.look_again(stored) for connection in list(self._connections)))
