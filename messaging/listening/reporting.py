"""What this process sees of each listener, for pages and `status`: written on change, every few seconds at most."""

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from messaging.listening.tally import Tally
from messaging.models import ListenerReport

CHANGED_S = 2.0
SAME_S = 10.0  # a third of what makes a report stale
FORGOTTEN = timedelta(hours=1)

Counts = dict[str, int]


@dataclass(slots=True)
class Written:
    """What was written last of one listener."""

    counts: Counts
    problem: str
    rate_per_s: float
    at: float


class Reporter:
    """One per process; `due` on its loop, `write` in a database thread."""

    def __init__(self) -> None:
        self._place = f"{socket.gethostname()[:200]}:{os.getpid()}"
        self._written: dict[UUID, Written] = {}
        self._has_swept = False

    def due(self, seen: Mapping[UUID, tuple[Tally, str]]) -> dict[UUID, dict[str, Any]]:
        """Return the columns to write, by listener."""
        now = time.monotonic()
        found = {}
        for key in self._written.keys() - seen.keys():
            del self._written[key]
        for key, (tally, problem) in seen.items():
            last, counts = self._written.get(key), tally.counts()
            if last is not None:
                passed = now - last.at
                has_changed = counts != last.counts or problem != last.problem or last.rate_per_s > 0
                if passed < (CHANGED_S if has_changed else SAME_S):
                    continue
                came = counts["accepted"] + counts["duplicates"] - last.counts["accepted"] - last.counts["duplicates"]
                rate = round(max(came, 0) / passed, 1)
            else:
                rate = 0.0
            self._written[key] = Written(counts, problem, rate, now)
            found[key] = {**counts, "problem": problem, "rate_per_s": rate, "refusals": list(tally.refusals)}
        return found

    def write(self, due: Mapping[UUID, dict[str, Any]]) -> None:
        """Write what is due; a listener that was deleted meanwhile is passed over."""
        if not self._has_swept:
            self._has_swept = True
            ListenerReport.objects.filter(seen_at__lt=Now() - FORGOTTEN).delete()
        for key, columns in due.items():
            rows = ListenerReport.objects.filter(listener_id=key, place=self._place)
            if rows.update(**columns, seen_at=Now()):
                continue
            try:
                with transaction.atomic():
                    ListenerReport.objects.create(listener_id=key, place=self._place, **columns, seen_at=Now())
            except IntegrityError:
                continue

    def leave(self) -> None:
        """Take this process's reports away: it serves nothing any more."""
        ListenerReport.objects.filter(place=self._place).delete()
