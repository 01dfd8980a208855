"""TCP and UDP on the wire, over both event loops: what is kept, replaced, judged and refused."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from endpoints.egress import BlockedAddress, Egress, parse_zones
from endpoints.errors import Malformed
from endpoints.transports.base import AckLevel, Advice, ErrorClass, Reply, Secret, TransportError
from endpoints.transports.config import validate_config
from endpoints.transports.tcp import TcpTransport
from endpoints.transports.udp import UdpTransport
from tests.contract.peers import address, outgoing
from tests.servers.certificates import CertificateAuthority
from tests.servers.fixtures import authority
from tests.servers.ports import free_port
from tests.servers.sockets import NOTHING, TcpReceiver, UdpReceiver, lines_to

# Its peers live in threads with loops of their own and are cut in the middle: what they leave open is not ours.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

__all__ = ["authority"]

Run = Callable[[Coroutine[Any, Any, None]], None]
LOCAL = Egress(parse_zones(["127.0.0.0/8"]))
ACK = {"framing": "line", "reply": "ack"}


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a scenario on one of the loops, within a time that only a fault exceeds."""

    def within(scenario: Coroutine[Any, Any, None]) -> None:
        async def timed() -> None:
            async with asyncio.timeout(60):
                await scenario

        request.param(timed())

    return within


@asynccontextmanager
async def tcp(port: int, config: dict[str, Any], **fields: Any) -> AsyncIterator[TcpTransport]:
    transport = TcpTransport(address(protocol="tcp", port=port, config=config, **{"timeout_s": 20.0, **fields}), LOCAL)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.aclose()


async def refused(coming: Awaitable[Reply]) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await coming
    return caught.value


def test_connections_are_kept_and_used_again(run: Run) -> None:
    with TcpReceiver("line") as receiver:

        async def scenario() -> None:
            async with tcp(receiver.port, ACK, max_in_flight=2) as transport:
                for _ in range(20):
                    assert (await transport.send(outgoing())).ack_level is AckLevel.TRANSPORT

        run(scenario())
        assert (receiver.count, receiver.connections) == (20, 1)


def test_a_connection_the_peer_closed_meanwhile_is_replaced_once(run: Run) -> None:
    """The message goes over a new one in the same attempt: nobody can have heard it."""
    with TcpReceiver("line") as receiver:

        async def scenario() -> None:
            async with tcp(receiver.port, ACK) as transport:
                await transport.send(outgoing())
                await asyncio.to_thread(receiver.stop)
                await asyncio.to_thread(receiver.start)
                await transport.send(outgoing())

        run(scenario())
        assert receiver.count == 2


@pytest.mark.parametrize(
    ("said", "error_class"),
    [
        (b'{"type":"nack","code":"invalid","detail":"no such order"}', "nack"),
        (b'{"type":"error","code":"unauthenticated"}', "nack"),
        (b'{"type":"ack","message_id":"another"}', "protocol"),
        (b'{"type":"ack","message_id":"0193m-message"}', ""),
        (b"OK\r", ""),
        (b'{"type":"ack"', ""),
        (b"{OK}", ""),
        ('{"type":"nack","detail":"Gerät defekt"}'.encode("latin-1"), "nack"),
        (b'{"type":"nack","detail":"no such \\ud83d"}', "nack"),
        (b'{"type":"nack","retry_after_s":1e400}', "nack"),
        (b'{ "type" : "nack" , "retry_after_s" : NaN }', "nack"),
        (b'{"type":"nack","code":' + b"1" * 400 + b"}", "nack"),
        (b'{"message_id":"another","type":"ack","took":Infinity}', "protocol"),
    ],
)
def test_what_the_peer_says_is_judged(run: Run, said: bytes, error_class: str) -> None:
    """A refusal is no acknowledgement, nor is one of another message; devices have words of their own."""
    with TcpReceiver("line") as receiver:
        receiver.answer(said)

        async def scenario() -> None:
            async with tcp(receiver.port, ACK) as transport:
                if not error_class:
                    assert (await transport.send(outgoing())).body == said
                    return
                error = await refused(transport.send(outgoing()))
                assert (error.error_class, error.advice) == (error_class, Advice.RETRY)
                assert error.reply is not None
                assert error.reply.body == said
                assert error.request["url"] == f"tcp://127.0.0.1:{receiver.port}"

        run(scenario())


def test_a_refusal_longer_than_what_is_kept_of_it_is_one(run: Run) -> None:
    """A peer that says why at length says no all the same."""
    with TcpReceiver("line") as receiver:
        receiver.answer(b'{"type":"nack","code":"broken","detail":"' + b"at line 1 " * 10_000 + b'"}')

        async def scenario() -> None:
            async with tcp(receiver.port, ACK) as transport:
                error = await refused(transport.send(outgoing()))
                assert error.error_class == ErrorClass.NACK
                assert "broken" in error.detail

        run(scenario())


def test_an_answer_that_comes_twice_is_not_taken_for_the_next(run: Run) -> None:
    """Whatever was said beside the answer ends the connection, not the message."""
    with TcpReceiver("line") as receiver:
        receiver.answer(lambda message: message + b"\n" + message)

        async def scenario() -> None:
            async with tcp(receiver.port, {"framing": "line", "reply": "message"}) as transport:
                for n in range(5):
                    assert (await transport.send(outgoing(payload=b"%d" % n))).body == b"%d" % n

        run(scenario())
        assert receiver.connections == 5


def test_bytes_that_are_no_frames_are_a_fault_of_the_protocol(run: Run) -> None:
    with TcpReceiver("line") as receiver:
        receiver.answer(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async def scenario() -> None:
            async with tcp(receiver.port, {"framing": "mllp", "reply": "ack"}) as transport:
                error = await refused(transport.send(outgoing(payload=b"MSH|\n")))
                assert error.error_class is ErrorClass.PROTOCOL

        run(scenario())


def test_each_phase_has_its_words_when_the_time_is_over(run: Run) -> None:
    with TcpReceiver("line") as receiver:
        receiver.answer(NOTHING)

        async def scenario() -> None:
            async with tcp(receiver.port, ACK, timeout_s=0.2) as transport:
                error = await refused(transport.send(outgoing()))
                assert (error.error_class, error.detail) == (ErrorClass.TIMEOUT, "no answer in time")
                assert set(error.phases_ms) == {"connect", "write", "first_byte"}

        run(scenario())


def test_a_peer_that_reads_nothing_is_told_so_by_its_time(run: Run) -> None:
    """What the line does not take is not `written`."""

    with socket.create_server(("127.0.0.1", free_port())) as nobody:  # the system takes what its buffers hold

        async def scenario() -> None:
            async with tcp(nobody.getsockname()[1], {"framing": "length"}, timeout_s=0.5) as transport:
                started = time.monotonic()
                error = await refused(transport.send(outgoing(payload=bytes(30_000_000))))
                assert (error.error_class, error.detail) == (ErrorClass.TIMEOUT, "not all of it was taken in time")
                assert time.monotonic() - started < 10

        run(scenario())


def test_a_token_is_shown_first_and_its_refusal_is_an_auth_error(run: Run) -> None:
    with TcpReceiver("line", auth="right-token") as receiver:
        receiver.answer(b'{"type":"ack"}')

        async def scenario() -> None:
            for token, is_right in (("right-token", True), ("wrong-token", False)):
                secret = Secret("c1", "shop-key", "bearer", {"token": token})
                async with tcp(receiver.port, ACK, credential=secret) as transport:
                    if is_right:
                        for _ in range(3):
                            reply = await transport.send(outgoing())
                        assert reply.request["headers"]["token"] == "$SHOP_KEY"
                        assert await transport.probe()
                    else:
                        error = await refused(transport.send(outgoing()))
                        assert error.error_class is ErrorClass.AUTH
                        assert token not in repr((error.detail, error.request))
                        assert (await refused(transport.probe())).error_class is ErrorClass.AUTH

        run(scenario())
        assert receiver.count == 3


def test_a_payload_that_cannot_be_framed_is_dead_at_once(run: Run) -> None:
    async def scenario() -> None:
        async with tcp(9, {"framing": "line"}) as transport:
            error = await refused(transport.send(outgoing(payload=b"two\nlines")))
            assert (error.error_class, error.advice) == (ErrorClass.PROTOCOL, Advice.DEAD)

    run(scenario())


def test_an_envelope_goes_on_one_line(run: Run) -> None:
    """Line breaks between the tokens of a JSON payload become spaces; those within texts stand escaped."""
    with TcpReceiver("line") as receiver:

        async def scenario() -> None:
            async with tcp(receiver.port, {**ACK, "body": "envelope"}) as transport:
                await transport.send(outgoing(payload=b'{\n "a": "x\\ny"\n}'))

        run(scenario())
        assert b'"payload":{  "a": "x\\ny" }' in receiver.received[0]


@pytest.mark.parametrize(
    ("protocol", "config", "field"),
    [
        ("tcp", {"framing": "fixed"}, "config.size"),
        ("tcp", {"framing": "delimiter"}, "config.delimiter"),
        ("tcp", {"framing": "raw", "reply": "ack"}, "config.reply"),
        ("tls", {"framing": "raw", "reply": "message"}, "config.reply"),
        ("tcp", {"framing": "raw", "reply": "message", "tls": {}}, "config.reply"),
        ("tcp", {"body": "template"}, "config.template"),
        ("tcp", {"framing": "stx"}, "config.framing"),
        ("udp", {"broadcast": True, "reply": "message"}, "config.reply"),
        ("udp", {"reply": "ack"}, "config.reply"),
    ],
)
def test_a_config_that_cannot_work_is_refused(protocol: str, config: dict[str, Any], field: str) -> None:
    with pytest.raises(Malformed) as caught:
        validate_config(protocol, config)
    assert [error["field"] for error in caught.value.errors] == [field]


# --- UDP -------------------------------------------------------------------------


@asynccontextmanager
async def udp(port: int, config: dict[str, Any], egress: Egress = LOCAL, **fields: Any) -> AsyncIterator[UdpTransport]:
    transport = UdpTransport(address(protocol="udp", port=port, config=config, **{"timeout_s": 10.0, **fields}), egress)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.aclose()


def test_a_datagram_without_a_reply_claims_no_more_than_written(run: Run) -> None:
    with UdpReceiver() as receiver:

        async def scenario() -> None:
            async with udp(receiver.port, {}) as transport:
                replies = [await transport.send(outgoing(payload=bytes(65_507))) for _ in range(3)]
                assert {reply.ack_level for reply in replies} == {AckLevel.WRITTEN}
                error = await refused(transport.send(outgoing(payload=bytes(65_508))))
                assert (error.error_class, error.advice) == (ErrorClass.PROTOCOL, Advice.DEAD)

        run(scenario())
        receiver.wait_for(3)
        assert [len(body) for body in receiver.received] == [65_507] * 3


def test_of_a_name_s_addresses_one_with_a_way_to_it_is_taken(run: Run) -> None:
    """The first says no at once, as an IPv6 address does on a host that has none."""

    async def both(host: str) -> list[str]:
        return ["255.255.255.255", "127.0.0.1"]

    egress = Egress(parse_zones(["127.0.0.0/8", "255.255.255.255/32"]), lookup=both)
    with UdpReceiver() as receiver:

        async def scenario() -> None:
            async with udp(receiver.port, {}, egress, host="both.example") as transport:
                await transport.send(outgoing(payload=b"there"))

        run(scenario())
        receiver.wait_for(1)


def test_a_late_reply_is_never_taken_for_another(run: Run) -> None:
    """Each message has a socket of its own; what comes after its time comes to nobody."""
    with UdpReceiver() as receiver:

        def answer(message: bytes) -> bytes:
            if message == b"slow":
                time.sleep(1.5)
            return message

        receiver.answer(answer)

        async def scenario() -> None:
            async with udp(receiver.port, {"reply": "message"}, timeout_s=1.0) as transport:
                assert (await refused(transport.send(outgoing(payload=b"slow")))).error_class is ErrorClass.TIMEOUT
                assert (await transport.send(outgoing(payload=b"quick"))).body == b"quick"

        run(scenario())


def test_a_broadcast_goes_only_where_a_zone_opens_the_address(run: Run) -> None:
    """The address of all hosts is denied like any other that is not for the public, and opened like them."""
    with UdpReceiver() as receiver:

        async def scenario() -> None:
            fields = {"host": "127.255.255.255"}
            async with udp(receiver.port, {"broadcast": True}, **fields) as transport:
                reply = await transport.send(outgoing(payload=b"to all"))
                assert (reply.ack_level, reply.request["method"]) == (AckLevel.WRITTEN, "BROADCAST")
            async with udp(receiver.port, {}, **fields) as transport:  # not without saying so
                assert (await refused(transport.send(outgoing()))).error_class is ErrorClass.CONNECT
            for host in ("127.255.255.255", "255.255.255.255", "169.254.169.254", "224.0.0.1"):
                async with udp(receiver.port, {"broadcast": True}, Egress(), host=host) as transport:
                    with pytest.raises(BlockedAddress):
                        await transport.send(outgoing())

        run(scenario())
        assert receiver.wait_for(1) == [b"to all"]


def test_closing_ends_what_waits_for_a_reply(run: Run) -> None:
    with UdpReceiver() as receiver:
        receiver.answer(NOTHING)

        async def scenario() -> None:
            async with udp(receiver.port, {"reply": "message"}) as transport:
                waiting = asyncio.create_task(transport.send(outgoing()))
                await asyncio.to_thread(receiver.wait_for, 1)
                await transport.aclose()
                assert (await refused(waiting)).error_class is ErrorClass.CONNECT

        run(scenario())


@contextmanager
def mute(context: ssl.SSLContext) -> Iterator[int]:
    """Serve one TLS connection whose end is never answered; yields the port."""
    done = threading.Event()

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as line, context.wrap_socket(line, server_side=True):
            done.wait(60)

    with socket.create_server(("127.0.0.1", free_port())) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            thread.join(60)


def test_a_peer_that_says_no_farewell_keeps_no_line_open(
    run: Run, authority: CertificateAuthority, tmp_path: Path
) -> None:
    """Over TLS, too: a probe's loop ends with it, and would leave the socket to the collector."""
    with mute(authority.server_context(tmp_path, "127.0.0.1")) as port:

        async def scenario() -> None:
            async with tcp(port, {"framing": "line", "tls": {"ca": authority.pem}}) as transport:
                await transport.probe()
                assert lines_to(port) == 1
            assert lines_to(port) == 0

        run(scenario())
