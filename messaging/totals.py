"""Totals for ever: the rollups of finished minutes, added up beside the sending so that no turn pays for it."""

import time
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import Min

from messaging import store
from messaging.models import Folded, Rollup
from messaging.pace import Pace

EVERY_S = 60.0
OPEN_FOR = timedelta(minutes=2)  # a transaction that began in a minute may still add to it
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def fold() -> None:
    """Add the finished minutes that are not in the totals yet; of several processes at once, one does."""
    pace = Pace.of_minutes()
    while fold_some(pace):
        pass


def fold_some(pace: Pace) -> bool:
    """Add as many of these minutes as `pace` says, and tell whether there are more.

    Mostly it is one or two. Where nobody folded for months, all at once would keep others from writing for half a
    minute, on SQLite.
    """
    with transaction.atomic():
        started = time.monotonic()
        until = (store.now() - OPEN_FOR).replace(second=0, microsecond=0)
        if Folded.objects.filter(through__gte=until).exists():
            return False
        Folded.objects.get_or_create(pk=1, defaults={"through": BEGINNING})
        folded = Folded.objects.select_for_update().get(pk=1)
        ahead = Rollup.objects.filter(minute__gte=folded.through, minute__lt=until)
        first = ahead.aggregate(at=Min("minute"))["at"]
        if first is None:
            folded.through = until
        else:
            folded.through = min(until, first + pace.rows * timedelta(minutes=1))
            store.add_to_totals(first, folded.through)
        folded.save()
    pace.took(time.monotonic() - started)
    return folded.through < until


class Folder:
    """Folds once a minute, however often it is asked to; more often while there is much to catch up with."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._pace: Pace | None = None

    def step(self) -> None:
        self._pace = self._pace or Pace.of_minutes()
        if time.monotonic() >= self._next_at and not fold_some(self._pace):
            self._next_at = time.monotonic() + EVERY_S
