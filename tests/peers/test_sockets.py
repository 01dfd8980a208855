"""TCP, TLS and UDP deliveries to peers that this project did not write: Node.js, socat, openssl, an HL7 receiver."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from endpoints.transports import make_transport
from endpoints.transports.base import AckLevel, ErrorClass, Secret, Transport, TransportError
from tests.contract.peers import address, outgoing
from tests.peers.corpus import EVERYTHING
from tests.peers.foreign import Node, pem, program
from tests.servers.certificates import CertificateAuthority
from tests.servers.ports import free_port
from tests.stack import Stack, wait_for

CARRIES: dict[str, Callable[[bytes], bool]] = {
    "length": lambda body: True,
    "line": lambda body: b"\n" not in body,
    "-": lambda body: len(body) <= 65_507,
}
HL7 = b"MSH|^~\\&|CLINIC|WARD|LAB|HOSPITAL|202601020304||ADT^A01|4711|P|2.5\rPID|1||42^^^CLINIC||Gr\xc3\xbcn^Anna\r"


@asynccontextmanager
async def sending(protocol: str, port: int, **fields: Any) -> AsyncIterator[Transport]:
    host = "localhost" if protocol == "tls" else "127.0.0.1"
    transport = make_transport(
        address(**{"protocol": protocol, "host": host, "port": port, "timeout_s": 20.0} | fields)
    )
    await transport.open()
    try:
        yield transport
    finally:
        await transport.aclose()


@contextmanager
def running(name: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until left."""
    process = subprocess.Popen([program(name), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize(("protocol", "framing"), [("tcp", "length"), ("tcp", "line"), ("tls", "length"), ("udp", "-")])
async def test_a_corpus_comes_back_byte_by_byte_from_node(
    protocol: str,
    framing: str,
    authority: CertificateAuthority,
    tmp_path: Path,
) -> None:
    """Every plane, all bytes, numeric extremes, 0 B to 1 MiB: what the protocol can carry it carries unchanged."""
    tls = [pem(authority, tmp_path, "localhost")] if protocol == "tls" else []
    config: dict[str, Any] = {"reply": "message"} | ({"framing": framing} if framing != "-" else {})
    config |= {"tls": {"ca": authority.pem}} if tls else {}
    script = "udp.js" if protocol == "udp" else "tcp.js"
    with Node(script, free_port(), tmp_path / "ledger", framing, *tls) as node:
        async with sending(protocol, node.port, config=config, max_reply_bytes=2 * 1024 * 1024) as transport:
            unfit = transport.unfit(config) or (lambda _: "")
            carried = [body for body in EVERYTHING if not unfit(body)]
            replies = [await transport.send(outgoing(payload=body, message_type="request")) for body in carried]

        assert [reply.body for reply in replies] == carried
        assert node.received() == carried
        assert carried == [body for body in EVERYTHING if CARRIES[framing](body)]


@pytest.mark.parametrize(("protocol", "script"), [("tcp", "tcp.js"), ("udp", "udp.js")])
def test_a_node_peer_that_is_killed_with_messages_in_hand_loses_none(
    shared_stack: Stack, protocol: str, script: str, tmp_path: Path
) -> None:
    """SIGKILL after it has read and before it has acknowledged: each message is sent again to the next one."""
    from tests.acceptance.link import Link

    node = Node(script, free_port(), tmp_path / "ledger", "length")
    node.start(hold=3)
    config = {"reply": "message"} | ({"framing": "length"} if protocol == "tcp" else {})
    link = Link(shared_stack, f"{protocol}://127.0.0.1:{node.port}", config=config, timeout_s=2)
    ids = [link.send(payload={"n": n}) for n in range(3)]
    wait_for(lambda: node.received(), 30, "a message at the peer")
    node.kill()
    with node:
        found = [link.until(message_id, "delivered") for message_id in ids]

    assert {one["ack_level"] for one in found} == {"application"}
    assert {b'{"n":%d}' % n for n in range(3)} == set(node.received())


async def test_hl7_over_mllp_is_acknowledged_or_refused(tmp_path: Path) -> None:
    """AA delivers, AE is a nack; the answer must be to the message that was sent (MSA-2)."""
    with Node("tcp.js", free_port(), tmp_path / "ledger", "mllp") as node:
        async with sending("tcp", node.port, config={"framing": "mllp", "reply": "ack"}) as transport:
            taken = await transport.send(outgoing(payload=HL7, content_type="application/hl7-v2"))
            with pytest.raises(TransportError) as refused:
                await transport.send(outgoing(payload=HL7.replace(b"ADT^A01", b"ORU^R01")))

    assert taken.ack_level is AckLevel.TRANSPORT
    assert b"MSA|AA|4711" in taken.body
    assert refused.value.error_class is ErrorClass.NACK
    assert "AE" in refused.value.detail
    assert refused.value.reply is not None
    assert node.received()[0] == HL7


async def test_raw_bytes_reach_socat_and_its_answer_ends_with_the_connection() -> None:
    """Nothing but the end of a connection says that raw bytes are over, on both sides."""
    port = free_port()
    with running("socat", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork", "SYSTEM:cat"):
        async with sending("tcp", port, config={"framing": "raw", "reply": "message"}) as transport:
            await answered(transport)
            replies = [await transport.send(outgoing(payload=body)) for body in (b"one", bytes(range(256)))]
    assert [reply.body for reply in replies] == [b"one", bytes(range(256))]


async def test_what_is_only_written_reaches_socat_all_the_same(tmp_path: Path) -> None:
    """Without a reply nothing more than `written` is claimed; a polite close loses nothing of it."""
    port, file = free_port(), tmp_path / "taken"
    body = os.urandom(3_000_000).replace(b"\n", b" ")
    with running("socat", "-u", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr", f"OPEN:{file},creat,trunc") as socat:
        async with sending("tcp", port) as transport:
            reply = await until_up(transport, body)
            await transport.send(outgoing(payload=b"second"))
        await asyncio.to_thread(socat.wait, 30)
    assert reply.ack_level is AckLevel.WRITTEN
    assert file.read_bytes() == body + b"\nsecond\n"


async def answered(transport: Transport) -> None:
    """Wait until a peer that takes many connections is there."""
    async with asyncio.timeout(20):
        while True:
            try:
                await transport.probe()
            except TransportError:
                await asyncio.sleep(0.05)
            else:
                return


async def until_up(transport: Transport, body: bytes) -> Any:
    """Send to a peer that takes one connection only, as soon as it is there."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await transport.send(outgoing(payload=body))
            except TransportError as exc:
                if exc.error_class is not ErrorClass.CONNECT:
                    raise
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "shows", "error_class"),
    [("localhost", True, None), ("localhost", False, "tls"), ("other.example", True, "tls")],
)
async def test_openssl_sees_the_certificate_and_we_see_its_name(
    authority: CertificateAuthority,
    tmp_path: Path,
    name: str,
    shows: bool,
    error_class: str | None,
) -> None:
    """A server that asks for a client's certificate gets it; a wrong name, or none shown, is no connection."""
    port, ca = free_port(), tmp_path / "ca.pem"
    ca.write_text(authority.pem)
    words = ["-accept", f"127.0.0.1:{port}", "-cert", pem(authority, tmp_path, name), "-CAfile", str(ca), "-rev"]
    pair = authority.issue("client")
    secret = Secret("c1", "device", "mtls", {"cert": pair.cert, "key": pair.key}) if shows else None
    config = {"framing": "line", "reply": "message", "tls": {"ca": authority.pem}}
    with running("openssl", "s_server", "-quiet", "-Verify", "1", "-verify_return_error", *words):
        async with sending("tcp", port) as plain:
            await answered(plain)
        async with sending("tls", port, config=config, credential=secret) as transport:
            if error_class is None:
                assert (await transport.send(outgoing(payload=b"abc"))).body == b"cba"  # s_server -rev
                return
            with pytest.raises(TransportError) as caught:
                await transport.send(outgoing(payload=b"abc"))
            assert caught.value.error_class == error_class
