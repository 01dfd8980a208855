"""Connections over real sockets to a server in this process, whose bounds are small and whose senders make trouble."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

from endpoints.access.principal import COMMAND, Principal
from endpoints.errors import Overloaded
from messaging.intake.counter import Intake
from messaging.intake.writer import Writer
from messaging.listening.connection import ITEM_BYTES
from messaging.listening.devices import Device, DeviceConnection
from messaging.listening.limits import Held, Limits
from messaging.listening.tally import Tally
from messaging.listening.tcp import TcpServer
from messaging.listening.tls import server_context
from tests.listening.certificates import Authority

DEVICE = Device(
    networks=(ip_network("127.0.0.0/8"),),
    certificates=frozenset(),
    principal=COMMAND,
    target="",
    message_type="event",
    event_type="",
    content_type="text/plain",
    ack="text",
    ack_bytes=b"OK",
    cap=1000,
)


class Waiting(DeviceConnection):
    """Whose sender is looked up for ever."""

    asked = asyncio.Event()

    async def principal(self) -> Principal:
        self.asked.set()
        return await asyncio.get_running_loop().create_future()


class Broken(DeviceConnection):
    """Whose lookup has a bug."""

    async def principal(self) -> Principal:
        raise RuntimeError("nobody thought of this")


class Full(DeviceConnection):
    """For whose messages there is no room."""

    asked = 0

    async def principal(self) -> Principal:
        type(self).asked += 1
        await asyncio.sleep(0)
        raise Overloaded("no room")


class Spiteful(DeviceConnection):
    """That breaks whoever looks at its deadlines for the first time."""

    looks = 0

    @property
    def is_known(self) -> bool:
        self.looks += 1
        if self.looks == 1:
            raise RuntimeError("nobody thought of this")
        return False


class Server:
    """A server of devices, what it holds and what it counted."""

    def __init__(self, kind: type[DeviceConnection], held: Held, limits: Limits | None, framing: str) -> None:
        self.held, self.tally, self.port = held, Tally("devices"), 0
        self.writers: list[asyncio.StreamWriter] = []
        self.tcp = TcpServer(
            Intake(Writer(on_commit=lambda: None)),  # no message comes as far as being stored
            self.tally,
            framing=framing,
            limits=limits,
            held=held,
            make=lambda server: kind(server, [(DEVICE, self.tally)]),
        )

    async def send(self, data: bytes) -> asyncio.StreamReader:
        """Connect, send and return what reads the answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(data)
        return reader

    def codes(self) -> list[str]:
        return [one["code"] for one in self.tally.refusals]


@asynccontextmanager
async def serving(
    kind: type[DeviceConnection],
    *,
    held: int = 10_000,
    limits: Limits | None = None,
    framing: str = "line",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Server]:
    server = Server(kind, Held(held), limits, framing)
    server.port = await server.tcp.open("127.0.0.1", 0, tls)
    try:
        yield server
    finally:
        await server.tcp.aclose()
        for writer in server.writers:
            writer.close()


async def to_end(reader: asyncio.StreamReader) -> bytes:
    """Return what is answered up to the end; a reset is one, too."""
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""


async def test_a_server_that_closes_holds_nothing_of_what_it_could_not_store() -> None:
    """The count of bytes is the process's: what a closed listener kept of it would be missing for ever."""
    async with serving(Waiting) as server:
        reader = await server.send(b"one\ntwo\n")
        await Waiting.asked.wait()
        assert server.held.bytes == 6 + 2 * ITEM_BYTES

    assert server.held.bytes == 0
    assert await to_end(reader) == b""


async def test_a_bug_ends_the_connection_and_holds_nothing() -> None:
    """Left open it would acknowledge later messages, which the device would take for the lost ones."""
    async with serving(Broken) as server:
        reader = await server.send(b"one\ntwo\n")

        assert await to_end(reader) == b""
        assert server.held.bytes == 0


async def test_what_is_queued_behind_a_refused_lot_is_dropped() -> None:
    """Whatever is stored of it could be acknowledged only in the name of the refused ones."""
    Full.asked = 0
    async with serving(Full) as server:
        reader = await server.send(b"x\n" * 1500)

        assert await to_end(reader) == b""
        assert Full.asked == 1
        assert server.held.bytes == 0


async def test_no_room_for_the_messages_before_a_bad_frame_ends_the_connection() -> None:
    """The bytes that are no frame do not hide it: the refusal is counted and the connection ends in order."""
    async with serving(Full, held=7, framing="length") as server:
        reader = await server.send(b"\0\0\0\x05hello\0\0\0\x05world\xff\xff\xff\xff")

        assert await to_end(reader) == b""
        assert set(server.codes()) == {"full"}
        assert server.held.bytes == 0


async def test_a_bug_in_one_round_leaves_the_deadlines_in_force() -> None:
    """The next round closes what is too late, and so do those of later connections."""
    async with serving(Spiteful, limits=Limits(auth_s=0.1)) as server:
        for _ in range(2):
            assert await to_end(await server.send(b"")) == b""

        assert server.codes() == ["auth_timeout"] * 2


async def test_half_made_handshakes_are_connections_and_end_in_time() -> None:
    """No more of them than connections; who is over that is closed, who takes too long is, and then there is room."""
    authority = Authority()
    made = authority.certificate("localhost")
    limits = Limits(auth_s=1, per_address=2)
    async with serving(Full, limits=limits, tls=server_context(made.cert, made.key)) as server:
        half = [await server.send(b"\x16\x03\x01") for _ in range(2)]
        assert await to_end(await server.send(b"")) == b""
        assert server.codes() == ["full"]
        assert [await to_end(reader) for reader in half] == [b"", b""]
        assert server.codes() == ["full", "tls", "tls"]

        trusting = ssl.create_default_context(cadata=authority.pem)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=trusting, server_hostname="localhost"
        )
        server.writers.append(writer)
        writer.write(b"one\n")
        await to_end(reader)

    assert server.codes()[-1] == "full"  # of the message: it came as far as that
    assert server.tally.connections == 0


async def test_a_server_that_closes_breaks_off_handshakes() -> None:
    made = Authority().certificate("localhost")
    async with serving(Full, tls=server_context(made.cert, made.key)) as server:
        reader = await server.send(b"\x16\x03\x01")
        await asyncio.sleep(0)
    assert await to_end(reader) == b""
