"""When to try again: pure."""

from collections.abc import Sequence

from endpoints.transports.base import MAX_RETRY_AFTER_S

JITTER = 0.2
THROTTLED_DEFAULT_S = 30.0
THROTTLED_FOR_S = 72 * 3600.0


def delay_s(attempt: int, schedule_s: Sequence[float], jitter: float, retry_after_s: float | None = None) -> float:
    """Return the seconds to wait after the failed `attempt` (1 = the first).

    The last entry of `schedule_s` repeats. `jitter` in -1..1 spreads the wait by
    up to 20 %, so that what failed together does not come back together. What the
    receiver asked for (`Retry-After`, at most an hour) is a lower bound.
    """
    wait = schedule_s[min(attempt, len(schedule_s)) - 1] if schedule_s else 0.0
    return max(wait * (1 + JITTER * jitter), min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))


def throttled_delay_s(retry_after_s: float | None, jitter: float) -> float:
    """Return the seconds to wait after a 429: what was asked for (at most an hour), never less."""
    asked = THROTTLED_DEFAULT_S if retry_after_s is None else min(max(retry_after_s, 0.0), MAX_RETRY_AFTER_S)
    return asked + 0.5 * (1 + jitter)
