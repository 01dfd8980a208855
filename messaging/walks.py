"""Which index leads to what a list of messages, deliveries or attempts is asked for.

One row of a table below says: when these filters are given, these are the ways, each
along an index that is in the list's order. The first row that applies is taken, the
most selective stand first; every other filter is checked row by row on the way.
"""

import contextlib
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from django.db.models import Q
from rest_framework.request import Request

from endpoints.access.principal import Principal
from endpoints.edge.filters import Filter, parsed, read
from endpoints.edge.walks import MOST_WAYS, Order, Walk, Way, said
from endpoints.models import Endpoint, System
from messaging.models import FAILED_ANSWER, RARE, TELLING_REASON, UNSETTLED, Delivery, Message, SearchKey, State
from messaging.spans import EVERYTHING, Given, Span, ended_in, ids_in, positions_in

Ways = Callable[..., list[Way] | None]

RARE_STATES = {State.DEAD, State.EXPIRED, State.CANCELLED, State.SKIPPED}
MOST_SENDING = 1_000
HAS_ENDED = Q(finished_at__isnull=False)


def _messages_with(field: str) -> Ways:
    def found(values: Any) -> list[Way]:
        return [_message_where(**{field: value}) for value in _listed(values)]

    return found


def _message_where(**conditions: Any) -> Way:
    rows: Any = Message.objects.filter(**conditions)
    for name, value in conditions.items():
        if name in ("correlation_id", "event_type", "ordering_key") and value != "":
            rows = rows.filter(said(~Q(**{name: ""})))
    return Way(abroad=rows, at="position")


def _by_key(value: str) -> list[Way]:
    name, _, key = value.partition(":")
    return [Way(abroad=SearchKey.objects.filter(value=key, name=name), at="message_id")]


def _by_words(value: str) -> list[Way]:
    found = [
        _message_where(message_id=value),
        _message_where(correlation_id=value),
        Way(abroad=SearchKey.objects.filter(value=value), at="message_id"),
    ]
    with contextlib.suppress(ValueError):  # not the id of a delivery
        found.append(Way(abroad=Delivery.objects.filter(pk=uuid.UUID(value)), at="message_id"))
    return found


def known_as(value: str) -> list[tuple[str, Way]]:
    """Return (what that is, way) for each index that leads to messages known as `value`, or as `name=value`."""
    found = [
        ("message id", _message_where(message_id=value)),
        ("correlation id", _message_where(correlation_id=value)),
        ("ordering key", _message_where(ordering_key=value)),
        ("search key", Way(abroad=SearchKey.objects.filter(value=value), at="message_id")),
    ]
    for sign in "=:":
        name, has_sign, key = value.partition(sign)
        if has_sign and name and key:
            found.append(("search key", _by_key(f"{name}:{key}")[0]))
    with contextlib.suppress(ValueError):  # not the id of a delivery
        found.append(("delivery", Way(abroad=Delivery.objects.filter(pk=uuid.UUID(value)), at="message_id")))
    return found


def said_correlation(values: list[str]) -> Any:
    """Return the messages with one of these correlation ids, in the words of the index that leads to them."""
    return Message.objects.filter(said(~Q(correlation_id="")), correlation_id__in=values)


def _in_states(states: list[str]) -> list[Way] | None:
    if State.DELIVERED in states:
        return None
    found = [Way(Q(state=state) & said(UNSETTLED)) for state in states if state != State.SENDING]
    if State.SENDING in states:
        # Those are few, and have no order but that of their leases.
        sending = Delivery.objects.filter(state=State.SENDING, lease_until__isnull=False).order_by("lease_until")
        ids = list(sending.values_list("pk", flat=True)[: MOST_SENDING + 1])
        if len(ids) > MOST_SENDING:
            return None
        found.append(Way(Q(pk__in=ids)))
    return found


def _in_rare_states(states: list[str]) -> list[Way] | None:
    if not RARE_STATES.issuperset(states):
        return None
    return [Way(Q(state=state) & said(RARE) & HAS_ENDED) for state in states]


def _in_rare_states_of(states: list[str], slugs: list[str]) -> list[Way] | None:
    if not RARE_STATES.issuperset(states):
        return None
    return [Way(Q(state=state, system_id=id) & said(RARE)) for state in states for id in _ids(slugs)]


def _for_reasons(reasons: list[str]) -> list[Way] | None:
    if not {"new", "sent"}.isdisjoint(reasons):
        return None
    return [Way(Q(reason=reason) & said(TELLING_REASON)) for reason in reasons]


def _of_classes(classes: list[str]) -> list[Way]:
    return [Way(Q(error_class=name) & said(~Q(error_class=""))) for name in classes]


def _of_group(group_id: uuid.UUID) -> list[Way]:
    return [Way(Q(group_id=group_id, resolved_at__isnull=True) & said(Q(group__isnull=False)))]


def _resolved(yes: bool, _: list[str]) -> list[Way] | None:
    return [Way(Q(state=State.DEAD, resolved_at__isnull=False))] if yes else None


def _to_systems(slugs: list[str]) -> list[Way]:
    return [_to(id) for id in _ids(slugs)]


def _of_endpoint(endpoint_id: uuid.UUID) -> list[Way] | None:
    systems = Endpoint.objects.filter(pk=endpoint_id).values_list("system_id", flat=True)
    return [Way(Q(system_id=id)) for id in systems] or None


def _from_systems(slugs: list[str]) -> list[Way]:
    return [_from(id) for id in _ids(slugs)]


def _sent_by(slugs: list[str]) -> list[Way]:
    return [_by(id) for id in _ids(slugs)]


def _sent_to(slugs: list[str]) -> list[Way]:
    return [_received_by(id) for id in _ids(slugs)]


def _own(field: str) -> Ways:
    """Messages whose `field`, indexed where it is not empty, has one of the values."""
    return lambda values: [Way(Q(**{field: value}) & said(~Q(**{field: ""}))) for value in _listed(values)]


def _with_outcomes(outcomes: list[str]) -> list[Way] | None:
    if "delivered" in outcomes:
        return None
    return [Way(Q(outcome=outcome) & said(~Q(outcome="delivered"))) for outcome in outcomes]


def _with_status(code: int) -> list[Way] | None:
    return [Way(Q(status_code=code, status_code__gte=FAILED_ANSWER))] if code >= FAILED_ANSWER else None


Table = tuple[tuple[tuple[str, ...], Ways], ...]

DELIVERIES: Table = (
    (("message_id",), _messages_with("message_id")),
    (("q",), _by_words),
    (("search_key",), _by_key),
    (("correlation_id",), _messages_with("correlation_id")),
    (("ordering_key",), _messages_with("ordering_key")),
    (("dead_group",), _of_group),
    (("resolved", "state"), _resolved),
    (("state", "system"), _in_rare_states_of),
    (("error_class",), _of_classes),
    (("reason",), _for_reasons),
    (("state",), _in_states),
    (("endpoint",), _of_endpoint),
    (("system",), _to_systems),
    (("source_system",), _from_systems),
    (("event_type",), _messages_with("event_type")),
)
# Along the time of ending, each rare state has an index of its own.
ENDED_DELIVERIES: Table = ((("state",), _in_rare_states),)
MESSAGES: Table = (
    (("message_id",), lambda value: [Way(Q(message_id=value))]),
    (("q",), _by_words),
    (("search_key",), _by_key),
    (("correlation_id",), _own("correlation_id")),
    (("ordering_key",), _own("ordering_key")),
    (("unrouted",), lambda yes: [Way(Q(unrouted=True))] if yes else None),
    (("event_type",), _own("event_type")),
    (("source_system",), _sent_by),
    (("target_system",), _sent_to),
)
ATTEMPTS: Table = (
    (("delivery",), lambda id: [Way(Q(delivery_id=id))]),
    (("status_code",), _with_status),
    (("error_class",), _of_classes),
    (("outcome",), _with_outcomes),
)


def deliveries(given: Given, principal: Principal, order: Order) -> Walk:
    """Return how to read a list of deliveries."""
    if "resolved" in given:
        given = {"state": [State.DEAD], **given}  # what else is neither resolved nor to be
    if order.name == "finished_at":
        return _walk(ENDED_DELIVERIES, given, principal, Way(HAS_ENDED), ended_in(given))
    if order.name == "due_at":
        return _walk((), given, principal, Way(Q(state=State.PENDING)))
    span = positions_in(given, "message_id")
    return _walk(DELIVERIES, given, principal, Way(), span, lambda ids: [*map(_to, ids), *map(_from, ids)])


def messages(given: Given, principal: Principal, order: Order) -> Walk:
    """Return how to read a list of messages."""
    span = positions_in(given, "pk")
    return _walk(MESSAGES, given, principal, Way(), span, lambda ids: [*map(_by, ids), *map(_received_by, ids)])


def attempts(given: Given, principal: Principal, order: Order) -> Walk:
    """Return how to read a list of attempts."""
    return _walk(ATTEMPTS, given, principal, Way(), ids_in(given))


def parsed_values(table: Mapping[str, Filter], request: Request) -> Given:
    """Return the values of the filters given, as their ways take them."""
    return parsed(table, request, read)


def _walk(
    table: Table,
    given: Given,
    principal: Principal,
    whole: Way,
    span: Span = EVERYTHING,
    of_team: Callable[[list[int]], list[Way]] | None = None,
) -> Walk:
    """Return the first row of `table` that applies, else the team's own rows, else the `whole` list; within `span`."""
    is_scoped = principal.team_ids is not None
    for names, ways in table:
        if all(name in given for name in names):
            found = ways(*(given[name] for name in names))
            if found is not None and len(found) <= MOST_WAYS:
                return Walk(span.within(found), checks=is_scoped or len(given) > len(names))
    if is_scoped and of_team is not None and (ids := _own_systems(principal)) is not None:
        return Walk(span.within(of_team(ids)))
    return Walk(span.within([whole]), checks=is_scoped or bool(given))


def _own_systems(principal: Principal) -> list[int] | None:
    """Return the systems a team sees, if they are few of all: else most rows are theirs, and any way will do."""
    ids = list(System.objects.visible_to(principal).order_by("pk").values_list("pk", flat=True)[: MOST_WAYS // 2 + 1])
    if len(ids) > MOST_WAYS // 2 or not System.objects.exclude(pk__in=ids).exists():
        return None
    return ids


def _to(id: int) -> Way:
    return Way(Q(system_id=id))


def _from(id: int) -> Way:
    return _message_where(source_id=id)


def _by(id: int) -> Way:
    return Way(Q(source_id=id))


def _received_by(id: int) -> Way:
    return Way(abroad=Delivery.objects.filter(system_id=id), at="message_id")


def _ids(slugs: list[str]) -> list[int]:
    return list(System.objects.filter(slug__in=slugs).values_list("pk", flat=True))


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]
