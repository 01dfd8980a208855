"""A real peer for every transport, behind one small interface: what the conformance suite plays against."""

import asyncio
import base64
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from endpoints.transports import gateway as seating
from endpoints.transports.base import Address, Outgoing
from endpoints.transports.memory import mailbox
from tests.servers.answers import HANG, Answer
from tests.servers.certificates import CertificateAuthority
from tests.servers.http import HttpReceiver
from tests.servers.ports import free_port

CANARY = "canary-5f2c9d1e"


def address(**fields: Any) -> Address:
    """Return an endpoint's address; whatever is not said is unremarkable."""
    return Address(
        **{"id": "e1", "system": "erp", "interface": "main", "protocol": "http", "host": "127.0.0.1"} | fields
    )


def outgoing(**fields: Any) -> Outgoing:
    """Return a message on its way; whatever is not said is unremarkable."""
    plain = {
        "delivery_id": "0193d-delivery",
        "attempt": 1,
        "message_id": "0193m-message",
        "source_system": "billing",
        "target_system": "erp",
        "message_type": "event",
        "priority": "normal",
        "timestamp": "2026-01-02T03:04:05Z",
        "content_type": "application/json",
        "payload": b'{"order": 4711}',
        "event_type": "invoice.paid",
        "correlation_id": "c-1",
    }
    return Outgoing(**plain | fields)


@dataclass
class Peer:
    """A peer that is up: its address, what it got, and how to make it answer."""

    address: Address
    payloads: Callable[[], list[bytes]]
    answer: Callable[[bytes], None]
    hang: Callable[[], None]
    wait: Callable[[], object]  # until the first message has arrived


@contextmanager
def http_peer(authority: CertificateAuthority | None, directory: Path) -> Iterator[Peer]:
    tls = authority.server_context(directory, "localhost") if authority else None
    config: Mapping[str, Any] = {"tls": {"ca": authority.pem}} if authority else {}
    with HttpReceiver(tls=tls) as receiver:
        yield Peer(
            address(
                protocol="https" if tls else "http",
                host="localhost" if tls else "127.0.0.1",
                port=receiver.port,
                config=config,
            ),
            payloads=lambda: [request.body for request in receiver.received],
            answer=lambda body: receiver.answer(Answer(200, body)),
            hang=lambda: receiver.answer(HANG),
            wait=lambda: receiver.wait_for(1),
        )


@contextmanager
def memory_peer(_: CertificateAuthority, __: Path) -> Iterator[Peer]:
    answers: list[bytes | None] = [b""]
    arrived = threading.Event()

    async def answer(_: Outgoing) -> bytes:
        arrived.set()
        if answers[0] is None:
            await asyncio.Event().wait()
        return answers[0] or b""

    with mailbox("conformance", answer) as received:
        yield Peer(
            address(protocol="memory", host="conformance"),
            payloads=lambda: [message.payload for message in received],
            answer=partial(answers.__setitem__, 0),
            hang=partial(answers.__setitem__, 0, None),
            wait=lambda: arrived.wait(10),
        )


@contextmanager
def gateway_peer(_: CertificateAuthority, __: Path) -> Iterator[Peer]:
    """A client that is seated here: its connection is another matter."""
    answers: list[bytes | None] = [b""]
    payloads: list[bytes] = []
    arrived = threading.Event()

    def push(frame: bytes) -> None:
        said = orjson.loads(frame)
        message = said["message"]
        encoded = message.get("payload_base64")
        payloads.append(base64.b64decode(encoded) if encoded else orjson.dumps(message["payload"]))
        arrived.set()
        if answers[0] is not None:
            answer = seating.Answer(is_taken=True, body=answers[0])
            asyncio.get_running_loop().call_soon(seat.settle, said["delivery_id"], answer)

    seat = seating.Seat(1, "erp", "", push, is_full=lambda: False, credit=1000)
    seating.SEATS.enter(seat)
    yield Peer(
        address(protocol="gateway", host=""),
        payloads=lambda: payloads,
        answer=partial(answers.__setitem__, 0),
        hang=partial(answers.__setitem__, 0, None),
        wait=lambda: arrived.wait(10),
    )
    seating.SEATS.leave(seat)


def _http_down() -> Address:
    return address(port=free_port())


PEERS: dict[str, Callable[[CertificateAuthority, Path], contextlib.AbstractContextManager[Peer]]] = {
    "http": lambda _, directory: http_peer(None, directory),
    "https": http_peer,
    "memory": memory_peer,
    "gateway": gateway_peer,
}
DOWN: dict[str, Callable[[], Address]] = {
    "http": _http_down,
    "https": lambda: address(protocol="https", port=free_port()),
    "memory": lambda: address(protocol="memory", host="nobody"),
    "gateway": lambda: address(protocol="gateway", host="", system="nobody"),
}
# A protocol that shows a credential on the wire, with the kind it shows.
CREDENTIALS = {"http": "bearer", "https": "bearer"}
