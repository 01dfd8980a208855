"""Dead letters by their cause: how many there are, what a person says about them, and that they are done with."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet, Sum

from endpoints.access import audit
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, Forbidden
from endpoints.models import System, visible
from messaging import store
from messaging.models import UNGROUPED, DeadGroup, Delivery, State
from messaging.services import deliveries

BATCH = 500
MOST_AT_ONCE = 5_000  # of one request; the rest is for the next one
MOST_UNGROUPED = 5_000  # more says nothing more
EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Resolved:
    """What came of resolving a group: how many are done with, how many are left, of these how many hold an order."""

    resolved: int
    left: int
    halting: int


def groups(principal: Principal) -> QuerySet[DeadGroup]:
    """Return the groups the principal may see, with what they are shown with."""
    return DeadGroup.objects.visible_to(principal).select_related("system", "system__owner")


def members(group: DeadGroup) -> QuerySet[Any]:
    """Return the unresolved dead letters of a group, along their index."""
    return Delivery.objects.filter(group_id=group.pk, group__isnull=False, resolved_at__isnull=True)


def examples(group: DeadGroup, principal: Principal, most: int = EXAMPLES) -> QuerySet[Any]:
    """Return the newest dead letters of a group."""
    rows: Any = Delivery.objects.visible_to(principal) & members(group)
    rows = rows.select_related("message", "source", "system", "endpoint")
    return rows.defer("message__payload").order_by("-message_id", "-id")[:most]


def unresolved(principal: Principal | None = None, system: System | None = None) -> int:
    """Return how many dead letters wait for a person; those in no group yet are counted up to `MOST_UNGROUPED`."""
    return in_groups(principal, system) + ungrouped(principal, system)


def in_groups(principal: Principal | None = None, system: System | None = None) -> int:
    """Return how many unresolved dead letters the groups count."""
    counted: Any = DeadGroup.objects.filter(count__gt=0)
    if principal is not None:
        counted = counted.filter(visible(principal, "system__owner"))
    if system is not None:
        counted = counted.filter(system=system)
    return int(counted.aggregate(sum=Sum("count"))["sum"] or 0)


def ungrouped(principal: Principal | None = None, system: System | None = None) -> int:
    """Return how many dead letters are of before there were groups, and not looked at yet."""
    rows: Any = Delivery.objects.filter(UNGROUPED).order_by()
    if principal is not None:
        rows = rows.filter(visible(principal, "system__owner"))
    if system is not None:
        rows = rows.filter(system=system)
    return int(rows.values("pk")[:MOST_UNGROUPED].count())


def note(group: DeadGroup, text: str, *, by: Principal) -> DeadGroup:
    """Say something about a cause, for the next who looks at it; "" takes it back. Raises Forbidden."""
    _demand_operator(by)
    with transaction.atomic():
        row = DeadGroup.objects.select_for_update().get(pk=group.pk)
        before, row.note = row.note, text
        row.noted_by, row.noted_at = (by.label, store.now()) if text else ("", None)
        row.save(update_fields=["note", "noted_by", "noted_at"])
        audit.record(by, "note", row, {"note": [before, text]})
    group.note, group.noted_by, group.noted_at = row.note, row.noted_by, row.noted_at
    return group


def resolve(delivery: Delivery, *, by: Principal) -> Delivery:
    """Say that nothing is to be done about a dead letter any more; retention may remove it in its time.

    Raises Forbidden, or Conflict when it is not dead, resolved already, or others wait behind it.
    """
    _demand_operator(by)
    with transaction.atomic():
        row = Delivery.objects.select_for_update().filter(pk=delivery.pk).order_by().get()
        if row.state != State.DEAD or row.resolved_at is not None:
            told = "is resolved already" if row.resolved_at else f"is {row.state}, there is nothing to resolve"
            raise Conflict(f"the delivery {told}", code="wrong_state")
        if row.halting:
            raise Conflict("the next of its ordering key waits for it: send it again or cancel it", code="wrong_state")
        _resolve([row.pk], by)
        audit.record(by, "resolve", row, {"resolved": [False, True]})
    delivery.refresh_from_db()
    return delivery


def resolve_all(group: DeadGroup, *, by: Principal) -> Resolved:
    """Resolve what is dead of this cause now, in bounded steps; what dies later opens the group again.

    Those that hold up their ordering key are passed over: they must be sent again or cancelled. Raises Forbidden.
    """
    _demand_operator(by)
    until, done = store.now(), 0
    while done < MOST_AT_ONCE:
        with transaction.atomic():
            rows = members(group).select_for_update().filter(finished_at__lte=until, halting=False)
            ids = list(rows.order_by("message_id").values_list("pk", flat=True)[:BATCH])
            if not ids:
                break
            _resolve(ids, by)
            audit.record(by, "resolve", group, {"resolved": [0, len(ids)]})
            done += len(ids)
    group.refresh_from_db()
    return Resolved(done, group.count, members(group).filter(halting=True).count() if group.count else 0)


def try_one(group: DeadGroup, *, by: Principal) -> Delivery:
    """Send the newest dead letter of a cause again, alone. Raises Forbidden, or Conflict when none is left to send."""
    _demand_operator(by)
    rows = members(group).filter(message__payload__isnull=False).select_related("system", "message")
    newest = rows.order_by("-message_id", "-id").first()
    if newest is None:
        raise Conflict("none of this cause is left to be sent again", code="wrong_state")
    return deliveries.resend(newest, by=by)


def _resolve(ids: list[UUID], by: Principal) -> None:
    """Mark dead letters whose rows are held; a group in which none is left is closed by who did it."""
    now = store.now()
    theirs = list(
        Delivery.objects.filter(pk__in=ids, group__isnull=False).values_list("group_id", flat=True).distinct()
    )
    store.leave_groups(ids)
    Delivery.objects.filter(pk__in=ids).update(resolved_at=now)
    DeadGroup.objects.filter(pk__in=theirs, count=0).update(resolved_at=now, resolved_by=by.label)


def _demand_operator(by: Principal) -> None:
    if not by.may("operator"):
        raise Forbidden("this needs the role operator")
