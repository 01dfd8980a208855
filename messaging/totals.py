"""Totals for ever: the rollups of finished minutes, added up beside the sending so that no turn pays for it."""

import time
from datetime import UTC, datetime, timedelta

from django.db import transaction

from messaging import store
from messaging.models import Folded

EVERY_S = 60.0
OPEN_FOR = timedelta(minutes=2)  # a transaction that began in a minute may still add to it
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def fold() -> None:
    """Add the finished minutes that are not in the totals yet; of several processes at once, one does."""
    with transaction.atomic():
        until = (store.now() - OPEN_FOR).replace(second=0, microsecond=0)
        if Folded.objects.filter(through__gte=until).exists():
            return
        Folded.objects.get_or_create(pk=1, defaults={"through": BEGINNING})
        folded = Folded.objects.select_for_update().get(pk=1)
        if folded.through < until:
            store.add_to_totals(folded.through, until)
            folded.through = until
            folded.save()


class Folder:
    """Folds once a minute, however often it is asked to."""

    def __init__(self) -> None:
        self._next_at = 0.0

    def step(self) -> None:
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + EVERY_S
            fold()
