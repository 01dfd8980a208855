"""What begins by itself: called by any number of workers whenever a look found something due or changed."""

from datetime import datetime, timedelta

import structlog

from testing.services import schedules, triggers

log = structlog.get_logger(__name__)

SETTLED = timedelta(seconds=2)


def begin(now: datetime, *, due: bool, changed: bool) -> int:
    """Make the runs that are due as of the database's clock; return how many there were.

    What cannot be made is logged, and stands in nobody's way: runs that wait are taken all the same.
    """
    begun = 0
    for is_asked, begin_those, until in (
        (due, schedules.begin_due, now),
        (changed, triggers.begin_changed, now - SETTLED),
    ):
        try:
            begun += begin_those(until) if is_asked else 0
        except Exception:  # the next look tries again
            log.exception("clock_failed")
    return begun
