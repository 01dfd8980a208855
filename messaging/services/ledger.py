"""The books: what was to be delivered in a span of time, what became of it, and whether that adds up."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q, Sum

from endpoints.access.principal import Principal
from endpoints.models import visible
from messaging.models import Delivery, Message, Rollup, State

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Balance:
    """`expected` was counted when the messages were accepted, `states` are the deliveries there are now.

    The two are written by different statements of one transaction, and deliveries
    change thousands of times after it: that they agree says that none was lost. What a job
    purged is booked, in the minute of its acceptance, by the transaction that deletes it.
    """

    system: str | None
    start: datetime
    end: datetime
    expected: int
    states: dict[str, int]
    purged: int
    dead_unresolved: int
    unrouted: int

    @property
    def balanced(self) -> bool:
        return self.expected == sum(self.states.values()) + self.purged


def balance(principal: Principal, start: datetime, end: datetime, system: str | None = None) -> Balance:
    """Return the balance of what was accepted from `start` to `end`, over the receivers the principal sees.

    Both ends are widened to whole minutes, since that is how finely acceptance is
    counted. One grouped query for what is there, one for what is expected.
    """
    start, end = floor(start), floor(end + MINUTE - timedelta.resolution)
    scope = visible(principal, "system__owner")
    booked = Rollup.objects.filter(scope, event__in=("owed", "purged"), minute__gte=start, minute__lt=end)
    # Along the index on the time of acceptance: a delivery is made with its message.
    made = Delivery.objects.filter(scope, message__created_at__gte=start, message__created_at__lt=end)
    unrouted = Message.objects.visible_to(principal).filter(unrouted=True, created_at__gte=start, created_at__lt=end)
    if system is not None:
        booked, made = booked.filter(system__slug=system), made.filter(system__slug=system)
        unrouted = unrouted.filter(source__slug=system)
    waits = Count("pk", filter=Q(state=State.DEAD, resolved_at__isnull=True))
    rows = list(made.order_by().values_list("state").annotate(all=Count("pk"), waits=waits))
    counts = {state: count for state, count, _ in rows}
    sums = dict(booked.order_by().values_list("event").annotate(Sum("count")))
    return Balance(
        system=system,
        start=start,
        end=end,
        expected=sums.get("owed", 0),
        states={state.value: counts.get(state.value, 0) for state in State},
        purged=sums.get("purged", 0),
        dead_unresolved=sum(count for *_, count in rows),
        unrouted=unrouted.count(),
    )


def floor(at: datetime) -> datetime:
    """Return the start of the minute of `at`."""
    return at.replace(second=0, microsecond=0)
