"""What hangs on a system that is to be retired."""

from dataclasses import dataclass

from django.db.models import Q

from endpoints.access import roles
from endpoints.access.principal import Principal
from endpoints.models import ApiKey, System
from messaging.models import RARE, Delivery, State
from messaging.services.maintenance import MOST_COUNTED, waiting

MOST_NAMED = 500


@dataclass(frozen=True, slots=True)
class Preview:
    """Who depends on it, and what would end; counts stop at `MOST_COUNTED`, names at `MOST_NAMED`."""

    dependents: list[str]  # of those the caller sees
    waits: int  # deliveries to it that would be drained or cancelled
    sending: int
    dead: int  # unresolved dead letters of it: they could not be sent again
    sent_waiting: int  # deliveries from it that wait for others: they go on
    key_count: int
    keys: list[str]  # by name, for those who manage keys
    endpoints: int


def preview(system: System, by: Principal) -> Preview:
    """Return what retiring `system` would end, and whom it would touch."""
    dependents = System.objects.visible_to(by).filter(depends_on=system).order_by("slug")
    keys = ApiKey.objects.filter(system=system, revoked_at__isnull=True)
    named = keys.visible_to(by) if roles.may(by, "keys", "list") else keys.none()
    return Preview(
        dependents=list(dependents.values_list("slug", flat=True)[:MOST_NAMED]),
        waits=waiting(system),
        sending=_counted(Q(state=State.SENDING, lease_until__isnull=False, system=system)),
        dead=_counted(Q(state=State.DEAD, system=system, resolved_at__isnull=True) & RARE),
        sent_waiting=_counted(Q(state=State.PENDING, message__source=system)),
        key_count=keys.count(),
        keys=list(named.order_by("name").values_list("name", flat=True)[:MOST_NAMED]),
        endpoints=system.endpoints.count(),
    )


def _counted(condition: Q) -> int:
    return Delivery.objects.filter(condition).order_by().values("pk")[:MOST_COUNTED].count()
