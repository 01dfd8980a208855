"""What a worker looks for once a second: one statement that says whether there is anything to do."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

from testing.models import Clock, Run, RunState, Schedule, SeenChange, Share

SETTLED = timedelta(seconds=2)  # a change is looked at once those that were made with it are written, too
GONE = Q(state=RunState.RUNNING) & (Q(lease_until__lt=Now()) | Q(lease_until__isnull=True))
# A share that nobody is to begin any more: its run has ended, or whoever leads it had it stopped.
OVER = Q(run__state=RunState.ENDED) | ~Q(stop_verdict="")
LEFT_BEHIND = ~Q(state=RunState.ENDED) & (GONE | (Q(state=RunState.WAITING) & OVER))  # in the words of the index
UNWANTED_S = 3600
LONG_AGO = Now() - timedelta(seconds=UNWANTED_S)
# What a queued run waits for: one of its schedule that was taken, and has not ended long ago.
_AHEAD = Run.objects.filter(schedule=OuterRef("schedule"), started_at__isnull=False).exclude(pk=OuterRef("pk"))
_IN_LINE = Q(is_queued=True) & Exists(_AHEAD.filter(~Q(state=RunState.ENDED) | Q(finished_at__gte=LONG_AGO)))
# Since it was made, or since the lease of the worker that was lost over it ran out.
UNWANTED = (
    Q(state=RunState.WAITING)
    & ~Q(location="")
    & (Q(losses=0, created_at__lt=LONG_AGO) | Q(lease_until__lt=LONG_AGO))
    & ~_IN_LINE
)


@dataclass(frozen=True, slots=True)
class Look:
    """What there is to do, as of the database's clock."""

    now: datetime
    runs: bool
    shares: bool
    lost: bool
    due: bool  # a tick of a schedule
    changed: bool  # a system, an endpoint or a credential


class _Kept(threading.local):
    """The statement as this thread's connection takes it: to make it anew takes forty times what it takes to run."""

    def __init__(self) -> None:
        self.compilers: dict[tuple[str, ...], SQLCompiler] = {}

    def compiler(self, locations: tuple[str, ...]) -> SQLCompiler:
        found = self.compilers.get(locations)
        if found is None or found.connection is not connections[DEFAULT_DB_ALIAS]:
            found = self.compilers[locations] = _statement(locations).query.get_compiler(DEFAULT_DB_ALIAS)
            made = found.as_sql()
            found.as_sql = lambda *_, **__: made
        return found


_KEPT = _Kept()


def look(locations: Sequence[str]) -> Look:
    """Return what workers of these locations may do, and what any may."""
    for row in _KEPT.compiler(tuple(locations)).results_iter():
        return Look(*row)
    Clock.objects.get_or_create(defaults={"changes_until": timezone.now()})  # the first worker ever
    return look(locations)


def _statement(locations: Sequence[str]) -> "QuerySet[Clock, Any]":
    """Return the query of the one row that holds what a Look does, in its order."""
    changes = SeenChange.unseen(OuterRef("changes_until"), Now() - SETTLED)
    return (
        Clock.objects.annotate(
            now=Now(),
            runs=Exists(waiting_runs(locations)),
            shares=Exists(waiting_shares(locations)),
            lost=Exists(Run.objects.filter(GONE | UNWANTED)) | Exists(Share.objects.filter(LEFT_BEHIND)),
            due=Exists(Schedule.objects.filter(next_at__lte=Now())),
            changed=Exists(changes) | Exists(Schedule.objects.filter(ask_again_at__lte=Now() - SETTLED)),
        )
        .order_by("pk")
        .values_list("now", "runs", "shares", "lost", "due", "changed")[:1]
    )


def waiting_runs(locations: Sequence[str]) -> QuerySet[Run]:
    """Return the runs that may begin: one that is queued lets those of its schedule that came before it end."""
    ahead = Run.objects.filter(Q(pk__lt=OuterRef("pk")) | Q(state=RunState.RUNNING), schedule=OuterRef("schedule"))
    # Said in the words of the index of open runs: else SQLite walks through all there ever were.
    waiting = Run.objects.filter(~Q(state=RunState.ENDED), state=RunState.WAITING, location__in=locations)
    return waiting.filter(Q(is_queued=False) | ~Exists(ahead.exclude(state=RunState.ENDED)))


def waiting_shares(locations: Sequence[str]) -> QuerySet[Share]:
    """Return the shares that may begin: of runs that somebody leads, who did not have them stopped."""
    waiting = Share.objects.filter(~Q(state=RunState.ENDED), state=RunState.WAITING, location__in=locations)
    return waiting.filter(run__state=RunState.RUNNING, stop_verdict="")
