"""Locks: a name that one case, or one run, holds at a time, over all workers and runs of a team."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from django.db import Error as DatabaseError
from django.db.models.functions import Now

from testing.models import Lock, Run
from testing.runner.leases import lease_end

log = structlog.get_logger(__name__)

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
        has_all = False
        try:
            for name in names:
                await self._turns.setdefault(name, asyncio.Lock()).acquire()
                taken.append((name, holder := uuid.uuid4()))
                while not is_over():
                    if await self._ask(try_lock, self._key(name), holder, self._label):
                        self.held.add(holder)
                        break
                    await asyncio.sleep(ASKED_EVERY_S)
                else:
                    return None
            has_all = True
            return taken
        finally:
            if not has_all:
                await self.give_back(taken)

    async def give_back(self, taken: Sequence[tuple[str, uuid.UUID]]) -> None:
        """Let go of all of them; what the database does not hear of falls free when its lease is over."""
        self.held.difference_update(holder for _, holder in taken)
        try:
            for name, holder in reversed(taken):
                try:
                    await self._ask(unlock, self._key(name), holder)
                except DatabaseError as exc:
                    log.warning("lock_not_given_back", lock=name, error=str(exc))
        finally:
            for name, _ in taken:
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


def renew(holders: Sequence[uuid.UUID]) -> bool:
    """Keep what is held; False when some of it ran out and somebody else has it."""
    return Lock.objects.filter(holder__in=holders).update(until=lease_end()) == len(holders)
