"""What a person may do with a delivery: send it again, or cancel it. Each is one compare-and-set on the row."""

from django.db import transaction
from django.db.models import Q

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict
from endpoints.models import SystemState
from messaging import moves, store
from messaging.models import Delivery, State, Trigger
from messaging.wakeups import DUE, Notifier

RESENDABLE = (State.DELIVERED, State.DEAD, State.EXPIRED, State.CANCELLED, State.SKIPPED)
_due = Notifier(DUE)


def resend(delivery: Delivery, *, by: Principal) -> Delivery:
    """Send a finished delivery again with its original bytes and webhook-id, outside of any order.

    It gets a fresh budget of attempts, and no time to live: a person wants it sent.
    Raises Forbidden, or Conflict when it is not finished, its payload was removed by retention, or its
    target is retired.
    """
    roles.demand(by, "operator")
    if delivery.message.payload is None:
        raise Conflict("the payload was removed by retention, there is nothing left to send", code="payload_removed")
    if delivery.system.state == SystemState.RETIRED:
        raise Conflict(f"{delivery.system.slug} is retired: nothing is sent to it any more", code="retired")
    with transaction.atomic():
        moved = moves.send_again([delivery.pk], Q(state__in=RESENDABLE), Trigger.MANUAL)
        if not moved:
            raise Conflict(_why_not(delivery, "sent again"), code="wrong_state")
        audit.record(by, "resend", delivery, {"state": [delivery.state, State.PENDING.value]})
        transaction.on_commit(_due.notify)
    delivery.refresh_from_db()
    return delivery


def cancel(delivery: Delivery, *, by: Principal) -> Delivery:
    """End a waiting delivery unsent, or skip a dead one that holds up its order; the next of its key may go then.

    Raises Forbidden, or Conflict when it does not wait (any more) and nothing waits for it.
    """
    roles.demand(by, "operator")
    lines = moves.lines_of([delivery.pk])
    with transaction.atomic():
        store.lock_lines(lines, alone=True)
        before = Delivery.objects.filter(pk=delivery.pk).values_list("state", flat=True).first()
        moved = moves.cancel([delivery.pk], Q(), lines)
        if not moved:
            raise Conflict(_why_not(delivery, "cancelled"), code="wrong_state")
        audit.record(by, "cancel", delivery, {"state": [before, State.CANCELLED.value]})
        transaction.on_commit(_due.notify)
    delivery.refresh_from_db()
    return delivery


def _why_not(delivery: Delivery, wish: str) -> str:
    delivery.refresh_from_db(fields=["state"])
    return f"the delivery is {delivery.state} and cannot be {wish} now"
