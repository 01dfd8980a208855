"""Every protocol against every way it can go wrong, through real processes; the table in docs/protocols/matrix.md.

`MATRIX=write pytest tests/acceptance/test_matrix.py -k table` writes the table anew.
"""

import asyncio
import base64
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
import requests

from endpoints.transports import make_transport
from endpoints.transports.base import Address
from tests.acceptance.link import Link
from tests.acceptance.matrix import Row
from tests.acceptance.matrix_callers import CallerRow
from tests.acceptance.matrix_table import CELLS, ROWS, table
from tests.contract.peers import outgoing
from tests.servers.certificates import CertificateAuthority
from tests.servers.fixtures import authority
from tests.servers.ports import free_port
from tests.stack import ROOT, Stack

__all__ = ["authority"]

PAGE = ROOT / "docs" / "protocols" / "matrix.md"
MARK = "<!-- written by tests/acceptance/test_matrix.py -->\n"
BODY = "Grüße \U0001f30d \x00".encode() + bytes(range(256))


def rows(cell: str, **wanted: Any) -> Any:
    """Return the decorator that runs a test for each protocol to which `cell` applies, and which is as `wanted`."""
    assert cell in CELLS
    fitting = {name: row for name, row in ROWS.items() if all(getattr(row, key) == wanted[key] for key in wanted)}
    return pytest.mark.parametrize("protocol", [name for name, row in fitting.items() if cell not in row.cannot])


@pytest.fixture
def row(protocol: str, authority: CertificateAuthority, tmp_path: Path) -> Row:
    return ROWS[protocol](authority, tmp_path)


def linked(stack: Stack, row: Row, port: int, **endpoint: Any) -> Link:
    """Return a link whose target is the peer at `port`."""
    fields = {**row.endpoint(port), **endpoint}
    link = Link(stack, None)
    quick = {"system": link.target, "retry_schedule_s": [0.1], "timeout_s": 5}
    answer = stack.api("POST", "endpoints/", json={**quick, **fields})
    assert answer.status_code == 201, answer.text
    link.endpoint = answer.json()["id"]
    row.join(link)
    return link


def post(link: Link, body: bytes, **headers: str) -> requests.Response:
    """Send raw bytes to the link's target."""
    given = {"X-Source-System": link.source, "Content-Type": "application/octet-stream", **headers}
    return link.stack.api("POST", f"/to/{link.target}", data=body, headers=given)


def accepted(link: Link, body: bytes, **headers: str) -> str:
    answer = post(link, body, **headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["message_id"])


@rows("delivered")
def test_a_message_is_delivered_and_acknowledged(shared_stack: Stack, row: Row) -> None:
    """Byte by byte, once, with the ack level that the protocol can honestly claim."""
    with row.peer() as peer:
        link = linked(shared_stack, row, peer.port)
        found = link.ended(accepted(link, BODY))

        assert (found["state"], found["ack_level"], found["attempts"]) == ("delivered", row.ack_level, 1)
        assert row.received(peer) == [BODY]
        assert row.names_peer(found["attempt_list"][0]["request"], link, peer)


@rows("reply")
def test_each_message_gets_its_own_reply(shared_stack: Stack, row: Row) -> None:
    """Many at once: what the peer said to one is never taken for what it said to another."""
    with row.peer() as peer:
        row.echo(peer)
        link = linked(shared_stack, row, peer.port)
        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(lambda n: accepted(link, b"n-%d" % n), range(30)))
        found = [link.ended(message_id) for message_id in ids]

        assert [one["attempt_list"][-1]["response"]["body"] for one in found] == [f"n-{n}" for n in range(30)]


@rows("down")
def test_what_is_for_a_peer_that_is_down_waits_until_it_is_there(shared_stack: Stack, row: Row) -> None:
    """Where we call, we try again; where the peer does, nothing is spent until it comes."""
    port = free_port(row.kind)
    link = linked(shared_stack, row, port, timeout_s=1)
    message_id = accepted(link, BODY)
    link.until(message_id, "pending", reason=row.waits_as)
    with row.peer(port=port) as peer:
        found = link.until(message_id, "delivered")

        tries = [one["error_class"] for one in found["attempt_list"]]
        assert tries == [None] if row.calls_us else (tries[0] == "connect" and len(tries) >= 2)
        assert row.received(peer) == [BODY]


@rows("killed")
def test_a_peer_that_dies_in_the_middle_of_messages_loses_none(shared_stack: Stack, row: Row) -> None:
    """It had read them and not answered: they are sent again, and none is called delivered before."""
    bodies = {b"k-%d" % n for n in range(5)}
    with row.peer() as peer:
        row.hold(peer)
        link = linked(shared_stack, row, peer.port, timeout_s=2)
        ids = [accepted(link, body) for body in sorted(bodies)]
        peer.wait_for(1)
        peer.stop()
        assert "delivered" not in {link.delivery(message_id)["state"] for message_id in ids}
        row.say(peer)
        peer.start()
        found = [link.until(message_id, "delivered") for message_id in ids]

        assert max(len(one["attempt_list"]) for one in found) >= 2
        assert set(row.received(peer)) == bodies


@rows("oversized")
def test_what_is_too_large_is_refused_before_it_is_accepted(shared_stack: Stack, row: Row) -> None:
    """The largest arrives whole; of what is larger nothing is stored."""
    with row.peer() as peer:
        link = linked(shared_stack, row, peer.port, timeout_s=15)
        largest = os.urandom(row.largest)
        found = link.ended(accepted(link, largest))
        refused = post(link, bytes(row.largest + 1024), **{"X-Message-Id": f"huge-{uuid4()}"})

        assert (found["state"], row.received(peer)) == ("delivered", [largest])
        assert (refused.status_code, refused.json()["code"]) == row.too_large_is
        sent = shared_stack.api("GET", f"messages/?source_system={link.source}").json()["results"]
        assert len(sent) == 1


UNFIT = [("tcp", {"framing": "line"}, b"two\nlines", b"one line"), ("udp", {}, bytes(70_000), bytes(60_000))]


@pytest.mark.parametrize(("protocol", "config", "unfit", "fit"), UNFIT)
def test_what_one_of_many_targets_cannot_carry_is_its_dead_letter(
    shared_stack: Stack, row: Row, config: dict[str, Any], unfit: bytes, fit: bytes
) -> None:
    """To it alone it is refused, and nothing is stored; beside others it dies at once, and they get it."""
    with row.peer() as peer:
        link = linked(shared_stack, row, peer.port, config=config)
        other = f"{link.target}/other"
        carries_all = {"protocol": "tcp", "config": {"framing": "raw"}, "max_attempts": 1}
        more = {"system": link.target, "interface": "other", "host": "127.0.0.1", "port": free_port(), **carries_all}
        assert shared_stack.api("POST", "endpoints/", json=more).status_code == 201
        refused = post(link, unfit)
        encoded = base64.b64encode(unfit).decode()
        message_id = f"m-{uuid4()}"
        both = {"message_id": message_id, "payload": None, "payload_base64": encoded}
        sent = link.post(**both, target_system=[link.target, other])
        taken = accepted(link, fit)

        assert (refused.status_code, refused.json()["code"]) == (422, "unfit")
        assert (sent.status_code, sent.json()["deliveries"]) == (202, 2)
        path = f"deliveries/?message_id={message_id}&source_system={link.source}&interface=main"
        dead = shared_stack.wait_for(
            lambda: next(iter(shared_stack.api("GET", f"{path}&state=dead").json()["results"]), None),
            30,
            "a dead letter",
        )
        assert dead is not None
        assert (dead["reason"], dead["error_class"], dead["attempts"]) == ("refused", "protocol", 1)
        assert link.until(taken, "delivered")["ack_level"] == "written"
        assert len(shared_stack.api("GET", f"messages/?source_system={link.source}").json()["results"]) == 2


@rows("wrong_name")
def test_a_certificate_for_another_name_is_not_spoken_to(shared_stack: Stack, row: Row) -> None:
    with row.peer(name="other.example") as peer:
        link = linked(shared_stack, row, peer.port, max_attempts=2)
        found = link.ended(accepted(link, BODY))

        assert (found["state"], found["reason"], found["error_class"]) == ("dead", "exhausted", "tls")
        assert row.received(peer) == []


@rows("bad_credential", calls_us=False)
def test_a_credential_that_is_refused_is_said_to_be(shared_stack: Stack, row: Row) -> None:
    """It is tried again, since secrets are renewed; with the right one the same peer takes the message."""
    kind, field = row.credential
    with row.peer(secret="right-secret") as peer:
        name = f"key-{uuid4().hex[:8]}"
        body = {"name": name, "kind": kind, "data": {field: "wrong-secret"}}
        assert shared_stack.api("POST", "credentials/", json=body).status_code == 201
        link = linked(shared_stack, row, peer.port, max_attempts=20, retry_schedule_s=[0.5], credential=name)
        message_id = accepted(link, BODY)
        link.until(message_id, "pending", reason="retrying")
        [made] = shared_stack.api("GET", f"credentials/?name={name}").json()["results"]
        changed = shared_stack.api("PATCH", f"credentials/{made['id']}/", json={"data": {field: "right-secret"}})
        assert changed.status_code == 200, changed.text
        found = link.until(message_id, "delivered")

        assert found["attempt_list"][0]["error_class"] == "auth"
        assert "wrong-secret" not in str(found)
        assert "right-secret" not in str(found)


@rows("bad_credential", calls_us=True)
def test_a_client_with_a_bad_credential_is_refused(shared_stack: Stack, row: CallerRow) -> None:
    """It gets nothing, nor does one of another system; what waits stays, and goes to the right one."""
    link = linked(shared_stack, row, 0)
    message_id = accepted(link, BODY)
    keys = ("cp_nobody_nothing", shared_stack.key("operator", system=link.source))
    refusals = tuple(row.refused(shared_stack, link.target, key) for key in keys)
    waiting = link.delivery(message_id)
    with row.peer() as peer:
        found = link.until(message_id, "delivered")

        assert refusals == row.refusals
        assert (waiting["state"], waiting["attempts"]) == ("pending", 0)
        assert (found["attempts"], row.received(peer)) == (1, [BODY])


@rows("leak", calls_us=False)
def test_ten_thousand_messages_leak_nothing(row: Row) -> None:
    """Not a file, not a task, and no memory that grows with their number."""
    leak_nothing(row, 10_000)


@pytest.mark.long
@rows("leak", calls_us=False)
def test_a_hundred_thousand_messages_leak_nothing(row: Row) -> None:
    leak_nothing(row, 100_000)


@pytest.mark.timeout(300)
@rows("leak", calls_us=True)
def test_ten_thousand_messages_to_one_client_leak_nothing(shared_stack: Stack, row: Row) -> None:
    """The process that they go through keeps no file for them, and no more memory than half of one payload each."""
    web = psutil.Process(shared_stack.processes["web"].pid)
    seen: list[tuple[int, int]] = []
    with row.peer() as peer:
        peer.is_keeping = False
        link = linked(shared_stack, row, 0, max_in_flight=500, timeout_s=30)
        payload = {"payload": None, "payload_base64": base64.b64encode(os.urandom(4096)).decode()}
        for tenth in range(1, 11):
            sent = shared_stack.api("POST", "messages/", json=[link.message(**payload) for _ in range(1000)])
            assert sent.json()["accepted"] == 1000
            peer.wait_for(tenth * 1000, 60)
            seen.append((web.num_fds(), web.memory_info().rss))
    files, memory = zip(*seen, strict=True)
    assert peer.count == 10_000
    assert max(files[1:]) <= files[0] + 16, files
    assert memory[-1] - memory[1] < 8 * 1000 * 2048, memory


def leak_nothing(row: Row, messages: int) -> None:
    """Send so many in tenths; after the first of them neither files nor objects become more."""
    with row.peer() as peer:
        peer.is_keeping = False
        fields = row.endpoint(peer.port)
        plain = {"id": "e1", "system": "erp", "interface": "main", "timeout_s": 30.0}
        asyncio.run(_send_in_tenths(Address(**plain, **fields), messages))


async def _send_in_tenths(address: Address, messages: int) -> None:
    process = psutil.Process()
    files_before = process.num_fds()
    transport = make_transport(replace(address, max_in_flight=16))
    await transport.open()
    seen: list[tuple[int, int]] = []
    for _ in range(10):
        await asyncio.gather(*(_send_many(transport, messages // 160) for _ in range(16)))
        gc.collect()
        seen.append((process.num_fds(), len(gc.get_objects())))
    await transport.aclose()
    files, objects = zip(*seen, strict=True)
    assert max(files[1:]) <= files[0] + 16, files
    assert objects[-1] < objects[1] + 2_000, objects
    assert process.num_fds() <= files_before + 32, (files_before, process.num_fds())
    assert len(asyncio.all_tasks()) == 1


async def _send_many(transport: Any, count: int) -> None:
    for _ in range(count):
        await transport.send(outgoing())


def test_the_table_in_the_docs_says_what_these_tests_show() -> None:
    head = PAGE.read_text().partition(MARK)[0]
    if os.environ.get("MATRIX") == "write":
        PAGE.write_text(head + MARK + table())
    assert PAGE.read_text() == head + MARK + table()
