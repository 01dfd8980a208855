"""The `communication` pack against its example server, sound and broken."""

from examples.communication.server import SWITCHES, CommunicationServer
from tests.endpoints.conftest import Caller
from tests.packs.harness import Mutation, RunPack, Served, hold_to_table
from tests.servers.ports import free_port
from tests.testing.conftest import register

HTTP = ("http-connects", "http-is-healthy", "http-sends", "http-says-what-is-not-there")
MUTATIONS = (
    Mutation("http-down", HTTP, "no answer: connect"),
    Mutation("http-unhealthy", ("http-is-healthy",), "status: expected 200, got 503"),
    Mutation("http-health-page", ("http-is-healthy",), "got 'text/html"),
    Mutation("http-loses-digits", ("http-sends",), "body.$.n: expected 9007199254740993"),
    Mutation("http-takes-anything", ("http-says-what-is-not-there",), "status: expected 404, got 200"),
)


def test_the_pack_fails_in_the_right_case(run_pack: RunPack, admin: Caller) -> None:
    """Against a sound server it passes; broken in one way, exactly the cases that are there to see it fail."""
    with Served(CommunicationServer(free_port())) as served:
        register(admin, "communication", f"http://127.0.0.1:{served.server.port}")
        hold_to_table(run_pack, "communication", served, SWITCHES, MUTATIONS)
