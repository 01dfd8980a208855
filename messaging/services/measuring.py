"""What the worker measures on its clock: what waits, the size of the database, the free space of its disk.

Counting what waits takes as long as there is, so it is not done while somebody asks;
and how full a disk will be is only known by how full it was. Each tick also says that
the worker and its clock live.
"""

import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Max, Q

from messaging import store
from messaging.models import UNSETTLED, Delivery, Measurement, State
from messaging.ticks import tick

STALE = timedelta(minutes=2)  # eight ticks
SAMPLE_EVERY = timedelta(minutes=10)
KEPT = timedelta(days=7)
LOOK_BACK = timedelta(days=3)  # a week-old burst says little of the next week
FEWEST, SHORTEST = 4, timedelta(minutes=30)  # with less nothing is foretold
FARTHEST_S = 365 * 86400.0
RESTS, LONGEST_REST_S = 50, 90.0  # counting takes at most so small a part of the time


class Pace:
    """Lets a process count again only when it rested long enough since."""

    def __init__(self) -> None:
        self._again_at = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._again_at

    def took(self, elapsed_s: float) -> None:
        self._again_at = time.monotonic() + min(LONGEST_REST_S, RESTS * elapsed_s)


@dataclass(frozen=True, slots=True)
class Disk:
    """One folder's disk as one host saw it last; `full_in_s` is None when it does not fill, or that is not known."""

    host: str
    path: str
    free_bytes: int
    full_in_s: float | None


def measure(pace: Pace) -> None:
    """Count what waits if it is time, sample sizes if it is, and tick."""
    now = store.now()
    if pace.is_due:
        started = time.monotonic()
        _count_waiting(now)
        pace.took(time.monotonic() - started)
    if not Measurement.objects.filter(name="database", at__gt=now - SAMPLE_EVERY).exists():
        _sample(now)
    tick("worker", now)


def _count_waiting(now: datetime) -> None:
    rows = Delivery.objects.filter(Q(state=State.PENDING) & UNSETTLED).order_by()
    counted = list(rows.values_list("system", "reason").annotate(Count("pk")))
    with transaction.atomic():
        Measurement.objects.filter(name="waiting", at__lt=now).delete()
        # One more says that all was counted, even when nothing waits.
        Measurement.objects.bulk_create(
            Measurement(name="waiting", subject=subject, at=now, value=count)
            for subject, count in [("", 0), *((f"{system} {reason}", count) for system, reason, count in counted)]
        )


def _sample(now: datetime) -> None:
    folder = data_folder()
    Measurement.objects.filter(name__in=("database", "disk"), at__lt=now - KEPT).delete()
    Measurement.objects.bulk_create(
        [
            Measurement(name="database", at=now, value=store.database_bytes()),
            Measurement(
                name="disk",
                subject=f"{socket.gethostname()[:200]} {folder}"[:300],
                at=now,
                value=shutil.disk_usage(folder).free,
            ),
        ]
    )


def data_folder() -> Path:
    """Return the folder that fills: SQLite's own, else that of our own files; a server's disk is not ours to see."""
    if connection.vendor == "sqlite":
        return Path(str(connection.settings_dict["NAME"])).resolve().parent
    return Path(settings.ENV.var_dir).resolve()


def ticked_at() -> dict[str, datetime]:
    """Return {worker | monitor: when it ticked last} of those that ever did."""
    ticks = Measurement.objects.filter(name__in=("worker", "monitor")).order_by("name")
    return dict(ticks.values_list("name").annotate(Max("at")))


def waiting(now: datetime) -> dict[tuple[int, str], int] | None:
    """Return {(system id, reason): count} as counted last; None when that is too long ago."""
    last: datetime | None = Measurement.objects.filter(name="waiting").aggregate(last=Max("at"))["last"]
    if last is None or now - last > STALE:
        return None
    found: dict[tuple[int, str], int] = {}
    for subject, count in Measurement.objects.filter(name="waiting", at=last).values_list("subject", "value"):
        system, _, reason = subject.partition(" ")
        if reason:
            found[int(system), reason] = count
    return found


def disks(now: datetime) -> list[Disk]:
    """Return what is known of the disks that were measured within a day."""
    samples: dict[str, list[tuple[datetime, int]]] = {}
    for subject, at, value in _samples("disk", now):
        samples.setdefault(subject, []).append((at, value))
    recent = {subject: found for subject, found in samples.items() if found[-1][0] > now - timedelta(days=1)}
    return [_disk(subject, found) for subject, found in sorted(recent.items())]


def _disk(subject: str, found: Sequence[tuple[datetime, int]]) -> Disk:
    host, _, path = subject.partition(" ")
    return Disk(host, path, found[-1][1], full_in_s(found))


def database(now: datetime) -> dict[str, Any]:
    """Return {"bytes", "grows_per_day"} as measured last; None for what is not known."""
    found = [(at, value) for _, at, value in _samples("database", now)]
    slope = per_second(found)
    return {
        "bytes": found[-1][1] if found else None,
        "grows_per_day": None if slope is None else round(slope * 86400),
    }


def _samples(name: str, now: datetime) -> list[tuple[str, datetime, int]]:
    rows = Measurement.objects.filter(name=name, at__gt=now - LOOK_BACK).order_by("at")
    return list(rows.values_list("subject", "at", "value"))


def full_in_s(samples: Sequence[tuple[datetime, int]]) -> float | None:
    """Return for how long the free bytes last if they go on as they went; None: they do not shrink, or who knows."""
    slope = per_second(samples)
    if slope is None or slope >= 0:
        return None
    left_s = max(0.0, samples[-1][1] / -slope)
    return left_s if left_s <= FARTHEST_S else None


def per_second(samples: Sequence[tuple[datetime, int]]) -> float | None:
    """Return the slope of the line that lies closest to all of them; None for too few, or too short a time."""
    if len(samples) < FEWEST or samples[-1][0] - samples[0][0] < SHORTEST:
        return None
    times = [(at - samples[0][0]).total_seconds() for at, _ in samples]
    middle_s, middle = sum(times) / len(times), sum(value for _, value in samples) / len(samples)
    steep = sum((at - middle_s) * (value - middle) for at, (_, value) in zip(times, samples, strict=True))
    return steep / sum((at - middle_s) ** 2 for at in times)
