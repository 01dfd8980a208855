"""What the lists of messages, deliveries and attempts can be filtered by: one row per query parameter."""

import contextlib
import uuid
from collections.abc import Mapping

from django.db.models import Q

from endpoints.edge.filters import Filter, boolean, choice, custom, identifier, moment, number, one_of, text
from messaging.intake.fields import PRIORITIES
from messaging.models import ERROR_CLASSES, Delivery, Message, MessageType, Outcome, Reason, SearchKey, State

FOUND_BY = "An id of a message or delivery, a correlation id, or the value of a search key."


def by_target(slugs: list[str]) -> Q:
    """Select messages with a delivery to one of these systems; not by a join, which would repeat them."""
    return Q(pk__in=Delivery.objects.filter(system__slug__in=slugs).order_by().values("message"))


def by_search_key(value: str) -> Q:
    """Select messages by `name:value`; raises ValueError for another shape."""
    name, colon, key = value.partition(":")
    if not (name and colon and key):
        raise ValueError("must read name:value, such as order:4711.")
    return Q(pk__in=SearchKey.objects.filter(value=key, name=name).values("message"))


def by_words(value: str) -> Q:
    """Select messages by any id or business key they are known under.

    A union of exact look-ups, each along its index, instead of one condition over
    joined tables that no index serves.
    """
    found = [
        Message.objects.filter(message_id=value).values("pk"),
        Message.objects.filter(~Q(correlation_id=""), correlation_id=value).values("pk"),
        SearchKey.objects.filter(value=value).values("message"),
    ]
    with contextlib.suppress(ValueError):  # not the id of a delivery
        found.append(Delivery.objects.filter(pk=uuid.UUID(value)).values("message"))
    first, *others = (query.order_by() for query in found)
    return Q(pk__in=first.union(*others))


def of_message(select: Mapping[str, Filter]) -> dict[str, Filter]:
    """Return filters of messages as filters of their deliveries."""

    def moved(found: Filter) -> Filter:
        def condition(value: object) -> Q:
            return Q(message__in=Message.objects.filter(found.condition(value)).order_by().values("pk"))

        return Filter(found.parse, condition, found.description, found.schema, found.many)

    return {name: moved(found) for name, found in select.items()}


KNOWN_BY: dict[str, Filter] = {
    "search_key": custom(by_search_key, "A business key as `name:value`."),
    "q": custom(by_words, FOUND_BY),
}

MESSAGES: dict[str, Filter] = {
    "message_id": text("message_id"),
    "source_system": one_of("source__slug", "Slugs of senders."),
    "target_system": Filter(str, by_target, "Slugs of receivers.", many=True),
    "event_type": one_of("event_type"),
    "message_type": choice("message_type", MessageType.values),
    "priority": choice("priority", PRIORITIES),
    "correlation_id": text("correlation_id"),
    "ordering_key": text("ordering_key"),
    "recipient": text("recipient"),
    "unrouted": boolean("unrouted", "Messages that matched no target."),
    "created_after": moment("created_at__gte", "Accepted at or after this time."),
    "created_before": moment("created_at__lt", "Accepted before this time."),
    **KNOWN_BY,
}

# Of one message by its id.
MESSAGE: dict[str, Filter] = {
    "source_system": text("source__slug", "Which sender is meant, where several used the same id."),
}

DELIVERIES: dict[str, Filter] = {
    "state": choice("state", State.values),
    "reason": choice("reason", Reason.values),
    "system": one_of("system__slug", "Slugs of receivers."),
    "interface": one_of("interface"),
    "endpoint": identifier("endpoint_id", "The endpoint tried last."),
    "error_class": choice("error_class", ERROR_CLASSES),
    "message_id": text("message__message_id"),
    "source_system": one_of("source__slug", "Slugs of senders."),
    "event_type": one_of("message__event_type"),
    "message_type": choice("message__message_type", MessageType.values),
    "priority": choice("priority", PRIORITIES),
    "correlation_id": text("message__correlation_id"),
    "ordering_key": text("ordering_key"),
    "created_after": moment("created_at__gte", "Created at or after this time."),
    "created_before": moment("created_at__lt", "Created before this time."),
    "finished_after": moment("finished_at__gte", "Ended at or after this time."),
    "finished_before": moment("finished_at__lt", "Ended before this time."),
    **of_message(KNOWN_BY),
}

DEAD_LETTERS = {name: found for name, found in DELIVERIES.items() if name != "state"}

ATTEMPTS: dict[str, Filter] = {
    "delivery": identifier("delivery_id"),
    "endpoint": identifier("endpoint_id"),
    "system": one_of("delivery__system__slug", "Slugs of receivers."),
    "outcome": choice("outcome", Outcome.values),
    "error_class": choice("error_class", ERROR_CLASSES),
    "status_code": number("status_code", 100, 999),
    "started_after": moment("started_at__gte", "Started at or after this time."),
    "started_before": moment("started_at__lt", "Started before this time."),
}

LEDGER: dict[str, Filter] = {
    "system": text("system__slug", "Only what this system was to receive."),
    "from": moment("created_at__gte", "Accepted at or after this time; default: a day before `to`."),
    "to": moment("created_at__lt", "Accepted before this time; default: now."),
}
