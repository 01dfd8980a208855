"""The pages of incidents: the landing point of a notice, what is open, who is told; markup, roles and cost."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from endpoints.models import Breaker, Endpoint, Incident, Notice, NoticeTarget, System
from tests.admin.conftest import MARKUP

Signed = Callable[..., Client]


@pytest.fixture
def broken(world: Any) -> Incident:
    """The ERP of the demo, broken for 40 minutes, with a chat that was told and a shop that stands behind it."""
    endpoint = Endpoint.objects.filter(system__slug="erp").select_related("system").first()
    System.objects.filter(pk=endpoint.system_id).update(contact="erp-oncall", runbook_url="https://runbook.test/erp")
    since = timezone.now() - timedelta(minutes=40)
    values = {"state": "open", "error_class": "server_error", "error": "deadlock detected", "opened_at": since}
    Breaker.objects.update_or_create(endpoint=endpoint, defaults={**values, "try_at": since, "written_at": since})
    cause = {"cause": "breaker", "since": since.isoformat(), "until": None, "detail": "deadlock detected", "times": 1}
    made = Incident.objects.create(
        subject=f"endpoint:{endpoint.pk}",
        label="erp/main",
        system=endpoint.system,
        endpoint=endpoint,
        causes=[cause],
        summary="erp/main keeps failing: deadlock detected",
        facts={"interface": endpoint.interface, "host": endpoint.host},
        opened_at=since,
        told_opened_at=since,
    )
    Incident.objects.create(subject="x", label="shop/main", parent=made, parent_because="host", opened_at=since)
    target = NoticeTarget.objects.create(email="night@example.com")
    times = {"next_at": since, "created_at": since, "sent_at": since}
    Notice.objects.create(incident=made, target=target, told=str(target), kind="opened", state="sent", **times)
    return made


def team_of(row: Incident) -> str:
    assert row.system is not None
    return str(row.system.owner)


def test_the_landing_page_says_what_is_broken_and_what_to_do(broken: Incident, sign_in: Signed) -> None:
    """Since when, why, in plain words, whom to call, what is behind it, and the way to mend it."""
    page = sign_in("operator", team_of(broken)).get(f"/admin/incidents/{broken.pk}/").content.decode()

    for text in ("keeps failing", "40 min", "deadlock detected", "erp-oncall", "https://runbook.test/erp"):
        assert text in page
    for text in ("nothing is lost", "Pause endpoint", "shop/main", "Told night@example.com"):
        assert text in page
    assert f"/admin/endpoints/endpoint/{broken.endpoint_id}/change/" in page


def test_the_drain_starts_on_the_landing_page(broken: Incident, sign_in: Signed) -> None:
    """One is tried at once, and what waits then goes at the pace that was given; a bad one is refused in words."""
    client = sign_in("operator", team_of(broken))
    path = f"/admin/incidents/{broken.pk}/"
    assert "Try now, then drain" in client.get(path).content.decode()
    assert "must be from" in client.post(f"{path}drain/", {"rate": "none"}, follow=True).content.decode()
    answer = client.post(f"{path}drain/", {"rate": "50"}, follow=True)

    assert "the rest follows at 50 a second" in answer.content.decode()
    assert Breaker.objects.get(endpoint=broken.endpoint).pace_per_s == 50
    assert sign_in("viewer", team_of(broken)).post(f"{path}drain/", {"rate": "50"}).status_code == 403


def test_what_is_open_stands_on_top_everywhere(broken: Incident, sign_in: Signed) -> None:
    """On the list, on the dashboard, and as a number in the menu."""
    client = sign_in("viewer", team_of(broken))
    for path in ("/admin/", "/admin/incidents/"):
        page = client.get(path).content.decode()
        assert f"/admin/incidents/{broken.pk}/" in page, path
    Incident.objects.update(resolved_at=timezone.now())

    assert "Open incidents" not in client.get("/admin/").content.decode()
    assert "Nothing is broken" in client.get("/admin/incidents/").content.decode()


def test_what_came_back_is_shown_as_broken_since_then(broken: Incident, sign_in: Signed) -> None:
    """On its page and in the list; when it opened first, its page says too."""
    now = timezone.now()
    facts = {**broken.facts, "returned_at": (now - timedelta(minutes=2)).isoformat()}
    Incident.objects.filter(pk=broken.pk).update(opened_at=now - timedelta(days=3), returns=1, facts=facts)
    client = sign_in("viewer", team_of(broken))
    page, listed = (client.get(f"/admin/incidents/{end}").content.decode() for end in (f"{broken.pk}/", ""))

    assert "(2 min)" in page
    assert "It came back 1 time since it opened" in page
    assert "Came back" in page
    assert "3 d" not in page + listed


def test_who_joined_another_one_in_silence_was_told_to_nobody(broken: Incident, sign_in: Signed) -> None:
    """The notice of its parent went out before: it is none of its own; that all is well again is told of both."""
    at = broken.opened_at + timedelta(minutes=5)
    early, late = (
        Incident.objects.create(
            subject=name, label=name, parent=broken, parent_because="host", opened_at=opened_at, told_opened_at=at
        )
        for name, opened_at in (("early", broken.opened_at - timedelta(seconds=3)), ("late", at))
    )
    client = sign_in("superuser")
    pages = {row.label: client.get(f"/admin/incidents/{row.pk}/").content.decode() for row in (early, late)}
    assert "Told night@example.com: opened (with the one that spoke for it)" in pages["early"]
    assert "Told night@example.com" not in pages["late"]
    assert "nobody: the one that speaks for it was told before" in pages["late"]
    sent = Notice.objects.get()
    Notice.objects.create(
        incident=broken,
        target=sent.target,
        told=sent.told,
        kind="resolved",
        state="sent",
        next_at=at,
        created_at=at + timedelta(minutes=1),
        sent_at=at + timedelta(minutes=1),
    )

    page = client.get(f"/admin/incidents/{late.pk}/").content.decode()
    assert "Told night@example.com: resolved (with the one that spoke for it)" in page


def test_an_empty_history_says_why(broken: Incident, sign_in: Signed) -> None:
    """That nothing was ever broken only if that is so."""
    client = sign_in("superuser")
    page = client.get("/admin/incidents/").content.decode()
    assert "Nothing is resolved yet" in page
    assert "Nothing has been broken yet" not in page
    Incident.objects.all().delete()

    assert "Nothing has been broken yet" in client.get("/admin/incidents/").content.decode()


def test_a_newcomer_reads_that_nobody_is_told(world: Any, sign_in: Signed) -> None:
    """With the link to change that, for those who may."""
    page = sign_in("editor").get("/admin/incidents/").content.decode()

    assert "Nobody is told when something breaks" in page
    assert "/admin/endpoints/noticetarget/add/" in page
    assert "noticetarget/add" not in sign_in("viewer").get("/admin/incidents/").content.decode()


def test_who_is_told_is_added_and_tried_from_the_page(world: Any, sign_in: Signed) -> None:
    """What the service refuses is shown at its field."""
    client = sign_in("superuser")
    refused = client.post("/admin/endpoints/noticetarget/add/", {"target": "nobody", "email": "", "team": ""})
    assert "there is no system" in refused.content.decode()
    made = client.post("/admin/endpoints/noticetarget/add/", {"target": "", "email": "a@example.com", "team": ""})
    assert made.status_code == 302
    target = NoticeTarget.objects.get()
    tried = client.post(f"/admin/notice-targets/{target.pk}/test/", follow=True)

    assert "A test notice to a@example.com is on its way" in tried.content.decode()
    assert Notice.objects.get().kind == "test"
    assert sign_in("operator").post(f"/admin/notice-targets/{target.pk}/test/").status_code == 403


def test_another_teams_incident_is_not_there(broken: Incident, sign_in: Signed) -> None:
    """Nor is its name, where it speaks for one of theirs."""
    client = sign_in("operator", "strangers")
    own = Incident.objects.create(
        subject="y", label="own", parent=broken, parent_because="dependency", opened_at=timezone.now()
    )
    assert "erp/main" not in client.get(f"/admin/incidents/{own.pk}/").content.decode()

    assert client.get(f"/admin/incidents/{broken.pk}/").status_code == 404
    assert "erp/main keeps failing" not in client.get("/admin/incidents/").content.decode()


def test_markup_of_others_stays_text_and_no_script_is_inline(broken: Incident, sign_in: Signed) -> None:
    Incident.objects.update(label=MARKUP, summary=MARKUP)
    Breaker.objects.update(error=MARKUP)
    Notice.objects.update(told=MARKUP, state="pending", sent_at=None, error=MARKUP)
    System.objects.filter(pk=broken.system_id).update(contact=MARKUP)
    client = sign_in("superuser")

    for path in ("/admin/", "/admin/incidents/", f"/admin/incidents/{broken.pk}/"):
        page = client.get(path).content.decode()
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path
        assert "<script>" not in page, path


@pytest.mark.parametrize(("page", "most"), [("", 16), ("one", 22)])
def test_a_page_asks_few_questions(broken: Incident, sign_in: Signed, page: str, most: int) -> None:
    """However many are open, or were."""
    for number in range(30):
        Incident.objects.create(
            subject=f"s{number}",
            label="x",
            opened_at=timezone.now(),
            resolved_at=timezone.now() if number % 2 else None,
        )
    client = sign_in("superuser")
    path = f"/admin/incidents/{broken.pk}/" if page else "/admin/incidents/"
    client.get(path)
    with CaptureQueriesContext(connection) as asked:
        assert client.get(path).status_code == 200

    assert len(asked) <= most, [query["sql"][:150] for query in asked]
