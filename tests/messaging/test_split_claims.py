"""Of one claim another process took a part over: what was tried of that part is not ours to tell, the rest is."""

from collections.abc import Sequence
from typing import Any

import pytest

from endpoints.ids import new_id
from endpoints.models import Breaker, BreakerState, Endpoint
from messaging.engine import record
from messaging.engine.breaker import IN_A_ROW
from messaging.engine.judging import Tally
from messaging.engine.record import Ended, Wanted
from messaging.models import Attempt, Delivery, Rollup
from messaging.store import Finish
from tests.messaging.dying import attempt_of, leased, make_receiver

pytestmark = pytest.mark.django_db

DELIVERED = ("delivered", "sent", "", "delivered")
TIMED_OUT = ("pending", "retrying", "timeout", "retry")


def end_of(row: Delivery, door: Endpoint, end: Sequence[str], **attempt: Any) -> Ended:
    state, reason, error_class, outcome = end
    finish = Finish(row.id, row.lease_token, row.system_id, state, reason, 1, 0, door.pk, error_class)
    finish.attempt = attempt_of(row, "", error_class, b"x") | {"id": new_id(), "endpoint_id": door.pk} | attempt
    finish.attempt["outcome"] = outcome
    return Ended(finish)


def turn(ended: Sequence[Ended]) -> None:
    record.turn(ended, Wanted(only_next=True), 30.0, Tally(), ())


def counts() -> dict[str, int]:
    return dict(Rollup.objects.exclude(event__in=("owed", "took")).values_list("event", "count"))


def test_a_delivery_that_ended_under_an_old_lease_and_a_new_one_is_written_once() -> None:
    door = make_receiver()
    again, beside = leased(2)
    old = end_of(again, door, DELIVERED)
    again.lease_token = new_id()
    again.save()

    turn([old, end_of(again, door, DELIVERED), end_of(beside, door, DELIVERED)])

    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}
    assert Attempt.objects.filter(delivery=again).count() == 1
    assert counts() == {"delivered": 2, "attempt": 2}


@pytest.mark.parametrize("taken", [0, IN_A_ROW])
def test_tries_that_were_taken_over_open_no_breaker(taken: int) -> None:
    """Though one of the same claim is still ours; were all of them, they would."""
    door = make_receiver()
    rows = leased(IN_A_ROW + 1)
    ended = [end_of(row, door, TIMED_OUT) for row in rows]
    Delivery.objects.filter(pk__in=[row.pk for row in rows[:taken]]).update(lease_token=new_id())

    turn(ended)

    assert Breaker.objects.get().state == (BreakerState.CLOSED if taken else BreakerState.OPEN)


@pytest.mark.django_db(transaction=True)
def test_an_end_of_which_no_part_can_be_stored_is_an_end_all_the_same() -> None:
    """A transport of somebody's own may say anything: only that it ended, and how, is left of it."""
    door = make_receiver()
    strange, beside = leased(2)

    turn([end_of(strange, door, DELIVERED, status_code=2**40, phases_ms="{"), end_of(beside, door, DELIVERED)])

    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}
    assert Attempt.objects.get(delivery=strange).error == "what the receiver answered could not be stored"
