"""Planned times in which a system is not sent to: what comes is held, nobody is told, and it ends by itself.

Windows may overlap: a system is held as long as it is in any of them. They begin and
end on whole seconds.
"""

from collections.abc import Iterable
from copy import copy
from datetime import MAXYEAR, datetime, timedelta

from django.db import transaction
from django.utils import timezone

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, NotFound, Refused
from endpoints.models import Maintenance, System, SystemState
from endpoints.services.registry import difference
from endpoints.services.rules import invalid

LONGEST = timedelta(days=90)  # beyond it a year was mistyped; what lasts longer is a pause
LATE = timedelta(minutes=1)  # a start that was `now` when it was typed
MOST_AHEAD = 100  # windows of one system: every process follows all of them
SECOND = timedelta(seconds=1)


def in_maintenance(system: System, now: datetime) -> bool:
    """Say whether `system` is in a window: then nothing is sent to it, nobody is told, and no suite runs on it."""
    return bool(Maintenance.objects.at(now).filter(system=system).exists())


def maintained(now: datetime, systems: Iterable[System] | None = None) -> dict[int, datetime]:
    """Return {system id: until when} of the systems that are in a window now; overlapping windows count as one."""
    ahead = Maintenance.objects.filter(ends_at__gt=now).order_by("starts_at")
    if systems is not None:
        ahead = ahead.filter(system__in=list(systems))
    until: dict[int, datetime] = {}
    for system_id, starts_at, ends_at in ahead.values_list("system", "starts_at", "ends_at"):
        if starts_at <= until.get(system_id, now):
            until[system_id] = max(until.get(system_id, ends_at), ends_at)
    return until


def plan_maintenance(
    system: System, starts_at: datetime | None, ends_at: datetime, reason: str, *, by: Principal
) -> Maintenance:
    """Hold every delivery to `system` from `starts_at` (None: now) to `ends_at`; no attempt is spent.

    Raises Malformed for times that make no window, Conflict for a retired system.
    """
    roles.require(by, "maintenance", "create")
    now = timezone.now()
    window = Maintenance(
        system=system,
        starts_at=_floor(starts_at or now),
        ends_at=_ceiling(ends_at),
        reason=reason,
        created_by=by.label[:200],
    )
    check_window(window.starts_at, window.ends_at, reason, now)
    with transaction.atomic():
        window.system = _lock(system, by)
        if Maintenance.objects.filter(system=system, ends_at__gt=now).count() >= MOST_AHEAD:
            raise Refused(f"{system.slug} has {MOST_AHEAD} windows ahead; end some first", code="too_many")
        window.save()
        audit.record(by, "create", window, difference(None, window))
    return window


def change_maintenance(
    window: Maintenance,
    *,
    by: Principal,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    reason: str | None = None,
) -> Maintenance:
    """Change when a window begins (unless it has), when it ends, and why it is.

    Raises Malformed for times that make no window, Conflict for one that is over.
    """
    roles.require(by, "maintenance", "partial_update")
    now = timezone.now()
    with transaction.atomic():
        stored = _stored(window, by)
        before = Maintenance.objects.get(pk=stored.pk)
        _check_ahead(stored, now)
        if starts_at is not None and _floor(starts_at) != stored.starts_at:
            if stored.starts_at <= now:
                raise Conflict("it has begun: when it begins cannot be changed", code="wrong_state")
            stored.starts_at = _floor(starts_at)
        stored.ends_at = _ceiling(ends_at) if ends_at is not None else stored.ends_at
        stored.reason = stored.reason if reason is None else reason
        check_window(
            stored.starts_at, stored.ends_at, stored.reason, now, has_begun=stored.starts_at == before.starts_at
        )
        if changes := difference(before, stored):
            stored.save()
            audit.record(by, "update", stored, changes)
    return stored


def end_maintenance(window: Maintenance, *, by: Principal) -> Maintenance | None:
    """End a window now and return it; one that has not begun is deleted, and None returned.

    Raises Conflict for one that is over.
    """
    roles.require(by, "maintenance", "destroy")
    now = timezone.now()
    with transaction.atomic():
        stored = _stored(window, by)
        _check_ahead(stored, now)
        if stored.starts_at > now:
            audit.record(by, "delete", stored, difference(stored, None))
            stored.delete()
            return None
        before = copy(stored)
        stored.ends_at = _floor(now)
        stored.starts_at = min(stored.starts_at, stored.ends_at - SECOND)  # ended at once: over now, so begun before
        stored.save()
        audit.record(by, "end", stored, difference(before, stored))
    return stored


def end_all_maintenance(system: System, *, by: Principal) -> int:
    """End every window that `system` is in now, since they count as one; return how many those were."""
    roles.require(by, "maintenance", "destroy")
    with transaction.atomic():
        _lock(system, by)
        running = list(Maintenance.objects.at(timezone.now()).filter(system=system))
        for window in running:
            end_maintenance(window, by=by)
    return len(running)


def check_window(
    starts_at: datetime, ends_at: datetime, reason: str, now: datetime, *, has_begun: bool = False
) -> None:
    """Raise Malformed unless the two make a window that is still ahead."""
    faults = {
        "from": "must not be in the past" if not has_begun and starts_at < now - LATE else "",
        "until": "must be after `from`" if ends_at <= starts_at else "must be in the future" if ends_at <= now else "",
        "reason": "at most 500 characters" if len(reason) > 500 else "",
    }
    if not faults["until"] and ends_at - starts_at > LONGEST:
        faults["until"] = f"must be within {LONGEST.days} days of `from`; pause what is away for longer"
    errors = [{"field": field, "code": "invalid", "detail": fault} for field, fault in faults.items() if fault]
    if errors:
        raise invalid(errors)


def _lock(system: System, by: Principal) -> System:
    """Return the system as stored, held until the transaction ends."""
    found: System | None = System.objects.visible_to(by).select_for_update(of=("self",)).filter(pk=system.pk).first()
    if found is None:
        raise NotFound("there is nothing here, or it is not yours to see")
    if found.state == SystemState.RETIRED and not found.may_be_sent_to:
        raise Conflict(f"{found.slug} is retired: nothing is sent to it anyway", code="retired")
    return found


def _stored(window: Maintenance, by: Principal) -> Maintenance:
    rows = Maintenance.objects.visible_to(by).select_for_update(of=("self",)).select_related("system")
    found: Maintenance | None = rows.filter(pk=window.pk).first()
    if found is None:
        raise NotFound("there is no such window, or it is not yours to see")
    return found


def _check_ahead(window: Maintenance, now: datetime) -> None:
    if window.ends_at <= now:
        raise Conflict("this window is over; plan a new one", code="wrong_state")


def _floor(at: datetime) -> datetime:
    return at.replace(microsecond=0)


def _ceiling(at: datetime) -> datetime:
    return at if not at.microsecond or at.year == MAXYEAR else _floor(at) + SECOND
