"""The pages of jobs, and editing a message to send it as a new one."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from endpoints.models import AuditEntry
from messaging.models import Delivery, Job, Message, State
from tests.admin.conftest import MARKUP
from tests.messaging.factories import make_delivery, make_endpoint, make_message, make_system, make_team

Signed = Callable[..., Client]
NEW = "/admin/jobs/new/?action=redrive&state=dead"


@pytest.fixture
def message(db: None) -> Message:
    """A message in a spelling that no JSON library would write again."""
    make_endpoint(make_system("crm"))
    payload = b'{"total": 1e2,\n "paid":true}'
    return make_delivery(make_message(payload=payload, targets=["crm"], headers={"trace": "t-1"})).message


def test_a_preview_says_to_how_many_and_its_button_starts_the_job_once(sign_in: Signed) -> None:
    """The list of deliveries leads to it with the filters in use; pressed twice it is one job."""
    for _ in range(7):
        make_delivery(state=State.DEAD, error="boom")
    client = sign_in("operator")
    assert "/admin/jobs/new/?state=dead" in client.get("/admin/messaging/delivery/?state=dead").content.decode()
    page = client.get(NEW).content.decode()
    assert "Send again: 7 deliveries" in page
    assert page.count("boom") >= 5

    started = [client.post(NEW, {"rate": "2.5"}) for _ in range(2)]
    assert {answer.url for answer in started} == {f"/admin/jobs/{Job.objects.get().pk}/"}
    assert (Job.objects.get().rate_per_s, Job.objects.get().total) == (2.5, 7)
    shown = client.get(started[0].url).content.decode()
    assert "waits for a worker" in shown
    assert f'data-refresh="{started[0].url}panel/"' in shown
    assert 'aria-valuenow="0"' in client.get(f"{started[0].url}panel/").content.decode()
    for step, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        client.post(f"{started[0].url}steer/", {"step": step})
        assert Job.objects.get().state == state
    assert "cancelled" in client.get("/admin/jobs/").content.decode()


def test_a_form_from_elsewhere_starts_nothing(sign_in: Signed) -> None:
    make_delivery(state=State.DEAD)
    client = sign_in("operator")
    client.handler.enforce_csrf_checks = True

    assert client.post(NEW).status_code == 403
    assert not Job.objects.exists()


def test_what_is_wrong_with_a_wish_is_said_on_the_page(sign_in: Signed) -> None:
    make_delivery(state=State.DEAD)
    client = sign_in("operator")
    assert client.get("/admin/jobs/new/?action=redrive&sate=dead").status_code == 422
    refused = client.post(NEW, {"rate": "fast"})
    assert (refused.status_code, "rate_per_s" in refused.content.decode()) == (422, True)
    vague = client.get("/admin/jobs/new/")
    assert "mean every delivery there is" in vague.content.decode()
    assert "Send again: 1 delivery" in client.get("/admin/jobs/new/?action=redrive&all=1").content.decode()
    marked = client.get("/admin/jobs/new/", {"action": "redrive", "q": MARKUP}).content.decode()
    assert "<img src=x" not in marked


def test_viewers_look_and_others_teams_jobs_are_not_there(sign_in: Signed) -> None:
    make_delivery(system=make_system("crm", owner=make_team("red")), state=State.DEAD)
    sign_in("operator", "red").post(NEW)
    url = f"/admin/jobs/{Job.objects.get().pk}/"
    viewer, other = sign_in("viewer", "red"), sign_in("operator", "blue")

    assert viewer.get(url).status_code == 200
    assert "Cancel the rest" not in viewer.get(url).content.decode()
    assert [viewer.get(NEW).status_code, viewer.post(f"{url}steer/", {"step": "cancel"}).status_code] == [403, 403]
    assert [other.get(url).status_code, other.post(f"{url}steer/", {"step": "cancel"}).status_code] == [404, 404]


def hidden(page: str) -> str:
    found = re.search(r'name="key" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_an_edited_message_is_shown_with_its_difference_and_sent_once(message: Message, sign_in: Signed) -> None:
    """The old one stays; the new one has what was typed, the same source, and leads back by its correlation id."""
    client, url = sign_in("operator"), f"/admin/messages/{message.pk}/send-as-new/"
    form = client.get(url).content.decode()
    assert "1e2" in form
    typed = {
        "target": "crm",
        "headers": "trace: t-2\r\n",
        "payload": '{\r\n  "total": 1e3,\r\n  "paid": true\r\n}',
        "key": hidden(form),
    }
    review = client.post(url, typed).content.decode()
    assert "<del>-   &quot;total&quot;: 1e2,</del><ins>+   &quot;total&quot;: 1e3,</ins>" in review
    assert "<del>- trace: t-1</del><ins>+ trace: t-2</ins>" in review
    assert Message.objects.count() == 1
    sent = [client.post(url, typed | {"confirmed": "1"}) for _ in range(2)]

    new = Message.objects.exclude(pk=message.pk).get()
    assert {answer.url for answer in sent} == {f"/admin/messaging/message/{new.pk}/change/"}
    assert (bytes(new.payload), new.headers) == (b'{"total":1e3,"paid":true}', {"trace": "t-2"})
    assert (new.source_id, new.correlation_id) == (message.source_id, message.message_id)
    assert Delivery.objects.get(message=new).system.slug == "crm"
    entry = AuditEntry.objects.get(action="send_edited")
    assert (entry.object_id, entry.changes) == (str(message.pk), {"sent_as": [None, new.message_id]})


def test_what_is_not_edited_is_sent_byte_for_byte(message: Message, sign_in: Signed) -> None:
    client, url = sign_in("operator"), f"/admin/messages/{message.pk}/send-as-new/"
    form = client.get(url).content.decode()
    typed = {
        "target": "crm",
        "headers": "trace: t-1",
        "payload": '{\n  "total": 1e2,\n  "paid": true\n}',
        "key": hidden(form),
    }
    assert "Nothing is changed" in client.post(url, typed).content.decode()
    client.post(url, typed | {"confirmed": "1"})

    assert bytes(Message.objects.exclude(pk=message.pk).get().payload) == bytes(message.payload)


@pytest.mark.parametrize(
    ("field", "text"),
    [("payload", '{"total": }'), ("headers", "no colon"), ("target", "nobody"), ("target", "No Slug")],
)
def test_what_cannot_be_sent_is_said_at_its_field(message: Message, sign_in: Signed, field: str, text: str) -> None:
    client, url = sign_in("operator"), f"/admin/messages/{message.pk}/send-as-new/"
    key = hidden(client.get(url).content.decode())
    typed: dict[str, Any] = {"target": "crm", "headers": "", "payload": "{}", "key": key, "confirmed": "1"}
    refused = client.post(url, typed | {field: text})

    assert (refused.status_code, 'role="alert"' in refused.content.decode()) == (422, True)
    assert Message.objects.count() == 1


def test_editing_is_for_operators_who_see_the_message(message: Message, sign_in: Signed) -> None:
    url = f"/admin/messages/{message.pk}/send-as-new/"
    assert sign_in("viewer").get(url).status_code == 403
    message.source.owner = make_team("red")
    message.source.save()
    Delivery.objects.get().system.__class__.objects.update(owner=make_team("red"))
    assert sign_in("operator", "blue").get(url).status_code == 404
