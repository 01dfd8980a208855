"""The processes that deliver beside us, as the table shows them: who lives, and by which view each divides."""

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from messaging import store
from messaging.engine.shares import Announced, Shares, View, as_view
from messaging.models import Member

SILENT_S = 2.0  # beyond a lease: then a member is gone, and had stopped sending a while before
FORGOTTEN = timedelta(hours=1)
BEATS = 3  # a lease
READ_EVERY_S = 0.45  # while nobody joins or leaves
JOIN_ROUNDS = 4  # alone, two suffice: be there, announce

# Runs a call in the engine's database thread; None when the database failed, after a while.
InDatabase = Callable[..., Awaitable[Any]]


class Crowd:
    """We among the others: says that we live, and follows who else does."""

    def __init__(
        self,
        shares: Shares,
        loads: Callable[[], dict[UUID, tuple[int, int]]],
        in_database: InDatabase,
        lease_s: float,
        claimer: str,
    ) -> None:
        """`loads` gives {endpoint: (in flight, cap)} of what is on its way; we share with those of our `claimer`."""
        self._claimer = claimer
        self._shares, self._loads, self._in_database, self._lease_s = shares, loads, in_database, lease_s
        self._said: Announced | None = None
        self._said_at = float("-inf")
        self._read_at = float("-inf")

    @property
    def is_silent(self) -> bool:
        """Say whether we said nothing for so long that others may soon take our parts: nothing new may be sent."""
        return time.monotonic() - self._said_at >= self._lease_s

    async def join(self) -> None:
        """Be one of them; alone, at once."""
        for _ in range(JOIN_ROUNDS):
            if not self._shares.is_settled:
                await self.attend()

    async def attend(self) -> bool:
        """Say what is new or due, and take in what the others said; return whether our parts changed."""
        now = time.monotonic()
        if self._shares.is_settled and now - self._read_at < READ_EVERY_S:
            return False
        self._read_at = now
        was_silent = self.is_silent
        if was_silent:
            self._shares.leave()
        over = () if self._shares.is_settled else self._shares.still_over(self._loads())
        news = Announced(self._shares.view, frozenset(over))
        is_due = news != self._said or now - self._said_at >= self._lease_s / BEATS
        members = await self._in_database(
            attend, self._shares.member, self._claimer, news if is_due else None, self._lease_s
        )
        if members is None:
            return was_silent
        if is_due:
            self._said, self._said_at = news, now
        return self._shares.follow(members) or was_silent

    async def leave(self) -> None:
        """Give our parts back: nothing of ours is on its way any more."""
        await self._in_database(leave, self._shares.member)


def attend(me: UUID, claimer: str, said: Announced | None, lease_s: float) -> dict[UUID, Announced]:
    """Announce `said` (None: nothing new, and the last time is not long ago) and return what the living said."""
    if said is not None:
        with transaction.atomic():
            _announce(me, claimer, said)
    now, rows = store.members(claimer)
    return {
        member: Announced(as_view(view), frozenset(UUID(item) for item in over))
        for member, place, pid, started, seen_at, view, over in rows
        if now is not None and _is_alive(place, pid, started, now - seen_at <= timedelta(seconds=lease_s + SILENT_S))
    }


def leave(me: UUID) -> None:
    """Take ourselves out of the table."""
    Member.objects.filter(pk=me).delete()


def _announce(me: UUID, claimer: str, said: Announced) -> None:
    fields = {"view": _texts(said.view), "over": _texts(sorted(said.over))}
    if Member.objects.filter(pk=me).update(seen_at=Now(), **fields):
        return
    Member.objects.filter(seen_at__lt=Now() - FORGOTTEN).delete()
    place, pid, started = _place(), os.getpid(), _started(os.getpid())
    Member.objects.create(pk=me, claimer=claimer, place=place, pid=pid, pid_started=started, seen_at=Now(), **fields)


def _texts(ids: View | Sequence[UUID]) -> list[str]:
    return [item.hex for item in ids]


def _is_alive(place: str, pid: int, started: str, was_seen: bool) -> bool:
    """Say whether a member may be sending.

    One that was killed where its pid can be looked up is known to be gone at once:
    a restart need not wait for it to have been silent long enough.
    """
    if place and place == _place() and _started(pid) != started:
        return False
    return was_seen


@cache
def _place() -> str:
    """Return what two processes share when they see each other's pids: the boot and the pid namespace; "" unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when the process of this pid began, in ticks since the boot; "" when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
