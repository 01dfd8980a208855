"""Ends that need no judgement are one statement on PostgreSQL: what it writes is what the transaction would."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from endpoints.ids import new_id
from endpoints.models import Endpoint
from messaging import store
from messaging.engine import at_once, record
from messaging.engine.judging import Tally
from messaging.engine.record import Ended, Wanted
from messaging.models import Attempt, Delivery, Rollup
from messaging.store import Finish
from tests.messaging.dying import attempt_of, leased, make_receiver

pytestmark = pytest.mark.django_db

SENT, THROTTLED, STALE, SILENT = range(4)


def ends_of(rows: list[Delivery], door: Endpoint) -> list[Ended]:
    """Return one that was delivered, one told to wait, one whose lease another took over, one that needed no try."""
    delivered = ("delivered", "sent", "", 0.0)
    told = (delivered, ("pending", "retrying", "throttled", 90.0), delivered)
    ended = []
    for row, (state, reason, error_class, delay_s) in zip(rows, told, strict=False):
        finish = Finish(row.id, row.lease_token, row.system_id, state, reason, 1, 0, door.pk, error_class)
        finish.delay_s = delay_s
        outcome = "throttled" if error_class else "delivered"
        finish.attempt = attempt_of(row, "", error_class, b"caf\xc3\xa9\x00") | {
            "outcome": outcome,
            "endpoint_id": door.pk,
        }
        ended.append(Ended(finish))
    ended[STALE].finish.token = new_id()
    silent = rows[SILENT]
    ended.append(Ended(Finish(silent.id, silent.lease_token, silent.system_id, "cancelled", "operator", 0, 0)))
    return ended


def turn(ended: list[Ended]) -> Tally:
    tally = Tally()
    record.turn(ended, Wanted(only_next=True), 30.0, tally, ())
    return tally


def written() -> tuple[Any, ...]:
    """Return what there is of deliveries, attempts and counts, without ids and moments."""
    deliveries = Delivery.objects.order_by("pk").values_list(
        "state", "reason", "error_class", "attempts", "unspent", "endpoint__name", "lease_token"
    )
    attempts = Attempt.objects.order_by("delivery_id").values_list("outcome", "took_ms", "response_body")
    counts = Rollup.objects.order_by("event", "error_class").values_list("event", "error_class", "count", "total_ms")
    return list(deliveries), [(*row[:2], bytes(row[2])) for row in attempts], list(counts)


@pytest.mark.parametrize("is_quick", [True, False])
def test_what_ended_is_written_with_its_attempts_and_counts(is_quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_quick:
        monkeypatch.setattr(at_once, "can", lambda *_: False)
    door = make_receiver()
    rows = leased(4)
    begun = store.now()

    tally = turn(ends_of(rows, door))

    deliveries, attempts, counts = written()
    assert [row[:3] for row in deliveries] == [
        ("delivered", "sent", ""),
        ("pending", "retrying", "throttled"),
        ("sending", "new", ""),
        ("cancelled", "operator", ""),
    ]
    assert [row[-1] is None for row in deliveries] == [True, True, False, True]
    assert attempts == [("delivered", 3.0, b"caf\xc3\xa9\x00"), ("throttled", 3.0, b"caf\xc3\xa9\x00")]
    assert counts == [
        ("attempt", "", 1, 3.0),
        ("attempt", "throttled", 1, 3.0),
        ("cancelled", "", 1, 0.0),
        ("delivered", "", 1, 0.0),
        ("owed", "", 4, 0.0),
        ("took", "0.005", 2, 6.0),
    ]
    sent, waits = (Delivery.objects.get(pk=row.pk) for row in rows[:2])
    assert sent.finished_at is not None
    assert begun <= sent.finished_at <= store.now()
    assert waits.finished_at is None
    assert timedelta(seconds=89) < waits.due_at - timezone.now() <= timedelta(seconds=90)
    assert [sum(counts.values()) for counts in tally.counts.values()][:1] == [1]


def test_counts_of_a_minute_add_up() -> None:
    door = make_receiver()
    for _ in range(2):
        turn(ends_of(leased(4), door))

    assert sum(Rollup.objects.filter(event="delivered").values_list("count", flat=True)) == 2
    assert sum(Rollup.objects.filter(event="took").values_list("total_ms", flat=True)) == 12.0


@pytest.mark.parametrize(
    "needs",
    [
        lambda item: setattr(item.finish, "line", (item.finish.system_id, "main", "k")),
        lambda item: setattr(item, "trial", item.finish.endpoint_id),
        lambda item: setattr(item, "gone", item.finish.endpoint_id),
        lambda item: setattr(item.finish, "state", "dead"),
        lambda item: item.finish.attempt.update(outcome="retry"),
        lambda item: setattr(item, "response", object()),
    ],
)
def test_what_more_hangs_on_is_not_written_so(needs: Callable[[Ended], None]) -> None:
    """An ordering key, a try behind a breaker, a death, a failure, an answer."""
    door = make_receiver()
    ended = ends_of(leased(4), door)
    assert at_once.can(ended, ()) == store.is_postgresql()
    assert not at_once.can(ended, {door.pk})
    assert not at_once.can([*ended, ended[0]], ())

    needs(ended[SENT])

    assert not at_once.can(ended, ())
