"""A real SMTP server on loopback that keeps every mail it got, and refuses or hangs on demand.

with SmtpServer() as server:
    ... EMAIL_URL=server.url ...
    mail = server.wait_for(1)[0]
    assert mail["Subject"] == "..."
"""

import asyncio
import email
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import Message

from tests.servers.ports import free_port
from tests.servers.threads import InThread, stop_listening


class SmtpServer(InThread):
    """The server; use as a context manager."""

    def __init__(self, *, refusals: int = 0) -> None:
        self.port = free_port()
        self.mails: list[Message] = []
        self.attempts = 0
        self.refusals = refusals  # how many of the next mails are refused for now
        self.hangs = False
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def wait_for(self, count: int, timeout_s: float = 30.0) -> list[Message]:
        """Return the mails once there are at least `count`; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.mails) >= count, timeout_s):
                raise TimeoutError(f"{len(self.mails)} of {count} mails after {timeout_s} s, {self.attempts} attempts")
            return list(self.mails)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        yield
        await stop_listening(server)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the peer hung up, or we stop
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.hangs:
            await self._stopping.wait()
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            word = line[:4].upper().strip()
            if word == b"DATA":
                writer.write(b"354 go on\r\n")
                writer.write(self._note(await self._read_data(reader)))
            elif word == b"QUIT":
                writer.write(b"221 bye\r\n")
                await writer.drain()
                return
            else:
                writer.write(b"250 ok\r\n")
            await writer.drain()

    async def _read_data(self, reader: asyncio.StreamReader) -> bytes:
        lines = []
        while (line := await reader.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        return b"".join(lines)

    def _note(self, data: bytes) -> bytes:
        with self._changed:
            self.attempts += 1
            if self.refusals > 0:
                self.refusals -= 1
                return b"451 try again later\r\n"
            self.mails.append(email.message_from_bytes(data))
            self._changed.notify_all()
            return b"250 taken\r\n"
