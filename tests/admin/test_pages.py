"""What the pages show: markup as text, no secrets, few queries, and what forms answer."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from endpoints.access import secrets
from endpoints.models import ApiKey, AuditEntry, Credential, Endpoint, System
from messaging.listening.framing import ack_bytes
from messaging.models import Attempt, Delivery, Listener, Message, State
from tests.admin.conftest import MARKUP
from tests.messaging.factories import make_message

Signed = Callable[..., Client]
SECRET = "canary-7f3a9c"


def test_markup_in_any_shown_field_stays_text(world: Any, sign_in: Signed) -> None:
    """Every text that a sender, a receiver or a colleague chose is escaped on every page."""
    System.objects.filter(slug="erp").update(
        name=MARKUP,
        description=MARKUP,
        contact=MARKUP,
        version=MARKUP,
        tags=[MARKUP],
        pause_reason=MARKUP,
        state="paused",
    )
    Endpoint.objects.filter(system__slug="erp").update(path=MARKUP, host=MARKUP, pause_reason=MARKUP, state="paused")
    Message.objects.update(
        event_type=MARKUP,
        correlation_id=MARKUP,
        ordering_key=MARKUP,
        content_type=MARKUP,
        recipient=MARKUP,
        headers={MARKUP: MARKUP},
        search_keys={MARKUP: MARKUP},
        payload=MARKUP.encode(),
    )
    Delivery.objects.update(error=MARKUP, error_class=MARKUP[:20], interface=MARKUP[:63])
    Attempt.objects.update(
        error=MARKUP,
        response_body=MARKUP.encode(),
        response_headers={MARKUP: MARKUP},
        request={"method": MARKUP, "url": MARKUP, "headers": {MARKUP: MARKUP}, "body": MARKUP},
    )
    AuditEntry.objects.create(
        actor=MARKUP,
        via="api",
        action="x",
        object_type="y",
        object_id="1",
        object_label=MARKUP,
        changes={MARKUP: [MARKUP, 1]},
    )
    position = Delivery.objects.filter(system__slug="erp", state=State.PENDING).first().message_id
    client = sign_in("superuser")
    paths = [
        "/admin/",
        "/admin/messaging/delivery/",
        "/admin/messaging/message/",
        f"/admin/messaging/message/{position}/change/",
        "/admin/systems/erp/",
        "/admin/systems/erp/maintenance/",
        "/admin/systems/erp/retire/",
        "/admin/endpoints/system/",
        "/admin/endpoints/endpoint/",
        "/admin/endpoints/auditentry/",
        f"/admin/endpoints/auditentry/{AuditEntry.objects.get(actor=MARKUP).pk}/change/",
        f"/admin/endpoints/system/{System.objects.get(slug='erp').pk}/change/",
        f"/admin/messaging/delivery/?q={MARKUP}&state={MARKUP}&event_type={MARKUP}",
        f"/admin/send/?source={MARKUP}&target={MARKUP}",
        f"/admin/find/?q={MARKUP}",
        f"/admin/find/?q={position}&before={MARKUP}",
    ]

    for path in paths:
        answer = client.get(path)
        page = answer.content.decode()
        assert answer.status_code == 200, path
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path


def test_no_page_runs_inline_script(world: Any, sign_in: Signed) -> None:
    """The policy allows scripts from files only, so a page must not need any other."""
    client = sign_in("superuser")
    for path in (
        "/admin/",
        "/admin/messaging/delivery/",
        "/admin/messaging/message/1/change/",
        "/admin/systems/erp/",
        "/admin/find/?q=1",
    ):
        answer = client.get(path)
        policy = re.search("script-src ([^;]*)", answer["Content-Security-Policy"])
        assert policy
        assert "unsafe-inline" not in policy[1]
        assert not re.search(r"<script(?![^>]*src=)", answer.content.decode()), path


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/admin/messaging/delivery/", 12),
        ("/admin/messaging/message/", 12),
        ("/admin/", 37),
        ("/admin/systems/erp/", 22),
    ],
)
def test_a_page_asks_no_more_with_more_rows(path: str, most: int, world: Any, sign_in: Signed) -> None:
    client = sign_in("operator", "Commerce", "Finance", "Sales", "Logistics")
    with CaptureQueriesContext(
        connection,
    ) as all_rows:
        client.get(path)
    Delivery.objects.filter(pk__in=Delivery.objects.values("pk")[5:]).delete()
    with CaptureQueriesContext(connection) as few_rows:
        client.get(path)

    assert len(all_rows) <= most
    assert len(all_rows) <= len(few_rows) + 3  # what there is none of is not asked for
    big = "messaging_delivery|messaging_message|messaging_attempt"
    for query in all_rows:
        if re.search(rf'COUNT\(\*\).*FROM "({big})"', query["sql"]):
            pytest.fail(f"counts a big table: {query['sql'][:200]}")


def test_the_list_goes_on_to_older_and_back(world: Any, sign_in: Signed) -> None:
    client = sign_in("superuser")
    first = client.get("/admin/messaging/delivery/?page_size=30").context["page"]
    second = client.get(first.next_url).context["page"]
    back = client.get(second.previous_url).context["page"]

    assert [row.pk for row in back.rows] == [row.pk for row in first.rows]
    assert max(row.pk for row in second.rows) < min(row.pk for row in first.rows)


def test_a_bad_filter_is_said_at_its_field(world: Any, sign_in: Signed) -> None:
    page = sign_in("superuser").get("/admin/messaging/delivery/?created_after=yesterday&state=dead").context["page"]

    assert page.controls["created_after"].error
    assert page.controls["state"].error == ""
    assert page.rows == []


def test_a_filter_selects_and_empty_ones_do_not_count(world: Any, sign_in: Signed) -> None:
    page = sign_in("superuser").get("/admin/messaging/delivery/?state=pending&reason=&q=").context["page"]

    assert {row.state for row in page.rows} == {"pending"}


def test_many_are_cancelled_after_a_page_that_says_how_many(world: Any, sign_in: Signed) -> None:
    client = sign_in("operator", "Commerce", "Finance", "Sales", "Logistics")
    waiting = Delivery.objects.filter(state=State.PENDING)
    path = reverse("admin:messaging_delivery_act") + "?state=pending"
    asked = client.post(path, {"action": "cancel", "all": "1"})
    ids = [str(pk) for pk in asked.context["ids"]]

    assert asked.context["total"] == waiting.count() > 0
    client.post(path, {"action": "cancel", "confirmed": "1", "id": ids})
    assert waiting.count() == 0
    assert AuditEntry.objects.filter(action="cancel").count() == len(ids)


def test_a_stored_secret_is_never_shown(sign_in: Signed) -> None:
    """Neither after saving, nor in a form that came back with an error."""
    client = sign_in("superuser")
    path = reverse("admin:endpoints_credential_add")
    refused = client.post(path, {"name": "Bad Name", "kind": "bearer", "secret": f'{{"token": "{SECRET}"}}'})
    unread = client.post(path, {"name": "erp-token", "kind": "bearer", "secret": f'{{"token": {SECRET}'})
    saved = client.post(path, {"name": "erp-token", "kind": "bearer", "secret": f'{{"token": "{SECRET}"}}'})
    credential = Credential.objects.get()
    shown = client.get(reverse("admin:endpoints_credential_change", args=[credential.pk]))

    assert (refused.status_code, unread.status_code, saved.status_code, shown.status_code) == (200, 200, 302, 200)
    for page in (
        refused,
        unread,
        shown,
        client.get("/admin/endpoints/credential/"),
        client.get("/admin/endpoints/auditentry/"),
    ):
        assert SECRET not in page.content.decode()
    assert SECRET not in str(list(AuditEntry.objects.values()))


def test_a_wrong_config_is_refused_at_its_field(world: Any, sign_in: Signed) -> None:
    """The rules of the service show in the form: nothing is stored."""
    client, count = sign_in("superuser"), Endpoint.objects.count()
    data = {
        "system": System.objects.get(slug="erp").pk,
        "interface": "orders",
        "name": "main",
        "use": '["deliver"]',
        "state": "enabled",
        "protocol": "https",
        "host": "erp.internal.example",
        "path": "/",
        "config": '{"metod": "PUT"}',
        "timeout_s": "15",
        "max_attempts": "3",
        "retry_schedule_s": "[5]",
        "outcomes": "[]",
        "ordering_policy": "block",
        "max_in_flight": "4",
        "balancing": "round_robin",
        "weight": "1",
        "tier": "0",
    }
    refused = client.post(reverse("admin:endpoints_endpoint_add"), data)

    assert "config" in refused.context["adminform"].form.errors
    assert Endpoint.objects.count() == count
    accepted = client.post(reverse("admin:endpoints_endpoint_add"), data | {"config": '{"method": "PUT"}'})
    assert accepted.status_code == 302, accepted.context["adminform"].form.errors
    assert Endpoint.objects.get(interface="orders").config == {"method": "PUT"}


def test_a_key_is_shown_once_and_revoked_for_good(sign_in: Signed) -> None:
    client = sign_in("superuser")
    made = client.post(reverse("admin:endpoints_apikey_add"), {"name": "nightly", "role": "operator"}, follow=True)
    key = re.search(r'id="new-key">(cp_[^<]+)<', made.content.decode())
    stored = ApiKey.objects.get()

    assert key
    assert key[1] not in client.get("/admin/endpoints/apikey/").content.decode()
    client.post(reverse("admin:endpoints_apikey_revoke", args=[stored.pk]))
    stored.refresh_from_db()
    assert stored.revoked_at is not None


def test_a_message_that_was_for_nobody_is_not_called_unrouted(world: Any, sign_in: Signed) -> None:
    """A heartbeat without a target is owed to nobody; `unrouted` is what named a target and found none."""
    beat = make_message(message_type="heartbeat", event_type="", unrouted=False)
    lost = make_message(event_type="lost", unrouted=True)
    client = sign_in("superuser")

    for message, said in ((beat, False), (lost, True)):
        pages = (f"/admin/messaging/message/?q={message.message_id}", f"/admin/messaging/message/{message.pk}/change/")
        assert ['"cp-tag">unrouted' in client.get(page).content.decode() for page in pages] == [said, said]


@pytest.mark.django_db(transaction=True)
def test_the_send_form_lands_on_the_page_of_its_message(world: Any, sign_in: Signed) -> None:
    client = sign_in("superuser")
    data = {
        "source": "shop",
        "target": "billing",
        "message_type": "event",
        "event_type": "order.paid",
        "priority": "high",
        "payload": '{"total": 1e2}',
    }
    answer = client.post("/admin/send/", data)
    message = Message.objects.order_by("-pk").first()

    assert answer["Location"] == reverse("admin:messaging_message_change", args=[message.pk])
    assert (bytes(message.payload), message.event_type, message.priority) == (b'{"total":1e2}', "order.paid", 2)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"payload": '{"a": 1, "a": 2}'}, "payload"),
        ({"payload": ""}, "payload"),
        ({"target": "nowhere"}, "target"),
        ({"source": "x"}, "source"),
    ],
)
def test_the_send_form_says_what_is_wrong_at_the_field(
    change: dict[str, str], field: str, world: Any, sign_in: Signed
) -> None:
    data = {"source": "shop", "target": "billing", "message_type": "event", "priority": "normal", "payload": "{}"}
    answer = sign_in("superuser").post("/admin/send/", data | change)

    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == [field]


def test_a_signing_key_is_shown_once_and_revoked_for_good(sign_in: Signed) -> None:
    """The secret is on the next page and nowhere else; revoking is one button."""
    client = sign_in("superuser")
    system = System.objects.create(slug="signs", name="Signs")
    made = client.post("/admin/endpoints/signingkey/add/", {"system": system.pk}, follow=True).content.decode()
    key = system.signing_keys.get()
    secret = secrets.decrypt(key.secret)["secret"]
    later = client.get(f"/admin/endpoints/signingkey/{key.pk}/change/").content.decode()
    client.post(f"/admin/endpoints/signingkey/{key.pk}/revoke/")

    assert secret in made
    assert secret not in later
    assert system.signing_keys.get().revoked_at is not None


def test_a_page_of_a_listener_keeps_the_line_ends_that_its_one_line_cannot_hold(sign_in: Signed) -> None:
    """A delimiter and an ack that no input shows as they are stand there in hexadecimal digits, and mean the same."""
    client = sign_in("superuser")
    device = System.objects.create(slug="device", name="Device")
    raw = {"kind": "tcp", "port": 9402, "envelope": "none", "framing": "delimiter", "addresses": ["10.0.0.0/8"]}
    made = Listener.objects.create(slug="ends", system=device, delimiter="|\n", ack="text", ack_text="OK\r\n", **raw)
    address = f"/admin/messaging/listener/{made.pk}/change/"
    fields = {
        **{name: value for name, value in client.get(address).context["adminform"].form.initial.items() if value},
        "addresses": '["10.0.0.0/8"]',
        "certificates": "[]",
        "fields": "{}",
        "description": "changed",
    }
    answer = client.post(address, fields)
    changed = Listener.objects.get(slug="ends")

    assert answer.status_code == 302
    assert (fields["delimiter"], fields["ack_text"]) == ("hex:7c0a", "hex:4f4b0d0a")
    assert changed.description == "changed"
    assert (ack_bytes(changed.delimiter), ack_bytes(changed.ack_text)) == (b"|\n", b"OK\r\n")


def test_a_listener_is_made_seen_and_closed_on_its_pages(sign_in: Signed) -> None:
    """A bad field is told at it; the page shows where it is open, who was refused, and closes it."""
    client = sign_in("superuser")
    fields = {
        "slug": "lines",
        "kind": "tcp",
        "enabled": "on",
        "host": "127.0.0.1",
        "framing": "line",
        "envelope": "message",
        "ack": "none",
        "message_type": "event",
        "signature": "none",
        "addresses": "[]",
        "certificates": "[]",
        "fields": "{}",
    }
    refused = client.post("/admin/messaging/listener/add/", {**fields, "port": "9101"}).content.decode()
    assert "another listener has this address and port" in refused
    without = client.post("/admin/messaging/listener/add/", fields)
    assert without.context["adminform"].form.errors == {"port": ["give a port"]}
    client.post("/admin/messaging/listener/add/", {**fields, "port": "9401"})
    listener = Listener.objects.get(slug="lines")
    refusal = {"at": timezone.now().isoformat(), "address": "10.0.0.9", "code": "too_big", "detail": "<b>no</b>"}
    listener.reports.create(place="here:1", connections=3, refusals=[refusal], seen_at=timezone.now())
    listed = client.get("/admin/messaging/listener/").content.decode()
    page = client.get(f"/admin/messaging/listener/{listener.pk}/change/").content.decode()
    client.post(f"/admin/messaging/listener/{listener.pk}/switch/", {"action": "disable"})

    assert "tcp://127.0.0.1:9401" in listed
    assert "10.0.0.9" in page
    assert "<b>no</b>" not in page
    assert not Listener.objects.get(slug="lines").enabled
