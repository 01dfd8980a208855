"""Dead letters by their cause: how many there are, what a person says about them, and that they are done with."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Left, StrIndex

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict
from endpoints.models import System, visible
from messaging import moves, store
from messaging.models import UNGROUPED, DeadGroup, Delivery, JobAction, State
from messaging.services import deliveries, jobs

MOST_AT_ONCE = 1_000  # resolved while the caller waits
MOST_UNGROUPED = 5_000  # more says nothing more
EXAMPLES = 10
_BREAK = StrIndex("signature", Value("\n"))
FIRST_LINE = Case(When(signature__contains="\n", then=Left("signature", _BREAK - 1)), default=F("signature"))


@dataclass(frozen=True, slots=True)
class Resolved:
    """What came of resolving a group: how many are done with and left, how many hold an order, the job that does it."""

    resolved: int
    left: int
    halting: int
    job: UUID | None = None


def groups(principal: Principal) -> QuerySet[DeadGroup]:
    """Return the groups the principal may see, with what they are shown with.

    `shown` is the signature as far as it is theirs to read, and to search: what the answer's
    body said stands behind its first line, for those who may read payloads.
    """
    rows = DeadGroup.objects.visible_to(principal).select_related("system", "system__owner")
    return rows.annotate(shown=F("signature") if principal.may("operator") else FIRST_LINE)


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
    rows: Any = Delivery.objects.filter(UNGROUPED).order_by()  # few, along their own index: the rest is checked on it
    if principal is not None:
        rows = rows.filter(visible(principal, "system__owner"))
    if system is not None:
        rows = rows.filter(Exists(System.objects.filter(pk=OuterRef("system"), slug=system.slug)))
    return int(rows.values("pk")[:MOST_UNGROUPED].count())


def note(group: DeadGroup, text: str, *, by: Principal) -> DeadGroup:
    """Say something about a cause, for the next who looks at it; "" takes it back. Raises Forbidden."""
    roles.demand(by, "operator")
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
    roles.demand(by, "operator")
    with transaction.atomic():
        row = Delivery.objects.select_for_update().filter(pk=delivery.pk).order_by().get()
        if row.state != State.DEAD or row.resolved_at is not None:
            told = "is resolved already" if row.resolved_at else f"is {row.state}, there is nothing to resolve"
            raise Conflict(f"the delivery {told}", code="wrong_state")
        if row.halting:
            raise Conflict("the next of its ordering key waits for it: send it again or cancel it", code="wrong_state")
        moves.resolve([row.pk], Q(), by.label)
        audit.record(by, "resolve", row, {"resolved": [False, True]})
    delivery.refresh_from_db()
    return delivery


def resolve_all(group: DeadGroup, *, by: Principal) -> Resolved:
    """Resolve what is dead of this cause now; what dies later opens the group again. More than a few become a job.

    Those that hold up their ordering key are passed over: they must be sent again or cancelled. Raises Forbidden.
    """
    roles.demand(by, "operator")
    ids = list(members(group).order_by("message_id").values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
    if len(ids) > MOST_AT_ONCE:
        job, _ = jobs.create(JobAction.RESOLVE, {"dead_group": str(group.pk)}, by=by)
        return Resolved(0, group.count, 0, job.pk)
    with transaction.atomic():
        done = moves.resolve(ids, Q(), by.label) if ids else 0
        if done:
            audit.record(by, "resolve", group, {"resolved": [0, done]})
    group.refresh_from_db()
    return Resolved(done, group.count, members(group).filter(halting=True).count() if group.count else 0)


def try_one(group: DeadGroup, *, by: Principal) -> Delivery:
    """Send the newest dead letter of a cause again, alone. Raises Forbidden, or Conflict when none is left to send."""
    roles.demand(by, "operator")
    rows = members(group).filter(message__payload__isnull=False).select_related("system", "message")
    newest = rows.order_by("-message_id", "-id").first()
    if newest is None:
        raise Conflict("none of this cause is left to be sent again", code="wrong_state")
    return deliveries.resend(newest, by=by)
