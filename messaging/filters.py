"""What the lists of messages, deliveries and attempts can be filtered by: one row per query parameter."""

import contextlib
import uuid
from dataclasses import replace
from functools import partial

from django.db.models import Exists, OuterRef, Q

from endpoints.edge.filters import (
    Filter,
    boolean,
    choice,
    condition,
    custom,
    identifier,
    moment,
    number,
    one_of,
    parse_boolean,
    parse_uuid,
    text,
    words,
)
from endpoints.models import System
from messaging.conf import CAUSES
from messaging.intake.fields import PRIORITIES
from messaging.models import (
    ERROR_CLASSES,
    Delivery,
    JobAction,
    JobState,
    MessageType,
    Outcome,
    Reason,
    SearchKey,
    State,
)

RESOLVED = "Dead letters only: those that a person said are done with, or (false) those that wait for one."
FOUND_BY = "An id of a message or delivery, a correlation id, or the value of a search key."


def by_target(slugs: list[str]) -> Q:
    """Select messages with a delivery to one of these systems; not by a join, which would repeat them."""
    return Q(Exists(Delivery.objects.filter(message=OuterRef("pk"), system__slug__in=slugs)))


def by_system(path: str, slugs: list[str]) -> Q:
    """Select by the slug of the system at `path`: checked row by row, never led from by a join the other way round."""
    return Q(Exists(System.objects.filter(pk=OuterRef(path), slug__in=slugs)))


def by_system_of_delivery(slugs: list[str]) -> Q:
    """Select attempts by the receiver, likewise."""
    return Q(Exists(Delivery.objects.filter(pk=OuterRef("delivery_id"), system__slug__in=slugs)))


def by_search_key(position: str, value: str) -> Q:
    """Select by `name:value` of the message at `position`; raises ValueError for another shape."""
    name, colon, key = value.partition(":")
    if not (name and colon and key):
        raise ValueError("must read name:value, such as order:4711.")
    return Q(Exists(SearchKey.objects.filter(message=OuterRef(position), value=key, name=name)))


def by_words(position: str, message: str, value: str) -> Q:
    """Select by any id or business key that the message at `position` is known under."""
    found = Q(**{f"{message}message_id": value}) | Q(**{f"{message}correlation_id": value})
    found |= Q(Exists(SearchKey.objects.filter(message=OuterRef(position), value=value)))
    with contextlib.suppress(ValueError):  # not the id of a delivery
        found |= Q(Exists(Delivery.objects.filter(message=OuterRef(position), pk=uuid.UUID(value))))
    return found


def by_resolved(yes: bool) -> Q:
    """Select dead letters that a person is done with, or those that wait for one."""
    return Q(state=State.DEAD, resolved_at__isnull=not yes)


def known_by(position: str, message: str) -> dict[str, Filter]:
    """Return the filters that find a row by what its message is known under."""
    return {
        "search_key": custom(partial(by_search_key, position), "A business key as `name:value`."),
        "q": custom(partial(by_words, position, message), FOUND_BY),
    }


MESSAGES: dict[str, Filter] = {
    "message_id": text("message_id"),
    "source_system": Filter(str, partial(by_system, "source_id"), "Slugs of senders.", many=True),
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
    **known_by("pk", ""),
}

# Of one message by its id.
MESSAGE: dict[str, Filter] = {
    "source_system": text("source__slug", "Which sender is meant, where several used the same id."),
}

DELIVERIES: dict[str, Filter] = {
    "state": choice("state", State.values),
    "reason": choice("reason", Reason.values),
    "system": Filter(str, partial(by_system, "system_id"), "Slugs of receivers.", many=True),
    "interface": one_of("interface"),
    "endpoint": identifier("endpoint_id", "The endpoint tried last."),
    "error_class": choice("error_class", ERROR_CLASSES),
    "message_id": text("message__message_id"),
    "source_system": Filter(str, partial(by_system, "source_id"), "Slugs of senders.", many=True),
    "event_type": one_of("message__event_type"),
    "message_type": choice("message__message_type", MessageType.values),
    "priority": choice("priority", PRIORITIES),
    "correlation_id": text("message__correlation_id"),
    "ordering_key": text("ordering_key"),
    "created_after": moment("created_at__gte", "Created at or after this time."),
    "created_before": moment("created_at__lt", "Created before this time."),
    "finished_after": moment("finished_at__gte", "Ended at or after this time."),
    "finished_before": moment("finished_at__lt", "Ended before this time."),
    "dead_group": Filter(
        parse_uuid,
        lambda value: Q(group_id=value, resolved_at__isnull=True),
        "The unresolved dead letters of one cause.",
        {"type": "string", "format": "uuid"},
    ),
    "resolved": Filter(parse_boolean, by_resolved, RESOLVED, {"type": "boolean"}),
    **known_by("message_id", "message__"),
}

DEAD_LETTERS = {name: found for name, found in DELIVERIES.items() if name != "state"}

DEAD_GROUPS: dict[str, Filter] = {
    "system": one_of("system__slug", "Slugs of receivers."),
    "interface": one_of("interface"),
    "error_class": choice("error_class", ERROR_CLASSES),
    "resolved": condition(Q(count=0), "Whether nothing of this cause is left to be done."),
    # Of the signature only what the caller is shown: `services.dead_groups.groups` says what that is.
    "q": replace(words("shown", "note"), description="Text to find in the signature as you are shown it, or the note."),
}

ATTEMPTS: dict[str, Filter] = {
    "delivery": identifier("delivery_id"),
    "endpoint": identifier("endpoint_id"),
    "system": Filter(str, by_system_of_delivery, "Slugs of receivers.", many=True),
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

FIND: dict[str, Filter] = {
    "q": text("q", "An id of a message or delivery, a correlation id, an ordering key, or `4711` or `order=4711`."),
    "before": number("pk__lt", 1, 10**18, "Only messages of an earlier position, as `next` says."),
    "page_size": number("size", 1, 100, "How many messages the key itself may lead to; default 50."),
}

JOBS: dict[str, Filter] = {
    "action": choice("action", JobAction.values),
    "state": choice("state", JobState.values),
}


def by_cause(value: str) -> Q:
    """Select incidents that have, or had, this cause."""
    if value not in CAUSES:
        raise ValueError(f"must be one of {', '.join(CAUSES)}.")
    return Q(causes__icontains=f'"cause": "{value}"')


INCIDENTS: dict[str, Filter] = {
    "open": condition(Q(resolved_at__isnull=True), "Only open ones, or only resolved ones."),
    "system": one_of("system__slug", "The system's slug."),
    "endpoint": identifier("endpoint_id"),
    "cause": custom(by_cause, f"One of {', '.join(CAUSES)}."),
    "quiet": condition(~Q(quiet_because=""), "Those that nobody is told of, or the others."),
    "parent": identifier("parent_id", "Those that this incident speaks for."),
    "created_after": moment("opened_at__gte", "Opened at or after this time."),
    "created_before": moment("opened_at__lt", "Opened before this time."),
}
