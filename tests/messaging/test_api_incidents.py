"""Incidents and who is told, over REST: filters, teams, roles, and what a target may be."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from endpoints.models import AuditEntry, Incident, Notice, NoticeTarget
from tests.messaging.api_client import Api
from tests.messaging.factories import make_delivery, make_endpoint, make_key, make_system, make_team


def make_incident(slug: str, **fields: Any) -> Incident:
    system = make_system(slug, **fields.pop("system_fields", {}))
    found = make_endpoint(system)
    now = timezone.now()
    cause = {"cause": fields.pop("cause", "breaker"), "since": now.isoformat(), "until": None, "detail": "", "times": 1}
    defaults: dict[str, Any] = {
        "label": f"{slug}/main",
        "summary": f"{slug}/main keeps failing",
        "opened_at": now,
        "causes": [cause],
    }
    defaults |= {"subject": f"endpoint:{found.pk}"}
    defaults |= {"facts": {"interface": "main", "host": found.host}, "endpoint": found, "system": system}
    return Incident.objects.create(**(defaults | fields))


def labels(api: Api, **query: Any) -> list[str]:
    return [row["label"] for row in api.results("incidents/", **query)]


def test_incidents_are_found_by_what_they_are(viewer: Api) -> None:
    """Open or not, by system, endpoint, cause and time; the latest first."""
    now = timezone.now()
    erp = make_incident("erp", opened_at=now - timedelta(hours=2), resolved_at=now - timedelta(hours=1), cause="late")
    shop = make_incident("shop")

    assert labels(viewer) == ["shop/main", "erp/main"]
    assert labels(viewer, open="true") == ["shop/main"]
    assert labels(viewer, open="false") == labels(viewer, system="erp") == labels(viewer, cause="late") == ["erp/main"]
    assert labels(viewer, endpoint=str(shop.endpoint_id)) == ["shop/main"]
    assert labels(viewer, created_after=(now - timedelta(hours=1)).isoformat()) == ["shop/main"]
    assert viewer.get("incidents/", cause="sleepy")[0] == 400
    assert viewer.get(f"incidents/{erp.pk}/")[1]["causes"][0]["cause"] == "late"


def test_one_incident_comes_with_all_that_is_needed_to_mend_it(viewer: Api) -> None:
    """Counts, the last error, contact and runbook, those it speaks for, and who was told."""
    fields = {"contact": "erp-oncall", "runbook_url": "https://runbook.test/erp"}
    row = make_incident("erp", system_fields=fields)
    make_incident("shop", parent=row, parent_because="dependency")
    make_delivery(system=row.system, state="pending", error_class="server_error", error="answered 500")
    make_delivery(system=row.system, state="dead", error_class="timeout")
    target = NoticeTarget.objects.create(email="night@example.com")
    now = timezone.now()
    Notice.objects.create(incident=row, target=target, told=str(target), kind="opened", next_at=now, created_at=now)

    status, shown = viewer.get(f"incidents/{row.pk}/")

    assert status == 200
    assert {name: shown[name] for name in ("waiting", "dead", "contact", "runbook_url", "last_error")} == {
        "waiting": 1,
        "dead": 1,
        "contact": "erp-oncall",
        "runbook_url": "https://runbook.test/erp",
        "last_error": "server error: answered 500",
    }
    assert [child["label"] for child in shown["children"]] == ["shop/main"]
    assert [(one["told"], one["kind"], one["state"]) for one in shown["notices"]] == [
        ("night@example.com", "opened", "pending")
    ]
    assert shown["url"].endswith(f"/admin/incidents/{row.pk}/")


def test_a_team_sees_its_own_incidents_and_those_of_nobody(db: None) -> None:
    """What is another team's is not there at all; our own processes are everyone's."""
    blue, red = make_team("blue"), make_team("red")
    own = make_incident("erp", system_fields={"owner": blue})
    other = make_incident("shop", system_fields={"owner": red})
    make_incident("web", subject="process:web@a", label="web on a", system=None, endpoint=None)
    api = Api(make_key("operator", team=blue))

    assert sorted(labels(api)) == ["erp/main", "web on a"]
    assert api.get(f"incidents/{own.pk}/")[0] == 200
    assert api.get(f"incidents/{other.pk}/")[0] == 404


def test_who_is_told_is_registered_changed_tried_and_removed(admin: Api) -> None:
    """Each change is audited; a test is a notice that the monitor sends."""
    make_endpoint(make_system("chat"))
    status, made = admin.post("notice-targets/", {"target": "chat"})
    assert (status, made["target"], made["team"], made["problem"]) == (201, "chat", None, "")
    status, notice = admin.post(f"notice-targets/{made['id']}/test/", {})
    assert (status, notice["kind"], notice["state"]) == (202, "test", "pending")
    changed = admin.client.patch(
        f"/api/v1/notice-targets/{made['id']}/", {"target": "chat/main"}, content_type="application/json"
    )
    assert changed.json()["target"] == "chat/main"
    assert admin.client.delete(f"/api/v1/notice-targets/{made['id']}/").status_code == 204

    actions = AuditEntry.objects.filter(object_type="noticetarget").order_by("at").values_list("action", flat=True)
    assert list(actions) == ["create", "test", "update", "delete"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"target": "chat", "email": "a@example.com"}, 400),
        ({"target": "nobody"}, 400),
        ({"target": "chat/other"}, 400),
        ({"target": "Not A Slug"}, 400),
        ({"email": "not an address"}, 400),
        ({"target": "known"}, 409),
    ],
)
def test_what_nobody_could_be_told_by_is_refused(admin: Api, body: dict[str, str], status: int) -> None:
    for slug in ("chat", "known"):
        make_endpoint(make_system(slug))
    NoticeTarget.objects.create(target="known")

    assert admin.post("notice-targets/", body)[0] == status


def test_a_mailbox_without_a_mail_server_is_a_problem_at_once(admin: Api) -> None:
    status, made = admin.post("notice-targets/", {"email": "night@example.com"})

    assert (status, made["problem"].partition(":")[0]) == (201, "no mail server is configured")


def test_the_last_failure_to_tell_a_target_is_its_problem(admin: Api) -> None:
    target = NoticeTarget.objects.create(target="chat")
    now = timezone.now()
    values = {"target": target, "told": "x", "kind": "test", "next_at": now, "created_at": now}
    Notice.objects.create(**values, state="pending", tries=1, error="its endpoint is paused")

    assert admin.results("notice-targets/")[0]["problem"] == "its endpoint is paused"


def test_a_team_names_who_is_told_of_its_own_incidents_only(db: None) -> None:
    """Its target is its own by itself; everyone's incidents are for those who see everything."""
    blue, red = make_team("blue"), make_team("red")
    make_endpoint(make_system("chat"))
    everyones = NoticeTarget.objects.create(email="all@example.com")
    NoticeTarget.objects.create(email="red@example.com", team=red)
    api = Api(make_key("editor", team=blue))

    status, made = api.post("notice-targets/", {"target": "chat"})
    assert (status, made["team"]) == (201, "blue")
    assert api.post("notice-targets/", {"email": "x@example.com", "team": "red"})[0] == 403
    assert [row["email"] or row["target"] for row in api.results("notice-targets/")] == ["all@example.com", "chat"]
    answer = api.client.delete(f"/api/v1/notice-targets/{everyones.pk}/")
    assert answer.status_code == 403


def test_who_was_told_is_for_those_it_was_meant_for(db: None) -> None:
    """Of an incident that all may see a team reads whom it told itself; so it stays when the target is deleted."""
    blue, red = make_team("blue"), make_team("red")
    row, now = make_incident("erp"), timezone.now()
    target = NoticeTarget.objects.create(email="red-night@example.com", team=red)
    Notice.objects.create(incident=row, target=target, told=str(target), kind="opened", next_at=now, created_at=now)
    readers = [Api(make_key("viewer", team=team)) for team in (blue, red, None)]

    def told() -> list[list[str]]:
        return [[one["told"] for one in api.get(f"incidents/{row.pk}/")[1]["notices"]] for api in readers]

    assert told() == [[], ["red-night@example.com"], ["red-night@example.com"]]
    assert Api(make_key("editor", team=red)).delete(f"notice-targets/{target.pk}/")[0] == 204
    assert told() == [[], [], ["red-night@example.com"]]


def test_tests_of_a_target_have_a_limit(db: None) -> None:
    """Five a minute of one target, whoever asks, and by one caller, whatever the target: a test is no way to flood."""
    first, other = (NoticeTarget.objects.create(email=f"{name}@example.com") for name in "ab")
    editor, second = Api(make_key("editor")), Api(make_key("editor"))

    assert [editor.post(f"notice-targets/{first.pk}/test/", {})[0] for _ in range(6)] == [202] * 5 + [429]
    assert second.post(f"notice-targets/{first.pk}/test/", {})[0] == 429
    assert editor.delete(f"notice-targets/{first.pk}/")[0] == 204
    refused = editor.client.post(f"/api/v1/notice-targets/{other.pk}/test/", {}, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (429, "limit")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert second.post(f"notice-targets/{other.pk}/test/", {})[0] == 202
    assert Notice.objects.count() == 6


def test_an_operator_reads_who_is_told_and_changes_nothing(operator: Api) -> None:
    make_endpoint(make_system("chat"))

    assert operator.get("notice-targets/")[0] == 200
    assert operator.post("notice-targets/", {"target": "chat"})[0] == 403
