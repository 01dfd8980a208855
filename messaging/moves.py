"""What a person's wish does to the states of deliveries: the same for one on its page and for thousands of a job.

Each locks the rows that are still in a state that allows it, by id, and moves exactly
those: of two who wish the same at once, one finds nothing left to move. Call them
within a transaction.
"""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime

from django.db.models import Case, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce, Now

from endpoints.models import Endpoint, EndpointState
from messaging import store
from messaging.models import OPEN_STATES, DeadGroup, Delivery, Reason, State

Ids = Sequence[uuid.UUID]
CANCELLABLE = Q(state=State.PENDING) | Q(state=State.DEAD, halting=True)
RESOLVABLE = Q(state=State.DEAD, resolved_at__isnull=True, halting=False)
# Held by nothing but the time of their next try; what is paused, blocked or scheduled waits for something else.
WAITS_FOR_ITS_TIME = Q(
    state=State.PENDING,
    reason__in=(Reason.RETRYING, Reason.BREAKER, Reason.THROTTLED, Reason.RATE_LIMITED, Reason.NO_CLIENT),
)


def send_again(ids: Ids, allowed: Q, trigger: str) -> int:
    """Make finished deliveries wait anew, outside of any order, with a fresh budget of attempts and no time to live."""
    rows = _locked(ids, allowed)
    store.leave_groups(rows)
    return _of(rows).update(
        state=State.PENDING,
        reason=Reason.NEW,
        trigger=trigger,
        due_at=Now(),
        finished_at=None,
        expires_at=None,
        throttled_since=None,
        losses=0,
        ack_level="",
        group=None,
        resolved_at=None,
        # The dead head that an order waits for goes on holding it; whatever else is sent again is outside of it.
        halting=Case(When(state=State.DEAD, then=F("halting")), default=Value(False)),
        max_attempts=F("attempts") + _budget(),
    )


def cancel(ids: Ids, allowed: Q, lines: Collection[store.Line]) -> int:
    """End deliveries unsent; `lines` are theirs, and the next of each goes then."""
    store.lock_lines(lines, alone=True)
    rows = _locked(ids, allowed & CANCELLABLE)
    store.leave_groups(rows)
    moved = _of(rows).update(
        state=State.CANCELLED,
        reason=Reason.OPERATOR,
        finished_at=Now(),
        halting=False,
        group=None,
        resolved_at=None,
    )
    store.release_next(lines, store.now())
    return moved


def make_due(ids: Ids, allowed: Q) -> int:
    """Let what waits for the time of its next try wait no longer; what holds its endpoint still holds it."""
    return _of(_locked(ids, allowed & WAITS_FOR_ITS_TIME)).update(due_at=Now())


def resolve(ids: Ids, allowed: Q, by: str) -> int:
    """Say of dead letters that nothing is to be done about them any more; a group in which none is left is closed.

    One that holds up its ordering key stays as it is: those behind it wait for a person.
    """
    rows = _locked(ids, allowed & RESOLVABLE)
    theirs = list(_of(rows).filter(group__isnull=False).order_by().values_list("group_id", flat=True).distinct())
    store.leave_groups(rows)
    moved = _of(rows).update(resolved_at=Now())
    DeadGroup.objects.filter(pk__in=theirs, count=0).update(resolved_at=Now(), resolved_by=by[:200])
    return moved


def purge(ids: Ids, allowed: Q) -> int:
    """Delete finished deliveries with their attempts, and messages of which nothing is left; the books keep count."""
    rows = _locked(ids, allowed & ~Q(state__in=OPEN_STATES))
    store.leave_groups(rows)
    # One that is purged was owed all the same: it is booked in the minute of its acceptance, where that was.
    owed = _of(rows).order_by().values_list("system_id", "message__created_at", "message_id")
    counts: dict[tuple[datetime, int, str, str], tuple[int, float]] = {}
    positions = set()
    for system_id, created_at, position in owed:
        key = (created_at.replace(second=0, microsecond=0), system_id, "purged", "")
        counts[key] = (counts.get(key, (0, 0.0))[0] + 1, 0.0)
        positions.add(position)
    kept = Delivery.objects.filter(message__in=positions).exclude(pk__in=rows).order_by()
    positions -= set(kept.values_list("message_id", flat=True))
    store.delete_deliveries(rows)
    store.delete_messages(sorted(positions), ())
    store.add_rollups(counts)
    return len(rows)


def lines_of(ids: Ids) -> set[store.Line]:
    """Return the ordering keys that these deliveries stand in, by interface."""
    keyed = _of(ids).exclude(ordering_key="")
    return set(keyed.order_by().values_list("system_id", "interface", "ordering_key").distinct())


def _locked(ids: Ids, allowed: Q) -> list[uuid.UUID]:
    rows = Delivery.objects.select_for_update(of=("self",)).filter(allowed, pk__in=ids).order_by("pk")
    return list(rows.values_list("pk", flat=True))


def _of(ids: Ids) -> QuerySet[Delivery]:
    found: QuerySet[Delivery] = Delivery.objects.filter(pk__in=ids)
    return found


def _budget() -> Coalesce:
    """Return the attempts that the interface of each delivery grants today."""
    doors = Endpoint.objects.filter(system=OuterRef("system"), interface=OuterRef("interface"))
    first = doors.exclude(state=EndpointState.DISABLED).order_by("tier", "name").values("max_attempts")[:1]
    return Coalesce(Subquery(first), 1)
