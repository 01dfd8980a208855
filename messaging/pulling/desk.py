"""The desk where receivers fetch: those who wait cost a future each, one look at the table serves all of them.

Of two loops the one hands out what is due, the other writes down what was
acknowledged, each many at once. A hint wakes them, a poll makes up for lost hints.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID

import structlog

from endpoints.edge.database_threads import DatabaseThreads
from endpoints.errors import ControlPlaneError, NotFound, Overloaded
from messaging import store
from messaging.pulling.ending import Outcome, Word, settle
from messaging.pulling.leasing import Box, Parcel, Wish, give_back, lease, note_asked
from messaging.pulling.showing import answer
from messaging.wakeups import DONE, DUE, Listener, Notifier

log = structlog.get_logger(__name__)

POLL_S = 1.0
LOOK_EVERY_S = 0.02  # a burst of hints is answered by so many looks a second
NOTE_EVERY_S = 5.0
MOST_SERVED = 8  # in one transaction
MOST_WORDS = 500
IDLE_S = 3600.0  # nobody waits: whoever comes wakes us
T = TypeVar("T")
Told = Outcome | ControlPlaneError
DOWN = Overloaded("the database does not answer", code="database", retry_after_s=1)
NO_INBOX = NotFound("nothing is fetched here: it has no endpoint of protocol pull")


@dataclass(slots=True, eq=False)
class Asking:
    """Somebody who waits for deliveries."""

    wish: Wish
    is_patient: bool
    answer: "asyncio.Future[Parcel | ControlPlaneError]"


class Desk:
    """One per web process: `fetch` and `say`, between `open` and `aclose`."""

    def __init__(self) -> None:
        self._wake = Listener(DUE)
        self._due, self._done = Notifier(DUE), Notifier(DONE)
        self._leasing, self._ending = DatabaseThreads("inbox-leases"), DatabaseThreads("inbox-ends")
        self._waiting: dict[Box, deque[Asking]] = {}
        self._fresh: set[Box] = set()
        self._came = asyncio.Event()
        self._is_closing = False
        self._noted: dict[Box, float] = {}
        self._suspects_first: dict[Box, bool] = {}
        self._words: deque[tuple[Word, asyncio.Future[Told]]] = deque()
        self._said = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        await self._wake.open()
        loops = {"inbox-leases": self._serve(), "inbox-ends": self._write_down()}
        self._tasks = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]

    async def aclose(self) -> None:
        """Answer nobody any more; what was leased and not handed out is given back."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.let_go()
        self._wake.close()
        self._leasing.shutdown()
        self._ending.shutdown()
        self._due.close()
        self._done.close()

    def let_go(self) -> None:
        """Let nobody wait any more: who does is told that there is nothing, and may ask another process."""
        self._is_closing = True
        for asking in [asking for queue in self._waiting.values() for asking in queue]:
            self._answer(asking, Parcel())

    async def fetch(self, wish: Wish, wait_s: float) -> Parcel:
        """Return what is leased to the caller: within `wait_s`, else an empty parcel.

        Cancelled, it gives back what came too late to be handed over. Raises NotFound
        when there is no such inbox, Overloaded when the database fails.
        """
        asking = Asking(wish, wait_s > 0 and not self._is_closing, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(wish.box, deque()).append(asking)
        self._fresh.add(wish.box)
        self._came.set()
        self._wake.event.set()
        try:
            await asyncio.wait((asking.answer,), timeout=wait_s or None)
        except asyncio.CancelledError:
            self._leave(asking)
            raise
        found = asking.answer.result() if asking.answer.done() else self._leave(asking)
        if isinstance(found, ControlPlaneError):
            raise found
        return found

    def give_back(self, parcel: Parcel) -> None:
        """Let others have what nobody was there to take."""
        if parcel.claims:
            self._leasing.submit(give_back, parcel.claims).add_done_callback(lambda _: self._due.notify())

    async def say(self, word: Word) -> Outcome:
        """Return how the delivery stands once the word is written down; raises why it does not count."""
        future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._words.append((word, future))
        self._said.set()
        told = await future
        if isinstance(told, ControlPlaneError):
            raise told
        return told

    def _leave(self, asking: Asking) -> Parcel:
        """Wait no more; what comes all the same is given back."""
        if asking.answer.done() and isinstance(found := asking.answer.result(), Parcel):
            self.give_back(found)
        asking.answer.cancel()
        self._drop(asking)
        return Parcel()

    def _drop(self, asking: Asking) -> None:
        queue = self._waiting.get(asking.wish.box, deque())
        with contextlib.suppress(ValueError):
            queue.remove(asking)
        if not queue:
            self._waiting.pop(asking.wish.box, None)

    # --- handing out

    async def _serve(self) -> None:
        while True:
            if not await _or(self._look(), False):
                for box in list(self._waiting):
                    self._fail(box, DOWN)
            await self._wake.wait(POLL_S if self._waiting else IDLE_S)
            if self._waiting and not self._fresh:
                self._came.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._came.wait()

    async def _look(self) -> bool:
        """Hand out what is due to those who wait, and an empty answer to those who do not want to; return True."""
        fresh, self._fresh = self._fresh & self._waiting.keys(), set()
        if not self._waiting:
            return True
        # Who comes from now on is looked after next time: something may be due since.
        hurried = {box: [asking for asking in self._waiting[box] if not asking.is_patient] for box in fresh}
        await self._note()
        due = {target[:2] for target in await self._leasing.run(store.inboxes_due, list(self._waiting))}
        for box in due:
            if box in self._waiting and await self._hand_out(box):
                hurried.pop(box, None)
        for asking in [asking for each in hurried.values() for asking in each]:
            self._answer(asking, Parcel())
        return True

    async def _note(self) -> None:
        """Remember who asks, once in a while; say of an inbox that is none that it is none."""
        now = time.monotonic()
        stale = [box for box in self._waiting if now - self._noted.get(box, float("-inf")) >= NOTE_EVERY_S]
        if not stale:
            return
        asked = {box: self._waiting[box][0].wish.by.label for box in stale}
        known = await self._leasing.run(note_asked, asked)
        self._noted = {box: at for box, at in self._noted.items() if now - at < NOTE_EVERY_S}
        self._noted.update(dict.fromkeys(known, now))
        for box in set(stale) - known:
            self._fail(box, NO_INBOX)

    async def _hand_out(self, box: Box) -> bool:
        """Lease what is due there; return whether there may be more, for others who wait."""
        asking = [self._waiting[box][place] for place in range(min(MOST_SERVED, len(self._waiting[box])))]
        first = self._suspects_first[box] = not self._suspects_first.get(box, True)
        leasing = self._leasing.run(_lease, [each.wish for each in asking], first)
        try:
            parcels = await asyncio.shield(leasing)
        except asyncio.CancelledError:  # we close: what is leased by now goes to nobody
            await asyncio.wait((leasing,))
            for parcel in () if leasing.exception() else leasing.result():
                self.give_back(parcel)
            raise
        for each, parcel in zip(asking, parcels, strict=True):
            if parcel.claims or not each.is_patient:
                self._answer(each, parcel)
        if not any(parcel.claims for parcel in parcels) or box not in self._waiting:
            return False
        self._fresh.add(box)
        self._wake.event.set()
        return True

    def _answer(self, asking: Asking, parcel: Parcel) -> None:
        if asking.answer.done():
            self.give_back(parcel)
        else:
            asking.answer.set_result(parcel)
        self._drop(asking)

    def _fail(self, box: Box, error: ControlPlaneError) -> None:
        for asking in list(self._waiting.get(box, ())):
            if not asking.answer.done():
                asking.answer.set_result(error)
            self._drop(asking)

    # --- writing down

    async def _write_down(self) -> None:
        while True:
            await self._said.wait()
            self._said.clear()
            while batch := self._next_words():
                told = await self._settled([word for word, _ in batch])
                for (_, future), outcome in zip(batch, told, strict=True):
                    if not future.done():
                        future.set_result(outcome)
                self._done.notify()
                self._due.notify()  # there is room again, the next of a key may go, a response be due

    def _next_words(self) -> list[tuple[Word, "asyncio.Future[Told]"]]:
        """Return what to write down next: one word of each delivery, so that a second one finds the first."""
        batch: dict[UUID, tuple[Word, asyncio.Future[Told]]] = {}
        left: deque[tuple[Word, asyncio.Future[Told]]] = deque()
        while self._words and len(batch) < MOST_WORDS:
            item = self._words.popleft()
            if item[0].delivery in batch:
                left.append(item)
            else:
                batch[item[0].delivery] = item
        self._words.extendleft(reversed(left))
        return list(batch.values())

    async def _settled(self, words: Sequence[Word]) -> Sequence[Told]:
        return await _or(self._ending.run(settle, words), [DOWN] * len(words))


async def _or(answer: Awaitable[T], otherwise: T) -> T:
    """Return what is awaited, or `otherwise`: a loop that ended would leave every later caller waiting for ever."""
    try:
        return await answer
    except Exception:
        log.exception("inbox_failed")
        return otherwise


def _lease(wishes: Sequence[Wish], suspects_first: bool) -> list[Parcel]:
    """Lease, and write the answers: here, where it holds up nobody else."""
    parcels = lease(wishes, suspects_first=suspects_first)
    return [replace(parcel, body=answer(parcel.claims, parcel.until)) for parcel in parcels]
