"""Hold and release: what is paused keeps its deliveries waiting, what is disabled gets none; nothing is spent."""

from datetime import datetime
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, Malformed, NotFound
from endpoints.models import EmergencyStop, Endpoint, EndpointState, System, SystemState
from endpoints.services.registry import RESOURCES, difference

# What a row is while it works; another state than this and "paused" has to be left by an edit.
WORKING: dict[type[models.Model], str] = {System: SystemState.ACTIVE, Endpoint: EndpointState.ENABLED}
PAUSED = "paused"


def pause(
    target: System | Endpoint, *, by: Principal, until: datetime | None = None, reason: str = ""
) -> System | Endpoint:
    """Hold every delivery to `target`, until a time if one is given; a second pause replaces the first."""
    _check(until, reason)
    return _move(target, "pause", by, _held(target), state=PAUSED, pause_until=until, pause_reason=reason)


def resume(target: System | Endpoint, *, by: Principal) -> System | Endpoint:
    """Let deliveries to `target` go again; does nothing to one that is not paused."""
    return _move(target, "resume", by, _held(target), **_works(target))


def disable(endpoint: Endpoint, *, by: Principal) -> Endpoint:
    """Send nothing to `endpoint` and expect nothing of it.

    Without a sibling that may be used, what waits and what comes is skipped; it is not sent
    when the endpoint is enabled again, unless a person sends it again.
    """
    states = (EndpointState.ENABLED, EndpointState.PAUSED, EndpointState.DISABLED)
    fields = {"state": EndpointState.DISABLED, "pause_until": None, "pause_reason": ""}
    return _move(endpoint, "disable", by, states, **fields)  # type: ignore[return-value]


def enable(endpoint: Endpoint, *, by: Principal) -> Endpoint:
    """Send to `endpoint` again; one that is paused has to be resumed."""
    states = (EndpointState.ENABLED, EndpointState.DISABLED)
    return _move(endpoint, "enable", by, states, **_works(endpoint))  # type: ignore[return-value]


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


def pause_all(*, by: Principal, until: datetime | None = None, reason: str = "") -> EmergencyStop:
    """Send nothing to anybody from now on; what is on its way ends, and messages are taken as ever.

    A second stop changes until when and why; it began with the first.
    """
    _check(until, reason)
    roles.require(by, "systems", "pause_all")
    with transaction.atomic():
        before = EmergencyStop.objects.select_for_update().first()
        stop = EmergencyStop(
            since=before.since if before else timezone.now(), by=by.label[:200], until=until, reason=reason
        )
        if changes := difference(before, stop):
            stop.save()
            audit.record(by, "pause", stop, changes)
    return stop


def resume_all(*, by: Principal) -> None:
    """End the emergency stop; does nothing when there is none. What is paused by itself stays paused."""
    roles.require(by, "systems", "resume_all")
    with transaction.atomic():
        stop = EmergencyStop.objects.select_for_update().first()
        if stop is not None:
            audit.record(by, "resume", stop, difference(stop, None))
            stop.delete()


def emergency_stop() -> EmergencyStop | None:
    """Return the emergency stop that holds everything now."""
    found: EmergencyStop | None = EmergencyStop.objects.first()
    return found


def _check(until: datetime | None, reason: str) -> None:
    if until is not None and until <= timezone.now():
        raise Malformed("until: must be in the future", errors=[_field("until", "must be in the future")])
    if len(reason) > 500:
        raise Malformed("reason: too long", errors=[_field("reason", "at most 500 characters")])


def _doors(system: System, interface: str) -> list[Endpoint]:
    found = list(system.endpoints.filter(interface=interface))
    if not found:
        raise NotFound(f"system '{system.slug}' has no interface '{interface}'")
    return found


def _held(target: System | Endpoint) -> tuple[str, ...]:
    return (WORKING[type(target)], PAUSED)


def _works(target: System | Endpoint) -> dict[str, object]:
    return {"state": WORKING[type(target)], "pause_until": None, "pause_reason": ""}


def _move(
    target: System | Endpoint, action: str, by: Principal, states: tuple[str, ...], **fields: object
) -> System | Endpoint:
    """Set `fields` on the row as it is stored now, if it is in one of `states`, and audit what changed."""
    roles.require(by, RESOURCES[type(target)], action)
    kind: Any = type(target)
    with transaction.atomic():
        row: System | Endpoint | None = (
            kind.objects.visible_to(by).select_for_update(of=("self",)).filter(pk=target.pk).first()
        )
        if row is None:
            raise NotFound("there is nothing here, or it is not yours to see")
        if row.state not in states:
            raise Conflict(f"{row} is {row.state}; only what is {states[0]} can {action}", code="wrong_state")
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
