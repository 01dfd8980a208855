"""The tail of what was committed: read once per web process for all who follow it, and not at all while nobody does.

What was read last is kept, within bounds, so that those near the head need no reading of
their own; for those further behind see `behind`.
"""

import asyncio
import bisect
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import structlog
from django.db import Error as DatabaseError

from endpoints.edge.database_threads import DatabaseThreads
from messaging.gateway import entries
from messaging.gateway.behind import Behind, Wanted
from messaging.gateway.entries import Entry, Page
from messaging.wakeups import DUE, Listener

POLL_S = 0.1  # what other machines commit is seen this much later, what this one does at once
RETRY_S = 1.0
KEPT = 2_000  # messages
KEPT_BYTES = 16 * 1024 * 1024

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Tail:
    """One per web process; `open` it with the server, `aclose` it after those who follow have gone."""

    def __init__(self) -> None:
        self._kept: list[Entry] = []  # everything of (floor, head]
        self._positions: list[int] = []
        self._bytes = 0
        self._floor = 0
        self._head: int | None = None
        self._followers = 0
        self._wanted = asyncio.Event()
        self._moved = asyncio.Event()
        self._reader = DatabaseThreads("tail")
        self.behind = Behind()
        self._asked = DatabaseThreads("tail-asked")  # the audit waits for its turn to write, pages must not
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="tail")

    async def aclose(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._reader.shutdown()
        self.behind.shutdown()
        self._asked.shutdown()

    # -- for those who follow

    def enter(self) -> None:
        """Count one who follows."""
        self._followers += 1
        self._wanted.set()

    def leave(self) -> None:
        self._followers -= 1

    def holds(self, position: int) -> bool:
        """Say whether all that follows `position` is kept here."""
        return self._head is not None and position >= self._floor

    def next(self, position: int) -> Entry | None:
        """Return the first message behind `position`, which `holds`; None when there is none yet."""
        index = bisect.bisect_right(self._positions, position)
        return self._kept[index] if index < len(self._kept) else None

    async def moved(self) -> None:
        """Return when there is more than there was."""
        await self._moved.wait()

    async def ask(self, call: Callable[..., T], *arguments: object) -> T:
        """Run a question to the database beside the loop; raises what it raises."""
        return await self._asked.run(call, *arguments)

    @contextlib.asynccontextmanager
    async def page(self, after: int, wanted: Wanted, most: int) -> AsyncIterator[Page]:
        """Yield a page of those `wanted` behind `after`; raises CursorExpired, and DatabaseError."""
        while self._head is None:
            await self.moved()
        async with self.behind.page(after, max(self._head, after), wanted, most) as page:
            yield page

    # -- the loop

    async def _follow(self) -> None:
        while True:
            self._wanted.clear()
            if not self._followers:
                await self._wanted.wait()
            try:
                await self._follow_while_wanted()
            except Exception:
                log.exception("tail_failed")
                await asyncio.sleep(RETRY_S)

    async def _follow_while_wanted(self) -> None:
        """Read until nobody follows any more, and forget it all then."""
        # A hint costs the one who commits: there is somebody to be told only while it is of use.
        listener = Listener(DUE)
        try:
            await listener.open()
            await self._read_on(listener)
        finally:
            self._forget()
            listener.close()

    async def _read_on(self, listener: Listener) -> None:
        while self._followers:
            try:
                if self._head is None:
                    self._head = self._floor = (await self._reader.run(entries.newest)).position
                    self._tell()
                page = await self._reader.run(entries.read_head, self._head)
            except DatabaseError as exc:
                log.warning("stream_not_read", error=str(exc))
                await asyncio.sleep(RETRY_S)
                continue
            if page.entries:
                self._keep(page)
                self._tell()  # and look again at once: there may be more
            else:
                await listener.wait(POLL_S)

    def _keep(self, page: Page) -> None:
        self._kept += page.entries
        self._positions += [entry.position for entry in page.entries]
        self._bytes += sum(entry.size for entry in page.entries)
        self._head = page.end
        gone = 0
        while len(self._kept) - gone > 1 and (len(self._kept) - gone > KEPT or self._bytes > KEPT_BYTES):
            self._bytes -= self._kept[gone].size
            gone += 1
        if gone:
            self._floor = self._positions[gone - 1]
            del self._kept[:gone], self._positions[:gone]

    def _tell(self) -> None:
        """Wake those who wait; each then goes on from where it is."""
        self._moved.set()
        self._moved.clear()

    def _forget(self) -> None:
        self._kept, self._positions, self._bytes = [], [], 0
        self._head = None
        self.behind.forget()
