"""Business keys that are declared later are found in older messages, too: by a job that may be cut off anywhere."""

from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from endpoints.access.principal import COMMAND
from endpoints.models import AuditEntry, System
from messaging.jobs.runner import work_off
from messaging.jobs.selection import selection_of
from messaging.models import Job, Message, SearchKey
from messaging.services import indexing
from tests.messaging.api_client import Api
from tests.messaging.factories import as_json, make_message, make_system

KEYS = [{"name": "order", "from": "payload.$.order.id"}, {"name": "trace", "from": "headers.X-Trace"}]


def declare(admin: Api, slug: str, keys: list[dict[str, str]]) -> None:
    answer = admin.client.patch(f"/api/v1/systems/{slug}/", {"search_keys": keys}, content_type="application/json")
    assert answer.status_code == 200, answer.content


def found(value: str) -> list[str]:
    rows = SearchKey.objects.filter(value=value).order_by("message")
    return [f"{key.name}:{key.message.message_id}" for key in rows.select_related("message")]


def work() -> None:
    """Do what the worker does: make the jobs that are wanted, and work them off."""
    assert indexing.sweep() == 1
    work_off(Job.objects.get(state="running").pk)


def history() -> None:
    make_message("shop", message_id="m-1", payload=as_json({"order": {"id": 4711}}), headers={"x-trace": "t-1"})
    make_message("shop", message_id="m-2", payload=None, headers={"x-trace": "t-2"})
    make_message("shop", message_id="m-3", payload=b"{broken", headers={})
    make_message("shop", message_id="m-4", payload=as_json({"order": {"id": "4711"}}), search_keys={"order": "own"})
    make_message("shop", message_id="m-5", payload=as_json({"order": {"id": 4711}}), content_type="text/plain")
    make_message("erp", message_id="m-6", payload=as_json({"order": {"id": 4711}}))


def test_a_key_that_is_declared_later_is_found_in_older_messages(admin: Api) -> None:
    """In bodies and headers, not where the sender gave its own, not where the body is gone, nor of other systems."""
    history()
    declare(admin, "shop", KEYS)
    work()

    assert found("4711") == ["order:m-1"]
    assert (found("t-1"), found("t-2"), found("own")) == (["trace:m-1"], ["trace:m-2"], ["order:m-4"])
    assert Message.objects.get(message_id="m-1").search_keys == {"order": "4711", "trace": "t-1"}
    assert [hop["message_id"] for hop in admin.get("find/", q="4711")[1]["hops"]] == ["m-1"]
    job = Job.objects.get()
    assert (job.action, job.state, job.done, job.total) == ("index", "done", 5, 5)
    told = set(AuditEntry.objects.filter(object_type="job").values_list("action", "actor"))
    assert told == {("job_create", job.created_by), ("job_done", job.created_by)}


def test_what_did_not_change_is_indexed_once(admin: Api) -> None:
    """A sweep makes no second job; another change of the keys makes one, a change of anything else none."""
    history()
    make_system("quiet", search_keys=KEYS)  # declared from the start
    declare(admin, "shop", KEYS)
    work()
    assert [indexing.sweep() for _ in range(3)] == [0, 0, 0]
    admin.client.patch("/api/v1/systems/shop/", {"version": "2"}, content_type="application/json")
    assert indexing.sweep() == 0

    declare(admin, "shop", KEYS[:1])
    work()
    assert Job.objects.count() == 2
    assert SearchKey.objects.filter(message__message_id="m-1").count() == 2


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_a_job_that_was_cut_off_goes_on_where_it_was(admin: Api, batches: int) -> None:
    """A place is committed with what was done up to it, so nothing is left out and nothing is there twice."""
    make_system("shop")
    for number in range(125):
        make_message("shop", payload=as_json({"order": {"id": number % 5}}))
    declare(admin, "shop", KEYS)
    job = indexing.start(System.objects.get(slug="shop"), by=COMMAND)
    selection, place = selection_of(job), ""
    for number in range(batches):  # what was done but for the last is committed with its place
        if number < batches - 1:
            Job.objects.update(place=place)
        ahead = selection.ahead(place, 50)
        assert selection.action.act(ahead.ids, job.created_at, COMMAND) == 50
        place = ahead.place
    work_off(job.pk)

    job.refresh_from_db()
    assert (SearchKey.objects.count(), job.state) == (125, "done")


def test_a_job_that_somebody_holds_or_paused_is_left_alone(admin: Api) -> None:
    history()
    declare(admin, "shop", KEYS)
    job = indexing.start(System.objects.get(slug="shop"), by=COMMAND)
    Job.objects.update(
        lease_token="01890000-0000-7000-8000-000000000000", lease_until=timezone.now().replace(year=9000)
    )
    work_off(job.pk)
    assert Job.objects.get().done == 0
    Job.objects.update(lease_token=None, lease_until=None, state="paused")

    work_off(job.pk)
    assert (indexing.sweep(), found("4711")) == (0, [])


def test_the_command_indexes_at_once(admin: Api, capsys: Any) -> None:
    history()
    declare(admin, "shop", KEYS)
    call_command("index_keys", "shop")

    assert "5 messages of shop looked at" in capsys.readouterr().out
    assert found("4711") == ["order:m-1"]
