"""Is all well? One judgement for the command, the REST API and the pages."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.db.models import Q

from endpoints.edge.display import size, span
from endpoints.models import BreakerState, EmergencyStop, Endpoint, EndpointState, System
from endpoints.services import emergency_stop
from messaging import store
from messaging.liveness import dies, is_alive, is_replaced
from messaging.models import UNSETTLED, Delivery, Process, State
from messaging.services import dead_groups, incidents, listeners, measuring, retention

NEEDED_ROLES = ("web", "deliver")
# Whose rounds are watched, and what happens without them.
ROUNDS = {"worker": "nothing is pruned, nor measured", "monitor": "nobody is told when something breaks"}
LATE_S = 300.0
FULL_SOON_S = 7 * 86400.0
LITTLE_LEFT = 1024**3
MOST_COUNTED = 100_000  # more says nothing more, and each look would cost more

EXIT_CODES = {"healthy": 0, "degraded": 1, "down": 2}


def status() -> dict[str, Any]:
    """Return the state of the installation and the numbers it follows from.

    Shape: {"state", "reasons": [str], "processes": [{...}], "waiting", "oldest_due_s" (None: nothing
    is due), "dead_unresolved", "retention_behind_s" (None: it keeps up), "incidents_open", "warnings": [str],
    "database": {"bytes", "grows_per_day"}, "disks": [{"host", "path", "free_bytes", "full_in_s"}],
    "endpoints": {"<state>" | "<health>" | "breaker_open": n}, "runs": {}}. A dead letter alone does not
    make it degraded: it was judged, and waits for a person. Counts end at `MOST_COUNTED`.
    """
    now = store.now()
    disks, behind_s = measuring.disks(now), retention.behind_s(now)
    rows = list(Process.objects.filter(stopped_at__isnull=True))
    without_door = store.without_door(now)
    oldest_due_s = _oldest_due(now, [since for *_, since in without_door])
    state, reasons = judge(rows, oldest_due_s, now, emergency_stop())
    if found := [*listeners.failed(), *_stranded(without_door, now)]:
        state, reasons = ("degraded" if state == "healthy" else state), [*reasons, *found]
    return {
        "state": state,
        "reasons": reasons,
        "processes": [_process(row, now) for row in rows if not is_replaced(row, rows, now)],
        "waiting": _counted(Q(state=State.PENDING) & UNSETTLED) + _counted(Q(state=State.SENDING)),
        "oldest_due_s": oldest_due_s,
        "dead_unresolved": dead_groups.unresolved(),
        "retention_behind_s": behind_s,
        "warnings": _warnings(now, rows, disks, behind_s),
        "database": measuring.database(now),
        "disks": [asdict(disk) for disk in disks],
        "incidents_open": incidents.count_open(),
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
        if row not in alive and not is_replaced(row, rows, now)
    ]
    if stop is not None:
        said = f": {stop.reason}" if stop.reason else ""
        reasons.append(f"everything is paused since {stop.since:%Y-%m-%d %H:%M:%S} UTC by {stop.by}{said}")
    reasons += [f"{row.role} on {row.host} keeps dying: {row.restarts} restarts" for row in alive if dies(row, now)]
    if oldest_due_s is not None and oldest_due_s > LATE_S:
        reasons.append(f"the oldest due delivery is {oldest_due_s:.0f} s late")
    return ("degraded" if reasons else "healthy"), reasons


def warnings(now: datetime, rows: Sequence[Process]) -> list[str]:
    """Return what will go wrong if nobody does anything; none of it makes the installation degraded yet."""
    return _warnings(now, rows, measuring.disks(now), retention.behind_s(now))


def _warnings(
    now: datetime, rows: Sequence[Process], disks: Sequence[measuring.Disk], behind_s: float | None
) -> list[str]:
    found = []
    for disk in disks:
        if disk.full_in_s is not None and disk.full_in_s < FULL_SOON_S:
            found.append(
                f"disk full in {span(disk.full_in_s)}: {disk.path} on {disk.host}, {size(disk.free_bytes)} left"
            )
        elif disk.free_bytes < LITTLE_LEFT:
            found.append(f"only {size(disk.free_bytes)} left on the disk of {disk.path} on {disk.host}")
    if behind_s:
        found.append(f"prune is behind by {span(behind_s)}: what is older than the settings keep is still there")
    ticked_at, alive = measuring.ticked_at(), {row.role for row in rows if is_alive(row, now)}
    for role, then in ROUNDS.items():
        silent = now - ticked_at.get(role, now)
        if role not in alive:
            found.append(f"no {role} process is running: {then}")
        elif silent > measuring.STALE:
            found.append(f"the {role} is stale: it last ticked {span(silent.total_seconds())} ago, and {then}")
    return found


def _oldest_due(now: datetime, without_door: Sequence[datetime]) -> float | None:
    """Return for how many seconds the longest due delivery that may be sent, or for which there is no door, has waited.

    What waits for a paused or retired party is not late. One probe of the partial index a target.
    """
    due = [*(since for *_, since in store.due_targets(now, behind_breakers=True)), *without_door]
    return round((now - min(due)).total_seconds(), 1) if due else None


def _stranded(without_door: Sequence[tuple[int, str, datetime]], now: datetime) -> list[str]:
    """Say of each interface that has no endpoint, and where something is late, what to do."""
    late = sorted(row[:2] for row in without_door if (now - row[2]).total_seconds() > LATE_S)
    slugs = dict(System.objects.filter(pk__in=[system_id for system_id, _ in late]).values_list("pk", "slug"))
    return [
        f"{slugs[system_id]}/{interface} has no endpoint to deliver what waits for it: add one, or cancel what waits"
        for system_id, interface in late
    ]


def _counted(condition: Q) -> int:
    """Return how many deliveries pass, along the index of their state, up to `MOST_COUNTED`."""
    return Delivery.objects.filter(condition).order_by().values("pk")[:MOST_COUNTED].count()


def endpoint_counts() -> dict[str, int]:
    """Return each endpoint once: by its state other than enabled, as `breaker_open`, or by its health."""
    counts: Counter[str] = Counter()
    for state, health, breaker in Endpoint.objects.values_list("state", "health", "breaker__state"):
        is_held = breaker is not None and breaker != BreakerState.CLOSED
        counts[state if state != EndpointState.ENABLED else "breaker_open" if is_held else health] += 1
    return dict(counts)


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
