"""Find what a caller asks for by its public name, and read a payload on the record."""

from typing import Any

from django.db.models import Prefetch, QuerySet

from endpoints.access import audit
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, Forbidden, NotFound
from messaging.models import Attempt, Delivery, Message
from messaging.services.order import blocked_by

MAX_ATTEMPTS_SHOWN = 200


def messages(principal: Principal, *, with_payload: bool = False) -> QuerySet[Message]:
    """Return the messages the principal may see, each with the deliveries it may see."""
    # Without their message, which they get from here.
    shown = Delivery.objects.visible_to(principal).select_related("source", "system").order_by("id")
    found = Message.objects.visible_to(principal).select_related("source")
    found = found.prefetch_related(Prefetch("deliveries", queryset=shown))
    return found if with_payload else found.defer("payload")


def deliveries(principal: Principal) -> QuerySet[Delivery]:
    """Return the deliveries the principal may see, with what they are shown with."""
    found: QuerySet[Delivery] = Delivery.objects.visible_to(principal).select_related("message", "source", "system")
    found = found.annotate(blocked_by_id=blocked_by(principal))
    return found.defer("message__payload", "message__headers", "message__targets", "message__search_keys")


def attempts(principal: Principal) -> QuerySet[Attempt]:
    found: QuerySet[Attempt] = Attempt.objects.visible_to(principal)
    return found


def attempts_of(delivery: Delivery) -> list[Attempt]:
    """Return the latest tries of a delivery, oldest first; a throttled one may have thousands."""
    latest = list(Attempt.objects.filter(delivery=delivery).order_by("-number", "-id")[:MAX_ATTEMPTS_SHOWN])
    return latest[::-1]


def message(principal: Principal, message_id: str, source_system: str | None = None) -> Message:
    """Return one message with its payload.

    An id is unique per source only: raises Conflict `ambiguous` naming the sources
    when several used it and none is named; NotFound when there is none to see.
    """
    found = messages(principal, with_payload=principal.may("operator")).filter(message_id=message_id)
    if source_system is not None:
        found = found.filter(source__slug=source_system)
    rows = [] if "\0" in message_id else list(found[:10])
    if not rows:
        raise NotFound("there is no such message")
    if len(rows) > 1:
        sources = ", ".join(sorted(row.source.slug for row in rows))
        raise Conflict(f"several sources used this id; add ?source_system= one of {sources}", code="ambiguous")
    return rows[0]


def view_payload(message: Message, *, by: Principal, **details: Any) -> bytes | None:
    """Return the payload (None: removed by retention) after writing down who read it; raises Forbidden."""
    if not by.may("operator"):
        raise Forbidden("payloads are for operators")
    audit.record(by, "view_payload", message, {name: [None, value] for name, value in details.items()})
    return None if message.payload is None else bytes(message.payload)
