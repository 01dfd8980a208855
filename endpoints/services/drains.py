"""A drain at a pace: what waited for a door goes at most so fast, until all of it went."""

from collections.abc import Sequence

from django.db import transaction
from django.db.models.functions import Now

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Malformed, NotFound
from endpoints.models import Breaker, BreakerState, Endpoint, EndpointState, System
from endpoints.services.pauses import resume, resume_interface

SLOWEST, FASTEST = 0.001, 1_000_000.0


def drain(target: System | Endpoint, *, by: Principal, rate_per_s: float, interface: str = "") -> None:
    """Let what waits for `target` go, at most `rate_per_s` of it in a second over all processes.

    It is resumed if it was paused, and what its open breaker holds is tried at once. Each interface
    has the whole rate, shared by its endpoints. The pace ends by itself when what waits now has
    gone; it never makes an endpoint faster than its own rate. Raises Malformed for a bad rate.
    """
    if not SLOWEST <= rate_per_s <= FASTEST:
        detail = f"must be from {SLOWEST:g} to {FASTEST:g}"
        errors = [{"field": "rate_per_s", "code": "invalid", "detail": detail}]
        raise Malformed(f"rate_per_s: {detail}", errors=errors)
    with transaction.atomic():
        _pace(_doors(target, interface, by), by, rate_per_s)
        if isinstance(target, System) and interface:
            resume_interface(target, interface, by=by)
        else:
            resume(target, by=by)


def _doors(target: System | Endpoint, interface: str, by: Principal) -> list[list[Endpoint]]:
    """Return the endpoints in use, by interface."""
    if isinstance(target, Endpoint):
        return [[target]]
    found: dict[str, list[Endpoint]] = {}
    rows = target.endpoints.visible_to(by).exclude(state=EndpointState.DISABLED)
    for endpoint in rows.filter(**{"interface": interface} if interface else {}):
        found.setdefault(endpoint.interface, []).append(endpoint)
    if not found:
        raise NotFound(f"system '{target.slug}' has no endpoint in use{f' at {interface!r}' if interface else ''}")
    return list(found.values())


def _pace(doors: Sequence[Sequence[Endpoint]], by: Principal, rate_per_s: float) -> None:
    roles.require(by, "endpoints", "resume")
    for replicas in doors:
        for endpoint in sorted(replicas, key=lambda found: found.pk):
            pace = rate_per_s / len(replicas)
            Breaker.objects.get_or_create(endpoint=endpoint, defaults={"written_at": Now()})
            row = Breaker.objects.filter(endpoint=endpoint)
            row.update(pace_per_s=pace, paced_at=Now(), written_at=Now())
            row.filter(state=BreakerState.OPEN).update(try_at=Now())
            audit.record(by, "drain", endpoint, {"pace_per_s": [None, pace]})
