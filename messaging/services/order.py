"""What a blocked delivery waits for: the head of its ordering key, since when, and why that does not move."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Case, OuterRef, Subquery, UUIDField, When

from endpoints.access.principal import Principal
from messaging.models import Attempt, Delivery, Reason, State


@dataclass(frozen=True, slots=True)
class Head:
    """The delivery that holds an ordering key; `delivery`, `position` and `message_id` only for who may see it."""

    delivery: str | None
    position: int | None
    message_id: str | None
    state: str
    reason: str
    error: str
    since: datetime
    due_at: datetime
    text: str


def blocked_by(principal: Principal) -> Case:
    """Return the id of the head that a delivery is blocked by, to annotate lists with: one probe a blocked row."""
    head = Delivery.objects.visible_to(principal).filter(
        holds=True, system=OuterRef("system"), interface=OuterRef("interface"), ordering_key=OuterRef("ordering_key")
    )
    of_blocked = When(state=State.PENDING, reason=Reason.BLOCKED, then=Subquery(head.order_by().values("pk")[:1]))
    return Case(of_blocked, default=None, output_field=UUIDField(null=True))


def head_of(delivery: Delivery, principal: Principal) -> Head | None:
    """Return what a delivery waits behind, None when it is not blocked."""
    if (delivery.state, delivery.reason) != (State.PENDING, Reason.BLOCKED):
        return None
    line = {"system": delivery.system_id, "interface": delivery.interface, "ordering_key": delivery.ordering_key}
    rows = Delivery.objects.filter(holds=True, **line).select_related("message", "system")
    head = rows.defer("message__payload").first()
    if head is None:  # it ended a moment ago
        return None
    is_seen = Delivery.objects.visible_to(principal).filter(pk=head.pk).exists()
    since = _since(head)
    return Head(
        delivery=str(head.pk) if is_seen else None,
        position=head.message_id if is_seen else None,
        message_id=head.message.message_id if is_seen else None,
        state=head.state,
        reason=head.reason,
        error=head.error if is_seen else "",
        since=since,
        due_at=head.due_at,
        text=_text(head, since, is_seen=is_seen),
    )


def _since(head: Delivery) -> datetime:
    """Return since when the head is what it is: dead, tried again and again, or just there."""
    if head.finished_at is not None:
        return head.finished_at
    first: Any = Attempt.objects.filter(delivery=head).order_by("number").values_list("started_at", flat=True).first()
    return first or head.created_at


def _text(head: Delivery, since: datetime, *, is_seen: bool) -> str:
    who = f"delivery {head.pk}" if is_seen else "a delivery of another team"
    where = f"{head.system.slug}/{head.interface}, key {head.ordering_key}"
    how = head.reason if head.state == State.PENDING else head.state
    todo = "; it must be sent again or cancelled" if head.state == State.DEAD else ""
    return f"blocked behind {who} ({where}, {how.replace('_', ' ')} since {since:%Y-%m-%d %H:%M:%S} UTC{todo})"
