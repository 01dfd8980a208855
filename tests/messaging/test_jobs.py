"""Jobs: what a filter finds, done once each, paced, steered and on the record."""

from typing import Any

import pytest

from endpoints.models import AuditEntry
from messaging.jobs.runner import Runner
from messaging.models import Delivery, Job, Reason, State, Trigger
from tests.messaging.api_client import Api
from tests.messaging.factories import make_attempt, make_delivery, make_endpoint, make_message, make_system

pytestmark = pytest.mark.django_db


def work() -> None:
    """Work until there is nothing to do at once."""
    runner = Runner()
    while runner.step() == 0:
        pass


def dead(count: int, **fields: Any) -> list[Delivery]:
    return [make_delivery(state=State.DEAD, **fields) for _ in range(count)]


def test_redrive_sends_each_that_the_filter_finds_again(operator: Api) -> None:
    """They wait anew, with a fresh budget; what the filter does not find stays as it is."""
    make_endpoint(make_system("crm"), max_attempts=7)
    chosen = dead(3, attempts=10, error_class="timeout")
    other = dead(1, error_class="auth")[0]
    status, job = operator.post("jobs/", {"action": "redrive", "filter": {"state": "dead", "error_class": "timeout"}})
    assert (status, job["state"], job["total"], job["done"]) == (202, "running", 3, 0)

    work()

    rows = Delivery.objects.filter(pk__in=[one.pk for one in chosen])
    assert {(row.state, row.reason, row.trigger, row.max_attempts) for row in rows} == {
        (State.PENDING, Reason.NEW, Trigger.REDRIVE, 17)
    }
    other.refresh_from_db()
    assert other.state == State.DEAD
    status, job = operator.get(f"jobs/{job['id']}/")
    assert (status, job["state"], job["done"], job["passed_over"], job["percent"]) == (200, "done", 3, 0, 100.0)
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"job_create", "job_done"}


def test_purge_deletes_what_has_ended_and_the_books_balance(operator: Api) -> None:
    gone, kept = make_delivery(state=State.EXPIRED), make_delivery(state=State.PENDING)
    make_attempt(gone)
    operator.post("jobs/", {"action": "purge", "filter": {}, "all": True})
    work()

    assert list(Delivery.objects.all()) == [kept]
    span = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-03T00:00:00Z"}
    ledger = operator.get("ledger/", **span)[1]
    assert (ledger["expected"], ledger["purged"], ledger["balanced"]) == (2, 1, True)
    assert Job.objects.get().done == 1
    assert not type(gone.message).objects.filter(pk=gone.message_id).exists()


def test_replay_sends_a_new_message_to_those_found(operator: Api) -> None:
    make_endpoint(make_system("crm"))
    old = make_delivery(make_message(targets=["crm", "erp"], correlation_id=""), state=State.DEAD)
    make_delivery(old.message, "erp")
    operator.post("jobs/", {"action": "replay", "filter": {"system": "crm"}})
    work()

    new = Delivery.objects.exclude(message=old.message).select_related("message", "system").get()
    assert (new.system.slug, new.state, new.message.correlation_id) == ("crm", "pending", old.message.message_id)
    assert new.message.message_id != old.message.message_id
