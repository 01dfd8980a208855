"""Retention: each kind by its own time, what is open or dead never, nothing looked at twice, in short transactions."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from endpoints.models import Incident, Notice, NoticeKind, NoticeState, NoticeTarget
from messaging import moves, store
from messaging.jobs.runner import work_off
from messaging.models import (
    Attempt,
    DeadGroup,
    Delivery,
    IdempotencyKey,
    Job,
    Message,
    Rollup,
    SearchKey,
    State,
    Total,
)
from messaging.pace import FIRST
from messaging.services import retention
from tests.messaging.api_client import Api
from tests.messaging.factories import make_attempt, make_delivery, make_key, make_message, make_system

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
NOTHING = {"incidents": 0, "notices": 0, "jobs": 0, "idempotency keys": 0}


def make_old(age: timedelta, state: State = State.DELIVERED, **fields: Any) -> Delivery:
    """Return a delivery with an attempt and a search key, all accepted `age` ago."""
    at = timezone.now() - age
    delivery = make_delivery(make_message(created_at=at, search_keys={"order": "1"}), state=state, **fields)
    make_attempt(delivery, started_at=at)
    return delivery


def payloads() -> list[int]:
    return list(Message.objects.filter(payload__isnull=False).order_by("pk").values_list("pk", flat=True))


def test_bodies_attempts_and_metadata_go_by_their_own_times(settings: Any) -> None:
    settings.ENV = _with(settings.ENV, keep_bodies_days=5, keep_attempts_days=10, keep_metadata_days=20)
    oldest, older, old, young = (make_old(timedelta(days=days)) for days in (21, 11, 6, 4))

    gone = retention.prune()

    assert gone == {"bodies": 3, "attempts": 2, "messages": 1, "rollups": 1, **NOTHING}
    assert payloads() == [young.message_id]
    assert set(Attempt.objects.values_list("delivery", flat=True)) == {old.pk, young.pk}
    assert set(Delivery.objects.values_list("pk", flat=True)) == {older.pk, old.pk, young.pk}
    assert not Message.objects.filter(pk=oldest.message_id).exists()
    assert SearchKey.objects.count() == 3


@pytest.mark.parametrize("state", [State.PENDING, State.SENDING, State.DEAD])
def test_what_is_open_or_dead_is_kept_whole_until_it_ends(state: State) -> None:
    """It outlives its time, is not looked at again, and goes at the first run after it ended."""
    kept = make_old(100 * DAY, state)
    make_old(99 * DAY)
    first = retention.prune()
    again = retention.prune()

    assert (first["messages"], again["messages"]) == (1, 0)
    assert payloads() == [kept.message_id]
    assert Attempt.objects.filter(delivery=kept).exists()

    ended = {"state": State.DELIVERED, "reason": "sent", "lease_token": None, "lease_until": None}
    Delivery.objects.filter(pk=kept.pk).update(**ended, finished_at=timezone.now())
    last = retention.prune()

    assert (last["bodies"], last["messages"]) == (1, 1)
    assert not Message.objects.exists()
    assert not Attempt.objects.exists()


def test_jobs_that_ended_go_with_the_metadata_and_open_ones_never() -> None:
    """By when they ended, however long they took; what they did stays on the audit."""
    operator = Api(make_key("operator"))
    made = {}
    for name in ("open", "paused", "cancelled", "done", "young"):
        make_old(DAY, system=name)
        status, body = operator.post("jobs/", {"action": "cancel", "filter": {"system": name}})
        assert status == 202, body
        made[name] = body["id"]
    for name, step in (("paused", "pause"), ("cancelled", "cancel"), ("young", "cancel")):
        assert operator.post(f"jobs/{made[name]}/{step}/")[0] == 200
    work_off(made["done"])
    Job.objects.update(created_at=timezone.now() - 200 * DAY)
    Job.objects.filter(finished_at__isnull=False).exclude(pk=made["young"]).update(
        finished_at=timezone.now() - 91 * DAY
    )

    call_command("prune")

    left = {row["id"] for row in operator.results("jobs/")}
    assert left == {made[name] for name in ("open", "paused", "young")}


def test_incidents_that_resolved_go_with_their_notices_and_what_is_open_or_owed_stays() -> None:
    """By when they resolved; one that speaks for an open one, or of which somebody is still to be told, is kept."""
    admin = Api(make_key("admin"))
    target = NoticeTarget.objects.create(email="oncall@example.com")
    open_one, speaking, owed, old, young = (
        make_incident(name) for name in ("open", "speaking", "owed", "old", "young")
    )
    Incident.objects.filter(pk=open_one.pk).update(resolved_at=None, parent=speaking)
    Incident.objects.filter(pk=young.pk).update(resolved_at=timezone.now() - 89 * DAY)
    digest = make_notice(target, None)
    for incident in (speaking, old, young):
        make_notice(target, incident, carrier=digest if incident is old else None)
    make_notice(target, owed, state=NoticeState.PENDING)
    trial = make_notice(target, None, kind=NoticeKind.TEST)

    gone = retention.prune()

    assert (gone["incidents"], gone["notices"]) == (1, 2)
    assert {row["id"] for row in admin.results("incidents/")} == {
        str(incident.pk) for incident in (open_one, speaking, owed, young)
    }
    assert set(Notice.objects.values_list("incident", flat=True)) == {speaking.pk, owed.pk, young.pk}
    assert not Notice.objects.filter(pk__in=[digest.pk, trial.pk]).exists()


def make_incident(name: str) -> Incident:
    """Return one that was open for an hour, over 90 days ago."""
    at = timezone.now() - 91 * DAY
    fields = {"subject": f"endpoint:{name}", "label": name, "summary": "answered 500"}
    return Incident.objects.create(**fields, opened_at=at, resolved_at=at + DAY / 24)


def make_notice(target: NoticeTarget, incident: Incident | None, **fields: Any) -> Notice:
    """Return one that was sent over 90 days ago."""
    at = timezone.now() - 91 * DAY
    fields = {"kind": NoticeKind.OPENED, "state": NoticeState.SENT, **fields}
    return Notice.objects.create(
        target=target, told=target.email, incident=incident, created_at=at, next_at=at, **fields
    )


def test_a_message_with_one_open_delivery_of_two_is_kept_whole() -> None:
    kept = make_old(100 * DAY, State.PENDING)
    make_delivery(kept.message, "erp")
    retention.prune()

    assert payloads() == [kept.message_id]
    assert kept.message.deliveries.count() == 2


def test_kept_rows_are_walked_over_once() -> None:
    """A run over a thousand dead letters costs no more statements than over none, once it has passed them."""
    for _ in range(60):
        make_old(100 * DAY, State.DEAD)
    retention.prune()
    with CaptureQueriesContext(connection) as queries:
        retention.prune()

    told = [query["sql"] for query in queries]
    assert not [sql for sql in told if ("FOR UPDATE" in sql or "IN (" in sql) and "messaging_rollup" not in sql]
    deleting = [sql for sql in told if "DELETE" in sql and "messaging_rollup" in sql]
    assert 1 <= len(deleting) <= 2, "by their minute"
    assert {sql.count('"minute" < ') for sql in deleting} == {1}, "SQLite would read on to the other bound"
    assert Message.objects.count() == 60


def test_a_run_that_was_cut_off_goes_on_where_it_was() -> None:
    """What a batch did is committed with the mark behind it."""
    for _ in range(FIRST * 3):
        make_old(100 * DAY)
    count = Message.objects.count()

    def cut(kind: str, done: int) -> None:
        if kind == "messages":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retention.prune(cut)
    left = Message.objects.count()
    gone = retention.prune()

    assert 0 < left < count
    assert gone["bodies"] == 0
    assert gone["messages"] == left
    assert not Message.objects.exists()


def test_a_message_that_nobody_was_to_get_goes_too() -> None:
    make_message(created_at=timezone.now() - 100 * DAY, unrouted=True)
    retention.prune()

    assert not Message.objects.exists()


def test_counts_go_and_totals_stay(viewer: Api) -> None:
    """A counter that falls would read as a restart."""
    system = make_system("crm")
    old = (timezone.now() - 100 * DAY).replace(second=0, microsecond=0)
    store.add_rollups(
        {(old, system.pk, "delivered", ""): (7, 0.0), (timezone.now(), system.pk, "delivered", ""): (2, 0.0)}
    )
    IdempotencyKey.objects.create(
        source=system, key="k", fingerprint=b"f" * 16, message_id="m", deliveries=1, created_at=old
    )
    gone = retention.prune()

    assert (gone["rollups"], gone["idempotency keys"]) == (1, 1)
    assert list(Rollup.objects.values_list("count", flat=True)) == [2]
    assert list(Total.objects.values_list("count", flat=True)) == [7]
    assert viewer.get("/api/metrics")[1]["controlplane_delivered_total"] == [{"system": "crm", "value": 9}]


def test_status_says_when_pruning_is_behind(viewer: Api) -> None:
    make_old(100 * DAY)
    before = viewer.get("/api/health")[1]["retention_behind_s"]
    retention.prune()
    after = viewer.get("/api/health")[1]["retention_behind_s"]

    assert before == pytest.approx(70 * DAY.total_seconds(), abs=60)
    assert after is None


def _with(environment: Any, **changed: Any) -> Any:
    from dataclasses import replace

    return replace(environment, **changed)


def test_a_resolved_dead_letter_goes_at_the_first_run_after(settings: Any) -> None:
    """However long ago the mark passed it; one that nobody resolved stays."""
    resolved, kept = make_old(100 * DAY, State.DEAD), make_old(99 * DAY, State.DEAD)
    assert retention.prune()["messages"] == 0

    Delivery.objects.filter(pk=resolved.pk).update(resolved_at=timezone.now())
    assert retention.prune()["messages"] == 1
    assert list(Delivery.objects.all()) == [kept]


def test_the_books_balance_whatever_is_kept(viewer: Api) -> None:
    """Of a minute of which all but a dead letter went, and of the minute that the time to keep ends in."""
    cut = timezone.now().replace(second=30, microsecond=0)
    for seconds in (90, 0):  # half of the minute of the cut is older
        at = cut - 90 * DAY - timedelta(seconds=seconds)
        _, purged, *_ = [
            make_delivery(make_message(created_at=at - timedelta(seconds=age)), state=state)
            for age, state in ((9, State.DEAD), (8, State.DELIVERED), (7, State.DELIVERED), (-9, State.DELIVERED))
        ]
        with transaction.atomic():
            moves.purge([purged.pk], Q())
    span = {"from": (cut - 91 * DAY).isoformat(), "to": (cut - 89 * DAY).isoformat()}

    retention.prune(now=cut)
    _, kept = viewer.get("ledger/", **span)
    Delivery.objects.filter(state=State.DEAD).update(resolved_at=timezone.now())
    retention.prune(now=cut)
    _, later = viewer.get("ledger/", **span)
    retention.prune(now=cut + timedelta(minutes=1))
    _, last = viewer.get("ledger/", **span)

    assert (kept["expected"], kept["states"]["dead"], kept["states"]["delivered"], kept["purged"]) == (5, 2, 1, 2)
    assert (later["expected"], later["states"]["dead"], later["states"]["delivered"]) == (2, 0, 1)
    assert [found["balanced"] for found in (kept, later, last)] == [True, True, True]
    assert (last["expected"], Rollup.objects.count()) == (0, 0)


def test_a_cause_that_is_long_gone_goes_with_its_note() -> None:
    """Not one that something is still dead of, nor one that was seen lately."""
    long_ago, now = timezone.now() - 100 * DAY, timezone.now()
    for signature, count, last_at in (("gone", 0, long_ago), ("waits", 2, long_ago), ("young", 0, now)):
        DeadGroup.objects.create(
            system=make_system("crm"),
            interface="main",
            signature=signature,
            digest=signature,
            count=count,
            first_at=long_ago,
            last_at=last_at,
        )
    retention.prune()

    assert set(DeadGroup.objects.values_list("signature", flat=True)) == {"waits", "young"}
