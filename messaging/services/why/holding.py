"""What keeps deliveries of an interface from being sent now, whatever their own reason says."""

from datetime import datetime

from endpoints.models import (
    AuditEntry,
    BreakerState,
    Endpoint,
    EndpointState,
    Maintenance,
    System,
    SystemState,
)
from endpoints.services import emergency_stop, maintained
from messaging.models import (
    Delivery,
    Process,
    State,
)
from messaging.services.status import is_alive
from messaging.services.why.facts import (
    BREAKER,
    DISABLED,
    INTERFACE,
    MAINTENANCE,
    NO_ENDPOINT,
    NO_PROCESS,
    RETIRED,
    STOP,
    SYSTEM,
    Hold,
)
from messaging.services.why.marks import clean

# --- what holds it -------------------------------------------------------------


def holds(delivery: Delivery, endpoints: list[Endpoint], now: datetime, *, is_seen: bool) -> list[Hold]:
    """Return all that keeps deliveries of this interface from being sent now."""
    system, found = delivery.system, []
    if stop := emergency_stop():
        found.append(Hold(STOP, stop.since, stop.until, clean(stop.by), clean(stop.reason)))
    if system.state == SystemState.PAUSED:
        since, by = _switched("system", [str(system.pk)], "pause")
        found.append(Hold(SYSTEM, since, system.pause_until, by, clean(system.pause_reason)))
    if system.state == SystemState.RETIRED and not system.may_be_sent_to:
        found.append(Hold(RETIRED, system.retired_at))
    found += _windows(system, now)
    found += _of_endpoints(endpoints)
    is_fetched = any(endpoint.protocol == "pull" for endpoint in endpoints)
    if (
        delivery.state == State.PENDING
        and delivery.due_at <= now
        and not found
        and not is_fetched
        and not _is_delivering(now)
    ):
        found.append(Hold(NO_PROCESS))
    return found if is_seen else [_bare(hold) for hold in found]


def _windows(system: System, now: datetime) -> list[Hold]:
    """Return the maintenance that a system is in: what began first, until the last of its windows is over."""
    until = maintained(now, [system]).get(system.pk)
    if until is None:
        return []
    window = Maintenance.objects.filter(system=system, starts_at__lte=now, ends_at__gt=now).order_by("starts_at")[0]
    return [Hold(MAINTENANCE, window.starts_at, until, clean(window.created_by), clean(window.reason))]


def _of_endpoints(endpoints: list[Endpoint]) -> list[Hold]:
    """Return what holds every endpoint of an interface alike; one that is free sends for all."""
    used = [endpoint for endpoint in endpoints if endpoint.state != EndpointState.DISABLED]
    alone = str(used[0].pk) if len(used) == 1 else ""
    if not endpoints:
        return [Hold(NO_ENDPOINT)]
    if not used:
        since, by = _switched("endpoint", [str(endpoint.pk) for endpoint in endpoints], "disable", "update")
        return [Hold(DISABLED, since, by=by, endpoint=str(endpoints[0].pk))]
    enabled = [endpoint for endpoint in used if endpoint.state == EndpointState.ENABLED]
    if not enabled:
        since, by = _switched("endpoint", [str(endpoint.pk) for endpoint in used], "pause")
        until = [endpoint.pause_until for endpoint in used if endpoint.pause_until]
        reason = next((endpoint.pause_reason for endpoint in used if endpoint.pause_reason), "")
        ends = min(until) if until else None
        return [Hold(INTERFACE, since, ends, by, clean(reason), alone)]
    breakers = [getattr(endpoint, "breaker", None) for endpoint in enabled]
    shut = [row for row in breakers if row is not None and row.state != BreakerState.CLOSED]
    if len(shut) < len(enabled):
        return []
    opened = [row.opened_at for row in shut if row.opened_at]
    tried = [row.try_at for row in shut if row.state == BreakerState.OPEN and row.try_at]
    first, error = min(opened, default=None), clean(shut[0].error or shut[0].error_class)
    return [Hold(BREAKER, first, min(tried, default=None), reason=error, endpoint=alone)]


def _switched(kind: str, ids: list[str], *actions: str) -> tuple[datetime | None, str]:
    entry = last_entry(kind, ids, *actions)
    return (entry.at, clean(entry.actor)) if entry else (None, "")


def _bare(hold: Hold) -> Hold:
    """Return a hold as other teams may know it: that it is, and until when."""
    return hold if hold.kind in (STOP, NO_PROCESS) else Hold(hold.kind, hold.since, hold.until)


def _is_delivering(now: datetime) -> bool:
    rows = Process.objects.filter(role="deliver", stopped_at__isnull=True).order_by("-seen_at")[:5]
    return any(is_alive(row, now) for row in rows)


def last_entry(kind: str, ids: list[str], *actions: str) -> AuditEntry | None:
    entries = AuditEntry.objects.filter(object_type=kind, object_id__in=ids, action__in=actions)
    return entries.order_by("-at", "-id").first()
