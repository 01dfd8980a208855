"""Hints between processes of one machine that something is due or done; the poller stays the truth.

A hint is an empty UDP datagram on loopback. Each listener leaves a file
`<topic>-<pid>-<port>` in var/run/wake, which senders list at most once a second.
A lost hint costs one poll interval, a forged one an idle look at the table.
"""

import asyncio
import contextlib
import os
import re
import socket
import time
from pathlib import Path

from django.conf import settings

DUE = "due"  # for those who send: something may be due
DONE = "done"  # for those who wait: a delivery may have ended
JOBS = "jobs"  # for those who work jobs: there may be one
LIST_EVERY_S = 1.0
LISTENER = re.compile(r"[a-z]+-([0-9]+)-([0-9]+)")


def _folder() -> Path:
    return Path(settings.VAR_DIR) / "run" / "wake"


class Listener(asyncio.DatagramProtocol):
    """Sets `event` when a hint comes; its owner may set it for reasons of its own, too."""

    def __init__(self, topic: str) -> None:
        self.event = asyncio.Event()
        self._is_hinted = False
        self._topic = topic
        self._transport: asyncio.DatagramTransport | None = None
        self._file: Path | None = None

    async def open(self) -> None:
        """Begin to listen on a free loopback port, and say so."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        port = self._transport.get_extra_info("sockname")[1]
        self._file = _folder() / f"{self._topic}-{os.getpid()}-{port}"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.touch()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.hint()

    def hint(self) -> None:
        """Take it as if a hint had come."""
        self._is_hinted = True
        self.event.set()

    def take_hint(self) -> bool:
        """Say whether a hint came since the last time."""
        was_hinted, self._is_hinted = self._is_hinted, False
        return was_hinted

    async def wait(self, timeout_s: float) -> None:
        """Return when the event is set, or after `timeout_s`; each wait starts afresh."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.event.wait()
        self.event.clear()

    def close(self) -> None:
        if self._transport:
            self._transport.close()
        if self._file:
            self._file.unlink(missing_ok=True)


class Notifier:
    """Sends hints on one topic; cheap enough for every commit, callable from any thread."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._ports: list[int] = []
        self._listed_at = float("-inf")

    def close(self) -> None:
        """Hint no more."""
        self._socket.close()

    def notify(self) -> None:
        """Hint to every listener of the topic on this machine."""
        now = time.monotonic()
        if now - self._listed_at > LIST_EVERY_S:
            with contextlib.suppress(OSError):  # no files left, a folder that is gone: the poll makes up for it
                self._ports, self._listed_at = self._list(), now
        for port in self._ports:
            try:
                self._socket.sendto(b"", ("127.0.0.1", port))
            except OSError:
                self._listed_at = float("-inf")  # a full buffer or a listener gone: the poll makes up for it

    def _list(self) -> list[int]:
        """Return the ports listened on; what a killed process left behind is swept away."""
        ports = []
        for file in _folder().glob(f"{self._topic}-*"):
            match = LISTENER.fullmatch(file.name)
            if match is None:
                continue  # not ours
            if Path(f"/proc/{match[1]}").exists() or not Path("/proc").exists():
                ports.append(int(match[2]))
            else:
                with contextlib.suppress(OSError):  # another user's
                    file.unlink(missing_ok=True)
        return ports
