"""When to stop sending to an endpoint, and when to go on: pure, one row in, the same row changed.

Closed it counts; 10 failures in a row on different deliveries, or 70 % of at least 10
tries within 5 minutes, open it. Open, nothing is sent but one delivery at a time to see
(half-open); when that one is delivered it closes.
"""

from datetime import datetime, timedelta
from uuid import UUID

from endpoints.models import Breaker, BreakerState

IN_A_ROW = 10
FAILED_SHARE, LEAST_TRIES = 0.7, 10
BUCKET_S, BUCKETS = 30, 10
# How long between two tries of an open one: longer the longer it is down, and longer
# still when it is the same delivery again, which may itself be what fails.
SHORTEST_S, LONGEST_S, DOWN_SHARE = 1.0, 30.0, 1800.0
SAME_AGAIN_S = 10.0
LONGEST_RAMP = 11  # doublings, after which every cap is reached


def bucket(at: datetime) -> int:
    """Return the start of the 30 seconds that `at` is in, in unix time."""
    return int(at.timestamp()) // BUCKET_S * BUCKET_S


def count(row: Breaker, start: int, tried: int, failed: int, now: datetime) -> None:
    """Add tries to the 30 seconds that begin at `start`; what is older than 5 minutes is dropped."""
    known = {first: [first, *counts] for first, *counts in row.tries}
    entry = known.setdefault(start, [start, 0, 0])
    entry[1] += tried
    entry[2] += failed
    oldest = bucket(now) - (BUCKETS - 1) * BUCKET_S
    row.tries = [known[first] for first in sorted(known) if first >= oldest]


def succeed(row: Breaker, began_at: datetime, now: datetime) -> None:
    """Count a delivered one; what began before the breaker last changed is no news."""
    if _is_counted(row, began_at):
        count(row, bucket(now), 1, 0, now)
        row.streak = []


def fail(row: Breaker, delivery: UUID, began_at: datetime, now: datetime) -> bool:
    """Count a failure, open if it is one too many, and return whether the try is spent.

    It is not when the breaker had opened or closed while it was on its way.
    """
    if not _is_counted(row, began_at):
        return False
    count(row, bucket(now), 1, 1, now)
    if str(delivery) not in row.streak:
        row.streak = [*row.streak, str(delivery)]
    tried, failed = (sum(entry[place] for entry in row.tries) for place in (1, 2))
    if len(row.streak) >= IN_A_ROW or (tried >= LEAST_TRIES and failed >= FAILED_SHARE * tried):
        row.state, row.opened_at, row.changed_at = BreakerState.OPEN, now, now
        row.last_failed, row.tried_at, row.healed_at = delivery, now, None
        row.try_at = now + timedelta(seconds=pause_s(row, now))
    return True


def is_ready(row: Breaker, now: datetime) -> bool:
    """Say whether one delivery may be tried now: its time has come, or whoever tried was lost."""
    return row.state != BreakerState.CLOSED and row.try_at is not None and row.try_at <= now


def may_repeat(row: Breaker, now: datetime) -> bool:
    """Say whether the delivery that failed last may be the one to try."""
    return row.tried_at is None or now - row.tried_at >= timedelta(seconds=SAME_AGAIN_S)


def begin(row: Breaker, token: UUID, lost_at: datetime) -> None:
    """Let the delivery leased with `token` be tried; without news by `lost_at` another may."""
    row.state, row.trying, row.try_at = BreakerState.HALF_OPEN, token, lost_at


def stay_open(row: Breaker, delivery: UUID | None, now: datetime) -> None:
    """End a try in vain; `delivery` None: it said nothing, the next may follow at once."""
    row.state, row.trying, row.try_at = BreakerState.OPEN, None, now
    if delivery is not None:
        row.last_failed, row.tried_at = delivery, now
        row.try_at = now + timedelta(seconds=pause_s(row, now))


def close(row: Breaker, now: datetime) -> None:
    """Go on, beginning with one in flight."""
    row.state, row.trying, row.try_at, row.opened_at = BreakerState.CLOSED, None, None, None
    row.streak, row.tries, row.last_failed, row.tried_at = [], [], None, None
    row.changed_at = row.healed_at = now
    row.error_class = row.error = ""


def pause_s(row: Breaker, now: datetime) -> float:
    """Return how long to wait between two tries of an open one."""
    down_s = (now - row.opened_at).total_seconds() if row.opened_at else 0.0
    return min(LONGEST_S, max(SHORTEST_S, down_s / DOWN_SHARE))


def allowed(cap: int, since_s: float | None) -> int:
    """Return how many may be in flight over all processes, `since_s` after healing: doubling each second."""
    if since_s is None or since_s >= LONGEST_RAMP:
        return cap
    return min(cap, int(2 ** max(0, int(since_s))))


def _is_counted(row: Breaker, began_at: datetime) -> bool:
    return row.state == BreakerState.CLOSED and (row.changed_at is None or began_at >= row.changed_at)
