"""Real TCP, TLS and UDP receivers on loopback with scripted answers; they keep every message they got.

    with TcpReceiver(framing="length") as receiver:
        receiver.answer(b"ok")                # to each message; NOTHING: none at all
        ... send to receiver.port ...
        assert receiver.wait_for(1) == [b"..."]

They find frames in their own way, so that a fault in ours cannot hide in theirs.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import psutil

from tests.servers.ports import free_port
from tests.servers.threads import InThread, stop_listening

NOTHING = None
HANG_UP = "hang up"  # in the middle of the message's answer: RST, as a killed process leaves it

Said = bytes | str | None | Callable[[bytes], bytes | None]
Reader = asyncio.StreamReader


def lines_to(port: int) -> int:
    """Return how many connections this process has to a port."""
    return sum(bool(one.raddr) and one.raddr.port == port for one in psutil.Process().net_connections("tcp"))


async def _read_line(reader: Reader) -> bytes:
    return (await reader.readuntil(b"\n"))[:-1]


async def _read_length(reader: Reader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


async def _read_mllp(reader: Reader) -> bytes:
    assert await reader.readexactly(1) == b"\x0b"
    return (await reader.readuntil(b"\x1c\r"))[:-2]


async def _read_all(reader: Reader) -> bytes:
    data = await reader.read()
    if not data:
        raise EOFError
    return data


READERS: dict[str, Callable[[Reader], Awaitable[bytes]]] = {
    "line": _read_line,
    "length": _read_length,
    "mllp": _read_mllp,
    "raw": _read_all,
}
FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "line": lambda body: body + b"\n",
    "length": lambda body: len(body).to_bytes(4, "big") + body,
    "mllp": lambda body: b"\x0b" + body + b"\x1c\r",
    "raw": lambda body: body,
}


class Receiver(InThread):
    """What both have: a script, and what was received."""

    def __init__(self, *, port: int = 0, kind: int = socket.SOCK_STREAM) -> None:
        self.port = port or free_port(kind)
        self._said: Said = b""
        self._changed = threading.Condition()
        self.received: list[bytes] = []
        self.connections = 0
        self.is_keeping = True  # False: only count
        self.count = 0

    def answer(self, said: Said) -> None:
        """Say this to each message: bytes, NOTHING, HANG_UP, or what a function of the message returns."""
        with self._changed:
            self._said = said

    def wait_for(self, count: int, timeout_s: float = 30.0) -> list[bytes]:
        """Return what was received once it is at least `count` messages; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.count >= count, timeout_s):
                raise TimeoutError(f"{self.count} of {count} messages after {timeout_s} s")
            return list(self.received)

    def _note(self, message: bytes) -> bytes | str | None:
        with self._changed:
            self.count += 1
            if self.is_keeping:
                self.received.append(message)
            self._changed.notify_all()
            return self._said(message) if callable(self._said) else self._said


class TcpReceiver(Receiver):
    """Takes frames; `auth` is the token that the first frame of a connection must, or may, show."""

    def __init__(
        self,
        framing: str = "length",
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        auth: str = "",
        is_auth_optional: bool = False,
    ) -> None:
        super().__init__(port=port)
        self._framing, self._tls, self._auth, self._is_auth_optional = framing, tls, auth, is_auth_optional
        self._tasks: set[asyncio.Task[None]] = set()
        self.certificates: list[object] = []  # of each connection, what the client showed
        self.open = 0

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=self._tls, limit=2**26, reuse_address=True, backlog=1024
        )
        yield
        await stop_listening(server)
        # A client may be done with a TLS handshake, and hang up, before we are: such a connection comes only now.
        for _ in range(3):
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0.05)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        self.certificates.append(tls.getpeercert() if tls else None)
        try:
            await self._converse(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the peer hung up, or we stop
        finally:
            self._tasks.discard(task)
            self.open -= 1
            writer.transport.abort()

    async def _first(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Return the first message, after the token where one is shown; EOFError after a wrong one."""
        first = await READERS[self._framing](reader)
        if not self._auth or (self._is_auth_optional and b'"auth"' not in first):
            return first
        is_welcome = first == b'{"type":"auth","token":"%s"}' % self._auth.encode()
        said = b'{"type":"ready","system":null}' if is_welcome else b'{"type":"error","code":"unauthenticated"}'
        writer.write(FRAMES[self._framing](said))
        await writer.drain()
        if not is_welcome:
            raise EOFError
        return await READERS[self._framing](reader)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = await self._first(reader, writer)
        while not writer.is_closing():
            said = self._note(message)
            if said == HANG_UP:
                return
            if said is not NOTHING:
                assert isinstance(said, bytes)
                writer.write(FRAMES[self._framing](said))
                await writer.drain()
            if self._framing == "raw":
                writer.close()
                return
            message = await READERS[self._framing](reader)


class UdpReceiver(Receiver):
    """Takes datagrams, and answers each to where it came from."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port, kind=socket.SOCK_DGRAM)
        self._said = b"ok"  # an empty one asyncio does not send

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 2**20)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        made.bind(("0.0.0.0", self.port))  # a broadcast does not come to one address
        made.setblocking(False)
        transport, _ = await self._loop.create_datagram_endpoint(lambda: _Datagrams(self._note), sock=made)
        yield
        transport.close()
        await asyncio.sleep(0.05)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, note: Callable[[bytes], bytes | str | None]) -> None:
        self._note = note

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # by descent it is none on Python 3.11

    def datagram_received(self, data: bytes, source: object) -> None:
        said = self._note(data)
        if isinstance(said, bytes):
            self._transport.sendto(said, source)  # type: ignore[arg-type]
