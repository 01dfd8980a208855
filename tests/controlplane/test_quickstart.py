"""`up --example` as a newcomer starts it: a company that sends, receives, breaks and heals by itself."""

import json
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import requests

from endpoints.transports import TRANSPORTS
from examples.quickstart.company import COMPANY
from examples.quickstart.peers import PEERS
from tests.stack import Stack

READY_S = 60
STOP_S = 10
# The secure ones are the same with a certificate, which an example should not ask anybody to trust.
# Databases are asked by suites, and take no messages.
NOT_IN_IT = {"memory", "https", "wss", "tls", "postgresql", "redis"}


@pytest.fixture
def database_url(sqlite_databases: Any) -> Any:
    """The example is for the first start, which is on SQLite."""
    with sqlite_databases.fresh() as url:
        yield url


def peers_of(stack: Stack) -> str:
    """Return the address of the example's receivers, as it was printed."""
    stack.wait_for(lambda: "quickstart: receivers at " in stack.log("up"), READY_S, "the receivers' address")
    return stack.log("up").partition("quickstart: receivers at ")[2].split()[0].rstrip("/")


def held_by_its_breaker(stack: Stack, system: str) -> bool:
    """Say whether something waits behind the open breaker of a system."""
    found = stack.api("GET", f"/api/v1/deliveries/?system={system}&state=pending&reason=breaker").json()
    return bool(found["results"])


def test_the_example_moves_messages_breaks_heals_and_stops(make_stack: Callable[..., Stack]) -> None:
    """As the first page tells it: delivered, retried, held by the breaker, healed, healthy; nothing is left behind."""
    stack = make_stack()
    pid = stack.start("up", "--example")
    peers = peers_of(stack)
    delivered = "SELECT count(*) FROM messaging_delivery WHERE state = 'delivered'"
    stack.wait_for(lambda: stack.sql(delivered)[0][0] >= 5, READY_S, "five of its messages delivered")

    assert requests.post(f"{peers}/erp/break", timeout=10).ok
    sent = stack.command("send", "webshop", "erp", "--payload", '{"order": "4711"}', "--wait", "4")
    assert "retrying" in sent.stdout, (sent.stdout, sent.stderr)
    ten = [{"source_system": "webshop", "target_system": "erp", "payload": {"order": str(n)}} for n in range(10)]
    assert stack.api("POST", "/api/v1/messages/", json=ten).json()["accepted"] == 10
    stack.wait_for(lambda: held_by_its_breaker(stack, "erp"), READY_S, "the breaker to hold what waits for erp")
    assert requests.post(f"{peers}/erp/heal", timeout=10).ok
    mine = (
        "SELECT d.state FROM messaging_delivery d JOIN messaging_searchkey k ON k.message_id = d.message_id"
        " JOIN endpoints_system s ON s.id = d.system_id WHERE k.value = '4711' AND s.slug = 'erp'"
        " ORDER BY d.message_id DESC LIMIT 1"
    )
    stack.wait_for(lambda: stack.sql(mine) == [("delivered",)], READY_S, "the retry after the healing")
    status = stack.command("status", "--json")
    assert (status.returncode, json.loads(status.stdout)["state"]) == (0, "healthy"), status.stdout

    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert stack.terminate("up", STOP_S) == 0
    assert not [process for process in family if process.is_running()]


def test_the_example_has_a_peer_over_every_built_in_protocol(make_stack: Callable[..., Stack]) -> None:
    """Each of them gets what is sent to it; the one that fetches says that it is there."""
    stack = make_stack()
    stack.start("up", "--example")
    peers_of(stack)
    known = "SELECT count(*) FROM endpoints_endpoint"
    doors = [(party.slug, door) for party in COMPANY for door in party.doors]
    stack.wait_for(lambda: stack.sql(known)[0][0] == len(doors), READY_S, "all of its endpoints registered")
    one_of_each = {door.protocol: f"{slug}/{door.interface}" for slug, door in doors if not door.fails_every}
    for protocol, target in one_of_each.items():
        sent = stack.command("send", "webshop", target, "--payload", '{"order": "4711"}', "--wait", "30")
        assert "delivered" in sent.stdout, (protocol, sent.stdout, sent.stderr)

    seen = "SELECT count(*) FROM endpoints_system WHERE slug = 'warehouse' AND last_seen_at IS NOT NULL"
    stack.wait_for(lambda: stack.sql(seen) == [(1,)], READY_S, "its heartbeat")
    built_in = {name for name in TRANSPORTS if name not in NOT_IN_IT}
    assert set(one_of_each) == set(PEERS) == built_in
    assert stack.terminate("up", STOP_S) == 0
