"""What a person may do with a delivery: send it again, or cancel it. Each is one compare-and-set on the row."""

from django.db import transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now

from endpoints.access import audit
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, Forbidden
from endpoints.models import EndpointState, SystemState
from messaging import store
from messaging.models import Delivery, Reason, State, Trigger
from messaging.wakeups import DUE, Notifier

RESENDABLE = (State.DELIVERED, State.DEAD, State.EXPIRED, State.CANCELLED, State.SKIPPED)
_due = Notifier(DUE)


def resend(delivery: Delivery, *, by: Principal) -> Delivery:
    """Send a finished delivery again with its original bytes and webhook-id, outside of any order.

    It gets a fresh budget of attempts, and no time to live: a person wants it sent.
    Raises Forbidden, or Conflict when it is not finished, its payload was removed by retention, or its
    target is retired.
    """
    _demand_operator(by)
    if delivery.message.payload is None:
        raise Conflict("the payload was removed by retention, there is nothing left to send", code="payload_removed")
    if delivery.system.state == SystemState.RETIRED:
        raise Conflict(f"{delivery.system.slug} is retired: nothing is sent to it any more", code="retired")
    with transaction.atomic():
        moved = Delivery.objects.filter(pk=delivery.pk, state__in=RESENDABLE).update(
            state=State.PENDING,
            reason=Reason.NEW,
            trigger=Trigger.MANUAL,
            due_at=Now(),
            finished_at=None,
            expires_at=None,
            throttled_since=None,
            losses=0,
            ack_level="",
            # The dead head that an order waits for goes on holding it; whatever else is sent again is outside of it.
            halting=Case(When(state=State.DEAD, then=F("halting")), default=Value(False)),
            max_attempts=F("attempts") + _budget(delivery),
        )
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
    _demand_operator(by)
    lines = {(delivery.system_id, delivery.interface, delivery.ordering_key)} if delivery.ordering_key else set()
    with transaction.atomic():
        store.lock_lines(lines, alone=True)
        row = Delivery.objects.filter(Q(state=State.PENDING) | Q(state=State.DEAD, halting=True), pk=delivery.pk)
        before = row.values_list("state", flat=True).first()
        moved = row.update(state=State.CANCELLED, reason=Reason.OPERATOR, finished_at=Now(), halting=False)
        if not moved:
            raise Conflict(_why_not(delivery, "cancelled"), code="wrong_state")
        store.release_next(lines, store.now())
        audit.record(by, "cancel", delivery, {"state": [before, State.CANCELLED.value]})
        transaction.on_commit(_due.notify)
    delivery.refresh_from_db()
    return delivery


def _demand_operator(by: Principal) -> None:
    if not by.may("operator"):
        raise Forbidden("this needs the role operator")


def _budget(delivery: Delivery) -> int:
    """Return the attempts that the interface grants today."""
    endpoint = (
        delivery.system.endpoints.filter(interface=delivery.interface)
        .exclude(state=EndpointState.DISABLED)
        .order_by("tier", "name")
        .first()
    )
    return endpoint.max_attempts if endpoint else 1


def _why_not(delivery: Delivery, wish: str) -> str:
    delivery.refresh_from_db(fields=["state"])
    return f"the delivery is {delivery.state} and cannot be {wish} now"
