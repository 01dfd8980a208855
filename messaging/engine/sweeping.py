"""When to sweep: at once where something is overdue, else now and then, since a sweep does more than that."""

import time
from collections.abc import Awaitable, Callable

from messaging.engine import recovery

SWEEPS = 10
ANYWAY_S = 5.0

# Runs a call in the engine's database thread; None when the database failed, after a while.
InDatabase = Callable[[Callable[[], int]], Awaitable[int | None]]


class Sweeper:
    """Knows when the last sweep was; `is_overdue` says whether a look found work for one."""

    def __init__(self, in_database: InDatabase, on_found: Callable[[], None]) -> None:
        self._in_database, self._on_found = in_database, on_found
        self._swept_at = float("-inf")
        self.is_overdue = True

    async def step(self) -> None:
        """Sweep if it is time to, and tell when anything was found."""
        if not self.is_overdue and time.monotonic() - self._swept_at < ANYWAY_S:
            return
        self._swept_at = time.monotonic()
        for _ in range(SWEEPS):  # a full one may have left some; the renewal of leases is not kept waiting for all
            found = await self._in_database(recovery.sweep)
            if found:
                self._on_found()
            if found is None or found < recovery.SWEEP:
                return
