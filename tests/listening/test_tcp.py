"""The TCP way in, by plain sockets against the real edge process."""

import json
import socket
import struct
import time
from typing import Any

import pytest

from tests.listening.clients import Line, when_open
from tests.listening.conftest import Ways


def body(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"message_id": f"m-{number}", "payload": {"n": number}, **fields}


@pytest.fixture
def port(ways: Ways, request: pytest.FixtureRequest) -> int:
    """Return the port of a listener that speaks our envelope, by lines; one for all tests of an engine."""
    if not hasattr(ways, "line_port"):
        ways.line_port = ways.listener("lines", kind="tcp")["port"]  # type: ignore[attr-defined]
    return int(ways.line_port)  # type: ignore[attr-defined]


def sender(ways: Ways, slug: str) -> str:
    """Return a key that speaks as a new system."""
    ways.register(slug)
    return ways.key("operator", system=slug)


@pytest.mark.parametrize("framing", ["line", "length"])
def test_messages_are_acknowledged_once_they_are_stored(ways: Ways, framing: str) -> None:
    """Each answer names its message and carries its `ref`; what is acknowledged is in the table."""
    token = sender(ways, f"shop-{framing}")
    at = ways.listener(f"tcp-{framing}", kind="tcp", framing=framing)["port"]
    client = Line(at, token, framing=framing)
    assert client.ready == {"type": "ready", "system": f"shop-{framing}"}

    client.send(body(1, ref="a"), body(2, ref="b"), body(1, ref="c"), {"message_id": "m-4", "ref": "d", "typo": 1})
    answers = {answer["ref"]: answer for answer in (client.read() for _ in range(4))}

    assert [answers[ref]["type"] for ref in "abcd"] == ["ack", "ack", "ack", "nack"]
    assert [answers[ref]["status"] for ref in "abc"] == ["accepted", "accepted", "duplicate"]
    assert answers["d"]["code"] == "invalid"
    assert ways.payloads(f"shop-{framing}") == [b'{"n":1}', b'{"n":2}']


def test_messages_may_come_right_behind_the_token(ways: Ways, port: int) -> None:
    """A file piped into a socket is one burst: token, messages, end. All of it is answered before we close."""
    token = sender(ways, "pipe")
    client = Line(port)
    client.send({"type": "auth", "token": token}, *(body(n, payload="x" * 20_000) for n in range(20)))
    client.socket.shutdown(socket.SHUT_WR)

    answers = [json.loads(line) for line in client.read_all().splitlines()]

    assert [answer["type"] for answer in answers] == ["ready", *["ack"] * 20]
    assert len(ways.payloads("pipe")) == 20


def test_a_connection_keeps_its_order(ways: Ways, port: int) -> None:
    """Thousands in flight at once are stored in the order they were sent."""
    client = Line(port, sender(ways, "ordered"))
    client.send(*({"payload": n} for n in range(5000)))
    for _ in range(5000):
        assert client.read()["type"] == "ack"

    assert ways.payloads("ordered") == [str(n).encode() for n in range(5000)]


BAD_FIRST = {
    "no key": (b'{"type":"auth","token":"cp_0_x"}\n', b"unauthenticated"),
    "no auth": (b'{"message_id":"m"}\n', b"unauthenticated"),
    "no JSON": (b"hello\n", b"unauthenticated"),
    "too much before the token": (b"x" * 9000, b"too_big"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"400 Bad Request"),
    "TLS": (bytes.fromhex("16030100c8010000c40303") + b"\0" * 32, b"\x15\x03\x03\x00\x02\x02"),
}


@pytest.mark.parametrize("kind", BAD_FIRST)
def test_strangers_are_told_and_closed(ways: Ways, port: int, kind: str) -> None:
    """Whoever is not known gets one clear answer in what it speaks, and a closed connection."""
    data, told = BAD_FIRST[kind]
    client = Line(port)
    client.raw(data)

    assert told in client.read_all()


BAD_FRAMES = {
    "length too large": ("length", (2_000_000_000).to_bytes(4, "big"), "bad_length"),
    "length over the cap": ("length", (40_000_000).to_bytes(4, "big"), "too_big"),
    "no delimiter": ("line", b"x" * 2_000_000, "too_big"),
}


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_a_frame_that_cannot_be_read_ends_the_connection_after_its_answers(ways: Ways, kind: str) -> None:
    """What came before the bad frame is stored and answered; the reason is told and shown."""
    framing, data, code = BAD_FRAMES[kind]
    slug = kind.replace(" ", "-")
    token = sender(ways, slug)
    client = Line(ways.listener(slug, kind="tcp", framing=framing)["port"], token, framing=framing)
    client.send(body(1))
    client.raw(data)
    answers = client.read_to_end()

    assert sorted(answer["type"] for answer in answers) == ["ack", "error"]
    assert code in {answer.get("code") for answer in answers}
    ways.wait_for(lambda: code in {one["code"] for one in ways.seen(slug)["refusals"]}, 10, "the refusal shown")
    assert len(ways.payloads(slug)) == 1


def test_no_frame_may_be_longer_than_what_any_system_may_send(ways: Ways) -> None:
    """A key of no system speaks for any of them: to parse 25 MiB for one that may send 1 would hold up all others."""
    ways.register("longest")
    client = Line(ways.listener("longest", kind="tcp", framing="length")["port"], ways.key(), framing="length")
    client.send({**body(1), "source_system": "longest"})
    client.raw((1024 * 1024 * 3 // 2 + 1).to_bytes(4, "big"))

    assert {answer.get("code") for answer in client.read_to_end()} == {None, "too_big"}


def test_bad_json_in_a_good_frame_is_one_nack(ways: Ways, port: int) -> None:
    """A frame that is no message costs that message alone."""
    client = Line(port, sender(ways, "typos"))
    for bad in (b"{", b'{"a":1,"a":2}', b"[]", b"\xff\xfe", b'"\\ud800"', b"[" * 100_000, b""):
        client.raw(bad + b"\n")
    client.send(body(1))

    assert [client.read()["type"] for _ in range(8)] == [*["nack"] * 7, "ack"]


def test_what_is_refused_is_named_by_its_id_where_it_has_one(ways: Ways, port: int) -> None:
    """A sender without a `ref` knows which of its messages was not taken, whatever else was wrong with it."""
    client = Line(port, sender(ways, "named"))
    client.send({**body(1), "message_id": "o-1", "priority": "urgentest"}, {**body(2), "message_id": ["o-2"]})

    assert [(one["type"], one["message_id"]) for one in (client.read(), client.read())] == [
        ("nack", "o-1"),
        ("nack", None),
    ]


def test_a_reset_connection_loses_only_its_answers(ways: Ways, port: int) -> None:
    """RST in the middle of things: the process lives, and others do not notice."""
    token = sender(ways, "resets")
    for number in range(20):
        client = Line(port, token)
        client.send(*(body(number * 100 + n) for n in range(50)))
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    client = Line(port, token)
    client.send(body(99_999))

    assert client.read()["type"] == "ack"
    ways.wait_for(lambda: ways.seen("lines")["connections"] <= 1, 10, "the others gone")


def test_a_revoked_key_closes_its_connections_within_5_s(ways: Ways, port: int) -> None:
    """Also one that says nothing; the connections of other keys stay."""
    ways.register("revoked")
    made = ways.api("POST", "keys/", json={"name": "gone", "role": "operator", "system": "revoked"}).json()
    client, other = Line(port, made["key"]), Line(port, sender(ways, "stays"))
    assert ways.api("POST", f"keys/{made['id']}/revoke/").status_code == 200
    revoked_at = time.monotonic()

    assert client.read()["code"] == "unauthenticated"
    with pytest.raises(EOFError):
        client.read()
    assert time.monotonic() - revoked_at < 5
    other.send(body(1))
    assert other.read()["type"] == "ack"


def test_a_viewer_may_not_send(ways: Ways, port: int) -> None:
    """Roles hold here as over REST: refused before the first message."""
    client = Line(port)
    client.send({"type": "auth", "token": ways.key("viewer")})

    assert client.read()["code"] == "forbidden"


def test_other_teams_systems_do_not_exist(ways: Ways, port: int) -> None:
    """A key of one team cannot speak as a system of another, nor learn that it is there."""
    owner, other = f"red-{time.time_ns()}", f"blue-{time.time_ns()}"
    from tests.listening.teams import make_team  # the teams are made where people make them

    make_team(ways, owner), make_team(ways, other)
    ways.register("reds-own", system_fields={"owner": owner})
    client = Line(port, ways.key("operator", team=other))
    client.send(body(1, source_system="reds-own"))

    assert client.read()["code"] == "unknown_system"


def test_deadlines_hold(ways: Ways) -> None:
    """A silent stranger, a dripping frame and an idle sender are each closed at their time, and told why."""
    token = sender(ways, "slow-ones")
    options = ("--auth-timeout", "1", "--frame-timeout", "2", "--idle-timeout", "4", "--slow-timeout", "2")
    from tests.servers.ports import free_port

    at = free_port()
    ways.start("listen_tcp", "--port", str(at), *options, name="deadlines")
    when_open(at)
    silent, dripping, idle = Line(at), Line(at, token), Line(at, token)
    begun = time.monotonic()
    assert silent.read()["code"] == "auth_timeout"
    assert time.monotonic() - begun < 3.5
    dripping.socket.settimeout(0.5)
    dripped = time.monotonic()
    while True:  # one byte, and then one more: a frame has its time from its first byte on
        try:
            dripping.raw(b" ")
            told = dripping.read()
            break
        except TimeoutError:
            assert time.monotonic() - dripped < 6
    assert told["code"] == "too_slow"
    assert idle.read()["code"] == "idle"
    assert time.monotonic() - begun < 8


def test_who_never_reads_its_answers_is_not_read_either(ways: Ways, port: int) -> None:
    """Answers that pile up stop the reading, then end the connection; nothing that was stored is lost."""
    client = Line(port, sender(ways, "deaf"))
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.socket.settimeout(40)
    line = json.dumps({"payload": 1, "ref": "r" * 60}).encode() + b"\n"
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        client.raw(line * 1_000_000)

    ways.wait_for(lambda: "slow" in {one["code"] for one in ways.seen("lines")["refusals"]}, 10, "the refusal shown")


def test_a_listener_is_followed_without_a_restart(ways: Ways) -> None:
    """Disable closes it and its connections, enable opens it, a new port moves it, each within 2 s or so."""
    from tests.servers.ports import free_port

    token = sender(ways, "follower")
    made = ways.listener("moving", kind="tcp")
    client = Line(made["port"], token)
    ways.api("POST", "listeners/moving/disable/", json={})
    with pytest.raises(EOFError):
        client.read()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", made["port"]), timeout=2)
    ways.api("POST", "listeners/moving/enable/", json={})
    when_open(made["port"])
    moved = free_port()
    assert ways.api("PATCH", "listeners/moving/", json={"port": moved}).status_code == 200
    when_open(moved)

    assert Line(moved, token).ready["type"] == "ready"


def test_a_port_in_use_is_told_and_tried_again(ways: Ways) -> None:
    """The row and `status` say so; once the port is free it is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        made = ways.api("POST", "listeners/", json={"slug": "taken", "kind": "tcp", "port": port})
        assert made.status_code == 201
        ways.wait_for(lambda: ways.seen("taken")["state"] == "failed", 10, "the failure")
        assert "in use" in ways.seen("taken")["problem"]
        status = ways.api("GET", "/api/health").json()
        assert any("listener taken is not open" in reason for reason in status["reasons"])
    ways.wait_for(lambda: ways.seen("taken")["state"] == "open", 15, "it being opened")
