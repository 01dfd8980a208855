"""What holds for every transport: one suite over every row of the table."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import jsonschema_rs
import pytest

from endpoints.errors import Malformed
from endpoints.transports import TRANSPORTS, make_transport, transport_class
from endpoints.transports.base import AckLevel, Address, ErrorClass, Secret, Transport, TransportError
from endpoints.transports.config import validate_config
from tests.contract.peers import CANARY, DOWN, PEERS, Peer, outgoing
from tests.servers.certificates import CertificateAuthority
from tests.servers.fixtures import authority  # noqa: F401


@pytest.fixture(params=sorted(TRANSPORTS))
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def peer(protocol: str, authority: CertificateAuthority, tmp_path: Path) -> Iterator[Peer]:  # noqa: F811
    with PEERS[protocol](authority, tmp_path) as peer:
        yield peer


@asynccontextmanager
async def opened(address: Address) -> AsyncIterator[Transport]:
    transport = make_transport(address)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.aclose()


async def test_a_message_arrives_and_the_reply_says_how_sure_that_is(peer: Peer) -> None:
    async with opened(peer.address) as transport:
        reply = await transport.send(outgoing(payload=b"\x00\xff binary"))

    assert peer.payloads() == [b"\x00\xff binary"]
    assert reply.ack_level in set(AckLevel)
    assert reply.took_ms > 0
    assert reply.request["url"].startswith(peer.address.protocol)


async def test_opening_does_not_need_the_peer_and_sending_says_it_is_down(protocol: str) -> None:
    async with opened(DOWN[protocol]()) as transport:
        for ask in (transport.send(outgoing()), transport.probe()):
            with pytest.raises(TransportError) as caught:
                await ask
            assert caught.value.error_class is ErrorClass.CONNECT


async def test_a_peer_that_does_not_answer_times_out_on_time(peer: Peer) -> None:
    peer.hang()
    async with opened(replace(peer.address, timeout_s=0.3)) as transport:
        started = time.monotonic()
        with pytest.raises(TransportError) as caught:
            await transport.send(outgoing())

    assert caught.value.error_class is ErrorClass.TIMEOUT
    assert time.monotonic() - started < 10


async def test_an_oversize_answer_is_cut_and_says_so(peer: Peer) -> None:
    peer.answer(b"y" * 300_000)
    async with opened(replace(peer.address, max_reply_bytes=100_000)) as transport:
        event = await transport.send(outgoing())
        request = await transport.send(outgoing(message_type="request"))

    assert (len(event.body), event.truncated) == (16_384, True)
    assert (len(request.body), request.truncated) == (100_000, True)


async def test_an_answer_within_the_cap_is_whole(peer: Peer) -> None:
    peer.answer(b"y" * 16_384)
    async with opened(peer.address) as transport:
        reply = await transport.send(outgoing())

    assert (len(reply.body), reply.truncated) == (16_384, False)


async def test_many_sends_at_once_all_arrive_once(peer: Peer) -> None:
    payloads = [b"%d" % number for number in range(100)]
    async with opened(replace(peer.address, max_in_flight=16)) as transport:
        await asyncio.gather(*(transport.send(outgoing(payload=payload)) for payload in payloads))

    assert sorted(peer.payloads()) == sorted(payloads)


async def test_closing_twice_is_safe_and_sending_after_it_is_an_error(peer: Peer) -> None:
    transport = make_transport(peer.address)
    await transport.open()
    await transport.send(outgoing())
    await transport.aclose()
    await transport.aclose()

    with pytest.raises(TransportError):
        await transport.send(outgoing())


async def test_a_cancelled_send_leaves_the_transport_usable(peer: Peer) -> None:
    peer.hang()
    async with opened(replace(peer.address, max_in_flight=1)) as transport:
        hanging = asyncio.create_task(transport.send(outgoing(payload=b"first")))
        await asyncio.to_thread(peer.wait)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        peer.answer(b"ok")
        assert (await transport.send(outgoing(payload=b"second"))).body == b"ok"


async def test_a_probe_of_a_peer_that_is_there_answers(peer: Peer) -> None:
    async with opened(peer.address) as transport:
        assert await transport.probe()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("bearer", {"token": CANARY}),
        ("basic", {"username": "anna", "password": CANARY}),
        ("api_key", {"header": "X-Key", "value": CANARY}),
        ("hmac", {"secret": CANARY}),
    ],
)
async def test_no_secret_is_in_what_a_send_tells(peer: Peer, kind: str, data: dict[str, str]) -> None:
    """Neither the record of the request nor an answer that echoes it holds the secret; the record names it."""
    credential = Secret("c1", "shop-key", kind, data)
    peer.answer(b"you sent " + CANARY.encode())
    async with opened(replace(peer.address, credential=credential)) as transport:
        reply = await transport.send(outgoing())
    told = repr((reply.request, reply.headers)) + repr(peer.address)
    assert CANARY not in told
    if peer.address.protocol not in ("memory", "gateway"):  # these show no credential that could be echoed
        assert CANARY.encode() not in reply.body

    peer.hang()
    async with opened(replace(peer.address, credential=credential, timeout_s=0.2)) as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(outgoing())
    assert CANARY not in repr((caught.value, caught.value.request, caught.value.detail))


def test_every_published_schema_is_a_schema_and_takes_an_empty_config(protocol: str) -> None:
    assert jsonschema_rs.meta.is_valid(transport_class(protocol).CONFIG_SCHEMA)
    validate_config(protocol, {})


def test_an_unknown_key_is_refused_by_name(protocol: str) -> None:
    with pytest.raises(Malformed) as caught:
        validate_config(protocol, {"nonsense": 1})
    assert caught.value.errors[0]["field"] == "config.nonsense"
