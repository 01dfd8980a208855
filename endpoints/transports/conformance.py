"""What holds for every transport, as a suite for pytest: run it on your own with a peer that you bring.

    # tests/test_conformance.py of your package
    class TestLine(TransportSuite):
        @pytest.fixture
        def protocol(self): return "line"

        @pytest.fixture
        def peer(self): ...  # start a real server, yield Peer(...)

        @pytest.fixture
        def down(self): return address(protocol="line", port=free_port)

`pytest` then runs it (the package has to be installed, so that its entry point is found).
What a protocol cannot have is left out by name and reason: `CANNOT = {"test_...": "datagrams have no..."}`.
Needs pytest, and nothing else that the product does not bring.
"""

import asyncio
import functools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jsonschema_rs
import pytest

from endpoints.errors import Malformed
from endpoints.transports import make_transport, transport_class
from endpoints.transports.base import AckLevel, Address, ErrorClass, Outgoing, Secret, Transport, TransportError
from endpoints.transports.config import validate_config

CANARY = "canary-5f2c9d1e"


def address(**fields: Any) -> Address:
    """Return an endpoint's address; whatever is not said is unremarkable."""
    return Address(
        **{"id": "e1", "system": "erp", "interface": "main", "protocol": "http", "host": "127.0.0.1"} | fields
    )


def outgoing(**fields: Any) -> Outgoing:
    """Return a message on its way; whatever is not said is unremarkable."""
    plain: dict[str, Any] = {
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
    """A peer that is up: its address, what it got (payloads as they were sent), and how to make it answer."""

    address: Address
    payloads: Callable[[], list[bytes]]
    answer: Callable[[bytes], None]
    hang: Callable[[], None]
    wait: Callable[[], object]  # until the first message has arrived
    largest: int = 300_000  # bytes of an answer that it can give
    is_masking: bool = True  # False: it shows no credential, and so knows of none to take out of answers
    refuses: frozenset[str] = frozenset()  # kinds of credentials that the protocol cannot show


def played(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test that is a coroutine, whichever plugins pytest has."""

    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        asyncio.run(test(*args, **fixtures))  # type: ignore[arg-type]  # a coroutine, as every test here is

    return run


@asynccontextmanager
async def opened(address: Address) -> AsyncIterator[Transport]:
    """Yield an open transport for this address."""
    transport = make_transport(address)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.aclose()


class TransportSuite:
    """Inherit from it, and bring the fixtures `protocol`, `peer` and `down`."""

    CANNOT: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture
    def protocol(self) -> str:
        """Return the name of the protocol, as users pick it."""
        raise NotImplementedError("bring a fixture `protocol`")

    @pytest.fixture
    def peer(self) -> Iterator[Peer]:
        """Yield a real peer that is up."""
        raise NotImplementedError("bring a fixture `peer`")

    @pytest.fixture
    def down(self) -> Address:
        """Return an address where nobody is."""
        raise NotImplementedError("bring a fixture `down`")

    @pytest.fixture(autouse=True)
    def _fitting(self, request: pytest.FixtureRequest) -> None:
        """Leave out what cannot be, and let the product find its settings: those of a development machine."""
        name = request.function.__name__
        if reason := self.CANNOT.get(name):
            pytest.skip(reason)
        if "DJANGO_SETTINGS_MODULE" not in os.environ:
            os.environ["DJANGO_SETTINGS_MODULE"] = "controlplane.settings"
            os.environ.setdefault("CONTROLPLANE_VAR", tempfile.mkdtemp(prefix="conformance-"))

    @played
    async def test_a_message_arrives_and_the_reply_says_how_sure_that_is(self, peer: Peer) -> None:
        async with opened(peer.address) as transport:
            reply = await transport.send(outgoing(payload=b"\x00\xff binary"))

        assert peer.payloads() == [b"\x00\xff binary"]
        assert reply.ack_level in set(AckLevel)
        assert reply.took_ms > 0
        assert reply.request["url"].startswith(peer.address.protocol)

    @played
    async def test_opening_does_not_need_the_peer_and_sending_says_it_is_down(self, down: Address) -> None:
        async with opened(down) as transport:
            for ask in (transport.send(outgoing()), transport.probe()):
                with pytest.raises(TransportError) as caught:
                    await ask
                assert caught.value.error_class is ErrorClass.CONNECT

    @played
    async def test_a_peer_that_does_not_answer_times_out_on_time(self, peer: Peer) -> None:
        peer.hang()
        async with opened(replace(peer.address, timeout_s=0.3)) as transport:
            started = time.monotonic()
            with pytest.raises(TransportError) as caught:
                await transport.send(outgoing())

        assert caught.value.error_class is ErrorClass.TIMEOUT
        assert time.monotonic() - started < 10

    @played
    async def test_an_oversize_answer_is_cut_and_says_so(self, peer: Peer) -> None:
        peer.answer(b"y" * peer.largest)
        cap = peer.largest // 3
        async with opened(replace(peer.address, max_reply_bytes=cap)) as transport:
            event = await transport.send(outgoing())
            request = await transport.send(outgoing(message_type="request"))

        assert (len(event.body), event.truncated) == (16_384, True)
        assert (len(request.body), request.truncated) == (cap, True)
        assert (event.fault, f"more than the {cap} bytes" in request.fault) == ("", True)

    @played
    async def test_an_answer_within_the_cap_is_whole(self, peer: Peer) -> None:
        peer.answer(b"y" * 16_384)
        async with opened(peer.address) as transport:
            reply = await transport.send(outgoing())

        assert (len(reply.body), reply.truncated) == (16_384, False)

    @played
    async def test_many_sends_at_once_all_arrive_once(self, peer: Peer) -> None:
        payloads = [b"%d" % number for number in range(100)]
        async with opened(replace(peer.address, max_in_flight=16)) as transport:
            await asyncio.gather(*(transport.send(outgoing(payload=payload)) for payload in payloads))

        assert sorted(peer.payloads()) == sorted(payloads)

    @played
    async def test_closing_twice_is_safe_and_sending_after_it_is_an_error(self, peer: Peer) -> None:
        transport = make_transport(peer.address)
        await transport.open()
        await transport.send(outgoing())
        await transport.aclose()
        await transport.aclose()

        with pytest.raises(TransportError):
            await transport.send(outgoing())

    @played
    async def test_a_cancelled_send_leaves_the_transport_usable(self, peer: Peer) -> None:
        peer.hang()
        async with opened(replace(peer.address, max_in_flight=1)) as transport:
            hanging = asyncio.create_task(transport.send(outgoing(payload=b"first")))
            await asyncio.to_thread(peer.wait)
            hanging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            peer.answer(b"ok")
            assert (await transport.send(outgoing(payload=b"second"))).body == b"ok"

    @played
    async def test_a_probe_of_a_peer_that_is_there_answers(self, peer: Peer) -> None:
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
    @played
    async def test_no_secret_is_in_what_a_send_tells(self, peer: Peer, kind: str, data: dict[str, str]) -> None:
        """Neither the record of the request nor an answer that echoes it holds the secret; the record names it.

        A kind that the protocol cannot show is refused, not left out: whoever chose it counts on it.
        """
        credential = Secret("c1", "shop-key", kind, data)
        transport_kind = transport_class(peer.address.protocol)
        assert bool(transport_kind.check_credential(kind, peer.address.config)) == (kind in peer.refuses)
        if kind in peer.refuses:
            async with opened(replace(peer.address, credential=credential)) as transport:
                with pytest.raises(TransportError) as caught:
                    await transport.send(outgoing())
            assert caught.value.error_class is ErrorClass.AUTH
            assert CANARY not in repr((caught.value, caught.value.request, caught.value.detail))
            return
        peer.answer(b"you sent " + CANARY.encode())
        async with opened(replace(peer.address, credential=credential)) as transport:
            reply = await transport.send(outgoing())
        told = repr((reply.request, reply.headers)) + repr(peer.address)
        assert CANARY not in told
        if peer.is_masking:
            assert CANARY.encode() not in reply.body

        peer.hang()
        async with opened(replace(peer.address, credential=credential, timeout_s=0.2)) as transport:
            with pytest.raises(TransportError) as caught:
                await transport.send(outgoing())
        assert CANARY not in repr((caught.value, caught.value.request, caught.value.detail))

    def test_every_published_schema_is_a_schema_and_takes_an_empty_config(self, protocol: str) -> None:
        assert jsonschema_rs.meta.is_valid(transport_class(protocol).CONFIG_SCHEMA)
        validate_config(protocol, {})

    def test_an_unknown_key_is_refused_by_name(self, protocol: str) -> None:
        with pytest.raises(Malformed) as caught:
            validate_config(protocol, {"nonsense": 1})
        assert caught.value.errors[0]["field"] == "config.nonsense"
