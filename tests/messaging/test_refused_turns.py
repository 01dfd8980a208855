"""What the database will not take of a batch of ends: each is finished by itself, and judged all the same."""

import pytest

from endpoints.models import Breaker
from messaging.engine import record
from messaging.engine.judging import Tally
from messaging.engine.record import Ended, Wanted
from messaging.models import Attempt, Delivery
from messaging.store import Finish
from tests.messaging.dying import attempt_of, leased, make_receiver

pytestmark = pytest.mark.django_db


def test_an_end_that_cannot_be_stored_as_it_is_counts_for_its_breaker() -> None:
    """Its endpoint held itself back when it failed: without a judgement it would do so for ever."""
    door = make_receiver()
    good, bad = leased(2)
    ended = []
    for row, request in ((good, "{}"), (bad, '"\ud800"')):
        finish = Finish(
            row.id, row.lease_token, row.system_id, "pending", "retrying", 1, 0, door.pk, "server_error", "500"
        )
        finish.attempt = attempt_of(row, "500", "server_error", None) | {
            "outcome": "retry",
            "endpoint_id": door.pk,
            "request": request,
        }
        ended.append(Ended(finish))

    turned = record.turn(ended, Wanted(), 30.0, Tally(), set())

    assert [row.endpoint_id for row in turned.breakers] == [door.pk, door.pk]
    assert len(Breaker.objects.get(pk=door.pk).streak) == 2
    assert set(Delivery.objects.values_list("state", flat=True)) == {"pending"}
    assert Attempt.objects.count() == 2
