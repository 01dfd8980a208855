"""Whether our own processes live, judged by their heartbeats: for the status and for incidents. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from messaging.models import Process

SILENT = timedelta(seconds=15)  # three beats missed: gone
DYING_RESTARTS = 3
DYING_WITHIN = timedelta(minutes=10)


def is_alive(row: Process, now: datetime) -> bool:
    """Say whether the process has beaten lately."""
    return row.stopped_at is None and now - row.seen_at < SILENT


def is_replaced(row: Process, rows: Sequence[Process], now: datetime) -> bool:
    """Say whether a silent process has a living one in its place: a restart is no news."""
    if is_alive(row, now):
        return False
    return any(other.role == row.role and other.host == row.host and is_alive(other, now) for other in rows)


def dies(row: Process, now: datetime) -> bool:
    """Say whether the process was restarted often, and only lately began to live."""
    return row.restarts >= DYING_RESTARTS and now - row.started_at < DYING_WITHIN


def deaths(rows: Sequence[Process], now: datetime) -> int:
    """Return how often what fills one role on one host died within the last minutes.

    `rows` are its incarnations. One that died before its first beat left no row, but is
    in the count of those after it.
    """
    lately = [row.restarts for row in rows if now - row.started_at < DYING_WITHIN]
    before = [row.restarts for row in rows if now - row.started_at >= DYING_WITHIN]
    return max(lately) - max(before, default=0) if lately else 0
