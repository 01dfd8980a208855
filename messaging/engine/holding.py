"""What a hold and its end do to those that wait: their reason says it, and afterwards nobody waits out an old delay.

Claims look at the registry, never at the reason, so a row that was missed here
is still held, and still sent. All of it is sync, and each call one bounded step:
a million rows are gone through beside the sending, not before it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from endpoints import services
from endpoints.errors import ControlPlaneError
from endpoints.models import (
    Breaker,
    BreakerState,
    EmergencyStop,
    Endpoint,
    EndpointState,
    Retirement,
    System,
    SystemState,
)
from messaging import store
from messaging.engine.doors import Interface, Registry
from messaging.engine.record import ENGINE
from messaging.models import WAITS_ITS_TURN, Delivery, Presence, Priority, Reason, State

log = structlog.get_logger(__name__)

BATCH = 1000
LOOKED_AT = 20  # the first ones of a queue that moves say enough of it
SAME = timedelta(milliseconds=1)  # SQLite keeps some times to the millisecond
LATE = timedelta(seconds=1)
UNTRIED = Q(attempts=0, unspent=0)
QUIET = timedelta(seconds=10)  # by then all that intake took before it knew of a retirement is stored
TRIED_AT_WILL = (
    Reason.NEW,
    Reason.RETRYING,
    Reason.RATE_LIMITED,
    Reason.PAUSED,
    Reason.MAINTENANCE,
)  # whenever they are due


LOST_CLIENT = (Reason.BREAKER, Reason.THROTTLED)
# Whether a client that may have a delivery is connected to whichever process.
IS_PRESENT = Exists(
    Presence.objects.filter(system=OuterRef("system"), recipient=OuterRef("message__recipient"), until__gt=Now())
)
HELD = (Reason.PAUSED, Reason.MAINTENANCE, Reason.BREAKER)  # what the end of a hold lets go


@dataclass(frozen=True, slots=True)
class Place:
    """How far a step got in the order of the due index, so that no row is looked at again by the next."""

    priority: int = Priority.EMERGENCY.value
    due_at: datetime | None = None  # None: none of this priority yet
    is_end: bool = False


def hold_paused(interface: Interface, after: Place) -> Place:
    """Say `paused` of what waits for an interface that may not be sent to."""
    waiting = _waiting(interface).exclude(reason=Reason.PAUSED)
    return _step(waiting, after, lambda rows: rows.update(reason=Reason.PAUSED))


def hold_maintenance(interface: Interface, after: Place) -> Place:
    """Say `maintenance` of what waits for an interface of a system that is in a window."""
    waiting = _waiting(interface).exclude(reason=Reason.MAINTENANCE)
    return _step(waiting, after, lambda rows: rows.update(reason=Reason.MAINTENANCE))


def hold_behind_breaker(interface: Interface, after: Place) -> Place:
    """Say `breaker` of what waits for nothing else."""
    waiting = _waiting(interface).filter(Q(due_at__lte=Now()) | Q(reason__in=TRIED_AT_WILL))
    waiting = waiting.exclude(reason__in=(Reason.BREAKER, Reason.BLOCKED))
    return _step(waiting, after, lambda rows: rows.update(reason=Reason.BREAKER))


def hold_without_client(interface: Interface, after: Place) -> Place:
    """Say `no_client` of what only a connected client can take, while none is that may have it."""
    waiting = _waiting(interface).filter(Q(due_at__lte=Now()) | Q(reason__in=(*TRIED_AT_WILL, *LOST_CLIENT)))
    waiting = waiting.exclude(reason__in=(Reason.NO_CLIENT, Reason.BLOCKED)).filter(~IS_PRESENT)
    return _step(waiting, after, lambda rows: rows.update(reason=Reason.NO_CLIENT))


def release_to_clients(interface: Interface, after: Place) -> Place:
    """Let go what waited for a client that is there now: due at once."""
    return _step(_waiting(interface).filter(IS_PRESENT, reason=Reason.NO_CLIENT), after, _make_due)


def skip_disabled(interface: Interface, after: Place) -> Place:
    """End what waits for an interface that is disabled, as its new deliveries are; a person may send them again."""
    return _end(interface, after, State.SKIPPED, Reason.DISABLED)


def cancel_retired(interface: Interface, after: Place) -> Place:
    """End what waits for an interface of a system that is retired and does not drain."""
    return _end(interface, after, State.CANCELLED, Reason.RETIRED)


def _end(interface: Interface, after: Place, state: State, reason: Reason) -> Place:
    system_id, name = interface
    # Those that wait for a head first: it would let them go one by one.
    blocked = Delivery.objects.filter(
        ~Q(ordering_key=""), state=State.PENDING, reason=Reason.BLOCKED, system_id=system_id, interface=name
    )
    with transaction.atomic():
        if ids := list(blocked.order_by("ordering_key", "message").values_list("pk", flat=True)[:BATCH]):
            _end_rows(system_id, blocked.filter(pk__in=ids), state, reason)
            return after
        return _step(_waiting(interface), after, lambda rows: _end_rows(system_id, rows, state, reason))


def mark_rate_limited(interface: Interface, after: Place) -> Place:
    """Say `rate_limited` of what has been due for a while and waits for nothing but the rate."""
    late = _waiting(interface).filter(reason__in=(Reason.NEW, Reason.RETRYING), due_at__lte=Now() - LATE)
    return _step(late, after, lambda rows: rows.update(reason=Reason.RATE_LIMITED))


def release_held(interface: Interface, after: Place) -> Place:
    """Let what was held go: what was tried before is due at once, what is scheduled waits for its time."""
    return _step(_waiting(interface).filter(reason__in=HELD), after, _make_due)


def release_retries(interface: Interface, after: Place) -> Place:
    """Make the retries due: the address or the credential changed, so the old delays say nothing any more."""
    return _step(_waiting(interface).filter(~UNTRIED, reason=Reason.RETRYING, due_at__gt=Now()), after, _make_due)


def holds(registry: Registry) -> dict[Interface, Callable[[Interface, Place], Place]]:
    """Return how to mark what waits for each interface that may not be sent to; a breaker is told of elsewhere."""
    if not registry.is_marked:
        return {}
    return {
        **dict.fromkeys(registry.clients_only, hold_without_client),
        **dict.fromkeys(registry.unusable, hold_paused),
        **dict.fromkeys(registry.maintained, hold_maintenance),
        **dict.fromkeys(registry.disabled, skip_disabled),
        **dict.fromkeys(registry.retired, cancel_retired),
    }


def end_pauses() -> None:
    """Resume what was to be paused until now, everything after an emergency stop; go on with retirements."""
    if EmergencyStop.objects.filter(until__lte=timezone.now()).exists():
        services.resume_all(by=ENGINE)
    over = Q(pause_until__lte=timezone.now())
    for paused in (
        *System.objects.filter(over, state=SystemState.PAUSED),
        *Endpoint.objects.filter(over, state=EndpointState.PAUSED).select_related("system"),
    ):
        try:
            services.resume(paused, by=ENGINE)
        except ControlPlaneError as exc:  # deleted or disabled a moment ago
            log.warning("pause_not_ended", paused=str(paused), error=exc.detail)
    _settle_retired()


def _settle_retired() -> None:
    """Cancel what waits for retired systems that do not drain, and note for which of them nothing waits any more."""
    for system in System.objects.exclude(retirement=""):
        if system.retirement == Retirement.CANCELLING:
            _cancel_some(system.pk)
        is_quiet = system.retired_at is None or system.retired_at <= timezone.now() - QUIET
        if is_quiet and not _is_owed(system.pk):
            services.end_retirement(system, by=ENGINE)


def _cancel_some(system_id: int) -> None:
    """Cancel a batch of what waits, also at doors that have no endpoint any more, of which the registry is silent."""
    blocked = Delivery.objects.filter(state=State.PENDING, reason=Reason.BLOCKED, system_id=system_id)
    with transaction.atomic():
        for rows in (blocked, Delivery.objects.filter(WAITS_ITS_TURN, system_id=system_id)):
            if ids := list(rows.order_by().values_list("pk", flat=True)[:BATCH]):
                _end_rows(system_id, rows.filter(pk__in=ids), State.CANCELLED, Reason.RETIRED)
                return


def _is_owed(system_id: int) -> bool:
    """Say whether anything waits for the system or is on its way; a probe of each index of what is open."""
    waiting = Delivery.objects.filter(WAITS_ITS_TURN, system_id=system_id)
    blocked = Delivery.objects.filter(state=State.PENDING, reason=Reason.BLOCKED, system_id=system_id)
    sending = Delivery.objects.filter(state=State.SENDING, lease_until__isnull=False, system_id=system_id)
    return any(rows.order_by().exists() for rows in (waiting, blocked, sending))


def end_drains(paced: Mapping[UUID, Interface]) -> None:
    """End the pace of endpoints {endpoint: interface} for which nothing waits any more that waited when it began."""
    now = store.now()
    for row in Breaker.objects.filter(pk__in=paced, pace_per_s__isnull=False):
        first = _waiting(paced[row.pk]).filter(due_at__lte=now).order_by("-priority", "due_at")
        oldest = min(first.values_list("created_at", flat=True)[:LOOKED_AT], default=now)
        if oldest >= (row.paced_at or now) and row.state == BreakerState.CLOSED:
            ended = Breaker.objects.filter(pk=row.pk, paced_at=row.paced_at)
            ended.update(pace_per_s=None, paced_at=None, written_at=now)


def _waiting(interface: Interface) -> QuerySet[Delivery]:
    system_id, name = interface
    found: QuerySet[Delivery] = Delivery.objects.filter(WAITS_ITS_TURN, system_id=system_id, interface=name)
    return found


def _end_rows(system_id: int, rows: QuerySet[Delivery], state: State, reason: Reason) -> None:
    """End those of `rows` that still wait, and let go who came to their lines behind them; call it before locking any.

    Nobody may join a line while its head ends here: he would wait for nobody.
    """
    keyed = rows.exclude(ordering_key="").order_by().values_list("interface", "ordering_key").distinct()
    lines = {(system_id, name, key) for name, key in keyed}
    store.lock_lines(lines, alone=True)
    now = store.now()
    count = rows.update(state=state, reason=reason, finished_at=now, halting=False)
    store.release_next(lines, now)
    minute = now.replace(second=0, microsecond=0)
    store.add_rollups({(minute, system_id, state.value, ""): (count, 0.0)} if count else {})


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
