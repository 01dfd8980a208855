"""One timer for all sends of an endpoint: a timer for each cost a twentieth of the time a send takes."""

import asyncio
import time
from types import TracebackType
from typing import Protocol

TICK_S = 0.02  # how much later than asked a send may be ended


class Ends(Protocol):
    """What can be told that its time is over."""

    def end(self) -> None: ...


class Deadlines:
    """Ends what runs past its time, up to a tick late: whatever stands in `waiting`, with the time it has.

    `until` puts a block in there, as `asyncio.timeout_at` does.
    """

    def __init__(self) -> None:
        self.waiting: dict[Ends, float] = {}
        self._tick: asyncio.TimerHandle | None = None

    def until(self, at: float) -> "Deadline":
        """Return the context manager; TimeoutError leaves it when the block runs past `at` (`time.perf_counter`)."""
        return Deadline(self, at)

    def watch(self) -> None:
        """Look now and then, while there is something to look after."""
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_S, self._look)

    def _look(self) -> None:
        self._tick = None
        now = time.perf_counter()
        for deadline in [deadline for deadline, at in self.waiting.items() if at <= now]:
            deadline.end()
        if self.waiting:
            self.watch()

    def close(self) -> None:
        """End what is left, and look after nothing any more."""
        for each in list(self.waiting):
            each.end()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None


class Deadline:
    """One block under a deadline; ended by cancelling its task, which turns into TimeoutError on the way out."""

    __slots__ = ("_at", "_cancelling", "_deadlines", "_is_over", "_task")

    def __init__(self, deadlines: Deadlines, at: float) -> None:
        self._deadlines, self._at = deadlines, at
        self._is_over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._deadlines.waiting[self] = self._at
        self._deadlines.watch()

    def end(self) -> None:
        """Break the block off, once."""
        if not self._is_over:
            self._is_over = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._deadlines.waiting[self]
        # Cancelled by somebody else as well: then that is what happened (as in asyncio.Timeout).
        if self._is_over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
