"""A real HTTP/1.1 receiver on loopback with scripted answers; it keeps every request it got.

    with HttpReceiver() as receiver:
        receiver.answer(500, 500, 200)        # the last one repeats
        ... send to receiver.url ...
        first = receiver.wait_for(1)[0]
        assert first.body == b"..."

It speaks the wire itself, so that it can misbehave in ways no web framework allows.
"""

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.servers.answers import Answer, write
from tests.servers.ports import free_port
from tests.servers.threads import InThread, stop_listening

Script = int | Answer | Callable[["Received"], "int | Answer"]


@dataclass(frozen=True)
class Received:
    """One request as it came; header names are lower-case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.time)
    peer_certificate: dict[str, object] | None = None
    connection: int = 0  # which connection it came over, counted from 1


class HttpReceiver(InThread):
    """The server; use as a context manager or `start` and `stop`."""

    def __init__(self, *, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.host, self.port = host, port or free_port()
        self._tls = tls
        self._script: list[Script] = [200]
        self._by_path: dict[str, Script] = {}
        self._changed = threading.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.received: list[Received] = []
        self.connections = 0
        self.is_keeping = True  # False: forget each request at once, for floods

    # -- what a test says and asks ---------------------------------------------------

    @property
    def url(self) -> str:
        """The base address, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def answer(self, *script: Script) -> None:
        """Answer the next requests so, one after the other; the last one is for all that follow."""
        with self._changed:
            self._script = list(script)

    def answer_at(self, path: str, answer: Script) -> None:
        """Answer requests for this path so, whatever the script says."""
        with self._changed:
            self._by_path[path] = answer

    def wait_for(self, count: int, timeout_s: float = 30.0) -> list[Received]:
        """Return what was received once it is at least `count`; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.received) >= count, timeout_s):
                raise TimeoutError(f"{len(self.received)} of {count} requests after {timeout_s} s")
            return list(self.received)

    def clear(self) -> None:
        """Forget what was received."""
        with self._changed:
            self.received.clear()

    # -- life ------------------------------------------------------------------------

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(
            self._accept, self.host, self.port, ssl=self._tls, limit=2**20, reuse_address=True, backlog=1024
        )
        self.port = server.sockets[0].getsockname()[1]
        yield
        await stop_listening(server)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # An aborted transport is closed in the rounds that follow; one that a peer
        # dropped in the middle of its handshake, only once that is noticed.
        await asyncio.sleep(0.05)

    # -- one connection --------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._converse(reader, writer, self.connections)
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError, asyncio.LimitOverrunError):
            pass  # the peer hung up, or we stop
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        while not writer.is_closing():
            request = await _read_request(reader, writer, connection)
            answer = self._note(request)
            if request.headers.get("expect") == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await write(writer, answer)

    def _note(self, request: Received) -> Answer:
        with self._changed:
            if self.is_keeping:
                self.received.append(request)
            self._changed.notify_all()
            script: Script | None = self._by_path.get(request.path.partition("?")[0])
            if script is None:
                script = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if callable(script):
            script = script(request)
        return Answer(script) if isinstance(script, int) else script


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> Received:
    raw = await reader.readuntil(b"\r\n\r\n")
    start, *lines = raw.decode("latin-1").split("\r\n")[:-2]
    method, path, _ = start.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await _read_body(reader, headers)
    tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
    certificate = tls.getpeercert() if tls else None
    return Received(method, path, headers, body, peer_certificate=certificate, connection=connection)


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


__all__ = ["Answer", "HttpReceiver", "Received"]
