"""What begins by itself: called by any number of workers whenever a look found something due or changed."""

from datetime import datetime, timedelta

from testing.services import schedules, triggers

SETTLED = timedelta(seconds=2)


def begin(now: datetime, *, due: bool, changed: bool) -> int:
    """Make the runs that are due as of the database's clock; return how many there were."""
    begun = schedules.begin_due(now) if due else 0
    return begun + (triggers.begin_changed(now - SETTLED) if changed else 0)
