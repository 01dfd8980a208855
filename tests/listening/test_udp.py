"""The UDP way in: signed datagrams against the real edge process."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.holding import nothing_is_stored
from tests.listening.clients import datagram, when_open
from tests.listening.conftest import Ways
from tests.servers.ports import free_port
from tests.stack import Stack


class Sender:
    """A socket, and the listener that it sends to."""

    def __init__(self, ways: Ways, slug: str, port: int) -> None:
        self.ways, self.slug, self.port = ways, slug, port
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(10)

    def send(self, data: bytes) -> None:
        self.socket.sendto(data, ("127.0.0.1", self.port))

    def answer(self) -> bytes:
        return self.socket.recv(65536)

    def is_silent(self) -> bool:
        """Say that nothing has come by the time a later datagram, which is answered, was."""
        try:
            self.socket.settimeout(0.5)
            return not self.socket.recv(65536)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(10)

    def codes(self) -> set[str]:
        return {one["code"] for one in self.ways.seen("datagrams")["refusals"]}


@pytest.fixture
def sender(ways: Ways, request: pytest.FixtureRequest) -> Iterator[Sender]:
    """Yield a socket and a system of its own behind the one listener of an engine."""
    if not hasattr(ways, "udp_port"):
        ways.udp_port = ways.listener("datagrams", kind="udp")["port"]  # type: ignore[attr-defined]
    slug = f"udp-{time.time_ns()}"
    ways.register(slug)
    found = Sender(ways, slug, ways.udp_port)  # type: ignore[attr-defined]
    yield found
    found.socket.close()


def body(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"message_id": f"d-{number}", "payload": {"n": number}, **fields}


def test_a_signed_datagram_is_stored_and_answered_only_if_it_asks(ways: Ways, sender: Sender) -> None:
    """With `ack` it is told once it is stored; a replay is a duplicate and stored once."""
    key = ways.signing_key(sender.slug)
    signed = datagram(key, body(1), ack=True)
    for status in ("accepted", "duplicate"):
        sender.send(signed)
        assert json.loads(sender.answer()) == {"type": "ack", "message_id": "d-1", "status": status}
    sender.send(datagram(key, body(2)))
    ways.wait_for(lambda: len(ways.payloads(sender.slug)) == 2, 10, "the silent one stored")

    assert sender.is_silent()
    assert ways.payloads(sender.slug) == [b'{"n":1}', b'{"n":2}']


BAD = {
    "empty": lambda key: b"",
    "largest": lambda key: b"x" * 65_507,
    "no JSON": lambda key: b"\x00\xff",
    "deep": lambda key: b"[" * 60_000,
    "other version": lambda key: datagram(key, body(), v=2, ack=True),
    "bad mac": lambda key: datagram(key, body(), mac="00" * 32, ack=True),
    "no hex": lambda key: datagram(key, body(), mac="zz", ack=True),
    "changed body": lambda key: datagram(key, body(), body=json.dumps(body(7)), ack=True),
    "unknown key": lambda key: datagram({**key, "id": "0" * 32}, body(), ack=True),
    "no key id": lambda key: datagram({**key, "id": "\u20ac" * 50}, body(), ack=True),
    "old": lambda key: datagram(key, body(), ts=int(time.time()) - 400, ack=True),
    "from the future": lambda key: datagram(key, body(), ts=int(time.time()) + 400, ack=True),
    "unknown member": lambda key: datagram(key, body(), extra=1, ack=True),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_signed_is_never_answered(ways: Ways, sender: Sender, kind: str) -> None:
    """Nothing comes back, nothing is stored, the refusal is counted; the next good one is taken."""
    key = ways.signing_key(sender.slug)
    sender.send(BAD[kind](key))
    sender.send(datagram(key, body(1), ack=True))

    assert json.loads(sender.answer())["message_id"] == "d-1"
    assert sender.is_silent()
    assert ways.payloads(sender.slug) == [b'{"n":1}']


def test_a_signed_datagram_without_an_id_is_refused(ways: Ways, sender: Sender) -> None:
    """Without one a replay would be a second message."""
    sender.send(datagram(ways.signing_key(sender.slug), {"payload": 1}, ack=True))

    assert json.loads(sender.answer()) == {"type": "nack", "message_id": None, "code": "invalid"}


def test_no_answer_is_longer_than_what_asked_for_it(ways: Ways, sender: Sender) -> None:
    """A forged sender's address gains nothing: an answer that would be longer is left out."""
    key = ways.signing_key(sender.slug)
    signed = datagram(key, body(1, message_id="m" * 128), ack=True)
    sender.send(signed)

    assert len(sender.answer()) <= len(signed)


def test_the_time_is_signed_as_it_is_written(ways: Ways, sender: Sender) -> None:
    """A fraction of a second keeps every digit, trailing zeros too."""
    key = ways.signing_key(sender.slug)
    written = f"{int(time.time())}.500"
    data = datagram(key, body(1), ts=written, ack=True).replace(f'"{written}"'.encode(), written.encode())
    sender.send(data)

    assert json.loads(sender.answer())["type"] == "ack"


def test_two_keys_live_at_once_and_a_revoked_one_is_refused_within_a_second(ways: Ways, sender: Sender) -> None:
    """A change of keys drops nothing; a third key and a revoked one are refused."""
    old, new = ways.signing_key(sender.slug), ways.signing_key(sender.slug)
    third = ways.command("create_signing_key", sender.slug)
    for number, key in enumerate((old, new)):
        sender.send(datagram(key, body(number), ack=True))
        assert json.loads(sender.answer())["type"] == "ack"
    listed = ways.api("GET", f"systems/{sender.slug}/signing-keys/").json()["results"]
    revoked = ways.api("POST", f"systems/{sender.slug}/signing-keys/{old['id']}/revoke/", json={})
    revoked_at = time.monotonic()

    assert third.returncode == 2
    assert {row["id"] for row in listed} == {old["id"], new["id"]}
    assert revoked.status_code == 200
    ways.wait_for(lambda: _is_refused(sender, old), 3, "the refusal")
    assert time.monotonic() - revoked_at < 3
    sender.send(datagram(new, body(9), ack=True))
    assert json.loads(sender.answer())["message_id"] == "d-9"


def _is_refused(sender: Sender, key: dict[str, str]) -> bool:
    sender.send(datagram(key, body(time.time_ns()), ack=True))
    return sender.is_silent()


def test_a_flood_is_counted_and_good_ones_still_come_through(ways: Ways, sender: Sender) -> None:
    """50,000 forged datagrams: memory bounded, few lines logged, a good one among them is taken."""
    key = ways.signing_key(sender.slug)
    forged = datagram(key, body(), mac="00" * 32)
    before = ways.seen("datagrams")
    for _ in range(50_000):
        sender.send(forged)

    def is_taken() -> bool:
        sender.send(datagram(key, body(1), ack=True))
        return not sender.is_silent()

    ways.wait_for(is_taken, 20, "a good one")
    after = ways.wait_for(lambda: _more(ways, before), 10, "the count")
    assert after["refused"] + after["dropped"] > before["refused"] + before["dropped"]
    lines = [line for line in ways.log("edge", 100_000).splitlines() if "listener_refused" in line]
    assert len(lines) < 100


def _more(ways: Ways, before: dict[str, Any]) -> dict[str, Any] | None:
    after = ways.seen("datagrams")
    return after if after["refused"] > before["refused"] else None


def test_a_device_is_known_by_its_address(ways: Ways) -> None:
    """Without our envelope the bytes are the payload; a stranger's are refused."""
    ways.register("probe-7")
    made = ways.listener(
        "probes", kind="udp", envelope="none", system="probe-7", addresses=["127.0.0.1/32"], event_type="reading"
    )
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as known,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        other.bind(("127.0.0.2", 0))
        other.sendto(b"forged", ("127.0.0.1", made["port"]))
        known.bind(("127.0.0.1", 0))
        known.sendto(b"\x00\x01\xff", ("127.0.0.1", made["port"]))
        ways.wait_for(lambda: ways.payloads("probe-7"), 10, "the reading")

    assert ways.payloads("probe-7") == [b"\x00\x01\xff"]
    ways.wait_for(lambda: ways.seen("probes")["refusals"], 10, "the refusal")
    assert ways.seen("probes")["refusals"][0]["address"] == "127.0.0.2"


def unread(port: int) -> int:
    """Return how many bytes the kernel holds for the socket of a UDP port."""
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[2], 16) for row in rows if int(row[1].partition(":")[2], 16) == port)


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_what_was_read_is_stored_and_answered_when_the_listener_stops(make_stack: Callable[..., Stack]) -> None:
    """SIGTERM while the database stands still: once it goes on, each datagram that was read is acknowledged."""
    stack = make_stack()
    stack.start("web")
    stack.register("meter")
    port, beside = free_port(), free_port()
    key = json.loads(stack.command("create_signing_key", "meter", "--json").stdout)
    for slug, kind, place in (("meters", "udp", port), ("beside", "tcp", beside)):
        assert stack.api("POST", "listeners/", json={"slug": slug, "kind": kind, "port": place}).status_code == 201
    stack.start("edge")
    when_open(beside)
    stack.wait_for(lambda: stack.api("GET", "listeners/meters/").json()["seen"]["state"] == "open", 20, "an open port")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(20)
        client.send(datagram(key, body(0), ack=True))
        told = [json.loads(client.recv(65536))["message_id"]]  # it knows the key, and where messages go
        with nothing_is_stored(stack):
            for number in (1, 2, 3):
                client.send(datagram(key, body(number), ack=True))
                stack.wait_for(lambda: unread(port) == 0, 10, "a datagram being read")
            stack.signal("edge", signal.SIGTERM)
            stack.wait_for(lambda: not is_open(beside), 10, "the end beginning")
        told += [json.loads(client.recv(65536))["message_id"] for _ in range(3)]

    assert stack.processes.pop("edge").wait(20) == 0
    assert told == ["d-0", "d-1", "d-2", "d-3"]
    assert stack.sql("SELECT count(*) FROM messaging_message") == [(4,)]
