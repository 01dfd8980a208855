"""The `communication` pack against its example server, sound and broken, and against a foreign one."""

import socket
from dataclasses import dataclass

import pytest

from examples.communication.server import SWITCHES, CommunicationServer
from tests.endpoints.conftest import Caller
from tests.packs.doors import register_doors
from tests.packs.harness import Mutation, RunPack, Served, hold_to_table
from tests.peers.foreign import node
from tests.servers.ports import free_port

HTTP = ("http-connects", "http-is-healthy", "http-sends", "http-says-what-is-not-there")
WS = ("ws-connects", "ws-is-healthy", "ws-sends", "ws-broadcasts")
TCP = ("tcp-connects", "tcp-is-healthy", "tcp-sends", "tcp-broadcasts")
MUTATIONS = (
    Mutation("http-down", HTTP + WS, "no answer: connect"),
    Mutation("http-unhealthy", ("http-is-healthy",), "status: expected 200, got 503"),
    Mutation("http-health-page", ("http-is-healthy",), "got 'text/html"),
    Mutation("http-loses-digits", ("http-sends",), "body.$.n: expected 9007199254740993"),
    Mutation("http-takes-anything", ("http-says-what-is-not-there",), "status: expected 404, got 200"),
    Mutation("ws-refuses", WS, "503"),
    Mutation("ws-unhealthy", ("ws-is-healthy",), "messages.-1.status: expected 'ok', got 'failing'"),
    Mutation("ws-loses-bytes", ("ws-sends",), "messages[2]"),
    Mutation("ws-whispers", ("ws-broadcasts",), "none of 0 messages fits"),
    Mutation("tcp-down", TCP, "no answer: connect"),
    Mutation("tcp-unhealthy", ("tcp-is-healthy",), "messages.-1.status: expected 'ok', got 'failing'"),
    Mutation("tcp-merges", ("tcp-sends",), "2 of 3 messages"),
    Mutation("tcp-whispers", ("tcp-broadcasts",), "none of 0 messages fits"),
    Mutation("udp-down", ("udp-is-healthy", "udp-sends", "udp-listens"), "no answer: connect"),
    Mutation("udp-unhealthy", ("udp-is-healthy",), "messages.0.status: expected 'ok', got 'failing'"),
    Mutation("udp-cuts", ("udp-sends",), "messages.0"),
    Mutation("udp-silent", ("udp-is-healthy", "udp-sends"), "0 of 1 messages within"),
)


@dataclass
class Doors:
    port: int
    tcp_port: int
    udp_port: int


def test_the_pack_fails_in_the_right_case(run_pack: RunPack, admin: Caller) -> None:
    """Against a sound server it passes; broken in one way, exactly the cases that are there to see it fail."""
    server = CommunicationServer(free_port(), tcp_port=free_port(), udp_port=free_port(socket.SOCK_DGRAM))
    with Served(server) as served:
        register_doors(admin, "communication", server)
        hold_to_table(run_pack, "communication", served, SWITCHES, MUTATIONS, quick={"patience": "700ms"}, at_once=True)


@pytest.mark.long
def test_each_row_comes_out_by_itself(run_pack: RunPack, admin: Caller) -> None:
    """The same with one thing broken at a time."""
    server = CommunicationServer(free_port(), tcp_port=free_port(), udp_port=free_port(socket.SOCK_DGRAM))
    with Served(server) as served:
        register_doors(admin, "communication", server)
        hold_to_table(run_pack, "communication", served, SWITCHES, MUTATIONS, quick={"patience": "700ms"})


def test_the_pack_passes_against_a_foreign_server(run_pack: RunPack, admin: Caller) -> None:
    """Node.js, its `http`, `net` and `dgram`, and `ws`: nothing of it was written with ours in mind."""
    tcp_port, udp_port = free_port(), free_port(socket.SOCK_DGRAM)
    with node("communication.js", "ws", str(tcp_port), str(udp_port)) as port:
        register_doors(admin, "communication", Doors(port, tcp_port, udp_port))
        done = run_pack("communication")

    assert (done.code, done.not_passed) == (0, {}), done.out
