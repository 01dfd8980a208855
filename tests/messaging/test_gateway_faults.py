"""What goes wrong at the gateway costs one frame, one lot or one round: never what goes on for long."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import Group
from django.db import connection as database
from structlog.testing import capture_logs

from endpoints.access import authenticate
from endpoints.access.principal import Principal
from endpoints.edge.places import Places
from endpoints.models import ApiKey
from endpoints.transports.conformance import address, outgoing
from endpoints.transports.gateway import SEATS, GatewayTransport, Seat
from messaging.gateway import application, behind, delivering
from messaging.gateway.application import Gateway
from messaging.gateway.closing import Code
from messaging.gateway.connection import Connection
from messaging.gateway.delivering import ClientWorker, Delivering
from messaging.gateway.outgoing import FULL_BYTES, Outgoing
from messaging.gateway.sends import Sends
from messaging.gateway.streams import Tail
from messaging.intake.counter import HandedIn, Intake
from messaging.intake.writer import Writer
from messaging.models import Presence
from tests.messaging.factories import make_key, make_message, make_system, make_team
from tests.messaging.streaming import PATIENCE_S, eventually, opened_tail, reading

pytestmark = pytest.mark.django_db(transaction=True)

Event = dict[str, Any]
PLACES = Places("WebSockets", per_address=100, per_caller=100)
in_thread = database_sync_to_async


@pytest.fixture
def intake() -> Iterator[Intake]:
    writer = Writer(on_commit=lambda: None)
    writer.start()
    yield Intake(writer)
    writer.stop()


class Line:
    """The server's side of one socket, as ASGI has it."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[Event] = asyncio.Queue()
        self.heard: asyncio.Queue[Event] = asyncio.Queue()
        self.said.put_nowait({"type": "websocket.connect"})
        self.on_gone: Callable[[], object] = lambda: None

    async def receive(self) -> Event:
        event = await self.said.get()
        if event["type"] == "websocket.disconnect":
            self.on_gone()
        return event

    async def send(self, event: Event) -> None:
        self.heard.put_nowait(event)

    def scope(self, key: str) -> Event:
        return {
            "type": "websocket",
            "path": application.PATH,
            "headers": [(b"authorization", f"Bearer {key}".encode())],
        }

    def say(self, **frame: Any) -> None:
        self.said.put_nowait({"type": "websocket.receive", "text": orjson.dumps(frame).decode()})

    async def hear(self) -> Event:
        """Return the next frame, or the event that ends the line."""
        async with asyncio.timeout(PATIENCE_S):
            event = await self.heard.get()
            while event["type"] == "websocket.accept":
                event = await self.heard.get()
        return dict(orjson.loads(event["text"])) if "text" in event else event


@asynccontextmanager
async def connected(key: str, intake: Intake, tail: Tail) -> AsyncIterator[tuple[Line, Connection]]:
    line = Line()
    connection = Connection(line.scope(key), line.receive, line.send, intake, tail, PLACES)
    running = asyncio.create_task(connection.run())
    try:
        yield line, connection
        line.said.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def rename(table: str, name: str) -> None:
    with database.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {name}")


@asynccontextmanager
async def without(table: str) -> AsyncIterator[None]:
    """Let every question to a table fail, as the database may at any time."""
    await in_thread(rename)(table, "away")
    try:
        yield
    finally:
        await in_thread(rename)("away", table)


# --- one client's line ---------------------------------------------------------


async def test_what_is_queued_is_counted_as_it_is_taken_away() -> None:
    """In bytes, both times: text beyond ASCII must not fill the queue for good."""
    told: asyncio.Queue[Event] = asyncio.Queue()
    queued = Outgoing(told.put, lambda: None)
    for _ in range(4):
        queued.push(("ü" * (FULL_BYTES // 4)).encode())
        async with asyncio.timeout(PATIENCE_S):
            await told.get()

    assert not queued.is_full


async def test_room_is_news_only_after_there_was_none() -> None:
    """Each time all that is due is looked at: a client that only sends, and gets its answers, must not cause that."""
    told: asyncio.Queue[Event] = asyncio.Queue()
    news: list[int] = []
    queued = Outgoing(told.put, lambda: news.append(told.qsize()))

    async def push(frames: int, body: bytes) -> None:
        for _ in range(frames):
            queued.push(body)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(frames):
                await told.get()

    await push(20, b"{}")
    assert news == []
    await push(2, b" " * (FULL_BYTES - 10))
    assert len(news) == 1
    await push(20, b"{}")
    assert len(news) == 1


async def test_a_line_that_is_to_end_while_it_ends_is_cleaned_up_all_the_same(intake: Intake) -> None:
    """The client leaves, and in the same moment it is found that it may not be here any more."""
    key = await in_thread(make_key)("operator")
    async with opened_tail() as tail, connected(key, intake, tail) as (line, connection):
        line.say(type="subscribe", id="left")
        assert [(await line.hear())["type"] for _ in range(2)] == ["ready", "subscribed"]
        loop = asyncio.get_running_loop()
        line.on_gone = lambda: loop.call_soon(connection.end, Code.FORBIDDEN, "revoked")
    assert [task for task in asyncio.all_tasks() if task.get_name() == "stream left"] == []


async def test_naming_a_system_while_the_database_is_away_is_an_error_of_that_frame(intake: Intake) -> None:
    key = await in_thread(make_key)("operator")
    await in_thread(make_system)("late")
    async with opened_tail() as tail, connected(key, intake, tail) as (line, _):
        assert await line.hear() == {"type": "ready", "system": None}
        async with without("endpoints_system"):
            line.say(type="auth", ref="a", system="late")
            refused = await line.hear()
        line.say(type="auth", ref="b", system="late")

        assert (refused["type"], refused["ref"], refused["code"]) == ("error", "a", "database_down")
        assert await line.hear() == {"type": "ready", "system": "late"}


# --- what clients send ---------------------------------------------------------


async def told_by(heard: "asyncio.Queue[bytes]") -> Event:
    async with asyncio.timeout(PATIENCE_S):
        return dict(orjson.loads(await heard.get()))


async def test_each_lot_is_handed_in_with_what_its_sender_may_by_then(intake: Intake) -> None:
    """A key that lost its team while it sends gets nothing more in with it."""
    team: Group = await in_thread(make_team)("red")
    await in_thread(make_system)("red-one", owner=team)
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    sends = Sends(intake, heard.put_nowait)
    member = Principal("key:red", "operator", team_ids=frozenset({team.pk}))
    sends.add("1", {"payload": 1}, 1, member, "red-one")
    assert (await told_by(heard))["type"] == "ack"
    for _ in range(600):  # more than one lot
        sends.add("2", {"payload": 1}, 1, member, "red-one")
    sends.add("3", {"payload": 1}, 1, Principal("key:red", "operator", team_ids=frozenset()), "red-one")
    told = [await told_by(heard) for _ in range(601)]
    await sends.aclose()

    assert (told[-1]["ref"], told[-1]["type"]) == ("3", "nack")


class Faulty(Intake):
    """One with a bug, that shows once."""

    is_broken = True

    async def hand_in(self, *arguments: Any, **options: Any) -> HandedIn:
        if self.is_broken:
            self.is_broken = False
            raise RuntimeError("a bug")
        return await super().hand_in(*arguments, **options)


async def test_a_bug_costs_one_lot_and_not_all_that_a_client_sends_from_then_on() -> None:
    await in_thread(make_system)("shop")
    writer = Writer(on_commit=lambda: None)
    writer.start()
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    sends = Sends(Faulty(writer), heard.put_nowait)
    sender = Principal("key:all", "operator")
    sends.add("1", {"payload": 1}, 1, sender, "shop")
    first = await told_by(heard)
    sends.add("2", {"payload": 1}, 1, sender, "shop")
    second = await told_by(heard)
    await sends.aclose()
    await in_thread(writer.stop)()

    assert (first["ref"], first["type"], first["code"]) == ("1", "nack", "internal")
    assert (second["ref"], second["type"]) == ("2", "ack")


@pytest.mark.parametrize(
    ("message", "role", "named"),
    [
        ({"message_id": "m-1", "payload": 1, "ttl": "soon"}, "operator", "m-1"),
        ({**{f"no_field_{number}": 1 for number in range(20)}, "message_id": "m-1"}, "operator", "m-1"),
        ({"message_id": "m-1", "payload": 1, "target_system": "nowhere"}, "operator", "m-1"),
        ({"message_id": "m-1", "payload": 1}, "viewer", "m-1"),
        ({"message_id": "a/b", "payload": 1}, "operator", None),
        ({"message_id": 7, "payload": 1}, "operator", None),
        ({"payload": 1, "ttl": "soon"}, "operator", None),
        ("m-1", "operator", None),
    ],
)
async def test_a_refusal_names_the_message_wherever_its_id_can_be_read(
    intake: Intake, message: Any, role: str, named: str | None
) -> None:
    """Whatever else is wrong with it: a client that sends no `ref` knows which of its messages was refused."""
    key = await in_thread(make_key)("operator")
    await in_thread(make_system)("shop")
    async with opened_tail() as tail, connected(key, intake, tail) as (line, connection):
        line.say(type="auth", system="shop")
        assert [(await line.hear())["type"] for _ in range(2)] == ["ready", "ready"]
        assert connection.caller is not None
        connection.caller = replace(connection.caller, principal=replace(connection.caller.principal, role=role))
        line.say(type="send", message=message)
        told = await line.hear()

    assert (told["type"], told["message_id"]) == ("nack", named)


# --- what looks after all of them ----------------------------------------------


async def test_the_look_out_for_those_who_may_not_be_here_survives_a_bug(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "PACE_S", 0.05)
    monkeypatch.setattr(application, "LOOK_UP_S", 0.05)
    ask, faults = application.states_of, [RuntimeError("a bug")]

    async def states_of(*arguments: Any) -> Any:
        if faults:
            raise faults.pop()
        return await ask(*arguments)

    monkeypatch.setattr(application, "states_of", states_of)
    key = await in_thread(make_key)("operator")
    line = Line()
    async with opened_tail() as tail:
        gateway = Gateway(intake, tail, PLACES, lease_s=5)
        serving = asyncio.create_task(gateway(line.scope(key), line.receive, line.send))
        assert (await line.hear())["type"] == "ready"
        await eventually(lambda: not faults)
        await in_thread(ApiKey.objects.all().delete)()
        authenticate.forget_all()
        told = await line.hear()
        await serving
        await gateway.aclose()

    assert (told["type"], told["code"]) == ("websocket.close", Code.FORBIDDEN)


async def test_a_client_whose_role_ends_keeps_no_seat_and_gets_one_with_its_role(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may still be connected, as a viewer: it is sent no deliveries any more, and its line goes on."""
    monkeypatch.setattr(application, "PACE_S", 0.05)
    monkeypatch.setattr(application, "LOOK_UP_S", 0.05)
    system = await in_thread(make_system)("erp")
    key = await in_thread(make_key)("operator", system=system)
    line = Line()

    async def becomes(role: str) -> None:
        await in_thread(ApiKey.objects.update)(role=role)
        authenticate.forget_all()

    async with opened_tail() as tail:
        gateway = Gateway(intake, tail, PLACES, lease_s=5)
        serving = asyncio.create_task(gateway(line.scope(key), line.receive, line.send))
        assert (await line.hear())["type"] == "ready"
        assert SEATS.present() == {system.pk: {""}}
        await becomes("viewer")
        await eventually(lambda: not SEATS.present())
        line.say(type="ping")
        assert (await line.hear())["type"] == "pong"
        await becomes("operator")
        await eventually(lambda: SEATS.present() == {system.pk: {""}})
        line.said.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await serving
        await gateway.aclose()
        SEATS.take_gone()


async def test_tokens_are_read_again_only_when_something_of_theirs_changed(
    intake: Intake, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of them cost three queries a round; a team that is gone, or is called otherwise, ends the line."""
    monkeypatch.setattr(application, "PACE_S", 0.05)
    monkeypatch.setattr(application, "LOOK_UP_S", 0.05)
    settings.ENV = replace(settings.ENV, jwt_key="s" * 32, jwt_algorithms=["HS256"])
    team = await in_thread(make_team)("red")
    claims = {"sub": "anna", "roles": ["viewer"], "team": "red", "exp": time.time() + 600}
    token = jwt.encode(claims, "s" * 32, "HS256")
    ask, rounds = application.states_of, []

    async def states_of(*arguments: Any) -> Any:
        rounds.append(arguments)
        return await ask(*arguments)

    monkeypatch.setattr(application, "states_of", states_of)
    line = Line()
    async with opened_tail() as tail:
        gateway = Gateway(intake, tail, PLACES, lease_s=5)
        serving = asyncio.create_task(gateway(line.scope(token), line.receive, line.send))
        assert (await line.hear())["type"] == "ready"
        await eventually(lambda: len(rounds) > 2)
        authenticate.forget_all()
        seen = len(rounds)
        await eventually(lambda: len(rounds) > seen + 2)
        assert authenticate.remembered(token) is None
        await in_thread(Group.objects.filter(pk=team.pk).update)(name="blue")
        told = await line.hear()
        await serving
        await gateway.aclose()

    assert (told["type"], told["code"]) == ("websocket.close", Code.FORBIDDEN)


async def test_the_tail_goes_on_after_what_nobody_expected(settings: Any, tmp_path: Path) -> None:
    """Here: no place to listen for hints, until there is one."""
    settings.VAR_DIR = tmp_path
    (tmp_path / "run").write_text("in the way")
    async with opened_tail() as tail, reading(tail) as reader:
        await reader.subscribe(after=None)
        sent = await in_thread(make_message)()
        (tmp_path / "run").unlink()

        assert await reader.got(1) == [sent.message_id]


async def test_those_who_take_nothing_do_not_keep_others_from_catching_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many hang as pages may be in memory at once: none of them holds one while it waits for room."""
    monkeypatch.setattr(behind, "AT_ONCE", 2)
    ids = [(await in_thread(make_message)()).message_id for _ in range(30)]
    async with opened_tail() as tail, reading(tail) as one, reading(tail) as two, reading(tail) as third:
        for slow in (one, two):
            slow.block_at = 6  # in the middle of a page
            await slow.subscribe()
            assert await slow.got(5) == ids[:5]
        await third.subscribe()
        assert await third.got(30) == ids
        for slow in (one, two):
            slow.unblock()
            assert await slow.got(30) == ids


# --- deliveries ----------------------------------------------------------------


@contextmanager
def seated(system_id: int, slug: str, push: Callable[[bytes], None]) -> Iterator[Seat]:
    seat = Seat(system_id, slug, "", push, is_full=lambda: False)
    SEATS.enter(seat)
    try:
        yield seat
    finally:
        SEATS.leave(seat)
        SEATS.take_gone()


async def test_a_message_that_fits_no_frame_costs_its_client_no_credit() -> None:
    transport = GatewayTransport(address(protocol="gateway", host=""))
    await transport.open()
    with seated(1, "erp", lambda frame: None) as seat:
        with pytest.raises(TypeError):
            await transport.send(outgoing(headers={"x-half": "\ud800"}))

        assert (seat.free, seat.pending) == (seat.credit, {})


async def test_who_is_here_is_said_again_at_once_when_it_could_not_be_said() -> None:
    """Not only when it is due again, a third of a lease later."""
    system = await in_thread(make_system)("erp")
    with seated(system.pk, "erp", lambda frame: None):
        worker = ClientWorker(lease_s=300)
        async with without("messaging_presence"):
            running = asyncio.create_task(worker.run())
            with capture_logs() as logged:
                await eventually(lambda: any(line.get("call") == "announce" for line in logged))
        async with asyncio.timeout(PATIENCE_S):
            while not await in_thread(Presence.objects.exists)():  # noqa: ASYNC110  (the database says nothing itself)
                await asyncio.sleep(0.05)
        worker.stop()
        await running


async def test_a_worker_that_stops_leaves_the_process_its_patience_with_the_database() -> None:
    """One of a web process stops whenever nobody is connected; only who ends the process is in a hurry."""
    pool = getattr(database, "pool", None)
    seen = (pool.timeout, pool.reconnect_timeout) if pool else dict(database.settings_dict["OPTIONS"])
    worker = ClientWorker(lease_s=5)
    worker.stop()
    await worker.run()

    assert seen == ((pool.timeout, pool.reconnect_timeout) if pool else database.settings_dict["OPTIONS"])


async def test_a_worker_that_cannot_even_begin_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody who is connected gets anything until the process starts anew."""
    begun: list[float] = []

    def begin(lease_s: float) -> ClientWorker:
        begun.append(lease_s)
        if len(begun) == 1:
            raise OSError("too many open files")
        return ClientWorker(lease_s)

    monkeypatch.setattr(delivering, "ClientWorker", begin)
    monkeypatch.setattr(delivering, "AGAIN_S", 0.01)
    system = await in_thread(make_system)("erp")
    keeper = Delivering(lease_s=5)
    keeper.open()
    with seated(system.pk, "erp", lambda frame: None):
        SEATS.on_change()
        await eventually(lambda: len(begun) == 2)
        await keeper.aclose()
