"""Which cases have begun, written down before they do: of a lost worker only those cannot run again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from testing.document.suite import Case
from testing.runner.holding import Hold
from testing.runner.plan import Instance
from testing.runner.resuming import is_safe


class Beginnings:
    """Notes the cases that write; those that begin together are written together."""

    def __init__(self, hold: Hold, ask: Callable[..., Awaitable[Any]]) -> None:
        self._hold, self._ask = hold, ask
        self._waiting: set[int] = set()
        self._turn = asyncio.Lock()
        self._safe: dict[str, bool] = {}

    async def note(self, instance: Instance) -> bool:
        """Return once it stands that the case begins; False when the lease was lost: then it must not."""
        if self._is_safe(instance.case):
            return True
        self._waiting.add(instance.number)
        async with self._turn:
            if instance.number not in self._waiting:  # whoever had the turn before wrote it, too
                return True
            taken = sorted(self._waiting)
            if not await self._ask(self._hold.begin, taken):
                return False
            self._waiting.difference_update(taken)
            return True

    def _is_safe(self, case: Case) -> bool:
        if case.name not in self._safe:
            self._safe[case.name] = is_safe(case)
        return self._safe[case.name]
