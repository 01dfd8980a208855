"""The `agent-events` pack against its example server, sound and broken, and against a foreign one."""

import pytest

from examples.agent_events.server import AgentEventsServer
from examples.agent_events.switches import SWITCHES
from tests.endpoints.conftest import Caller
from tests.packs.harness import Mutation, RunPack, Served, hold_to_table
from tests.peers.foreign import node
from tests.servers.ports import free_port
from tests.testing.conftest import register

FINISHING = (
    *("tells-everything", "tells-failures", "keeps-order", "tells-each-user-their-own", "obeys-no-stranger"),
    *("runs-several-agents-at-once", "can-be-interrupted", "goes-on-where-it-was", "loses-nothing-in-a-cut"),
    *("sends-no-more-than-credit", "survives-nonsense"),
)
THINKING = (
    *("tells-everything", "keeps-order", "tells-each-user-their-own", "runs-several-agents-at-once"),
    *("goes-on-where-it-was", "loses-nothing-in-a-cut", "sends-no-more-than-credit"),
)
MUTATIONS = (
    Mutation("down", ("greets", *FINISHING), "no answer: connect"),
    Mutation("forgets-to-finish", FINISHING, "none of 5 messages fits"),
    Mutation("thinks-silently", THINKING, "messages.$[?@.run].type"),
    Mutation("tells-backwards", ("keeps-order", "goes-on-where-it-was"), "messages.$[?@.tool].type[2]"),
    Mutation("mistakes-users", ("tells-each-user-their-own",), "messages.$[*].user"),
    Mutation("obeys-strangers", ("obeys-no-stranger",), "no answer: timeout, none of 1 messages fits"),
    Mutation("one-at-a-time", ("runs-several-agents-at-once",), "4 of 10 messages"),
    Mutation("mixes-agents", ("runs-several-agents-at-once",), ".agent"),
    Mutation("cannot-stop", ("can-be-interrupted", "goes-on-where-it-was"), "none of 0 messages fits"),
    Mutation("forgets-runs", ("goes-on-where-it-was",), "none of"),
    Mutation("does-it-again", ("goes-on-where-it-was",), "messages.$[*].type"),
    Mutation("loses-while-away", ("loses-nothing-in-a-cut",), "none of 1 messages fits"),
    Mutation("tells-twice", ("loses-nothing-in-a-cut",), "messages.$[?@.run].seq"),
    Mutation("floods", ("sends-no-more-than-credit",), "messages.$[*].type"),
    Mutation("stalls", ("sends-no-more-than-credit",), "0 of 3 messages"),
    Mutation("hides-failures", ("tells-failures",), "expected 'failed', got 'ok'"),
    Mutation("takes-offence", ("survives-nonsense",), "none of"),
)


def test_the_pack_fails_in_the_right_case(run_pack: RunPack, admin: Caller) -> None:
    """Against a sound server it passes; broken, exactly the cases that are there to see it fail."""
    hold(run_pack, admin, at_once=True)


@pytest.mark.long
def test_each_row_comes_out_by_itself(run_pack: RunPack, admin: Caller) -> None:
    """The same with one thing broken at a time."""
    hold(run_pack, admin, at_once=False)


def hold(run_pack: RunPack, admin: Caller, *, at_once: bool) -> None:
    with Served(AgentEventsServer(free_port())) as served:
        register(admin, "agents", f"ws://127.0.0.1:{served.server.port}")
        hold_to_table(
            run_pack,
            "agent-events",
            served,
            SWITCHES,
            MUTATIONS,
            "--system=events=agents",
            quick={"patience": "700ms", "quiet": "100ms"},
            at_once=at_once,
        )


def test_the_pack_passes_against_a_foreign_server(run_pack: RunPack, admin: Caller) -> None:
    """Node.js and its `ws`, written from the page of the pack alone."""
    with node("agent_events.js", "ws") as port:
        register(admin, "agent-events", f"ws://127.0.0.1:{port}")
        done = run_pack("agent-events")

    assert (done.code, done.not_passed) == (0, {}), done.out
