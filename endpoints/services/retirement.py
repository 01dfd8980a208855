"""Take a system out of use for good: nothing new to or from it, its keys revoked, what waits drained or cancelled.

The row stays, so that history keeps its name. What waits is ended by the engine,
beside its sending; `retirement` says what it still has to do.
"""

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, NotFound
from endpoints.models import OURS, ApiKey, Retirement, System, SystemState
from endpoints.services.registry import difference

FIELDS = ["state", "pause_until", "pause_reason", "retirement", "retired_at", "updated_at"]


def retire(system: System, *, drain: bool, by: Principal) -> System:
    """Retire `system`: what waits for it is still delivered (`drain`), or cancelled.

    One that drains may be told to cancel the rest. Raises Conflict for one that is
    retired already.
    """
    roles.require(by, "systems", "retire")
    now = timezone.now()
    with transaction.atomic():
        row = _lock(system, by)
        if row.slug == OURS:
            raise Conflict(f"{row.slug} is this installation itself and cannot be retired", code="ours")
        if row.state == SystemState.RETIRED and (drain or row.retirement != Retirement.DRAINING):
            raise Conflict(
                f"{row.slug} is retired already, since {row.retired_at:%Y-%m-%d %H:%M} UTC"
                if row.retired_at
                else f"{row.slug} is retired already",
                code="retired",
            )
        before = System.objects.get(pk=row.pk)
        row.state, row.pause_until, row.pause_reason = SystemState.RETIRED, None, ""
        row.retirement = Retirement.DRAINING if drain else Retirement.CANCELLING
        row.retired_at = row.retired_at or now
        row.save(update_fields=FIELDS)
        audit.record(by, "retire", row, difference(before, row))
        _revoke_keys(row, now, by)
    return _copied(row, system)


def unretire(system: System, *, by: Principal) -> System:
    """Put a retired system to use again: keys stay revoked, and what was cancelled stays so."""
    roles.require(by, "systems", "unretire")
    with transaction.atomic():
        row = _lock(system, by)
        if row.state != SystemState.RETIRED:
            raise Conflict(f"{row.slug} is {row.state}, not retired", code="wrong_state")
        before = System.objects.get(pk=row.pk)
        row.state, row.retirement, row.retired_at = SystemState.ACTIVE, "", None
        row.save(update_fields=FIELDS)
        audit.record(by, "unretire", row, difference(before, row))
    return _copied(row, system)


def end_retirement(system: System, *, by: Principal) -> None:
    """Note that nothing waits for a retired system any more; does nothing if that was noted, or it is back in use."""
    with transaction.atomic():
        row = System.objects.select_for_update(of=("self",)).filter(pk=system.pk, retirement=system.retirement).first()
        if row is not None and row.retirement:
            audit.record(by, "retired", row, {"retirement": [row.retirement, ""]})
            row.retirement = ""
            row.save(update_fields=["retirement", "updated_at"])


def _revoke_keys(system: System, now: datetime, by: Principal) -> None:
    for key in ApiKey.objects.select_for_update(of=("self",)).filter(system=system, revoked_at__isnull=True):
        key.revoked_at = now
        key.save(update_fields=["revoked_at"])
        audit.record(by, "revoke", key, {"revoked_at": [None, now.isoformat()]})


def _lock(system: System, by: Principal) -> System:
    found: System | None = System.objects.visible_to(by).select_for_update(of=("self",)).filter(pk=system.pk).first()
    if found is None:
        raise NotFound("there is nothing here, or it is not yours to see")
    return found


def _copied(row: System, system: System) -> System:
    for name in FIELDS:
        setattr(system, name, getattr(row, name))
    return system
