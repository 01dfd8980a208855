"""Locks: a name that one case, or one run, holds at a time, over all workers and runs of a team.

A run of several teams holds it in each of them: nobody else of any has it meanwhile.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from django.db import Error as DatabaseError
from django.db.models.functions import Now

from testing.models import Lock, Run
from testing.owning import all_teams
from testing.runner.leases import lease_end

log = structlog.get_logger(__name__)

ASKED_EVERY_S = 0.1

Ask = Callable[..., Awaitable[Any]]


class Locks:
    """The locks of one run; whoever waits in the same run does so in turn, and asks the database alone."""

    def __init__(self, run: Run, ask: Ask) -> None:
        self._run, self._label, self._ask = run, str(run)[:200], ask
        self._teams: Sequence[int | None] | None = None
        self._turns: dict[str, asyncio.Lock] = {}
        self.held: set[uuid.UUID] = set()
        self.waiting = 0  # cases, or the whole run, that do not have theirs yet

    async def take(self, names: Sequence[str], is_over: Callable[[], bool]) -> "list[tuple[str, uuid.UUID]] | None":
        """Wait for all of `names`, in their order; None when the run is over before."""
        self.waiting += 1
        try:
            return await self._take(names, is_over)
        finally:
            self.waiting -= 1

    async def _take(self, names: Sequence[str], is_over: Callable[[], bool]) -> "list[tuple[str, uuid.UUID]] | None":
        taken: list[tuple[str, uuid.UUID]] = []
        has_all = False
        keys = await self._keys(names) if names else []
        try:
            for key in keys:
                await self._turns.setdefault(key, asyncio.Lock()).acquire()
                taken.append((key, holder := uuid.uuid4()))
                while not is_over():
                    if await self._ask(try_lock, key, holder, self._label):
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
            for key, holder in reversed(taken):
                try:
                    await self._ask(unlock, key, holder)
                except DatabaseError as exc:
                    log.warning("lock_not_given_back", lock=key, error=str(exc))
        finally:
            for key, _ in taken:
                self._turns[key].release()

    async def _keys(self, names: Sequence[str]) -> list[str]:
        """Return what to hold, name by name and team by team: in one order for all, so that no two wait in a circle."""
        if self._teams is None:
            self._teams = await self._ask(all_teams, self._run) or [None]
        return [f"{team or ''}:{name}" for name in names for team in self._teams]


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
