"""Hold and release: a paused system, interface or endpoint keeps its deliveries waiting; nothing is spent."""

from datetime import datetime
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, Malformed, NotFound
from endpoints.models import Endpoint, EndpointState, System, SystemState
from endpoints.services.registry import RESOURCES, difference

# What a row is while it works; another state than this and "paused" has to be left by an edit.
WORKING: dict[type[models.Model], str] = {System: SystemState.ACTIVE, Endpoint: EndpointState.ENABLED}
PAUSED = "paused"


def pause(
    target: System | Endpoint, *, by: Principal, until: datetime | None = None, reason: str = ""
) -> System | Endpoint:
    """Hold every delivery to `target`, until a time if one is given; a second pause replaces the first."""
    if until is not None and until <= timezone.now():
        raise Malformed("until: must be in the future", errors=[_field("until", "must be in the future")])
    if len(reason) > 500:
        raise Malformed("reason: too long", errors=[_field("reason", "at most 500 characters")])
    return _move(target, "pause", by, state=PAUSED, pause_until=until, pause_reason=reason)


def resume(target: System | Endpoint, *, by: Principal) -> System | Endpoint:
    """Let deliveries to `target` go again; does nothing to one that is not paused."""
    return _move(target, "resume", by, state=WORKING[type(target)], pause_until=None, pause_reason="")


def pause_interface(
    system: System, interface: str, *, by: Principal, until: datetime | None = None, reason: str = ""
) -> list[Endpoint]:
    """Pause every enabled endpoint of one door of a system; raises NotFound when it has no such door."""
    with transaction.atomic():
        return [
            pause(endpoint, by=by, until=until, reason=reason)  # type: ignore[misc]
            for endpoint in _doors(system, interface)
            if endpoint.state != EndpointState.DISABLED
        ]


def resume_interface(system: System, interface: str, *, by: Principal) -> list[Endpoint]:
    """Resume every paused endpoint of one door of a system; raises NotFound when it has no such door."""
    with transaction.atomic():
        return [
            resume(endpoint, by=by)  # type: ignore[misc]
            for endpoint in _doors(system, interface)
            if endpoint.state == EndpointState.PAUSED
        ]


def _doors(system: System, interface: str) -> list[Endpoint]:
    found = list(system.endpoints.filter(interface=interface))
    if not found:
        raise NotFound(f"system '{system.slug}' has no interface '{interface}'")
    return found


def _move(target: System | Endpoint, action: str, by: Principal, **fields: object) -> System | Endpoint:
    """Set `fields` on the row as it is stored now, and audit what changed."""
    roles.require(by, RESOURCES[type(target)], action)
    kind: Any = type(target)
    with transaction.atomic():
        row: System | Endpoint | None = (
            kind.objects.visible_to(by).select_for_update(of=("self",)).filter(pk=target.pk).first()
        )
        if row is None:
            raise NotFound("there is nothing here, or it is not yours to see")
        if row.state not in (WORKING[kind], PAUSED):
            raise Conflict(f"{row} is {row.state}; only what is {WORKING[kind]} can {action}", code="wrong_state")
        before = kind.objects.get(pk=row.pk)
        for name, value in fields.items():
            setattr(row, name, value)
        changes = difference(before, row)
        if changes:
            row.save(update_fields=[*fields, "updated_at"])
            audit.record(by, action, row, changes)
    for name in fields:
        setattr(target, name, getattr(row, name))
    return target


def _field(name: str, detail: str) -> dict[str, str]:
    return {"field": name, "code": "invalid", "detail": detail}
