"""`?wait=`: hold the answer until every delivery of a message ended, or the time is up."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import structlog
from django.db import Error as DatabaseError
from django.db.models import Exists, OuterRef

from endpoints.edge.database_threads import DatabaseThreads
from messaging.intake.commit import Accepted
from messaging.models import OPEN_STATES, Delivery, Message
from messaging.wakeups import DONE, Listener

log = structlog.get_logger(__name__)

POLL_S = 0.25
NOTHING: dict[str, Any] = {"deliveries": [], "response": None}  # of what cannot be read, or is there no more
Wanted = tuple[int, str]  # source id, message id


class Waiter:
    """One look at the table serves all who wait in this process: on a hint, else every quarter second."""

    def __init__(self, describe: Callable[[Message], dict[str, Any]]) -> None:
        """`describe` gives the answer's `deliveries` and `response` of an ended message."""
        self._describe = describe
        self._listener = Listener(DONE)
        self._waiting: dict[Wanted, set[asyncio.Future[None]]] = {}
        self._wanted = asyncio.Event()
        self._threads = DatabaseThreads("waiting")
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self._listener.open()
        self._task = asyncio.create_task(self._watch(), name="waiting")

    async def aclose(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._listener.close()
        self._threads.shutdown()

    async def wait(self, accepted: Accepted, source_id: int, wait_s: float) -> tuple[bool, dict[str, Any]]:
        """Return whether all deliveries ended within `wait_s`, and the body that says how far each is."""
        wanted = (source_id, accepted.message_id)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(wanted, set()).add(future)
        self._wanted.set()
        try:
            async with asyncio.timeout(wait_s):
                await future
            ended = True
        except TimeoutError:
            ended = False
        finally:
            self._leave(wanted, future)
        try:
            outcome = await self._threads.run(self._outcome, wanted)
        except DatabaseError as exc:  # the message is stored, so this is no reason to send it again
            log.warning("outcome_not_read", error=str(exc))
            ended, outcome = False, dict(NOTHING)
        return ended, {"message_id": accepted.message_id, "status": accepted.status, **outcome}

    def _leave(self, wanted: Wanted, future: "asyncio.Future[None]") -> None:
        """Wait no more; others may still wait for the same message."""
        others = self._waiting[wanted]
        others.discard(future)
        if not others:
            del self._waiting[wanted]

    async def _watch(self) -> None:
        while True:
            if not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
            try:
                for wanted in await self._threads.run(_ended, list(self._waiting)):
                    for future in self._waiting.get(wanted, ()):
                        if not future.done():
                            future.set_result(None)
            except DatabaseError:
                pass  # the database is away: those who wait are told what is known when their time is up
            await self._listener.wait(POLL_S)

    def _outcome(self, wanted: Wanted) -> dict[str, Any]:
        message = Message.objects.filter(source_id=wanted[0], message_id=wanted[1]).first()
        return dict(NOTHING) if message is None else self._describe(message)


def _ended(wanted: list[Wanted]) -> list[Wanted]:
    """Return those whose deliveries have all ended; who waits for a stored message that is gone, waits for nothing."""
    still_open = Delivery.objects.filter(message=OuterRef("pk"), state__in=OPEN_STATES)
    waits = Message.objects.filter(Exists(still_open), message_id__in=[name for _, name in wanted])
    left = set(waits.values_list("source_id", "message_id"))
    return [each for each in wanted if each not in left]
