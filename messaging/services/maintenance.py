"""What a window of maintenance would hold, and what would expire in it."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from endpoints.models import Maintenance, System
from messaging.models import Delivery, State

MOST_COUNTED = 100_000  # more says nothing more, and each look would cost more


@dataclass(frozen=True, slots=True)
class Preview:
    """What there is now: nobody knows what will come until the window ends. Counts stop at `MOST_COUNTED`."""

    starts_at: datetime
    ends_at: datetime
    waits: int  # deliveries that wait for the system
    sending: int  # on their way: they end as ever
    would_expire: int  # of those that wait: their time to live ends within the window
    overlaps: int  # other windows that it would be one with


def preview(system: System, starts_at: datetime, ends_at: datetime, *, but: Maintenance | None = None) -> Preview:
    """Return what a window would mean for what waits now; `but` is a window that is to be changed to it."""
    others = Maintenance.objects.filter(system=system, starts_at__lt=ends_at, ends_at__gt=starts_at)
    return Preview(
        starts_at=starts_at,
        ends_at=ends_at,
        waits=waiting(system),
        sending=_counted(Q(state=State.SENDING, lease_until__isnull=False, system=system)),
        would_expire=_counted(Q(state=State.PENDING, expires_at__gt=starts_at, expires_at__lte=ends_at, system=system)),
        overlaps=others.exclude(pk=but.pk if but else None).count(),
    )


def waiting(system: System) -> int:
    """Return how many deliveries wait for a system."""
    return _counted(Q(state=State.PENDING, system=system))


def _counted(condition: Q) -> int:
    return Delivery.objects.filter(condition).order_by().values("pk")[:MOST_COUNTED].count()
