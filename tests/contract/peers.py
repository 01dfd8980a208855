"""A real peer for every transport, behind one small interface: what the conformance suite plays against."""

import asyncio
import base64
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from endpoints.transports import gateway as seating
from endpoints.transports.base import Address, Outgoing
from endpoints.transports.conformance import CANARY, Peer, address, outgoing
from endpoints.transports.memory import mailbox
from tests.servers.answers import HANG, Answer
from tests.servers.certificates import CertificateAuthority
from tests.servers.http import HttpReceiver
from tests.servers.ports import free_port
from tests.servers.sockets import NOTHING, TcpReceiver, UdpReceiver
from tests.servers.ws import WsReceiver


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


NO_TOKEN = frozenset({"basic", "api_key", "hmac"})


@contextmanager
def tcp_peer(authority: CertificateAuthority | None, directory: Path) -> Iterator[Peer]:
    """A peer that answers each frame of `length`; a token that it is shown first is its own."""
    tls = authority.server_context(directory, "localhost") if authority else None
    config: dict[str, Any] = {"framing": "length", "reply": "message"}
    if authority:
        config["tls"] = {"ca": authority.pem}
    with TcpReceiver("length", tls=tls, auth=CANARY, is_auth_optional=True) as receiver:
        yield Peer(
            address(
                protocol="tls" if tls else "tcp",
                host="localhost" if tls else "127.0.0.1",
                port=receiver.port,
                config=config,
            ),
            payloads=lambda: list(receiver.received),
            answer=receiver.answer,
            hang=lambda: receiver.answer(NOTHING),
            wait=lambda: receiver.wait_for(1),
            refuses=NO_TOKEN,
        )


@contextmanager
def udp_peer(_: CertificateAuthority, __: Path) -> Iterator[Peer]:
    with UdpReceiver() as receiver:
        yield Peer(
            address(protocol="udp", port=receiver.port, config={"reply": "message"}),
            payloads=lambda: list(receiver.received),
            answer=receiver.answer,
            hang=lambda: receiver.answer(NOTHING),
            wait=lambda: receiver.wait_for(1),
            largest=60_000,
            refuses=NO_TOKEN | {"bearer"},
        )


@contextmanager
def ws_peer(authority: CertificateAuthority | None, directory: Path) -> Iterator[Peer]:
    tls = authority.server_context(directory, "localhost") if authority else None
    config: dict[str, Any] = {"reply": "message"} | ({"tls": {"ca": authority.pem}} if authority else {})
    with WsReceiver(tls=tls) as receiver:
        yield Peer(
            address(
                protocol="wss" if tls else "ws",
                host="localhost" if tls else "127.0.0.1",
                port=receiver.port,
                config=config,
            ),
            payloads=lambda: [got.body for got in receiver.received],
            answer=receiver.answer,
            hang=lambda: receiver.answer(None),
            wait=lambda: receiver.wait_for(1),
            refuses=frozenset({"hmac"}),
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
            is_masking=False,
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
        is_masking=False,
        payloads=lambda: payloads,
        answer=partial(answers.__setitem__, 0),
        hang=partial(answers.__setitem__, 0, None),
        wait=lambda: arrived.wait(10),
    )
    seating.SEATS.leave(seat)


def _http_down() -> Address:
    return address(port=free_port())


# A protocol's row: a peer that is up, and below an address where nobody is.
PEERS: dict[str, Callable[[CertificateAuthority, Path], contextlib.AbstractContextManager[Peer]]] = {
    "http": lambda _, directory: http_peer(None, directory),
    "https": http_peer,
    "memory": memory_peer,
    "gateway": gateway_peer,
    "tcp": lambda _, directory: tcp_peer(None, directory),
    "tls": tcp_peer,
    "udp": udp_peer,
    "ws": lambda _, directory: ws_peer(None, directory),
    "wss": ws_peer,
}
DOWN: dict[str, Callable[[], Address]] = {
    "http": lambda: address(port=free_port()),
    "https": lambda: address(protocol="https", port=free_port()),
    "memory": lambda: address(protocol="memory", host="nobody"),
    "gateway": lambda: address(protocol="gateway", host="", system="nobody"),
    "tcp": lambda: address(protocol="tcp", port=free_port()),
    "tls": lambda: address(protocol="tls", port=free_port()),
    "udp": lambda: address(protocol="udp", port=free_port(socket.SOCK_DGRAM)),
    "ws": lambda: address(protocol="ws", port=free_port(), config={"reply": "ack"}),
    "wss": lambda: address(protocol="wss", port=free_port()),
}

__all__ = ["CANARY", "DOWN", "PEERS", "Peer", "address", "outgoing"]
