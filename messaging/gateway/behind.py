"""Pages for those who are behind the tail: read one at a time, shared by all who need the same, bounded in memory."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable

from django.db.models import Q

from endpoints.edge.database_threads import DatabaseThreads
from messaging.gateway import entries
from messaging.gateway.entries import Page

SPAN = 8_192  # positions that one page looks at, at most
AT_ONCE = 64  # pages that are held in memory, being sent,
KEPT = 16  # and those read last,
KEPT_S = 5.0  # for as long

Wanted = tuple[Hashable, Q]  # what tells one question from another, and the question
Key = tuple[int, int, Hashable]


class Behind:
    """However many are behind, one page is read at a time, in turn: the head of the tail has a thread of its own."""

    def __init__(self) -> None:
        self.reads = 0
        self._threads = DatabaseThreads("tail-behind")
        self._room = asyncio.Semaphore(AT_ONCE)
        self._pages: OrderedDict[Key, tuple[float, asyncio.Future[Page]]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def page(self, after: int, head: int, wanted: Wanted, most: int) -> AsyncIterator[Page]:
        """Yield up to `most` of those `wanted` of (after, head], as far as one page goes, once there is room for it.

        Raises CursorExpired, and DatabaseError.
        """
        async with self._room:
            until, most = min(after + SPAN, head), min(most, entries.PAGE_ROWS)
            key = (after, most, wanted[0])
            read = self._known(key)
            if read is None:
                self.reads += 1
                read = self._threads.run(entries.read_behind, after, until, wanted[1], most)
                self._pages[key] = (time.monotonic(), read)
                read.add_done_callback(lambda done: self._landed(key, done, until))
            # Shielded: one that leaves must not take the page away from the others.
            yield await asyncio.shield(read)

    def shutdown(self) -> None:
        self._threads.shutdown()

    def forget(self) -> None:
        """Keep nothing while nobody follows."""
        self._pages.clear()

    def _known(self, key: Key) -> "asyncio.Future[Page] | None":
        read_at, read = self._pages.get(key, (float("-inf"), None))
        return read if time.monotonic() - read_at < KEPT_S else None

    def _landed(self, key: Key, done: "asyncio.Future[Page]", until: int) -> None:
        """Keep a page that is full: what ends at the head, or failed, is another one the next time."""
        is_full = not done.cancelled() and done.exception() is None and done.result().end < until
        kept = self._pages.get(key)
        if not is_full and kept is not None and kept[1] is done:
            del self._pages[key]
        while len(self._pages) > KEPT:
            self._pages.popitem(last=False)
