"""How many share a reason: counted along an index, and never further than `MOST_COUNTED`."""

from typing import Any

from django.db.models import Count, Q, QuerySet

from endpoints.access.principal import Principal
from endpoints.edge.walks import said
from endpoints.models import System
from messaging import store
from messaging.models import (
    RARE,
    Delivery,
    Message,
    Reason,
    State,
)
from messaging.services.order import head_of
from messaging.services.why.facts import (
    Behind,
    Others,
)

MOST_COUNTED = 10_000
RARE_STATES = frozenset({State.DEAD, State.EXPIRED, State.CANCELLED, State.SKIPPED})


# --- the others ----------------------------------------------------------------


def behind(delivery: Delivery, principal: Principal) -> Behind | None:
    head = head_of(delivery, principal)
    if head is None:
        return None
    fields = ("delivery", "position", "message_id", "state", "reason", "since", "due_at")
    return Behind(**{name: getattr(head, name) for name in fields}, error=head.error)


def held_up(delivery: Delivery, principal: Principal) -> Others | None:
    """Return how many wait behind this one, if it is the head of its ordering key."""
    if not delivery.ordering_key or not delivery.holds:
        return None
    return _counted(_blocked(delivery), principal)


def _blocked(delivery: Delivery) -> QuerySet[Delivery]:
    line = {"system": delivery.system_id, "interface": delivery.interface, "ordering_key": delivery.ordering_key}
    found: QuerySet[Delivery] = Delivery.objects.filter(state=State.PENDING, reason=Reason.BLOCKED, **line)
    return found


def others_of(delivery: Delivery, principal: Principal) -> Others | None:
    """Return how many more share the state and its reason at the same interface; None where that says nothing."""
    place = Q(system=delivery.system_id)
    if delivery.state == State.PENDING and delivery.reason == Reason.BLOCKED:
        return _counted(_blocked(delivery).exclude(pk=delivery.pk), principal)
    if delivery.state == State.PENDING:
        # In the words of the index that claims are made along: what is blocked is not in it.
        ahead = Delivery.objects.filter(
            place & ~Q(reason=Reason.BLOCKED), state=State.PENDING, interface=delivery.interface
        ).order_by("-priority", "due_at")
    elif delivery.state in RARE_STATES:
        ahead = Delivery.objects.filter(place & said(RARE), state=delivery.state).order_by("-message_id")
    else:
        return None
    same = Q(interface=delivery.interface, reason=delivery.reason) & _seen_at(delivery, principal)
    if delivery.state == State.DEAD:
        same &= Q(error_class=delivery.error_class, resolved_at=None)
    # One look along the index, counted where it stands: no row is fetched twice.
    counts = {"all": Count("pk"), "same": Count("pk", filter=same & ~Q(pk=delivery.pk))}
    with store.along_indexes():
        looked = ahead[: MOST_COUNTED + 1].aggregate(**counts)
    return Others(min(looked["same"], MOST_COUNTED), is_least=looked["all"] > MOST_COUNTED)


def _seen_at(delivery: Delivery, principal: Principal) -> Q:
    """Return which deliveries to the same system the principal may see: all, or those of its own senders."""
    if principal.sees_team(delivery.system.owner_id):
        return Q()
    return Q(source__in=list(System.objects.visible_to(principal).values_list("pk", flat=True)))


def _counted(rows: QuerySet[Delivery], principal: Principal) -> Others:
    count = _seen(rows, principal).order_by().values("pk")[: MOST_COUNTED + 1].count()
    return Others(min(count, MOST_COUNTED), is_least=count > MOST_COUNTED)


def _seen(rows: QuerySet[Delivery], principal: Principal) -> QuerySet[Delivery]:
    seen: Any = rows
    found: QuerySet[Delivery] = seen.visible_to(principal)
    return found


def unrouted_others(message: Message) -> Others:
    latest = Message.objects.filter(unrouted=True).order_by("-position").values("pk")[: MOST_COUNTED + 1]
    ids = Message.objects.filter(pk__in=latest, source=message.source_id).exclude(pk=message.pk)
    count = ids.count()
    return Others(min(count, MOST_COUNTED), is_least=count >= MOST_COUNTED)
