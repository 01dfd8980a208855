"""Finds messages by whatever a person has in hand: an id, a correlation id, a business key, an ordering key.

Each kind is one probe of an index in order of position, so that the newest come first
however much history there is.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import BooleanField, Case, Prefetch, QuerySet, Value, When

from endpoints.access.principal import Principal
from messaging.models import Delivery, Message, RetentionMark
from messaging.walks import known_as

MOST_DELIVERIES = 300  # of all messages of one look together
LONGEST = 300


@dataclass(frozen=True, slots=True)
class Places:
    """Positions, newest first, with what each was found by; `more` are older than the last."""

    kinds: dict[int, set[str]]
    more: bool = False


def places(asked: str, before: int | None, limit: int) -> Places:
    """Return the newest `limit` positions that are known as `asked`, older than `before` if given."""
    text = asked.strip()
    if not text or len(text) > LONGEST or "\0" in text:
        return Places({})
    found: dict[int, set[str]] = defaultdict(set)
    for kind, way in known_as(text):
        assert way.abroad is not None
        rows = way.abroad if before is None else way.abroad.filter(**{f"{way.at}__lt": before})
        for position in rows.order_by(f"-{way.at}").values_list(way.at, flat=True)[: limit + 1]:
            found[position].add(kind)
    newest = sorted(found, reverse=True)
    return Places({position: found[position] for position in newest[:limit]}, len(newest) > limit)


def messages(positions: Iterable[int], principal: Principal) -> list[Message]:
    """Return those the principal may see, newest first, each with its deliveries (`seen`), and no payload."""
    wanted = list(positions)
    if not wanted:
        return []
    shown = _deliveries(principal).filter(message__in=wanted).order_by("-message_id", "id")
    capped = Delivery.objects.filter(pk__in=list(shown.values_list("pk", flat=True)[:MOST_DELIVERIES]))
    rows = Message.objects.visible_to(principal).filter(pk__in=wanted).select_related("source__owner")
    is_removed = Case(When(payload__isnull=True, then=Value(True)), default=Value(False), output_field=BooleanField())
    rows = rows.annotate(is_removed=is_removed).defer("payload", "headers")
    seen = Prefetch("deliveries", queryset=_with_systems(capped).order_by("id"), to_attr="seen")
    found: list[Any] = list(rows.prefetch_related(seen).order_by("-position"))
    for message in found:
        for delivery in message.seen:
            delivery.message = message
    return found


def delivery(pk: UUID, principal: Principal) -> Delivery | None:
    """Return one delivery the principal may see, as `why` takes it."""
    rows = _with_systems(_deliveries(principal).filter(pk=pk)).select_related("message")
    found: Delivery | None = rows.defer("message__payload", "message__headers").first()
    return found


def kept_since() -> datetime | None:
    """Return when the oldest message was accepted, if older ones were removed by retention."""
    if not RetentionMark.objects.filter(kind="messages").exclude(place="").exists():
        return None
    oldest: datetime | None = Message.objects.order_by("position").values_list("created_at", flat=True).first()
    return oldest


def _deliveries(principal: Principal) -> QuerySet[Delivery]:
    found: QuerySet[Delivery] = Delivery.objects.visible_to(principal)
    return found


def _with_systems(rows: QuerySet[Delivery]) -> QuerySet[Delivery]:
    return rows.select_related("source", "system__owner")
