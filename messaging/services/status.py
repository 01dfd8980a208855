"""Is all well? One judgement for the command, the REST API and the pages."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from endpoints.models import BreakerState, EmergencyStop, Endpoint, EndpointState
from endpoints.services import emergency_stop
from messaging import store
from messaging.models import RARE, UNSETTLED, Delivery, Process, State
from messaging.services import retention
from messaging.services.processes import SILENT

NEEDED_ROLES = ("web", "deliver")
LATE_S = 300.0
MOST_COUNTED = 100_000  # more says nothing more, and each look would cost more
DYING_RESTARTS = 3
DYING_WITHIN = timedelta(minutes=10)

EXIT_CODES = {"healthy": 0, "degraded": 1, "down": 2}


def status() -> dict[str, Any]:
    """Return the state of the installation and the numbers it follows from.

    Shape: {"state", "reasons": [str], "processes": [{...}], "waiting", "oldest_due_s" (None: nothing
    is due), "dead_unresolved", "retention_behind_s" (None: it keeps up), "endpoints": {"<state>" |
    "<health>" | "breaker_open": n}, "runs": {}}. A dead letter alone does not make it degraded: it
    was judged, and waits for a person. Counts end at `MOST_COUNTED`.
    """
    now = store.now()
    rows = list(Process.objects.filter(stopped_at__isnull=True))
    oldest_due_s = oldest_due(now)
    state, reasons = judge(rows, oldest_due_s, now, emergency_stop())
    return {
        "state": state,
        "reasons": reasons,
        "processes": [_process(row, now) for row in rows if not _is_replaced(row, rows, now)],
        "waiting": _counted(Q(state=State.PENDING) & UNSETTLED) + _counted(Q(state=State.SENDING)),
        "oldest_due_s": oldest_due_s,
        "dead_unresolved": _counted(Q(state=State.DEAD) & RARE),
        "retention_behind_s": retention.behind_s(now),
        "endpoints": endpoint_counts(),
        "runs": {},
    }


def judge(
    rows: list[Process], oldest_due_s: float | None, now: datetime, stop: EmergencyStop | None = None
) -> tuple[str, list[str]]:
    """Return healthy, degraded or down, and every reason for it."""
    alive = [row for row in rows if is_alive(row, now)]
    roles = {row.role for row in alive}
    if missing := [role for role in NEEDED_ROLES if role not in roles]:
        return "down", [f"no {role} process is running" for role in missing]
    reasons = [
        f"{row.role} on {row.host} (pid {row.pid}) is gone"
        for row in rows
        if row not in alive and not _is_replaced(row, rows, now)
    ]
    if stop is not None:
        said = f": {stop.reason}" if stop.reason else ""
        reasons.append(f"everything is paused since {stop.since:%Y-%m-%d %H:%M:%S} UTC by {stop.by}{said}")
    reasons += [f"{row.role} on {row.host} keeps dying: {row.restarts} restarts" for row in alive if _dies(row, now)]
    if oldest_due_s is not None and oldest_due_s > LATE_S:
        reasons.append(f"the oldest due delivery is {oldest_due_s:.0f} s late")
    return ("degraded" if reasons else "healthy"), reasons


def is_alive(row: Process, now: datetime) -> bool:
    """Say whether the process has beaten lately."""
    return row.stopped_at is None and now - row.seen_at < SILENT


def oldest_due(now: datetime) -> float | None:
    """Return for how many seconds the longest due delivery that may be sent has waited.

    What waits for a paused or retired party is not late. One probe of the partial index a target.
    """
    due = [since for *_, since in store.due_targets(now, behind_breakers=True)[0]]
    return round((now - min(due)).total_seconds(), 1) if due else None


def _counted(condition: Q) -> int:
    """Return how many deliveries pass, along the index of their state, up to `MOST_COUNTED`."""
    return Delivery.objects.filter(condition).order_by().values("pk")[:MOST_COUNTED].count()


def endpoint_counts() -> dict[str, int]:
    """Return how many endpoints are in each state other than enabled, and of the enabled in each health.

    `breaker_open` says how many of the enabled are held back by their breakers.
    """
    counts: Counter[str] = Counter()
    for state, health in Endpoint.objects.values_list("state", "health"):
        counts[health if state == "enabled" else state] += 1
    held = Endpoint.objects.filter(state=EndpointState.ENABLED).exclude(breaker__isnull=True)
    if is_open := held.exclude(breaker__state=BreakerState.CLOSED).count():
        counts["breaker_open"] = is_open
    return dict(counts)


def _is_replaced(row: Process, rows: list[Process], now: datetime) -> bool:
    """Say whether a silent process has a living one in its place: a restart is no news."""
    if is_alive(row, now):
        return False
    return any(other.role == row.role and other.host == row.host and is_alive(other, now) for other in rows)


def _dies(row: Process, now: datetime) -> bool:
    return row.restarts >= DYING_RESTARTS and now - row.started_at < DYING_WITHIN


def _process(row: Process, now: datetime) -> dict[str, Any]:
    return {
        "role": row.role,
        "host": row.host,
        "pid": row.pid,
        "alive": is_alive(row, now),
        "restarts": row.restarts,
        "started_at": row.started_at.isoformat(),
        "seen_s": round((now - row.seen_at).total_seconds(), 1),
    }
