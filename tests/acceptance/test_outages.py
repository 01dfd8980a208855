"""The database stops, is locked, or its disk is full: no ack is false, and all heals by itself."""

import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psutil
import pytest

from tests.acceptance.ledgers import Sender, compare, demand_balance, drain
from tests.acceptance.link import Link
from tests.acceptance.plain_server import PlainServer
from tests.servers.answers import HANG, Answer
from tests.servers.http import HttpReceiver
from tests.servers.nginx import Nginx
from tests.servers.postgres import FULL_AT, Postgres
from tests.stack import STOP_S, Databases, Stack

pytestmark = pytest.mark.timeout(600)
OUTAGES, DOWN_S = 2, 4.0
IN_FLIGHT = 16  # of an endpoint, by default
DURABLE_S = 1.0  # PostgreSQL writes what nobody waits for within three times `wal_writer_delay`, 0.6 s
WRITES_S = 11.0  # longer than a connection is waited for otherwise
Outage = Callable[[Stack], Any]  # a context manager: the outage lasts as long as it is entered


@contextmanager
def locked(stack: Stack) -> Iterator[None]:
    """Keep SQLite's one write lock to ourselves."""
    connection = sqlite3.connect(stack.database_url.removeprefix("sqlite:///"), timeout=20, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


@contextmanager
def without_disk(stack: Stack) -> Iterator[None]:
    """Let no file of our own processes grow: to SQLite within them the disk is full."""
    running = [psutil.Process(process.pid) for process in stack.processes.values()]
    for process in running:
        process.rlimit(psutil.RLIMIT_FSIZE, (4096, psutil.RLIM_INFINITY))
    try:
        yield
    finally:
        for process in running:
            process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="module")
def own_databases(own_postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    folder = tmp_path_factory.mktemp("own")
    with closing(Databases(folder, own_postgres.url, folder)) as databases:
        yield databases


# One server for all of them: they stay in one test process.
own = pytest.param("postgresql", marks=pytest.mark.xdist_group("own-postgres"))


@pytest.fixture(params=["sqlite", own])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield a fresh database; PostgreSQL on a server that this module may break."""
    own = request.param == "postgresql"
    databases: Databases = request.getfixturevalue("own_databases" if own else "sqlite_databases")
    with databases.fresh() as url:
        yield url


@pytest.fixture
def stopped(request: pytest.FixtureRequest, database_url: str) -> Outage:
    if database_url.startswith("sqlite"):
        return locked
    server: Postgres = request.getfixturevalue("own_postgres")

    @contextmanager
    def crashed(stack: Stack) -> Iterator[None]:
        server.crash()
        try:
            yield
        finally:
            server.start()

    return crashed


@pytest.fixture
def full(request: pytest.FixtureRequest, database_url: str) -> Outage:
    if database_url.startswith("sqlite"):
        return without_disk
    server: Postgres = request.getfixturevalue("own_postgres")

    @contextmanager
    def limited(stack: Stack) -> Iterator[None]:
        server.limit(FULL_AT)
        try:
            yield
        finally:
            server.limit(None)

    return limited


@pytest.mark.parametrize("kind", ["stopped", "full"])
def test_an_outage_of_the_database_loses_nothing_and_heals(
    make_stack: Callable[..., Stack],
    plain_receiver: Nginx | PlainServer,
    request: pytest.FixtureRequest,
    kind: str,
) -> None:
    """Under load, twice: what cannot be stored is a 503 that says when to come again, and both ends' books agree."""
    outage: Outage = request.getfixturevalue(kind)
    stack = make_stack(CONTROLPLANE_LEASE_S="2")
    stack.start("web")
    stack.start("deliver")
    link = Link(stack, f"{plain_receiver.url}/in")
    sender = Sender(stack, link.source, link.target, padding=20_000)
    sender.start()
    # Claims do not wait for PostgreSQL's disk: what was sent in the second before the server crashed may be due again.
    is_crash = kind == "stopped" and stack.database_url.startswith("postgresql")
    healed, forgotten = [], 0
    for _ in range(OUTAGES):
        enough = len(sender.acknowledged) + 30
        stack.wait_for(lambda wanted=enough: len(sender.acknowledged) > wanted, what="load")
        durable = len(plain_receiver.lines())
        time.sleep(DURABLE_S)
        with outage(stack):
            time.sleep(DOWN_S)
            before = len(sender.acknowledged)
            if stack.database_url.startswith("postgresql"):
                stack.wait_for(lambda: sender.refused, what="a refusal")
            forgotten += is_crash and len(plain_receiver.lines()) - durable
        begun = time.monotonic()
        stack.wait_for(lambda wanted=before + 30: len(sender.acknowledged) > wanted, 60, "healing")
        healed.append(round(time.monotonic() - begun, 1))
    sender.finish()
    drain(stack)

    figures = compare(stack, sender.acknowledged, plain_receiver.lines(), forgotten=forgotten)
    figures |= {"healed after s": healed}
    figures |= {"refused": sum(sender.refused.values()), "unanswered": sender.unanswered}
    print(f"\n{stack.database_url.partition(':')[0]}, {kind}: {json.dumps(figures)}")
    assert set(sender.refused) <= {(503, True)}
    assert all(process.poll() is None for process in stack.processes.values()), "it was to heal by itself"
    demand_balance(stack)


@pytest.mark.parametrize("database_url", [own], indirect=True)
def test_what_cannot_be_written_down_is_not_sent(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver, stopped: Outage
) -> None:
    """Hundreds are claimed beyond what is on its way: none of them goes while the database is away.

    A crash of PostgreSQL may forget that they were claimed: each would be sent again.
    """
    http_receiver.answer(Answer(200, delay_s=0.05))
    stack = make_stack()
    stack.start("web")
    stack.start("deliver")
    link = Link(stack, http_receiver.url)
    assert stack.api("POST", "messages/", json=[link.message() for _ in range(900)]).json()["accepted"] == 900
    http_receiver.wait_for(100)
    with stopped(stack):
        begun = len(http_receiver.received)
        time.sleep(DOWN_S)
        sent = len(http_receiver.received) - begun
    drain(stack)

    assert sent <= IN_FLIGHT
    states = "SELECT state, count(*) FROM messaging_delivery GROUP BY state"
    assert [tuple(row) for row in stack.sql(states)] == [("delivered", 900)]


def test_a_stop_during_an_outage_ends_in_time(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver, stopped: Outage
) -> None:
    """Ten interfaces with sends on their way and more in hand: within 30 s, however long the database is away.

    And what a machine adds that has more to do than it can.
    """
    http_receiver.answer(HANG)
    stack = make_stack()
    stack.start("web")
    stack.start("deliver")
    links = [Link(stack, http_receiver.url, max_in_flight=2, timeout_s=60) for _ in range(10)]
    for link in links:
        assert stack.api("POST", "messages/", json=[link.message() for _ in range(20)]).json()["accepted"] == 20
    http_receiver.wait_for(20)
    with stopped(stack):
        begun = time.monotonic()
        assert stack.terminate("deliver", timeout=120) == 0
        took_s = time.monotonic() - begun

    assert took_s <= STOP_S


def test_what_ends_while_a_process_stops_is_written_when_the_database_is_back(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver, stopped: Outage
) -> None:
    """The receiver has it: a database that is away for a part of the stop costs no second send."""
    stack = make_stack()
    stack.start("web")
    stack.start("deliver")
    link = Link(stack, http_receiver.url)
    http_receiver.answer(Answer(200, delay_s=1))
    for number in range(3):
        link.send(ordering_key=str(number))  # so that a crash of the server cannot lose that they were claimed
    http_receiver.wait_for(3)
    with stopped(stack):
        stack.signal("deliver", signal.SIGTERM)
        time.sleep(WRITES_S)
    assert stack.processes.pop("deliver").wait(40) == 0

    states = "SELECT state, count(*) FROM messaging_delivery GROUP BY state"
    assert [tuple(row) for row in stack.sql(states)] == [("delivered", 3)]
