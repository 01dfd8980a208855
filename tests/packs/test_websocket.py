"""The `websocket` pack against its example hub, sound and broken."""

import pytest

from examples.websocket.server import HubServer
from examples.websocket.switches import SWITCHES
from testing.packs.documents import find
from tests.endpoints.conftest import Caller
from tests.packs.harness import Mutation, RunPack, Served, hold_to_table
from tests.peers.foreign import node
from tests.servers.ports import free_port

ALL = tuple(case.name for case in find("websocket").suite.cases if not case.load)
MUTATIONS = (
    Mutation("down", ALL, "no answer: connect"),
    Mutation("forgets-subprotocols", ("establishes",), "headers.sec-websocket-protocol is not there"),
    Mutation("drops-headers", ("carries-headers",), "headers.x-request-id is not there"),
    Mutation("lets-anyone-in", ("asks-for-a-token",), "status: expected 401, got 101"),
    Mutation("waits-for-ever", ("waits-for-a-token-no-longer-than-it-must",), "the peer did not end it"),
    Mutation("mixes-tenants", ("keeps-tenants-apart",), "messages: "),
    Mutation("leaks", ("keeps-users-apart",), "messages: "),
    Mutation("skips-somebody", ("tells-everybody",), "0 of 1 messages"),
    Mutation("overtakes", ("keeps-the-order-of-a-thread",), "messages.$[*].text[0]"),
    Mutation("ignores-pings", ("answers-heartbeats",), "0 of 1 messages"),
    Mutation("keeps-the-dead", ("lets-go-of-the-dead",), "the peer did not end it"),
    Mutation("forgets-the-absent", ("keeps-what-comes-while-away", "sends-the-urgent-first"), "1 of 2 messages"),
    Mutation("ignores-confirmations", ("sends-once-what-is-confirmed",), "messages: "),
    Mutation("never-gives-up", ("gives-up-in-the-end",), "messages.-1.messages"),
    Mutation("never-retries", ("sends-again-what-is-not-confirmed", "gives-up-in-the-end"), "1 of 2 messages"),
    Mutation("ignores-priority", ("sends-the-urgent-first",), "messages.$[?@.text].text[0]"),
    Mutation("forgets", ("remembers-and-finds", "searches-what-is-ones-own"), ".messages[*].id"),
    Mutation("finds-everything", ("searches-what-is-ones-own",), ".messages[*].id"),
    Mutation("takes-offence", ("survives-nonsense",), "0 of 3 messages"),
    Mutation("takes-anything", ("refuses-what-is-too-big-and-goes-on",), "the peer did not end it"),
    Mutation("takes-turns", ("takes-500-a-second-from-one-client",), "throughput value", alone=True),
    Mutation("crowded", ("takes-200-a-second-from-many",), "throughput value", alone=True),
    Mutation("stumbles", ("answers-quickly",), "latency.service", alone=True),
    Mutation("crammed", ("answers-30-users-as-quickly",), "latency.service mean", alone=True),
)


QUICK = {"patience": "1500ms", "quiet": "450ms", "lets_go": "3s"}


def hub(admin: Caller, port: int) -> None:
    place = {"system": "hub", "protocol": "ws", "host": "127.0.0.1", "port": port, "path": "/hub"}
    assert admin("POST", "systems/", {"slug": "hub", "name": "Hub"}).status == 201
    assert admin("POST", "endpoints/", place).status == 201


def test_the_pack_fails_in_the_right_case(run_pack: RunPack, admin: Caller) -> None:
    """Against a sound hub it passes; broken in one way, exactly the cases that are there to see it fail."""
    with Served(HubServer(free_port())) as served:
        hub(admin, served.server.port)
        hold_to_table(run_pack, "websocket", served, SWITCHES, MUTATIONS, quick=QUICK, at_once=True, are_quick=True)


def test_the_pack_passes_against_a_foreign_hub(run_pack: RunPack, admin: Caller) -> None:
    """Node.js and its `ws`: nothing of it was written with ours in mind."""
    with node("hub.js", "ws") as port:
        hub(admin, port)
        done = run_pack("websocket")

    assert (done.code, done.not_passed) == (0, {}), done.out


@pytest.mark.long
def test_each_row_comes_out_by_itself(run_pack: RunPack, admin: Caller) -> None:
    """The same with one thing broken at a time, those that make it slow included."""
    with Served(HubServer(free_port())) as served:
        hub(admin, served.server.port)
        hold_to_table(run_pack, "websocket", served, SWITCHES, MUTATIONS, quick=QUICK)
