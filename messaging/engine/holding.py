"""What a pause and its end do to those that wait: their reason says it, and afterwards nobody waits out an old delay.

Claims look at the registry, never at the reason, so a row that was missed here
is still held, and still sent. All of it is sync, and each call one bounded step:
a million rows are gone through beside the sending, not before it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from endpoints import services as registry
from endpoints.errors import ControlPlaneError
from endpoints.models import Endpoint, EndpointState, System, SystemState
from messaging.engine.doors import Interface
from messaging.engine.record import ENGINE
from messaging.models import WAITS_ITS_TURN, Delivery, Priority, Reason

log = structlog.get_logger(__name__)

BATCH = 1000
SAME = timedelta(milliseconds=1)  # SQLite keeps some times to the millisecond
UNTRIED = Q(attempts=0, unspent=0)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a step got in the order of the due index, so that no row is looked at again by the next."""

    priority: int = Priority.EMERGENCY.value
    due_at: datetime | None = None  # None: none of this priority yet
    is_end: bool = False


START = Place()


def hold(interface: Interface, after: Place) -> Place:
    """Say `paused` of what waits for an interface that may not be sent to."""
    waiting = _waiting(interface).exclude(reason=Reason.PAUSED)
    return _step(waiting, after, lambda rows: rows.update(reason=Reason.PAUSED))


def release_held(interface: Interface, after: Place) -> Place:
    """Let what was paused go: what was tried before is due at once, what is scheduled waits for its time."""
    return _step(_waiting(interface).filter(reason=Reason.PAUSED), after, _make_due)


def release_retries(interface: Interface, after: Place) -> Place:
    """Make the retries due: the address or the credential changed, so the old delays say nothing any more."""
    return _step(_waiting(interface).filter(~UNTRIED, reason=Reason.RETRYING, due_at__gt=Now()), after, _make_due)


def end_pauses() -> None:
    """Resume systems and endpoints whose pause was to end by now."""
    over = Q(pause_until__lte=timezone.now())
    for paused in (
        *System.objects.filter(over, state=SystemState.PAUSED),
        *Endpoint.objects.filter(over, state=EndpointState.PAUSED).select_related("system"),
    ):
        try:
            registry.resume(paused, by=ENGINE)
        except ControlPlaneError as exc:  # deleted or disabled a moment ago
            log.warning("pause_not_ended", paused=str(paused), error=exc.detail)


def _waiting(interface: Interface) -> QuerySet[Delivery]:
    system_id, name = interface
    found: QuerySet[Delivery] = Delivery.objects.filter(WAITS_ITS_TURN, system_id=system_id, interface=name)
    return found


def _make_due(rows: QuerySet[Delivery]) -> None:
    is_scheduled = When(UNTRIED & Q(due_at__gt=Now()), then=Value(Reason.SCHEDULED.value))
    rows.update(
        reason=Case(is_scheduled, When(UNTRIED, then=Value(Reason.NEW.value)), default=Value(Reason.RETRYING.value)),
        due_at=Case(When(UNTRIED, then=F("due_at")), default=Now()),
    )


def _step(waiting: QuerySet[Delivery], after: Place, update: Callable[[QuerySet[Delivery]], object]) -> Place:
    """Update the next rows, each still only if it still waits; return how far that got.

    What is updated does not fit `waiting` any more, so rows that are due at the same
    moment may be asked for again.
    """
    ahead = waiting.filter(priority=after.priority)
    if after.due_at is not None:
        ahead = ahead.filter(due_at__gte=after.due_at - SAME)
    rows = list(ahead.order_by("due_at").values_list("pk", "due_at")[:BATCH])
    if rows:
        update(waiting.filter(pk__in=[pk for pk, _ in rows]))
    if len(rows) == BATCH:
        return Place(after.priority, rows[-1][1])
    return Place(after.priority - 1, is_end=after.priority == Priority.LOW)
