"""Everything the web process serves: the hot intake in front, Django and its sockets behind."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402  (Django must be set up before)
from channels.routing import URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.conf import settings  # noqa: E402

from controlplane.heads import QUICK, Heads  # noqa: E402
from endpoints.edge.bodies import BodyGate  # noqa: E402
from endpoints.edge.places import Places  # noqa: E402
from messaging import consumers  # noqa: E402
from messaging.gateway.application import Gateway  # noqa: E402
from messaging.gateway.streams import Tail  # noqa: E402
from messaging.intake.counter import Intake  # noqa: E402
from messaging.intake.http import HttpIntake, is_intake  # noqa: E402
from messaging.intake.writer import Writer  # noqa: E402
from messaging.listening.hooks import HookIntake, is_hook  # noqa: E402
from messaging.outcome import outcome_of  # noqa: E402
from messaging.pulling.desk import Desk  # noqa: E402
from messaging.pulling.http import PullDoor, is_pulling  # noqa: E402
from messaging.services.processes import settle  # noqa: E402
from messaging.services.waiting import Waiter  # noqa: E402
from messaging.wakeups import DUE, Notifier  # noqa: E402
from testing.services import imports  # noqa: E402

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Any], Awaitable[None]]

websocket_application = AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(consumers.urlpatterns)))


def _places(kind: str) -> Places:
    env = settings.ENV
    return Places(kind, per_address=env.connections_per_address, per_caller=env.connections_per_key)


class Application:
    """One ASGI application; its lifespan owns the group-commit writer, those who wait for outcomes, and the tail."""

    def __init__(self) -> None:
        self._writer = Writer(on_commit=Notifier(DUE).notify)
        self._waiter = Waiter(outcome_of)
        self._tail = Tail()
        self._pages = BodyGate(django_application, larger={"/api/v1/runs/import/": imports.MAX_BYTES})
        intake = Intake(self._writer)
        self._sockets, polls = _places("WebSockets"), _places("waiting calls")
        self._intake = HttpIntake(intake, self._waiter, polls)
        self._gateway = Gateway(intake, self._tail, self._sockets, settings.ENV.lease_s)
        self._desk = Desk()
        self._pulling = PullDoor(self._desk, polls)
        self._hooks = HookIntake(intake)

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        if is_intake(scope):
            await self._intake(scope, receive, send)
        elif is_pulling(scope):
            await self._pulling(scope, receive, send)
        elif is_hook(scope):
            await self._hooks(scope, receive, send)
        elif scope["type"] == "http":
            await self._pages(scope, receive, send)
        elif self._gateway.serves(scope):
            await self._gateway(scope, receive, send)
        elif scope["type"] == "websocket" and not consumers.serves(scope):
            await consumers.nowhere(scope, receive, send)
        elif scope["type"] == "websocket":
            await websocket_application({**scope, "tail": self._tail, "places": self._sockets}, receive, send)
        elif scope["type"] == "lifespan":
            scope["state"][QUICK] = Heads(self._intake.prepare)
            await self._live(receive, send)

    async def let_go(self) -> None:
        """Answer those who wait for something to fetch, and what the gateway took: we are about to stop."""
        self._desk.let_go()
        await self._gateway.drain()

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start with the server and end with it: what was accepted by then is stored."""
        await receive()
        self._writer.start()
        await self._waiter.open()
        await self._tail.open()
        self._gateway.open()
        await self._desk.open()
        settle()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._gateway.aclose()
        self._writer.stop()
        await self._desk.aclose()
        await self._hooks.aclose()
        await self._waiter.aclose()
        await self._tail.aclose()
        await send({"type": "lifespan.shutdown.complete"})


application = Application()
