"""Locks: a name that one case, or one run, holds at a time, over all workers and runs of a team."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from django.db.models.functions import Now

from testing.models import Lock, Run
from testing.runner.leases import lease_end

ASKED_EVERY_S = 0.1

Ask = Callable[..., Awaitable[Any]]


class Locks:
    """The locks of one run; whoever waits in the same run does so in turn, and asks the database alone."""

    def __init__(self, run: Run, ask: Ask) -> None:
        self._team, self._label, self._ask = run.owner_id, str(run)[:200], ask
        self._turns: dict[str, asyncio.Lock] = {}
        self.held: set[uuid.UUID] = set()

    async def take(self, names: Sequence[str], is_over: Callable[[], bool]) -> "list[tuple[str, uuid.UUID]] | None":
        """Wait for all of `names`, in their order; None when the run is over before."""
        taken: list[tuple[str, uuid.UUID]] = []
        for name in names:
            turn = self._turns.setdefault(name, asyncio.Lock())
            await turn.acquire()
            holder = uuid.uuid4()
            while not is_over():
                if await self._ask(try_lock, self._key(name), holder, self._label):
                    self.held.add(holder)
                    taken.append((name, holder))
                    break
                await asyncio.sleep(ASKED_EVERY_S)
            else:
                turn.release()
                await self.give_back(taken)
                return None
        return taken

    async def give_back(self, taken: Sequence[tuple[str, uuid.UUID]]) -> None:
        for name, holder in reversed(taken):
            self.held.discard(holder)
            try:
                await self._ask(unlock, self._key(name), holder)
            finally:
                self._turns[name].release()

    def _key(self, name: str) -> str:
        return f"{self._team or ''}:{name}"


def try_lock(name: str, holder: uuid.UUID, label: str) -> bool:
    """Take a lock that is free, or whose holder is lost."""
    if Lock.objects.filter(name=name, until__lt=Now()).update(holder=holder, label=label, until=lease_end()):
        return True
    Lock.objects.bulk_create([Lock(name=name, holder=holder, label=label, until=lease_end())], ignore_conflicts=True)
    return Lock.objects.filter(name=name, holder=holder).exists()


def unlock(name: str, holder: uuid.UUID) -> None:
    Lock.objects.filter(name=name, holder=holder).delete()


def renew(holders: Sequence[uuid.UUID]) -> None:
    """Keep what is held."""
    Lock.objects.filter(holder__in=holders).update(until=lease_end())
