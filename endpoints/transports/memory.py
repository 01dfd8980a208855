"""A transport that never leaves the process: for tests, and for measuring everything but the network.

The host of an endpoint names a mailbox. Somebody has to hold it open
(`with mailbox("orders") as received: ...`), or sending fails as it would on a network.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from endpoints.transports.base import AckLevel, ErrorClass, Outgoing, Reply, Transport, TransportError

Answer = Callable[[Outgoing], Awaitable[bytes]]
LONGEST = 100_000

_mailboxes: dict[str, tuple[deque[Outgoing], Answer]] = {}


async def _acknowledge(_: Outgoing) -> bytes:
    return b""


@contextmanager
def mailbox(name: str, answer: Answer = _acknowledge) -> Iterator[deque[Outgoing]]:
    """Hold a mailbox open; yields what arrives in it, the newest 100,000. `answer` makes the reply's body."""
    received: deque[Outgoing] = deque(maxlen=LONGEST)
    _mailboxes[name] = (received, answer)
    try:
        yield received
    finally:
        del _mailboxes[name]


class MemoryTransport(Transport):
    """Puts messages into a mailbox of this process."""

    async def open(self) -> None:
        """Nothing to prepare: the mailbox is looked up by each send, so it may open later."""
        self._open = True

    async def send(self, outgoing: Outgoing) -> Reply:
        """Hand the message over and wait for the answer of whoever holds the mailbox."""
        started = time.perf_counter()
        received, answer = self._mailbox()
        received.append(outgoing)
        try:
            async with asyncio.timeout(self.address.timeout_s):
                body = await answer(outgoing)
        except TimeoutError as exc:
            raise TransportError("no answer in time", error_class=ErrorClass.TIMEOUT) from exc
        cap = self.address.reply_cap(outgoing)
        reply = Reply(
            ack_level=AckLevel.APPLICATION,
            took_ms=(time.perf_counter() - started) * 1000,
            body=body[:cap],
            truncated=len(body) > cap,
            request={"method": "PUT", "url": f"memory://{self.address.host}", "headers": {}},
        )
        return self.answered(outgoing, reply)

    async def probe(self) -> Reply:
        """Say whether somebody holds the mailbox."""
        self._mailbox()
        return Reply(ack_level=AckLevel.APPLICATION, took_ms=0.0)

    async def aclose(self) -> None:
        """Send no more."""
        self._open = False

    def _mailbox(self) -> tuple[deque[Outgoing], Answer]:
        if not getattr(self, "_open", False):
            raise TransportError("the connection is closed", error_class=ErrorClass.CONNECT)
        found = _mailboxes.get(self.address.host)
        if found is None:
            raise TransportError(f"nobody holds mailbox '{self.address.host}'", error_class=ErrorClass.CONNECT)
        return found
