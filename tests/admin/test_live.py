"""The live line of the dashboard: who may listen, what is pushed, and that many listeners cost one reading."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.db import database_sync_to_async
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import Client

from endpoints.access.principal import Principal
from endpoints.edge.places import Places, address_of
from endpoints.models import AuditEntry, Membership
from messaging import consumers
from messaging.gateway import behind
from messaging.gateway.streams import Tail
from tests.messaging.streaming import opened_tail, reading

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.flaky(reruns=1)]  # clocks and threads
APPLICATION = AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(consumers.urlpatterns)))
Signed = Callable[..., Client]


def line(
    client: Client | None,
    origin: str = "http://127.0.0.1",
    *,
    path: str = "/ws/v1/live/",
    tail: Tail | None = None,
    places: Places | None = None,
) -> WebsocketCommunicator:
    """Return a socket as a page of `client` would open it."""
    cookies = client.cookies.output(header="", sep=";").strip() if client else ""
    headers = [(b"origin", origin.encode()), (b"host", b"127.0.0.1"), (b"cookie", cookies.encode())]
    socket = WebsocketCommunicator(APPLICATION, path, headers=headers)
    socket.scope |= {"tail": tail, "places": places or Places("WebSockets", per_address=100, per_caller=100)}
    return socket


async def test_a_viewer_is_sent_every_panel_at_once(world: Any, sign_in: Signed) -> None:
    client = await database_sync_to_async(sign_in)("viewer", "Finance")
    socket = line(client)
    assert (await socket.connect(timeout=30))[0]
    pushed = json.loads(await socket.receive_from(timeout=30))
    await socket.disconnect(timeout=30)

    assert "answer" in pushed["panels"]
    assert "billing" in pushed["panels"]["slowest"]
    assert "crm/main" not in pushed["panels"]["slowest"]


async def test_a_stranger_is_closed_with_4401() -> None:
    socket = line(None)
    assert (await socket.connect(timeout=30))[0]

    assert await socket.receive_output(timeout=30) == {"type": "websocket.close", "code": 4401}


async def test_a_foreign_page_gets_no_line(sign_in: Signed) -> None:
    """A page of another site carries the cookie too; its Origin tells."""
    client = await database_sync_to_async(sign_in)("viewer")

    assert (await line(client, origin="http://evil.example").connect(timeout=30))[0] is False


async def test_what_a_page_says_does_not_break_its_line(world: Any, sign_in: Signed) -> None:
    """Neither text that is no JSON nor bytes end the line, or leave its pusher running without one."""
    client = await database_sync_to_async(sign_in)("superuser")
    socket = line(client)
    await socket.connect(timeout=30)
    await socket.receive_from(timeout=30)
    await socket.send_to(text_data="no JSON")
    await socket.send_to(bytes_data=b"\xff")

    assert "panels" in json.loads(await socket.receive_from(timeout=30))
    await socket.disconnect(timeout=30)


async def test_a_person_switched_off_is_closed(world: Any, sign_in: Signed) -> None:
    client = await database_sync_to_async(sign_in)("superuser")
    socket = line(client)
    await socket.connect(timeout=30)
    await socket.receive_from(timeout=30)
    await database_sync_to_async(User.objects.update)(is_active=False)

    async with asyncio.timeout(60):
        while (event := await socket.receive_output(timeout=30))["type"] != "websocket.close":
            pass
    assert event["code"] == 4403


PATHS = ["/ws/v1/live/", "/ws/v1/live/stream/"]


async def closing(socket: WebsocketCommunicator) -> dict[str, Any]:
    """Return the event that closes the line, whatever is said before."""
    async with asyncio.timeout(60):
        while (event := await socket.receive_output(timeout=30))["type"] != "websocket.close":
            pass
    return dict(event)


async def serve(socket: WebsocketCommunicator, path: str) -> None:
    """Connect, and await what the line says first: from then on it knows who looks."""
    assert (await socket.connect(timeout=30))[0]
    if path == PATHS[1]:
        await socket.send_to(text_data='{"type":"subscribe","id":"s","after":"start","credit":1}')
    await socket.receive_from(timeout=30)


@pytest.mark.parametrize("path", PATHS)
async def test_a_line_ends_with_the_session_it_was_opened_in(world: Any, sign_in: Signed, path: str) -> None:
    """Within the 5 s that a socket outlives its rights at most: here it is asked for every two."""
    client = await database_sync_to_async(sign_in)("superuser")
    async with opened_tail() as tail:
        socket = line(client, path=path, tail=tail)
        await serve(socket, path)
        await database_sync_to_async(client.logout)()

        assert (await closing(socket))["code"] == 4403


@pytest.mark.parametrize("path", PATHS)
async def test_a_line_is_opened_anew_with_another_role(world: Any, sign_in: Signed, path: str) -> None:
    """1012: the page connects again, and gets what it may see now."""
    client = await database_sync_to_async(sign_in)("admin", "Finance")
    async with opened_tail() as tail:
        socket = line(client, path=path, tail=tail)
        await serve(socket, path)
        await database_sync_to_async(Membership.objects.update)(role="viewer")

        assert (await closing(socket))["code"] == 1012


async def test_a_person_has_no_more_lines_than_it_may(world: Any, sign_in: Signed) -> None:
    client = await database_sync_to_async(sign_in)("superuser")
    places = Places("WebSockets", per_address=10, per_caller=1)
    async with opened_tail() as tail:
        one, two = (line(client, path=PATHS[1], tail=tail, places=places) for _ in range(2))
        assert (await one.connect(timeout=30))[0]
        await one.send_to(text_data='{"type":"subscribe","id":"s","after":"start","credit":1}')
        assert json.loads(await one.receive_from(timeout=30))["type"] == "subscribed"
        assert (await two.connect(timeout=30))[0]
        refused = await closing(two)
        await two.disconnect(timeout=30)
        await one.disconnect(timeout=30)
        again = line(client, path=PATHS[0], places=places)
        assert (await again.connect(timeout=30))[0]

        assert (refused["code"], "superuser" in refused["reason"]) == (1013, False)
        assert "panels" in json.loads(await again.receive_from(timeout=30))
        await again.disconnect(timeout=30)


async def test_a_line_that_breaks_while_it_is_refused_gives_its_place_back() -> None:
    """The next one from there finds it free."""
    places = Places("WebSockets", per_address=1, per_caller=1)
    scope = line(None, places=places).scope
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    said.put_nowait({"type": "websocket.connect"})

    async def send(event: dict[str, Any]) -> None:
        if event["type"] == "websocket.close":
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await APPLICATION(scope, said.get, send)

    places.enter(address_of(scope)).leave()


# --- the line of the stream's page ---------------------------------------------


async def test_the_stream_of_a_page_holds_what_its_visitor_may_see_without_payloads(
    world: Any, sign_in: Signed
) -> None:
    """Errors are said and the line goes on; nobody's reading of payloads is on the record, since there are none."""
    client = await database_sync_to_async(sign_in)("operator", "Commerce")
    async with opened_tail() as tail:
        socket = line(client, path="/ws/v1/live/stream/", tail=tail)
        assert (await socket.connect(timeout=30))[0]
        for frame, code in (("no JSON", "malformed"), ("[]", "malformed"), ('{"type":"send"}', "malformed")):
            await socket.send_to(text_data=frame)
            assert json.loads(await socket.receive_from(timeout=30))["code"] == code
        await socket.send_to(bytes_data=b"\xff")
        assert json.loads(await socket.receive_from(timeout=30))["type"] == "error"
        await socket.send_to(text_data='{"type":"subscribe","id":"s","after":"start","credit":5}')
        told = [json.loads(await socket.receive_from(timeout=30)) for _ in range(6)]
        await socket.disconnect(timeout=30)

    assert [frame["type"] for frame in told] == ["subscribed", *["event"] * 5]
    assert {frame["message"]["source_system"] for frame in told[1:]} == {"shop"}
    assert all("payload" not in frame["message"] for frame in told[1:])
    assert not await AuditEntry.objects.filter(action="stream_payloads").aexists()


async def test_the_stream_of_a_page_is_closed_to_strangers_foreign_pages_and_those_switched_off(
    sign_in: Signed,
) -> None:
    client = await database_sync_to_async(sign_in)("viewer")
    path = "/ws/v1/live/stream/"
    async with opened_tail() as tail:
        stranger = line(None, path=path, tail=tail)
        assert (await stranger.connect(timeout=30))[0]
        assert await stranger.receive_output(timeout=30) == {"type": "websocket.close", "code": 4401}
        assert (await line(client, "http://evil.example", path=path, tail=tail).connect(timeout=30))[0] is False
        socket = line(client, path=path, tail=tail)
        await socket.connect(timeout=30)
        await database_sync_to_async(User.objects.update)(is_active=False)
        assert await socket.receive_output(timeout=30) == {"type": "websocket.close", "code": 4403}


async def test_a_page_that_takes_nothing_keeps_nobody_from_catching_up(
    world: Any, sign_in: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of the past in memory are few: none is held while one line is full. Here there is one."""
    monkeypatch.setattr(behind, "AT_ONCE", 1)
    client = await database_sync_to_async(sign_in)("superuser")
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    told: list[dict[str, Any]] = []
    is_stuck = asyncio.Event()

    async def take_some(event: dict[str, Any]) -> None:
        told.append(event)
        if len(told) > 5:
            is_stuck.set()
            await asyncio.get_running_loop().create_future()

    async with opened_tail() as tail, reading(tail) as other:
        scope = line(client, path=PATHS[1], tail=tail).scope
        serving = asyncio.create_task(APPLICATION(scope, said.get, take_some))
        said.put_nowait({"type": "websocket.connect"})
        said.put_nowait(
            {"type": "websocket.receive", "text": '{"type":"subscribe","id":"s","after":"start","credit":50}'}
        )
        async with asyncio.timeout(60):
            await is_stuck.wait()
        await other.subscribe()
        found = await other.got(50)
        said.put_nowait({"type": "websocket.disconnect", "code": 1000})
        async with asyncio.timeout(60):
            await asyncio.gather(serving, return_exceptions=True)

    assert len(found) >= 50


async def test_many_listeners_cost_one_reading_a_second() -> None:
    """Each team's panels are read once, however many of it look; another team's are read apart."""
    read: list[Any] = []

    def reading(principal: Principal) -> dict[str, str]:
        read.append(principal.team_ids)
        return {"answer": str(principal.team_ids)}

    snapshots = consumers.Snapshots(reading)
    mine, theirs = (Principal(label="user:x", role="viewer", team_ids=frozenset({team})) for team in (1, 2))
    found = await asyncio.gather(*(snapshots.of(who) for who in [mine] * 20 + [theirs]))

    assert sorted(map(sorted, read)) == [[1], [2]]
    assert found[0] != found[-1]
